// graphile-worker on a PostgreSQL of its own, with the server's durable defaults.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { folder, output, serve, stop, until } from '../lib/processes.mjs';
import { measureQueue } from './queue.mjs';

const ADAPTER = path.join(import.meta.dirname, 'graphile-adapter.mjs');
// Single adds are bound by their commits, which PostgreSQL does one after another because each also
// notifies the worker: 80 in flight gave no more than 20.
const IN_FLIGHT = { single: 20, bulk: 4 };
const ORDERS = [['single', 'single'], ['batched', 'bulk']];
const USER = 'postgres';

export const name = 'graphile-worker, batched';
export const settings =
  'PostgreSQL with fsync and synchronous_commit on (default), shared_buffers 512 MB; ' +
  'local queue 500, completions batched';

const program = (name) => path.join(process.env.PEERS_POSTGRES, name);

export async function version() {
  const file = path.join(process.env.PEERS_MODULES, 'graphile-worker/package.json');
  const { version } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const server = await output(program('postgres'), ['--version']);
  return `${version} on PostgreSQL ${/(\d+\.\d+)/.exec(server)?.[1]}`;
}

// PostgreSQL refuses to run as root; then it runs as the user that its package made.
function user() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync('id', [flag, USER]));
  return { uid: id('-u'), gid: id('-g') };
}

export async function* measure({ seconds, run }) {
  const home = path.join(folder, `postgres-${run}`);
  const who = { ...user(), cwd: folder };
  fs.mkdirSync(home, { mode: 0o700 });
  if (who.uid) fs.chownSync(home, who.uid, who.gid);
  const data = path.join(home, 'data');
  const fresh = ['-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
  await output(program('initdb'), fresh, who);
  const set = ['listen_addresses=', `unix_socket_directories=${home}`, 'shared_buffers=512MB'];
  const options = ['-D', data, ...set.flatMap((one) => ['-c', one])];
  // Its fast and its immediate shutdown; SIGKILL would leave its shared memory behind.
  const signals = { end: 'SIGINT', last: 'SIGQUIT' };
  const log = `postgres-${run}.log`;
  const server = serve(log, program('postgres'), options, { ...who, ...signals });
  await until('PostgreSQL', server, () => server.log().includes('ready to accept connections'));
  const address = `postgres://${USER}@/${USER}?host=${encodeURIComponent(home)}`;
  const how = { adapter: ADAPTER, inFlight: IN_FLIGHT, orders: ORDERS };
  yield* measureQueue({ ...how, address, seconds });
  await stop(server);
  fs.rmSync(home, { recursive: true });
}
