// One side of a queue: `worker` runs tasks that do nothing, `producer` adds them. Each is a process
// of its own, so that neither waits for the other's event loop; the parent talks to it by messages.
// Arguments: ADAPTER MODULES ADDRESS ROLE.
import { createRequire } from 'node:module';

const [adapterFile, modules, address, role] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const adapter = await import(adapterFile);
const BULK = 100;

// Wall clock in ms with fractions: the same for both processes, unlike performance.now().
const now = () => performance.timeOrigin + performance.now();

async function worker() {
  let [done, lastAt, latencies] = [0, 0, []];
  await adapter.work(require, address, (data) => {
    done += 1;
    lastAt = now();
    if (data.at !== undefined) latencies.push(lastAt - data.at);
  });
  process.on('message', () => {
    process.send({ done, lastAt, latencies });
    latencies = [];
  });
}

async function producer() {
  const queue = await adapter.open(require, address);
  process.on('message', async (order) => process.send(await produce(queue, order)));
}

// `kind` is `single`, `bulk`, `rate` or `counts`; gives how many were added, and from when on.
async function produce(queue, { kind, seconds, rate, inFlight }) {
  if (kind === 'counts') return queue.counts();
  const startAt = now();
  if (kind === 'rate') return { added: await atRate(queue, rate, seconds), startAt };
  const endAt = startAt + seconds * 1000;
  const many = Array.from({ length: BULK }, () => ({ n: 1 }));
  let added = 0;
  const loop = async () => {
    while (now() < endAt) {
      if (kind === 'bulk') await queue.addMany(many);
      else await queue.add({ n: 1 });
      added += kind === 'bulk' ? BULK : 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return { added, startAt };
}

// Adds at a fixed rate whatever the answers do. Node's timers are up to a millisecond late, which
// is not the queue's fault: that much is forgiven, a longer stall is counted.
async function atRate(queue, rate, seconds) {
  const total = rate * seconds;
  const startAt = now();
  const open = [];
  while (open.length < total) {
    const due = Math.min(total, Math.floor(((now() - startAt) * rate) / 1000) + 1);
    while (open.length < due) {
      const dueAt = startAt + (open.length * 1000) / rate;
      open.push(queue.add({ n: 1, at: Math.min(now(), dueAt + 1) }));
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(open);
  return total;
}

await (role === 'worker' ? worker() : producer());
process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
process.send('ready');
