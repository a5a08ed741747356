// BullMQ on a Redis of its own, twice: synced at each write, which is what nO promises, and synced
// each second, which is Redis' default with an append-only file and can lose a second.
import fs from 'node:fs';
import path from 'node:path';
import { folder, output, serve, stop, until } from '../lib/processes.mjs';
import { measureQueue } from './queue.mjs';

const ADAPTER = path.join(import.meta.dirname, 'bullmq-adapter.mjs');
// In flight at once: 50 and 500 single adds gave no more; a bulk carries 100.
const IN_FLIGHT = { single: 200, bulk: 8 };
const ORDERS = [['single', 'single'], ['batched', 'bulk']];

const peer = (fsync, label) => ({
  name: `BullMQ, fsync ${label}`,
  settings: `Redis, appendonly yes, appendfsync ${fsync}; worker concurrency 100`,
  version,
  measure: (plan) => measure(plan, fsync),
});

export const always = peer('always', 'always');
export const everysec = peer('everysec', 'each second');

async function version() {
  const file = path.join(process.env.PEERS_MODULES, 'bullmq/package.json');
  const { version } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const redis = await output(process.env.PEERS_REDIS, ['--version'], { argv0: 'redis-server' });
  return `${version} on Redis ${/v=(\S+)/.exec(redis)?.[1]}`;
}

async function* measure({ seconds, run }, fsync) {
  const home = path.join(folder, `redis-${run}`);
  fs.mkdirSync(home);
  const socket = path.join(home, 'redis.sock');
  const options = ['--port', '0', '--unixsocket', socket, '--dir', home, '--save', ''];
  const durable = ['--appendonly', 'yes', '--appendfsync', fsync];
  // One program holds all of Redis' tools and looks at the name that it was started by.
  const named = { argv0: 'redis-server' };
  const log = `redis-${run}.log`;
  const server = serve(log, process.env.PEERS_REDIS, [...options, ...durable], named);
  await until('Redis', server, () => fs.existsSync(socket));
  const how = { adapter: ADAPTER, inFlight: IN_FLIGHT, orders: ORDERS };
  yield* measureQueue({ ...how, address: socket, seconds });
  await stop(server);
  fs.rmSync(home, { recursive: true });
}
