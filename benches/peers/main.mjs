// Measures nO and its peers in turn on this machine, in rounds, and compares within the run.
//
// One server at a time, so that none pays for another that idles; nO comes twice in each round,
// next to the peers that the design names, so that a machine that grows busier or quieter meanwhile
// meets both sides. Settings come from the environment; benches/peers/README.md lists them.
import os from 'node:os';
import path from 'node:path';
import { busy, folder, stopAll } from './lib/processes.mjs';
import { METRICS, table, write } from './lib/report.mjs';
import * as bullmq from './peers/bullmq.mjs';
import * as graphile from './peers/graphile.mjs';
import * as no from './peers/no.mjs';
import * as restate from './peers/restate.mjs';

const PEERS = {
  restate,
  no,
  'bullmq-always': bullmq.always,
  'bullmq-everysec': bullmq.everysec,
  'no-again': no,
  graphile,
};
const number = (name, otherwise) => Number(process.env[name] ?? otherwise);
const rounds = number('ROUNDS', 2);
const seconds = number('SECONDS_EACH', 4);
const minutes = number('MINUTES_MAX', 8);
const chosen = (process.env.PEERS ?? Object.keys(PEERS).join(',')).split(',');

const startAt = performance.now();
const say = (text) => {
  const elapsed = ((performance.now() - startAt) / 1000).toFixed(0);
  console.log(`${elapsed.padStart(4)} s  ${text}`);
};
const rows = [];
setTimeout(() => {
  console.log(table(rows));
  console.error(`not done after ${minutes} minutes: given up`);
  process.exit(1);
}, minutes * 60_000).unref();

const unknown = chosen.filter((key) => !PEERS[key]);
if (unknown.length > 0) {
  console.error(`unknown: ${unknown}; there are ${Object.keys(PEERS).join(', ')}`);
  process.exit(2);
}

async function measureOne(peer, round, run) {
  const version = (peer.cached ??= await peer.version());
  const { name, settings } = peer;
  // Nothing of ours runs now, so whatever is busy is somebody else.
  const others = Number((await busy()).toFixed(2));
  say(`round ${round} of ${rounds}: ${name} ${version}`);
  if (0.1 <= others) say(`  others keep ${Math.round(others * 100)} % of the cores busy`);
  for await (const [metric, found] of peer.measure({ seconds, run })) {
    const value = typeof found === 'number' ? found : found.perSecond;
    const unit = METRICS[metric][1];
    const row = { peer: name, version, settings, metric, value, unit, round };
    rows.push({ ...row, others_busy_ratio: others });
    const digits = value < 100 ? 2 : 0;
    const figure = value.toFixed(digits).padStart(9);
    say(`  ${metric.padEnd(20)} ${figure} ${unit}${detail(found)}`);
  }
}

function detail({ done, refused, drainSeconds }) {
  if (done === undefined) return '';
  const drain = drainSeconds < 0.2 ? '' : `, the last ${drainSeconds.toFixed(1)} s of it after the load`;
  return `  (${done} done, ${refused} refused${drain})`;
}

const peers = Object.fromEntries(Object.entries(PEERS).map(([key, peer]) => [key, { ...peer }]));
const [{ model }] = os.cpus();
const machine = `${os.cpus().length} x ${model}, Linux ${os.release()}`;
console.log(`${machine}, data in ${path.dirname(folder)}`);
console.log(`load average before: ${os.loadavg().map((load) => load.toFixed(1)).join(' ')}`);
const out = process.env.PEERS_OUT;
let failed = 0;
for (let round = 1; round <= rounds; round += 1) {
  for (const key of chosen) {
    try {
      await measureOne(peers[key], round, `${key}-${round}`);
    } catch (error) {
      failed += 1;
      console.error(`FAILED: ${key} in round ${round}: ${error.message}`);
      await stopAll();
    }
    write(rows, out);
  }
}
console.log(table(rows));
console.log(`\nwritten to ${out}; compare only within one run`);
process.exit(failed > 0 ? 1 : 0);
