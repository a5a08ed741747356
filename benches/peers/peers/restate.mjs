// Restate, one node with its default durable settings, and a service in Rust beside it.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { latency, peak } from '../lib/http.mjs';
import { folder, output, ports, serve, stop, until } from '../lib/processes.mjs';

// The rate still grows from 400 to 800 connections and no more from there to 3,000. `/send` is
// acknowledged once durable, like a submission to nO, and no slower than waiting for the result.
const CONNECTIONS = 1000;

export const name = 'Restate';
export const settings = 'one node, 24 partitions, log synced (default); service in Rust';

export async function version() {
  return (await output(program(), ['--version'])).trim().split(' ').at(-1);
}

function program() {
  const binary = `restate-server-${process.platform}-${process.arch}`;
  return path.join(process.env.PEERS_MODULES, '@restatedev', binary, 'bin/restate-server');
}

// Only where it listens, how much it says and that it reports to nobody differ from its defaults.
function config(home, [fabric, ingress, admin]) {
  return `
node-name = "bench"
base-dir = "${home}/data"
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = ${fabric}
disable-telemetry = true
log-filter = "warn"
[ingress]
bind-port = ${ingress}
[admin]
bind-port = ${admin}
disable-web-ui = true
`;
}

async function start(run) {
  const home = path.join(folder, `restate-${run}`);
  fs.mkdirSync(home);
  const [service, counter, ...own] = await ports(5);
  const file = path.join(home, 'restate.toml');
  fs.writeFileSync(file, config(home, own));
  const address = `127.0.0.1:${service}`;
  const addresses = [address, `127.0.0.1:${counter}`];
  const handler = serve(`restate-${run}.log`, process.env.PEERS_RESTATE_SERVICE, addresses);
  const server = serve(`restate-${run}.log`, program(), ['--no-logo', '-c', file], { cwd: home });
  const [, ingress, admin] = own.map((port) => `http://127.0.0.1:${port}`);
  await until('Restate', server, async () => (await fetch(`${admin}/health`)).ok);
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ uri: `http://${address}` });
  const register = () => fetch(`${admin}/deployments`, { method: 'POST', headers, body });
  await until('the service', handler, async () => (await register()).ok);
  const call = (handler) => fetch(`${ingress}/Bench/${handler}`, { method: 'POST' });
  await until('an invocation', server, async () => (await call('noop')).ok);
  const count = async () => Number(await said(counter));
  return { home, handler, server, url: `${ingress}/Bench`, count };
}

// What the service says on its second port.
function said(port) {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = net.connect(port, '127.0.0.1');
    socket.on('data', (data) => (text += data)).on('end', () => resolve(text)).on('error', reject);
  });
}

export async function* measure({ seconds, run }) {
  const { home, handler, server, url, count } = await start(run);
  const call = { url: `${url}/noop`, body: '' };
  await latency({ ...call, rate: 500, seconds: 1 });
  for (const rate of [200, 1000]) {
    const { p50, p99 } = await latency({ ...call, rate, seconds });
    yield [`latency_${rate}_p50_ms`, p50];
    yield [`latency_${rate}_p99_ms`, p99];
  }
  const send = { seconds, count, connections: CONNECTIONS };
  yield ['single', await peak({ ...send, url: `${url}/noop/send` })];
  yield ['three_steps', await peak({ ...send, url: `${url}/three/send` })];
  await stop(server);
  await stop(handler);
  fs.rmSync(home, { recursive: true });
}
