// nO, the release binary with its default settings but for the size of the agent pool: every answer
// after its sync, access control on.
import fs from 'node:fs';
import path from 'node:path';
import { latency, peak } from '../lib/http.mjs';
import { folder, output, serve, stop, until } from '../lib/processes.mjs';

const ECHO = '{"agent":"echo","input":{"n":1}}';
const THREE = '{"agent":"three","input":"go"}';
const BATCH = 100;
// Three journaled steps: the model's first answer, a timer of no length that it asked for, the
// model's second answer. The model is nO's scripted one, so nothing but nO is measured.
const CONFIG = {
  models: {
    script: {
      provider: 'scripted',
      script: [{ tool_calls: [{ name: 'wait', arguments: { ms: 0 } }] }, { text: 'done' }],
    },
  },
  // The pool's default of 50 is meant for calls that cost money; Restate has no such bound.
  performance: { autoscaling: { maxAgents: 1000 } },
  agents: { three: { kind: 'model', model: 'script', tools: [{ kind: 'wait' }] } },
};

export const name = 'nO';
export const settings = 'default, 1,000 agent slots: each batch synced before its answers; access control on';

export async function version() {
  return (await output(process.env.PEERS_NO, ['--version'])).trim().split(' ').at(-1);
}

export async function* measure({ seconds, run }) {
  const home = path.join(folder, `no-${run}`);
  fs.mkdirSync(home);
  const config = path.join(home, 'operational.json');
  fs.writeFileSync(config, JSON.stringify(CONFIG));
  const data = path.join(home, 'data');
  const options = ['serve', '--config', config, '--data-dir', data, '--port', '0'];
  const server = serve(`no-${run}.log`, process.env.PEERS_NO, options, { cwd: home });
  const listening = () => /"url":"(http:[^"]+)"/.exec(server.log())?.[1];
  const url = await until('nO', server, listening);
  const token = fs.readFileSync(path.join(data, 'admin.token'), 'utf8').trim();
  const tasks = `${url}/v1/tasks`;
  const waiting = `${tasks}?wait_ms=10000`;

  const call = { url: waiting, body: ECHO, token };
  await latency({ ...call, rate: 500, seconds: 1 });
  for (const rate of [200, 1000]) {
    const { p50, p99 } = await latency({ ...call, rate, seconds });
    yield [`latency_${rate}_p50_ms`, p50];
    yield [`latency_${rate}_p99_ms`, p99];
  }
  const count = (agent) => () => succeeded(url, agent);
  const echo = { token, seconds, count: count('echo') };
  yield ['single', await peak({ ...echo, url: tasks, body: ECHO, connections: 256 })];
  const body = `{"tasks":[${Array(BATCH).fill(ECHO).join(',')}]}`;
  const batch = { ...echo, url: `${tasks}/batch`, body, tasks: BATCH };
  yield ['batched', await peak({ ...batch, connections: 16 })];
  const three = { token, seconds, count: count('three'), url: tasks, body: THREE };
  yield ['three_steps', await peak({ ...three, connections: 256 })];

  await stop(server);
  fs.rmSync(home, { recursive: true });
}

// Tasks of `agent` that ended well, as nO's own metrics count them.
async function succeeded(url, agent) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = new RegExp(`^no_tasks_total\\{agent="${agent}",state="succeeded"\\} (\\d+)`, 'm');
  const found = line.exec(text);
  if (!found) throw new Error(`no_tasks_total of ${agent} is not in the metrics`);
  return Number(found[1]);
}
