// Charts on canvas: stacked areas, lines over a logarithmic scale, a heat map. All show the last
// WINDOW_S seconds, and all show the same moment when the pointer is over one of them.

import { duration, rate } from './dom.js';

export const WINDOW_S = 120;
const LEFT = 46;
const BOTTOM = 18;
const TOP = 6;

const probe = document.createElement('span');
probe.hidden = true;

// A colour of the style sheet as the theme has it now.
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

// The same with another opacity.
function faded(rgb, alpha) {
  const parts = rgb.match(/[\d.]+/g).slice(0, 3);
  return `rgba(${parts.join(',')},${alpha})`;
}

class Chart {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.draw = draw;
    this.points = [];
    this.hovered = null;
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  redraw() {
    const { clientWidth, clientHeight } = this.canvas;
    if (clientWidth === 0) return;
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * dense);
    this.canvas.height = Math.round(clientHeight * dense);
    const on = this.canvas.getContext('2d');
    on.scale(dense, dense);
    on.font = `10.5px ${getComputedStyle(this.canvas).fontFamily}`;
    const box = { left: LEFT, top: TOP, right: clientWidth - 4, bottom: clientHeight - BOTTOM };
    const now = this.points.at(-1)?.t ?? 0;
    box.x = (t) => box.right - ((now - t) / (WINDOW_S * 1e3)) * (box.right - box.left);
    this.box = box;
    times(on, box);
    this.draw(on, box, this.points);
    if (this.hovered !== null && this.hovered < this.points.length) {
      on.strokeStyle = colour('muted');
      on.setLineDash([2, 3]);
      stroke(on, [[box.x(this.points[this.hovered].t), box.top], [box.x(this.points[this.hovered].t), box.bottom]]);
      on.setLineDash([]);
    }
  }

  // The place of the point under the pointer.
  at(x) {
    let best = null;
    this.points.forEach((point, place) => {
      const far = Math.abs(this.box.x(point.t) - x);
      if (best === null || far < best.far) best = { far, place };
    });
    return best?.place ?? null;
  }
}

function stroke(on, points) {
  on.beginPath();
  points.forEach(([x, y], place) => (place ? on.lineTo(x, y) : on.moveTo(x, y)));
  on.stroke();
}

function times(on, box) {
  on.fillStyle = colour('muted');
  on.textBaseline = 'alphabetic';
  for (const [share, text, align] of [[0, '−2 min', 'left'], [0.5, '−1 min', 'center'], [1, 'now', 'right']]) {
    on.textAlign = align;
    on.fillText(text, box.left + share * (box.right - box.left), box.bottom + 13);
  }
}

function line(on, box, y, text) {
  on.strokeStyle = colour('line');
  on.lineWidth = 1;
  const at = Math.round(y) + 0.5;
  stroke(on, [[box.left, at], [box.right, at]]);
  on.fillStyle = colour('muted');
  on.textAlign = 'right';
  on.textBaseline = 'middle';
  on.fillText(text, box.left - 7, Math.max(y, box.top + 4));
}

// The next of 1, 2, 4, 5, 10 … that is no less.
function roundUp(value) {
  if (value <= 4) return 4;
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * decade).find((step) => value <= step);
}

// Areas on one another: `series` are {key, tone}, from the bottom up; `over` is a line above.
export function areas(canvas, series, over) {
  return new Chart(canvas, (on, box, points) => {
    const top = roundUp(Math.max(0, ...points.map((point) => Math.max(
      point[over.key], series.reduce((sum, one) => sum + point[one.key], 0)))));
    const y = (value) => box.bottom - (value / top) * (box.bottom - box.top);
    for (const share of [0, 0.25, 0.5, 0.75, 1]) line(on, box, y(top * share), share % 0.5 ? '' : rate(top * share));
    if (points.length === 0) return;
    const base = points.map(() => 0);
    for (const one of series) {
      const upper = points.map((point, place) => base[place] + point[one.key]);
      const edge = points.map((point, place) => [box.x(point.t), y(upper[place])]);
      const under = points.map((point, place) => [box.x(point.t), y(base[place])]).reverse();
      const paint = colour(one.tone);
      on.fillStyle = faded(paint, 0.2);
      on.beginPath();
      [...edge, ...under].forEach(([x, at], place) => (place ? on.lineTo(x, at) : on.moveTo(x, at)));
      on.fill();
      on.strokeStyle = paint;
      on.lineWidth = 1.5;
      if (points.some((point) => point[one.key] !== 0)) stroke(on, edge);
      upper.forEach((value, place) => { base[place] = value; });
    }
    on.strokeStyle = faded(colour(over.tone), 0.9);
    on.lineWidth = 1;
    on.setLineDash([3, 3]);
    stroke(on, points.map((point) => [box.x(point.t), y(point[over.key])]));
    on.setLineDash([]);
  });
}

// Whole decades around all values, in µs.
function decades(values) {
  const low = Math.floor(Math.log10(Math.max(1, Math.min(...values))));
  const high = Math.ceil(Math.log10(Math.max(...values) + 1));
  return [Math.min(low, high - 1), high];
}

// Lines over a logarithmic scale of µs; where there is nothing, there is a gap.
export function lines(canvas, series) {
  return new Chart(canvas, (on, box, points) => {
    const all = points.flatMap((point) => series.map((one) => point[one.key])).filter((value) => value !== null);
    const [low, high] = all.length ? decades(all) : [2, 5];
    const y = (us) => box.bottom - ((Math.log10(Math.max(us, 1)) - low) / (high - low)) * (box.bottom - box.top);
    for (let decade = low; decade <= high; decade += 1) line(on, box, y(10 ** decade), duration(10 ** decade));
    for (const one of series) {
      on.strokeStyle = colour(one.tone);
      on.lineWidth = 1.5;
      on.lineJoin = 'round';
      let run = [];
      for (const point of [...points, { [one.key]: null }]) {
        if (point[one.key] !== null) {
          run.push([box.x(point.t), y(point[one.key])]);
        } else if (run.length) {
          if (run.length === 1) run.push([run[0][0] + 1.5, run[0][1]]);
          stroke(on, run);
          run = [];
        }
      }
    }
  });
}

export const FIRST_US = 64;

// Buckets of powers of two over time; the darker, the more tasks ended in that second.
export function heat(canvas) {
  return new Chart(canvas, (on, box, points) => {
    const used = points.flatMap((point) => point.buckets.flatMap((value, place) => (value ? [place] : [])));
    const low = used.length ? Math.max(0, Math.min(...used) - 1) : 2;
    const high = used.length ? Math.max(low + 8, Math.max(...used) + 1) : 12;
    const rows = high - low + 1;
    const tall = (box.bottom - box.top) / rows;
    const bottomOf = (place) => box.bottom - (place - low) * tall;
    const step = Math.max(1, Math.ceil(rows / 5));
    for (let place = low; place <= high; place += step) {
      line(on, box, bottomOf(place), place === 0 ? '0' : duration(FIRST_US * 2 ** (place - 1)));
    }
    const most = Math.max(1, ...points.flatMap((point) => point.buckets));
    const wide = (box.right - box.left) / WINDOW_S;
    const paint = colour('heat');
    for (const point of points) {
      const right = box.x(point.t);
      if (right - wide < box.left) continue;
      point.buckets.forEach((value, place) => {
        if (!value) return;
        on.fillStyle = faded(paint, 0.12 + 0.88 * Math.sqrt(Math.log1p(value) / Math.log1p(most)));
        on.fillRect(right - wide, bottomOf(place) - tall, wide + 0.35, tall - 1);
      });
    }
  });
}

// Has charts show the same moment; `shown` is told which, or null for the last.
export function together(charts, shown) {
  const show = (place) => {
    for (const chart of charts) {
      chart.hovered = place;
      chart.redraw();
    }
    shown(place);
  };
  for (const chart of charts) {
    chart.canvas.addEventListener('pointermove', (event) => show(chart.at(event.offsetX)));
    chart.canvas.addEventListener('pointerleave', () => show(null));
  }
}

