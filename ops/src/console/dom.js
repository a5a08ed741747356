// Elements and numbers. Text that comes from anywhere is only ever put in as text.

export const byId = (id) => document.getElementById(id);

// An element of this class with this text or these children.
export function make(tag, name, ...inside) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...inside.filter((part) => part !== null && part !== undefined));
  return element;
}

// Sets text only where it is another, so that what is read aloud or selected stays.
export function say(element, text) {
  const shown = String(text ?? '');
  if (element.textContent !== shown) element.textContent = shown;
}

// Makes the children of `parent` those of `items`, each kept by its key: focus, selection and what
// is unfolded stay where they are.
export function keyed(parent, items, keyOf, create, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  let lostFocus = false;
  for (const [key, child] of before) {
    if (wanted.has(key)) continue;
    lostFocus ||= child.contains(document.activeElement);
    child.remove();
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = before.get(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  return lostFocus;
}

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

// 950, 12,400, 1.2 M.
export function count(value) {
  if (value === null || value === undefined) return '–';
  if (value < 1e6) return grouped.format(value);
  const [scale, unit] = value < 1e9 ? [1e6, 'M'] : [1e9, 'G'];
  return `${(value / scale).toFixed(1)} ${unit}`;
}

// A rate: one digit behind the point where it is small.
export function rate(value) {
  if (value === null || value === undefined) return '–';
  return value !== 0 && value < 10 ? value.toFixed(1) : count(Math.round(value));
}

// Microseconds as µs, ms, s, min, h or d.
export function duration(us) {
  if (us === null || us === undefined) return '–';
  const units = [[1e3, 1, 'µs'], [1e6, 1e3, 'ms'], [6e7, 1e6, 's'], [3.6e9, 6e7, 'min'],
    [8.64e10, 3.6e9, 'h'], [Infinity, 8.64e10, 'd']];
  const [, scale, unit] = units.find(([below]) => us < below);
  const value = us / scale;
  const digits = value < 9.95 && value !== Math.round(value) ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`;
}

// How long ago a time of the API was.
export function ago(text, now = Date.now()) {
  if (!text) return '–';
  return duration(Math.max(0, now - Date.parse(text)) * 1e3);
}

export function clock(text) {
  return text ? new Date(text).toLocaleTimeString('en-GB') : '–';
}

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const steps = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let step = 0;
  while (1024 <= value && step < steps.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${value < 10 && 0 < step ? value.toFixed(1) : Math.round(value)} ${steps[step]}`;
}

export function dollars(value) {
  if (!value) return '$0';
  return value < 0.01 ? `$${value.toFixed(4)}` : `$${value.toFixed(2)}`;
}

export const percent = (ratio) => (ratio === null || ratio === undefined ? '–' : `${Math.round(ratio * 100)} %`);

// The part of an id that tells tasks of one minute apart.
export const shortId = (id) => `${id.slice(0, 8)}…${id.slice(-8)}`;

const TEXT_LEN_MAX = 65536;

// Any JSON, laid out, and cut where nobody reads on.
export function laidOut(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2) ?? '';
  if (text.length <= TEXT_LEN_MAX) return text;
  return `${text.slice(0, TEXT_LEN_MAX)}\n… ${count(text.length - TEXT_LEN_MAX)} more characters: ask the API`;
}

// What a state or a check looks like: idle, good, busy, warn or bad.
export function toneOf(state) {
  switch (state) {
    case 'succeeded': case 'ok': case 'ready': return 'good';
    case 'running': return 'busy';
    case 'waiting': case 'degraded': case 'starting': case 'draining': case 'outcome_unknown': return 'warn';
    case 'failed': case 'failing': return 'bad';
    default: return 'idle';
  }
}

let sayingUntil = 0;

// Tells what came of something that was done, for five seconds.
export function tell(text, tone = 'good') {
  const place = byId('said');
  place.dataset.tone = tone;
  say(place, text);
  place.classList.add('shown');
  window.clearTimeout(sayingUntil);
  sayingUntil = window.setTimeout(() => place.classList.remove('shown'), 5000);
}
