// The loops: what runs, waits, waits for a person, failed for good, and came last; and the dead
// letters' way back.

import { get, post } from './api.js';
import { ago, byId, count, dollars, duration, keyed, make, say, shortId, tell, toneOf } from './dom.js';

const LIMITS = [50, 100, 200, 500];
// Pages of waiting tasks that are looked through for those that wait for a person.
const PAGES_MAX = 4;

const isForPerson = (task) => task.waiting?.reason === 'outcome_unknown';

const TABS = [
  { name: 'running', label: 'Running', state: 'running' },
  { name: 'waiting', label: 'Waiting', state: 'waiting' },
  { name: 'person', label: 'Needs a person', state: 'waiting', keep: isForPerson },
  { name: 'failed', label: 'Dead letters', state: 'failed' },
  { name: 'queued', label: 'Queued', state: 'queued' },
  { name: 'recent', label: 'Recent', state: '' },
];

const NOTHING = {
  running: 'Nothing runs at this moment.',
  waiting: 'No loop waits.',
  person: 'Nobody is waited for.',
  failed: 'No dead letters.',
  queued: 'The queue is empty.',
  recent: 'There are no tasks yet.',
};

const COLUMNS = [['Task', ''], ['Agent', ''], ['State', ''], ['Age', 'n'], ['Attempt', 'n wide'],
  ['Iterations', 'n wide'], ['Tokens', 'n wide'], ['Cost', 'n wide'], ['', 'n acts']];

let current = 'running';
let limit = LIMITS[0];
let may = () => false;
let people = null;

const tabOf = (name) => TABS.find((tab) => tab.name === name);

export function start(permissions) {
  may = permissions;
  byId('list-head').append(make('tr', '', ...COLUMNS.map(([label, name]) => {
    const head = make('th', name, label);
    head.scope = 'col';
    if (!label) head.ariaLabel = 'What can be done';
    return head;
  })));
  const bar = byId('tabs');
  for (const { name, label } of TABS) {
    const tab = make('button', '', make('span', '', label), make('b'));
    tab.type = 'button';
    tab.role = 'tab';
    tab.id = `tab-${name}`;
    tab.setAttribute('aria-controls', 'list');
    tab.addEventListener('click', () => choose(name));
    bar.append(tab);
  }
  bar.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = TABS.findIndex(({ name }) => name === current);
    const next = { Home: 0, End: TABS.length - 1 }[event.key] ?? (step && (place + step + TABS.length) % TABS.length);
    if (next === undefined) return;
    event.preventDefault();
    choose(TABS[next].name);
    byId(`tab-${current}`).focus();
  });
  byId('agent').addEventListener('change', refresh);
  byId('more').addEventListener('click', () => {
    limit = LIMITS[Math.min(LIMITS.indexOf(limit) + 1, LIMITS.length - 1)];
    refresh();
  });
  byId('redrive-place').append(redriver());
  mark();
}

function choose(name) {
  current = name;
  limit = LIMITS[0];
  byId('list-body').replaceChildren();
  say(byId('list-note'), '');
  mark();
  refresh();
}

// One tab can be reached by Tab; the others by arrows.
function mark() {
  for (const { name } of TABS) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute('aria-selected', String(name === current));
    tab.tabIndex = name === current ? 0 : -1;
  }
  byId('list').setAttribute('aria-labelledby', `tab-${current}`);
  byId('list').dataset.tab = current;
  byId('redrive-place').hidden = current !== 'failed' || !may('tasks:control');
}

// Takes what a frame of figures says of tasks and agents.
export function counts(now) {
  const shown = { running: now.tasks.running, waiting: now.tasks.waiting, failed: now.tasks.failed,
    queued: now.tasks.queued, person: people };
  for (const [name, value] of Object.entries(shown)) {
    const badge = byId(`tab-${name}`).lastElementChild;
    say(badge, value ? count(value) : '');
    badge.dataset.tone = { person: 'warn', failed: 'bad' }[name] ?? '';
  }
  const pick = byId('agent');
  const names = now.agents.map((agent) => agent.name);
  const known = [...pick.options].slice(1).map((option) => option.value);
  if (names.join('\n') === known.join('\n')) return;
  const chosen = pick.value;
  pick.replaceChildren(pick.options[0], ...names.map((name) => new Option(name, name)));
  pick.value = names.includes(chosen) ? chosen : '';
}

async function page(state, size, cursor) {
  const query = new URLSearchParams({ limit: size });
  if (state) query.set('state', state);
  if (byId('agent').value) query.set('agent', byId('agent').value);
  if (cursor) query.set('cursor', cursor);
  return get(`/v1/tasks?${query}`);
}

// All that wait for a person, as far as they are among the newest that wait.
async function waitingForPerson() {
  const found = [];
  let cursor = null;
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    const one = await page('waiting', 500, cursor);
    found.push(...one.items.filter(isForPerson));
    cursor = one.next_cursor;
    if (!cursor) break;
  }
  people = found.length;
  return { items: found, next_cursor: null, isCut: cursor !== null };
}

let asked = 0;

export async function refresh() {
  asked += 1;
  const ours = asked;
  mark();
  const tab = tabOf(current);
  const found = tab.keep ? await waitingForPerson() : await page(tab.state, limit);
  // Another tab was chosen meanwhile, or a later answer is here already.
  if (ours !== asked) return;
  const lostFocus = keyed(byId('list-body'), found.items, (task) => task.id, row, update);
  if (lostFocus) byId('list').focus();
  say(byId('list-note'), found.items.length ? (found.isCut ? `Among the newest ${count(PAGES_MAX * 500)} that wait.` : '') : NOTHING[current]);
  byId('more').hidden = !(found.next_cursor && limit < LIMITS.at(-1));
}

// Looks for those who need a person while another tab is shown.
export async function look() {
  if (current !== 'person') await waitingForPerson();
}

function row(task) {
  const link = make('a', 'mono', shortId(task.id));
  link.href = `#task/${task.id}`;
  link.title = task.id;
  const cells = COLUMNS.map(([, name]) => make('td', name));
  cells[0].append(link);
  cells[2].append(make('span', 'chip'), make('span', 'muted why'));
  const acts = may('tasks:control') && actsFor(task);
  if (acts) cells[8].append(acts);
  return make('tr', '', ...cells);
}

function actsFor(task) {
  if (task.state === 'failed') {
    return act('Redrive', `Redrive ${shortId(task.id)}`, async () => {
      await post(`/v1/tasks/${task.id}/retry`);
      tell(`${shortId(task.id)} goes round again.`);
    });
  }
  if (!isForPerson(task)) return null;
  const link = make('a', 'button', 'Resolve');
  link.href = `#task/${task.id}`;
  link.ariaLabel = `Resolve ${shortId(task.id)}`;
  return link;
}

// A button that does something and then shows what came of it; `isSure` may ask first.
function act(label, says, run, isSure = () => true) {
  const button = make('button', '', label);
  button.type = 'button';
  button.ariaLabel = says;
  button.addEventListener('click', async () => {
    // Not disabled: that would take the focus from who works by keyboard.
    if (button.ariaDisabled || !isSure()) return;
    button.ariaDisabled = 'true';
    try {
      await run();
      await refresh();
    } catch (why) {
      tell(why.message, 'bad');
    }
    button.ariaDisabled = null;
  });
  return button;
}

function why(task) {
  if (task.waiting) return [task.waiting.reason.replace('_', ' '), task.waiting.name].filter(Boolean).join(': ');
  if (task.state === 'failed' && task.error) return `${task.error.code}: ${task.error.message}`;
  return '';
}

function update(line, task) {
  const [, agent, state, age, attempt, iterations, tokens, cost] = line.children;
  say(agent, task.agent);
  const [chip, reason] = state.children;
  say(chip, task.state);
  chip.dataset.tone = toneOf(task.state);
  say(reason, why(task));
  reason.title = why(task);
  const end = task.ended_at && Date.parse(task.ended_at) - Date.parse(task.created_at);
  say(age, end ? duration(end * 1e3) : ago(task.created_at));
  say(attempt, `${task.attempt}/${task.max_attempts}`);
  say(iterations, count(task.usage.iterations));
  say(tokens, count(task.usage.input_tokens + task.usage.output_tokens));
  say(cost, dollars(task.usage.cost_usd));
}

// All dead letters of the chosen agent, asked for twice.
function redriver() {
  const forget = () => {
    delete button.dataset.sure;
    say(button, 'Redrive all');
  };
  const isSure = () => {
    const agent = byId('agent').value;
    if (button.dataset.sure === agent) return true;
    button.dataset.sure = agent;
    say(button, agent ? `Redrive all of ${agent}: sure?` : 'Redrive all: sure?');
    return false;
  };
  const button = act('Redrive all', 'Redrive all dead letters', async () => {
    const agent = button.dataset.sure;
    forget();
    const { redriven } = await post('/v1/dead-letters/redrive', agent ? { agent } : {});
    tell(`${count(redriven)} dead letters go round again.`);
  }, isSure);
  button.addEventListener('blur', forget);
  button.id = 'redrive-all';
  return button;
}
