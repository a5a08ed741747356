// The node: key figures, charts, shards, the agent pool, calls, health.

import { areas, heat, lines, together, WINDOW_S } from './charts.js';
import { ago, byId, bytes, count, dollars, duration, keyed, make, percent, rate, say, toneOf } from './dom.js';

const points = [];
const charts = {};

const FIGURES = [
  ['ended', 'Ended/s', 'tasks that ended in the last second'],
  ['p50', 'p50', 'submit to end, of the tasks that ended in the last second'],
  ['p99', 'p99', 'submit to end, of the tasks that ended in the last second'],
  ['queue', 'Queue wait p99', 'ready to started'],
  ['running', 'Running', ''],
  ['waiting', 'Waiting', 'for a model, a timer or a person'],
  ['queued', 'Queued', ''],
  ['failed', 'Dead letters', ''],
];

const THROUGHPUT = [['succeeded', 'succeeded', 'good'], ['failed', 'failed', 'bad'],
  ['cancelled', 'cancelled', 'idle'], ['accepted', 'accepted', 'ink']];
const LATENCY = [['p50', 'p50', 'good'], ['p90', 'p90', 'accent'], ['p99', 'p99', 'warn']];

function legend(place, entries) {
  keyed(place, entries, ([name]) => name,
    ([, , tone]) => {
      const mark = make('i');
      mark.dataset.tone = tone;
      return make('li', '', mark, make('span'), make('b'));
    },
    (row, [, label, , value]) => {
      say(row.children[1], label);
      say(row.children[2], value);
    });
}

function legends(place) {
  const point = points[place ?? points.length - 1];
  const shown = (entries, text) => entries.map(([name, label, tone]) => [name, label, tone, point ? text(point[name]) : '–']);
  legend(byId('l-throughput'), shown(THROUGHPUT, rate));
  legend(byId('l-latency'), shown(LATENCY, duration));
  const ended = point ? point.buckets.reduce((sum, value) => sum + value, 0) : null;
  legend(byId('l-heat'), [['count', point && place !== null ? new Date(point.t).toLocaleTimeString('en-GB') : 'tasks', 'heat', count(ended)]]);
}

export function start() {
  const box = byId('figures');
  for (const [name, label, title] of FIGURES) {
    const value = make('dd', '', '–');
    value.id = `f-${name}`;
    const part = make('div', '', make('dt', '', label), value);
    if (title) part.title = title;
    box.append(part);
  }
  charts.throughput = areas(byId('c-throughput'),
    [{ key: 'succeeded', tone: 'good' }, { key: 'failed', tone: 'bad' }, { key: 'cancelled', tone: 'idle' }],
    { key: 'accepted', tone: 'ink' });
  charts.latency = lines(byId('c-latency'), LATENCY.map(([key, , tone]) => ({ key, tone })));
  charts.heat = heat(byId('c-heat'));
  for (const chart of Object.values(charts)) chart.points = points;
  together(Object.values(charts), legends);
  legends(null);
}

export function redraw() {
  Object.values(charts).forEach((chart) => chart.redraw());
}

// Takes one frame of `/admin/live`.
export function show(now) {
  say(byId('stage'), now.stage);
  byId('stage').dataset.tone = toneOf(now.stage);
  say(byId('about'), `v${now.version} · up ${duration(now.uptime_s * 1e6)} · ${count(now.since_start.succeeded)} succeeded`);
  figures(now);
  if (now.per_s) add([now]);
  shards(now.shards);
  pool(now);
  calls([...now.models.map((one) => ({ ...one, kind: 'model' })), ...now.tools.map((one) => ({ ...one, kind: 'tool' }))]);
  resources(now.resources);
}

// Takes what the node says of the seconds before, or of this one.
export function add(frames) {
  for (const frame of frames) {
    const point = pointOf(frame);
    if (points.length === 0 || points.at(-1).t < point.t) points.push(point);
  }
  while (points.length && points[0].t < points.at(-1).t - WINDOW_S * 1e3) points.shift();
  redraw();
  if (charts.heat.hovered === null) legends(null);
}

function pointOf(now) {
  const { task } = now.latency;
  return {
    t: Date.parse(now.at),
    ...now.per_s,
    p50: task.p50_us,
    p90: task.p90_us,
    p99: task.p99_us,
    buckets: task.buckets,
  };
}

function figures(now) {
  const ended = now.per_s && now.per_s.succeeded + now.per_s.failed + now.per_s.cancelled;
  const values = {
    ended: rate(ended),
    p50: duration(now.latency.task?.p50_us),
    p99: duration(now.latency.task?.p99_us),
    queue: duration(now.latency.queue?.p99_us),
    running: count(now.tasks.running),
    waiting: count(now.tasks.waiting),
    queued: count(now.tasks.queued + now.tasks.scheduled),
    failed: count(now.tasks.failed),
  };
  for (const [name, value] of Object.entries(values)) say(byId(`f-${name}`), value);
  byId('f-failed').dataset.tone = now.tasks.failed ? 'bad' : '';
}

function meter() {
  return make('span', 'meter', make('i'));
}

function fill(place, ratio, tone) {
  place.firstElementChild.style.width = `${Math.round(Math.min(1, ratio ?? 0) * 1000) / 10}%`;
  place.dataset.tone = tone ?? (ratio < 0.75 ? 'accent' : ratio < 0.9 ? 'warn' : 'bad');
  place.title = percent(ratio);
}

const cells = (row, names) => names.map((name) => row.appendChild(make('td', name)));

function shards(all) {
  keyed(byId('shards'), all, (one) => one.shard,
    () => {
      const row = make('tr');
      const [, busy] = cells(row, ['', 'wide-cell', 'n', 'n', 'n', 'n']);
      busy.append(meter());
      return row;
    },
    (row, one) => {
      const [name, busy, slots, queued, rings, commit] = row.children;
      say(name, one.shard);
      name.dataset.tone = one.is_alive && !one.is_halted ? '' : 'bad';
      row.title = one.is_alive ? `${count(one.live_tasks)} tasks in memory, ${bytes(one.live_bytes)} of payload` : 'it gives no sign of life';
      fill(busy.firstElementChild, one.busy_ratio);
      say(slots, `${count(one.slots_active)} / ${count(one.slots)}`);
      say(queued, count(one.queued));
      const depths = Object.entries(one.rings);
      say(rings, count(depths.reduce((sum, [, depth]) => sum + depth, 0)));
      rings.title = depths.map(([ring, depth]) => `${ring} ${depth}`).join(', ');
      say(commit, duration(one.commit_p99_us));
    });
}

const TONES = ['accent', 'good', 'warn', 'blue', 'heat', 'idle'];

function pool(now) {
  const slots = now.shards.reduce((sum, one) => sum + one.slots, 0);
  const active = now.shards.reduce((sum, one) => sum + one.slots_active, 0);
  say(byId('pool-note'), `${count(active)} of ${count(slots)} slots`);
  const weight = (one) => one.running * 1e6 + one.queued * 1e3 + one.waiting * 1e3 + one.ended;
  const used = now.agents.filter((one) => 0 < weight(one)).sort((a, b) => weight(b) - weight(a) || (a.name < b.name ? -1 : 1));
  const tones = new Map([...used].sort((a, b) => (a.name < b.name ? -1 : 1)).map((one, place) => [one.name, TONES[Math.min(place, TONES.length - 1)]]));
  keyed(byId('pool'), used.filter((one) => one.active), (one) => one.name, () => make('i'), (part, one) => {
    part.style.width = `${(100 * one.active) / Math.max(1, slots)}%`;
    part.dataset.tone = tones.get(one.name);
    part.title = `${one.name}: ${one.active}`;
  });
  byId('pool').ariaLabel = `${active} of ${slots} slots in use`;
  keyed(byId('agents'), used.slice(0, 12), (one) => one.name,
    () => {
      const row = make('tr');
      const [name] = cells(row, ['name', 'n', 'n', 'n', 'n']);
      name.append(make('i', 'mark'), make('span'));
      return row;
    },
    (row, one) => {
      const [name, running, queued, waiting, ended] = row.children;
      name.firstElementChild.dataset.tone = tones.get(one.name);
      say(name.lastElementChild, one.name);
      say(running, count(one.running));
      say(queued, count(one.queued));
      say(waiting, count(one.waiting));
      say(ended, rate(one.ended_per_s));
    });
}

function calls(all) {
  byId('calls-note').hidden = 0 < all.length;
  say(byId('cost'), all.length ? `${dollars(all.reduce((sum, one) => sum + one.cost_usd, 0))} since the start` : '');
  keyed(byId('calls'), all, (one) => `${one.kind} ${one.name}`,
    () => {
      const row = make('tr');
      const [name] = cells(row, ['name', 'n', 'n', 'n', 'n']);
      name.append(make('i', 'mark'), make('span'));
      return row;
    },
    (row, one) => {
      const [name, made, failed, tokens, cost] = row.children;
      name.firstElementChild.dataset.tone = one.kind === 'model' ? 'accent' : 'blue';
      row.title = `${one.kind}, middle call ${duration(one.p50_us)}`;
      say(name.lastElementChild, one.name);
      say(made, count(one.ok + one.failed));
      say(failed, count(one.failed));
      failed.dataset.tone = one.failed ? 'bad' : '';
      say(tokens, one.kind === 'model' ? count(one.input_tokens + one.output_tokens) : '–');
      say(cost, one.kind === 'model' ? dollars(one.cost_usd) : '–');
    });
}

function resources(now) {
  const rows = [['CPU', now.cpu_ratio, percent(now.cpu_ratio)],
    ['Memory', now.memory_ratio, bytes(now.resident_bytes)], ['Disk', now.disk_ratio, percent(now.disk_ratio)]];
  keyed(byId('resources'), rows, ([name]) => name,
    ([name]) => make('div', '', make('dt', '', name), make('dd', 'wide-cell', meter()), make('dd', 'n')),
    (row, [, ratio, text]) => {
      fill(row.children[1].firstElementChild, ratio);
      say(row.children[2], text);
    });
}

// Takes an answer of `/health/detailed`.
export function health(now) {
  say(byId('health-word'), now.status);
  byId('health-word').dataset.tone = toneOf(now.status);
  const checks = Object.entries(now.checks);
  keyed(byId('checks'), checks, ([name]) => name,
    () => make('li', '', make('i', 'dot'), make('span'), make('span', 'muted')),
    (row, [name, check]) => {
      row.firstElementChild.dataset.tone = toneOf(check.status);
      say(row.children[1], name);
      const last = check.last_error && `was: ${check.last_error.error}, ${ago(check.last_error.at)} ago`;
      say(row.children[2], check.error ?? last ?? check.status);
    });
  alerts(checks.filter(([, check]) => check.status !== 'ok').map(([name, check]) => [toneOf(check.status), `${name}: ${check.error}`]));
}

// What is wrong now, on top of the page.
export function alerts(all) {
  const place = byId('alerts');
  place.hidden = all.length === 0;
  keyed(place, all, ([, text]) => text, () => make('p'), (row, [tone, text]) => {
    row.dataset.tone = tone;
    say(row, text);
  });
}
