-- The nodes that share the database. `incarnation` counts the starts under a name, `beat` is counted
-- up by the node while it lives: one that does not move for a lease, by the clock of who looks, is
-- dead. A lease is the node's, not the partition's: heartbeats keep off the rows that commits lock.
CREATE TABLE nodes (
  name TEXT PRIMARY KEY,
  incarnation BIGINT NOT NULL,
  beat BIGINT NOT NULL,
  address TEXT NOT NULL,
  draining BOOLEAN NOT NULL
);

-- `given` is whether the last owner gave it to this one in good order, who has yet to take it.
ALTER TABLE partitions DROP COLUMN expires_at;
ALTER TABLE partitions ADD COLUMN given BOOLEAN NOT NULL DEFAULT false;
