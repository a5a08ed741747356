-- The store of a cluster: the tables of the embedded store, for all nodes in one database, and who
-- owns what. Only what PostgreSQL, CockroachDB, YugabyteDB and Citus all run.
--
-- No index but tasks' own ids names a column that changes while a task lives, so that an update
-- touches no index where its page has room ("heap-only tuple"): `open` stays as it is from the
-- submission to the end. Ids begin with their time, so both tables of histories can be cut by
-- ranges of it.

-- One row each: what a store is, by name.
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

-- Who owns which tasks. A commit locks the rows of its partitions and compares their fences, so one
-- that changes an owner must count the fence up.
CREATE TABLE partitions (
  id INTEGER PRIMARY KEY,
  owner TEXT,
  fence BIGINT NOT NULL,
  expires_at BIGINT
);

-- The last commit of each journal, so that one whose answer was lost can be told from one that never
-- came; `fence` counts how often the journal was opened, `clean` is whether it was left in order.
CREATE TABLE journals (
  owner TEXT NOT NULL,
  shard INTEGER NOT NULL,
  fence BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  clean BOOLEAN NOT NULL,
  PRIMARY KEY (owner, shard)
);

-- The tasks as they are now, each with the beginning of its history; `named` are the hashes of the
-- large payloads that this part names, one after the other. `open`: 1 a live task, 2 a dead letter.
CREATE TABLE tasks (
  id UUID PRIMARY KEY,
  partition INTEGER NOT NULL,
  agent TEXT NOT NULL,
  tenant TEXT NOT NULL,
  fairness_key TEXT,
  tags TEXT,
  created_at BIGINT NOT NULL,
  input TEXT,
  state TEXT NOT NULL,
  ended_at BIGINT,
  output TEXT,
  run TEXT,
  rest BYTEA NOT NULL,
  history TEXT NOT NULL,
  named BYTEA,
  open INTEGER GENERATED ALWAYS AS (
    CASE WHEN state IN ('succeeded', 'cancelled') THEN NULL WHEN state = 'failed' THEN 2 ELSE 1 END
  ) STORED
) WITH (fillfactor = 90);
-- What an owner loads.
CREATE INDEX tasks_open ON tasks (partition, id) WHERE open IS NOT NULL;
-- What lists of open tasks and of dead letters walk.
CREATE INDEX tasks_open_newest ON tasks (id) WHERE open IS NOT NULL;
CREATE INDEX tasks_failed ON tasks (id) WHERE open = 2;

-- The rest of a history: several events to a row, which has the number of its first.
CREATE TABLE events (
  task UUID NOT NULL,
  n INTEGER NOT NULL,
  data TEXT NOT NULL,
  named BYTEA,
  PRIMARY KEY (task, n)
);

-- Large payloads, once in each partition that names them: no node waits for another's row.
CREATE TABLE blobs (
  partition INTEGER NOT NULL,
  hash BYTEA NOT NULL,
  bytes BYTEA NOT NULL,
  refs BIGINT NOT NULL,
  PRIMARY KEY (partition, hash)
);
CREATE INDEX blobs_unnamed ON blobs (partition) WHERE refs <= 0;

CREATE TABLE keys (
  partition INTEGER NOT NULL,
  hash BYTEA NOT NULL,
  fingerprint BIGINT NOT NULL,
  task UUID NOT NULL,
  expires_at BIGINT,
  PRIMARY KEY (partition, hash)
);

CREATE TABLE agents (
  name TEXT PRIMARY KEY,
  definition TEXT NOT NULL,
  paused INTEGER NOT NULL
);

CREATE TABLE schedules (
  name TEXT PRIMARY KEY,
  definition TEXT NOT NULL
);
