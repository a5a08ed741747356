// What BullMQ and graphile-worker have in common: a library in Node on both sides of a store. Both
// sides run in processes of their own (queue-child.mjs), and both count.
import path from 'node:path';
import { helper, sleep, stop } from '../lib/processes.mjs';

const CHILD = path.join(import.meta.dirname, 'queue-child.mjs');

// `adapter` is a file beside this one, `address` what it connects to.
export async function* measureQueue({ adapter, address, seconds, inFlight, orders }) {
  const options = [adapter, process.env.PEERS_MODULES, address];
  const worker = await helper(CHILD, [...options, 'worker']);
  const producer = await helper(CHILD, [...options, 'producer']);
  let before = 0;
  const run = async (order) => {
    const found = await finished(worker, before, await producer.ask(order));
    before = found.total;
    return found;
  };
  await run({ kind: 'rate', rate: 500, seconds: 1 });
  for (const rate of [200, 1000]) {
    const { latencies } = await run({ kind: 'rate', rate, seconds });
    latencies.sort((a, b) => a - b);
    const at = (share) => latencies[Math.ceil(latencies.length * share) - 1];
    yield [`latency_${rate}_p50_ms`, at(0.5)];
    yield [`latency_${rate}_p99_ms`, at(0.99)];
  }
  for (const [metric, kind] of orders) {
    const found = await run({ kind, seconds, inFlight: inFlight[kind] });
    const took = (found.lastAt - found.startAt) / 1000;
    const perSecond = found.added / took;
    yield [metric, { perSecond, done: found.added, refused: 0, drainSeconds: took - seconds }];
  }
  await agreed(producer, before);
  await stop(producer);
  await stop(worker);
}

// What the library says of its own store must agree with what the worker counted. A worker that
// completes in batches may still be writing the last one.
async function agreed(producer, total) {
  const lateAt = Date.now() + 5_000;
  for (;;) {
    const counts = await producer.ask({ kind: 'counts' });
    const { done = total, failed, open } = counts;
    if (done === total && failed === 0 && open === 0) return;
    if (lateAt < Date.now()) {
      throw new Error(`${total} done, but the store says ${JSON.stringify(counts)}`);
    }
    await sleep(100);
  }
}

// Until everything that was added is done; gives totals and the latencies since the last order.
async function finished(worker, before, { added, startAt }) {
  const lateAt = Date.now() + 60_000;
  const latencies = [];
  for (;;) {
    const { done, lastAt, latencies: more } = await worker.ask({});
    latencies.push(...more);
    if (before + added <= done) return { added, startAt, total: done, lastAt, latencies };
    if (lateAt < Date.now()) throw new Error(`${added} added, ${done - before} done after 60 s`);
    await sleep(50);
  }
}
