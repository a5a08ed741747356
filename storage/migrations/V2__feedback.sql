-- What people said of a task's result: the last score of each, 1 to 5. It goes with its task.
CREATE TABLE feedback (
  task UUID PRIMARY KEY,
  partition INTEGER NOT NULL,
  agent TEXT NOT NULL,
  score INTEGER NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX feedback_at ON feedback (at);
