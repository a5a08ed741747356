// graphile-worker's two sides. The worker's settings are those of the project's own benchmark:
// tasks are fetched and completed in batches, which is what makes it the fastest of its kind.
import { EventEmitter } from 'node:events';

const preset = {
  worker: {
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};
const silent = (require) => new (require('graphile-worker').Logger)(() => () => {});

export async function work(require, address, ended) {
  const { run } = require('graphile-worker');
  const events = new EventEmitter();
  events.on('job:success', ({ job }) => ended(job.payload));
  const taskList = { noop: async () => {} };
  const logger = silent(require);
  const noHandleSignals = true;
  await run({ connectionString: address, preset, taskList, events, logger, noHandleSignals });
}

export async function open(require, address) {
  const { makeWorkerUtils } = require('graphile-worker');
  const logger = silent(require);
  const utils = await makeWorkerUtils({ connectionString: address, maxPoolSize: 20, logger });
  await utils.migrate();
  return {
    add: (data) => utils.addJob('noop', data),
    addMany: (many) => utils.addJobs(many.map((payload) => ({ identifier: 'noop', payload }))),
    // A task that is done is deleted, so what is left is open or failed.
    counts: () =>
      utils.withPgClient(async (client) => {
        const { rows } = await client.query(
          `select count(*) filter (where last_error is not null)::int as failed,
                  count(*) filter (where last_error is null)::int as open
           from graphile_worker._private_jobs`,
        );
        return rows[0];
      }),
  };
}
