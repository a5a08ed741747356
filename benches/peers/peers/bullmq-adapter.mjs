// BullMQ's two sides, as its documentation sets them up. Ended tasks are kept, as nO and Restate
// keep theirs, and as BullMQ does unless told otherwise.
const NAME = 'bench';
// More than this gave no higher rate.
const CONCURRENCY = 100;
const connection = (address) => ({ path: address, maxRetriesPerRequest: null });

export async function work(require, address, ended) {
  const { Worker } = require('bullmq');
  const settings = { connection: connection(address), concurrency: CONCURRENCY };
  const worker = new Worker(NAME, async (task) => task.data.n, settings);
  worker.on('completed', (task) => ended(task.data));
  worker.on('error', (error) => console.error('worker:', error.message));
  await worker.waitUntilReady();
}

export async function open(require, address) {
  const { Queue } = require('bullmq');
  const queue = new Queue(NAME, { connection: connection(address) });
  await queue.waitUntilReady();
  return {
    add: (data) => queue.add('noop', data),
    addMany: (many) => queue.addBulk(many.map((data) => ({ name: 'noop', data }))),
    async counts() {
      const { completed, failed, ...others } = await queue.getJobCounts();
      const open = Object.values(others).reduce((sum, count) => sum + count, 0);
      return { done: completed, failed, open };
    },
  };
}
