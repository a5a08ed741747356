// From measurements to `peers.json` and to the table a person reads.
import fs from 'node:fs';
import path from 'node:path';

export const METRICS = {
  single: ['tasks/s, one by one', 'tasks/s'],
  batched: ['tasks/s, 100 a batch', 'tasks/s'],
  three_steps: ['tasks/s of three journaled steps', 'tasks/s'],
  latency_200_p50_ms: ['submit to done at 200/s, p50', 'ms'],
  latency_200_p99_ms: ['submit to done at 200/s, p99', 'ms'],
  latency_1000_p50_ms: ['submit to done at 1,000/s, p50', 'ms'],
  latency_1000_p99_ms: ['submit to done at 1,000/s, p99', 'ms'],
};
// DESIGN section 12: how many times the peer's rate nO must reach.
const GOALS = [
  ['single', 'Restate', 8],
  ['single', 'BullMQ, fsync always', 4],
  ['batched', 'the best peer', 10],
  ['three_steps', 'Restate', 10],
];

export function write(rows, file) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `${JSON.stringify(rows, null, 1)}\n`);
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const values = (rows, peer, metric) =>
  rows.filter((row) => row.peer === peer && row.metric === metric).map((row) => row.value);

// Worst and median: the lowest rate, the highest latency.
function summary(rows, peer, metric) {
  const found = values(rows, peer, metric);
  if (found.length === 0) return undefined;
  const worst = metric.endsWith('_ms') ? Math.max(...found) : Math.min(...found);
  return { worst, median: median(found) };
}

const figure = (value) =>
  value < 100 ? value.toFixed(2) : Math.round(value).toLocaleString('en-US');
const line = (first, ...others) =>
  (first.padEnd(40) + others.map((text) => text.padStart(13)).join('')).trimEnd();

export function table(rows) {
  const peers = [...new Set(rows.map((row) => row.peer))].filter((peer) => peer !== 'nO');
  const lines = [];
  for (const [metric, [title, unit]] of Object.entries(METRICS)) {
    const own = summary(rows, 'nO', metric);
    const others = peers.filter((peer) => summary(rows, peer, metric));
    if (!own && others.length === 0) continue;
    lines.push('', line(`${title} (${unit})`, 'median', 'worst', 'nO better by'));
    if (own) lines.push(line('  nO', figure(own.median), figure(own.worst)));
    for (const peer of others) {
      const other = summary(rows, peer, metric);
      const better = own && (unit === 'ms' ? other.median / own.median : own.median / other.median);
      const lead = better ? `${better.toFixed(1)} x` : '';
      lines.push(line(`  ${peer}`, figure(other.median), figure(other.worst), lead));
    }
  }
  return [...lines, ...goals(rows, peers)].join('\n');
}

// The ratios that DESIGN section 12 asks for, from medians.
function goals(rows, peers) {
  const lines = ['', line('goals of DESIGN section 12', 'goal', 'measured')];
  for (const [metric, peer, goal] of GOALS) {
    const own = summary(rows, 'nO', metric)?.median;
    const of = (name) => summary(rows, name, metric)?.median ?? 0;
    const other = peer === 'the best peer' ? Math.max(0, ...peers.map(of)) : of(peer);
    if (!own || !other) continue;
    const ratio = own / other;
    const verdict = goal <= ratio ? 'reached' : 'not reached';
    const title = `  ${metric} against ${peer}`;
    lines.push(line(title, `${goal} x`, `${ratio.toFixed(1)} x`, verdict));
  }
  return lines;
}
