// Processes that a run starts, and its temporary folder. Whatever way the run ends, each process is
// ended by its own pid and the folder is removed: nothing else on the machine is ever touched.
import { fork, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

// A folder on a disk, not in memory: /tmp may be a tmpfs, where syncing is free, /var/tmp may not.
// It is short as well, and socket paths may have 107 bytes.
export const folder = fs.mkdtempSync(path.join(process.env.PEERS_TMP ?? '/var/tmp', 'no-peers-'));
fs.chmodSync(folder, 0o755); // PostgreSQL runs as another user
const living = new Set();

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function clean() {
  for (const child of living) child.kill(child.last);
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.on('exit', clean);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(1));
}

// `end` asks the program to end; `last` makes it, and is SIGKILL unless that would leave something.
function keep(child, { end = 'SIGTERM', last = 'SIGKILL' } = {}) {
  Object.assign(child, { end, last });
  living.add(child);
  child.ended = new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      living.delete(child);
      resolve(code ?? signal);
    });
    child.once('error', (error) => {
      living.delete(child);
      resolve(error.message);
    });
  });
  return child;
}

// Starts a server whose output goes to `log` in the run's folder.
export function serve(log, program, options, more = {}) {
  const file = path.join(folder, log);
  const out = fs.openSync(file, 'a');
  const child = keep(spawn(program, options, { stdio: ['ignore', out, out], ...more }), more);
  fs.closeSync(out);
  child.log = () => fs.readFileSync(file, 'utf8');
  return child;
}

// Asks a server to end; after 20 s it is made to.
export async function stop(child) {
  if (!living.has(child)) return;
  child.kill(child.end);
  const late = setTimeout(() => child.kill(child.last), 20_000);
  await child.ended;
  clearTimeout(late);
}

// After a failure: what still runs would disturb whatever is measured next.
export const stopAll = () => Promise.all([...living].map(stop));

// Runs a program to its end and gives what it printed.
export async function output(program, options, { timeout = 60_000, ...more } = {}) {
  const child = keep(spawn(program, options, { stdio: ['ignore', 'pipe', 'pipe'], ...more }));
  let [out, err] = ['', ''];
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (err += data));
  const late = setTimeout(() => child.kill(child.last), timeout);
  const code = await child.ended;
  clearTimeout(late);
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${err.slice(-500)}`);
  return out;
}

// A Node process of ours that answers each message with one message.
export async function helper(script, options) {
  const child = keep(fork(script, options, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
  const answer = () =>
    new Promise((resolve, reject) => {
      child.once('message', resolve);
      child.ended.then((code) => reject(new Error(`${script} ended with ${code}`)));
    });
  child.ask = (order) => {
    const answered = answer();
    child.send(order);
    return answered;
  };
  await answer();
  return child;
}

// Waits until `probe` gives something true; an error of it counts as "not yet".
export async function until(what, child, probe, ms = 30_000) {
  for (const endAt = Date.now() + ms; Date.now() < endAt; await sleep(50)) {
    const found = await Promise.resolve().then(probe).catch(() => undefined);
    if (found) return found;
    if (child && !living.has(child)) break;
  }
  throw new Error(`${what} did not come up: ${child?.log().slice(-800) ?? ''}`);
}

// The share of the machine's cores that was busy during the next half second.
export async function busy() {
  const read = () => {
    const times = os.cpus().map((core) => core.times);
    const sum = (pick) => times.reduce((total, time) => total + pick(time), 0);
    const whole = (time) => Object.values(time).reduce((a, b) => a + b);
    return { idle: sum((time) => time.idle), all: sum(whole) };
  };
  const before = read();
  await sleep(500);
  const after = read();
  return 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
}

// Ports of loopback that are free now.
export async function ports(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, () => new Promise((resolve) => {
      const server = net.createServer().listen(0, '127.0.0.1', () => resolve(server));
    })),
  );
  const found = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return found;
}
