// One task: what it is, its steps as a timeline, its events as they come, and what can be done.

import { events, get, pause, post } from './api.js';
import { ago, byId, clock, count, dollars, duration, keyed, laidOut, make, say, shortId, tell, toneOf } from './dom.js';

const STEPS_PER_PAGE = 200;
// The newest events that are shown.
const EVENTS_LEN_MAX = 200;
const SAYS_LEN_MAX = 16384;
const IS_LIVE = ['scheduled', 'queued', 'running', 'waiting'];

let open = null;
let may = () => false;
let back = null;

const isForPerson = (task) => task.waiting?.reason === 'outcome_unknown';

export function start(permissions) {
  may = permissions;
  byId('d-close').addEventListener('click', leave);
  byId('d-copy').addEventListener('click', async () => {
    await navigator.clipboard?.writeText(open.id);
    tell('The id is in the clipboard.');
  });
  byId('d-more').addEventListener('click', () => open?.nextPage());
  byId('d-resolve').addEventListener('submit', (event) => {
    event.preventDefault();
    resolve(event.submitter.value);
  });
  byId('detail').addEventListener('keydown', keepInside);
  window.addEventListener('hashchange', follow);
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && open) leave();
  });
}

function leave() {
  window.location.hash = '';
}

// Tab goes round inside while the detail covers the page.
function keepInside(event) {
  if (event.key !== 'Tab') return;
  const all = [...byId('detail').querySelectorAll('a[href], button, textarea, summary, [tabindex="0"]')];
  const shown = all.filter((one) => !one.disabled && one.getClientRects().length);
  const [first, last] = [shown[0], shown.at(-1)];
  const at = document.activeElement;
  if (event.shiftKey && (at === first || at === byId('detail'))) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && at === last) {
    event.preventDefault();
    first.focus();
  }
}

// Shows the task that the address names, or none.
export function follow() {
  const id = /^#task\/([0-9a-f-]{36})$/.exec(window.location.hash)?.[1];
  if (open?.id === id) return;
  open?.close();
  open = null;
  byId('detail').hidden = !id;
  document.body.classList.toggle('has-detail', Boolean(id));
  if (id) {
    back ??= document.activeElement?.dataset?.key ?? rowOf(document.activeElement);
    open = new Detail(id);
    byId('detail').focus();
  } else if (back) {
    const row = document.querySelector(`[data-key="${CSS.escape(back)}"]`);
    (row?.querySelector('a') ?? byId('list')).focus();
    back = null;
  }
}

const rowOf = (element) => element?.closest?.('[data-key]')?.dataset.key ?? null;

class Detail {
  constructor(id) {
    this.id = id;
    this.over = new AbortController();
    this.pages = [{ cursor: null, items: [] }];
    this.shownPages = 1;
    this.seen = [];
    this.count = 0;
    this.says = '';
    this.wants = null;
    for (const place of ['d-steps', 'd-events', 'd-facts', 'd-actions']) byId(place).replaceChildren();
    for (const place of ['d-input', 'd-output', 'd-state', 'd-span', 'd-steps-note', 'd-count']) say(byId(place), '');
    for (const place of ['d-resolve', 'd-error', 'd-more', 'd-live']) byId(place).hidden = true;
    byId('d-result').value = '';
    say(byId('d-title'), shortId(id));
    say(byId('d-id'), id);
    this.refresh();
    this.follow();
  }

  close() {
    this.over.abort();
    clearTimeout(this.wants);
  }

  // Reads the task anew soon; once for all events of a moment.
  wantRefresh() {
    this.wants ??= setTimeout(() => {
      this.wants = null;
      this.refresh();
    }, 200);
  }

  async refresh() {
    const { signal } = this.over;
    try {
      const task = await get(`/v1/tasks/${this.id}`, signal);
      await this.readSteps(signal);
      this.task = task;
      if (!signal.aborted) this.show();
    } catch (why) {
      if (!signal.aborted) fault(why.message);
    }
  }

  // Pages before the last are full, and what is in them has ended: they are read once.
  async readSteps(signal) {
    for (let place = Math.max(0, this.pages.length - 1); place < this.shownPages; place += 1) {
      const page = this.pages[place];
      const query = new URLSearchParams({ limit: STEPS_PER_PAGE });
      if (page.cursor) query.set('cursor', page.cursor);
      const answer = await get(`/v1/tasks/${this.id}/steps?${query}`, signal);
      page.items = answer.items;
      this.next = answer.next_cursor;
      if (!answer.next_cursor || place + 1 === this.shownPages) return;
      this.pages[place + 1] ??= { cursor: answer.next_cursor, items: [] };
    }
  }

  nextPage() {
    this.pages.push({ cursor: this.next, items: [] });
    this.shownPages += 1;
    this.refresh();
  }

  show() {
    const { task } = this;
    const steps = this.pages.flatMap((page) => page.items);
    say(byId('d-title'), task.agent);
    say(byId('d-state'), task.state);
    byId('d-state').dataset.tone = toneOf(task.state);
    fault(task.error && `${task.error.code}: ${task.error.message}`);
    facts(task);
    actions(task);
    ask(task);
    timeline(task, steps);
    byId('d-more').hidden = !this.next;
    say(byId('d-input'), laidOut(task.input));
    const hasOutput = task.state === 'succeeded';
    byId('d-output').hidden = !hasOutput;
    byId('d-output-title').hidden = !hasOutput;
    say(byId('d-output'), hasOutput ? laidOut(task.output) : '');
  }

  // Follows the events to the task's end, through breaks of the connection.
  async follow() {
    const { signal } = this.over;
    for (let after; !signal.aborted;) {
      try {
        for await (const event of events(`/v1/tasks/${this.id}/events`, { signal, after })) {
          after = event.id ?? after;
          this.take(event);
        }
        this.refresh();
        if (!this.task || !IS_LIVE.includes(this.task.state)) await pause(500, signal);
        if (this.task && !IS_LIVE.includes(this.task.state)) return;
      } catch (why) {
        if (signal.aborted || (400 <= why.status && why.status < 500)) return;
      }
      await pause(2000, signal);
    }
  }

  take(event) {
    if (event.name === 'delta') {
      this.says = (this.says + event.data.text).slice(-SAYS_LEN_MAX);
      byId('d-live').hidden = false;
      say(byId('d-says'), this.says);
      return;
    }
    if (event.name === 'step_ended' || event.name === 'step_started') {
      this.says = '';
      byId('d-live').hidden = true;
    }
    this.count += 1;
    this.seen.push(event.data);
    if (EVENTS_LEN_MAX < this.seen.length) this.seen.shift();
    this.wantRefresh();
    this.wantList();
  }

  // A long history comes in one go: one picture of it is enough.
  wantList() {
    this.list ??= requestAnimationFrame(() => {
      this.list = null;
      if (this.over.signal.aborted) return;
      say(byId('d-count'), this.count === this.seen.length ? count(this.count) : `the last ${count(this.seen.length)} of ${count(this.count)}`);
      keyed(byId('d-events'), this.seen, (one) => one.n,
        (one) => make('li', '', make('span', 'muted mono', clock(one.at)), make('span', 'mono', one.event), make('span', 'muted', about(one))),
        () => {});
    });
  }
}

// What an event says beside its name.
function about(event) {
  const parts = [];
  if (event.step) parts.push(`step ${event.step}`);
  if (event.name) parts.push(event.name);
  if (event.attempt) parts.push(`attempt ${event.attempt}`);
  if (event.waiting) parts.push([event.waiting.reason, event.waiting.name].filter(Boolean).join(' '));
  if (event.error) parts.push(`${event.error.code}: ${event.error.message}`);
  return parts.join(' · ');
}

function fault(text) {
  byId('d-error').hidden = !text;
  say(byId('d-error'), text ?? '');
}

function facts(task) {
  const { usage } = task;
  const end = task.ended_at ? Date.parse(task.ended_at) : Date.now();
  const rows = [
    ['Took', duration((end - Date.parse(task.created_at)) * 1e3)],
    ['Attempt', `${task.attempt} of ${task.max_attempts}`],
    ['Iterations', count(usage.iterations)],
    ['Tokens', `${count(usage.input_tokens)} in, ${count(usage.output_tokens)} out`],
    ['Cost', dollars(usage.cost_usd)],
    ['Priority', task.priority],
    ['Created', clock(task.created_at)],
    ['Started', clock(task.started_at)],
    ['Ended', clock(task.ended_at)],
    ['Waits for', task.waiting ? [task.waiting.reason, task.waiting.name, task.waiting.until && `until ${clock(task.waiting.until)}`].filter(Boolean).join(', ') : ''],
    ['Fairness key', task.fairness_key ?? ''],
    ['Tags', task.tags.join(', ')],
    ['Tenant', task.tenant],
  ];
  keyed(byId('d-facts'), rows.filter(([, value]) => value !== ''), ([name]) => name,
    ([name]) => make('div', '', make('dt', '', name), make('dd')),
    (row, [, value]) => say(row.lastElementChild, value));
}

function actions(task) {
  const all = [];
  if (may('tasks:control')) {
    if (IS_LIVE.includes(task.state)) all.push(['cancel', 'Cancel the task', 'danger']);
    if (task.state === 'failed') all.push(['retry', 'Redrive', 'main']);
  }
  keyed(byId('d-actions'), all, ([verb]) => verb,
    ([verb, label, name]) => {
      const button = make('button', name, label);
      button.type = 'button';
      button.addEventListener('click', () => order(button, `/v1/tasks/${task.id}/${verb}`));
      return button;
    },
    () => {});
}

async function order(button, path, body) {
  button.disabled = true;
  const { id } = open;
  try {
    await post(path, body);
    tell(`${shortId(id)}: done.`);
    open?.refresh();
    // It ended before; now it may go on, and there is more to follow.
    if (open?.id === id && path.endsWith('/retry')) {
      open.close();
      open = new Detail(id);
      byId('detail').focus();
    }
  } catch (why) {
    tell(why.message, 'bad');
  }
  button.disabled = false;
}

function ask(task) {
  const isAsked = isForPerson(task) && may('tasks:control');
  byId('d-resolve').hidden = !isAsked;
  if (isAsked) {
    say(byId('d-question'), `nO made the call “${task.waiting.name ?? ''}” and does not know whether it was carried out. The tool is not safe to call twice.`);
  }
}

function resolve(outcome) {
  const body = { outcome };
  const text = byId('d-result').value.trim();
  if (outcome === 'done' && text) {
    try {
      body.result = JSON.parse(text);
    } catch (why) {
      tell(`The result is not JSON: ${why.message}`, 'bad');
      byId('d-result').focus();
      return;
    }
  }
  const button = document.querySelector(`#d-resolve [value=${outcome}]`);
  order(button, `/v1/tasks/${open.id}/resolve`, body);
}

// Steps as bars over the time from the first to the last of them.
function timeline(task, steps) {
  const now = Date.now();
  const endOf = (step) => (step.ended_at ? Date.parse(step.ended_at) : task.ended_at ? Date.parse(task.ended_at) : now);
  const from = Date.parse(steps[0]?.started_at ?? task.created_at);
  const to = Math.max(from + 1, ...steps.map(endOf));
  say(byId('d-span'), steps.length ? `${count(steps.length)} steps in ${duration((to - from) * 1e3)}` : '');
  say(byId('d-steps-note'), steps.length ? '' : 'No steps yet.');
  keyed(byId('d-steps'), steps, (step) => step.step, stepRow, (row, step) => {
    const [head, inside] = row.firstElementChild.children;
    const [mark, name, track, took] = head.children;
    mark.dataset.kind = step.kind;
    mark.title = step.kind;
    say(name, `${step.step} ${step.name}`);
    name.title = `${step.kind}, attempt ${step.attempt}`;
    const start = Date.parse(step.started_at);
    const bar = track.firstElementChild;
    bar.style.left = `${(100 * (start - from)) / (to - from)}%`;
    bar.style.width = `${Math.max(0.8, (100 * (endOf(step) - start)) / (to - from))}%`;
    bar.dataset.kind = step.kind;
    bar.dataset.state = step.state;
    say(took, step.ended_at ? duration((endOf(step) - start) * 1e3) : step.state.replace('outcome_', ''));
    took.dataset.tone = step.state === 'succeeded' ? '' : toneOf(step.state);
    unfold(inside, step);
  });
}

function stepRow(step) {
  const head = make('summary', '', make('i', 'mark'), make('span', 'name'), make('span', 'track', make('i')), make('span', 'n'));
  head.ariaLabel = `Step ${step.step}, ${step.kind} ${step.name}`;
  return make('li', '', make('details', '', head, make('div', 'inside')));
}

function unfold(place, step) {
  const { usage } = step;
  const used = usage.input_tokens + usage.output_tokens
    ? `${count(usage.input_tokens)} tokens in, ${count(usage.output_tokens)} out, ${dollars(usage.cost_usd)}` : null;
  const parts = [
    ['State', `${step.state}, ${step.kind}, attempt ${step.attempt}, began ${ago(step.started_at)} ago`],
    ['Usage', used],
    ['Error', step.error && `${step.error.code}: ${step.error.message}`],
    ['Input', step.input === null ? null : laidOut(step.input)],
    ['Output', step.output === null ? null : laidOut(step.output)],
  ];
  keyed(place, parts.filter(([, text]) => text), ([name]) => name,
    ([name]) => make('div', '', make('h4', '', name), make('pre')),
    (row, [, text]) => say(row.lastElementChild, text));
}
