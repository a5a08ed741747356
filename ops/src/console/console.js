// The console: who asks, the theme, and what keeps the page fresh.

import * as api from './api.js';
import * as detail from './detail.js';
import { byId, say } from './dom.js';
import * as node from './node.js';
import * as tasks from './tasks.js';

const LIST_MS = 2000;
const HEALTH_MS = 5000;
const RETRY_MS_MAX = 10000;
const THEMES = ['system', 'light', 'dark'];

function theme(name) {
  const root = document.documentElement;
  if (name === 'system') delete root.dataset.theme;
  else root.dataset.theme = name;
  say(byId('theme'), `Theme: ${name}`);
  node.redraw();
}

function themes() {
  const kept = localStorage.getItem('no.theme');
  let place = Math.max(0, THEMES.indexOf(kept));
  theme(THEMES[place]);
  byId('theme').addEventListener('click', () => {
    place = (place + 1) % THEMES.length;
    localStorage.setItem('no.theme', THEMES[place]);
    theme(THEMES[place]);
  });
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', node.redraw);
}

let over = null;

// Shows the form, and why.
function signIn(why = '') {
  over?.abort();
  over = null;
  byId('board').hidden = true;
  byId('leave').hidden = true;
  byId('sign-in').hidden = false;
  say(byId('who'), '');
  link('', 'idle');
  node.alerts([]);
  say(byId('sign-in-error'), why);
  byId('token').focus();
}

function signInForm() {
  byId('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = byId('token').value.trim();
    // A header takes nothing else, and no token of ours has anything else.
    if (!/^[\x21-\x7e]+$/.test(text)) {
      say(byId('sign-in-error'), 'This is no token: it has blanks or letters that tokens do not have.');
      return;
    }
    api.useToken(text, byId('keep').checked);
    byId('token').value = '';
    enter();
  });
  byId('issuer').addEventListener('click', async () => {
    try {
      const { url } = await api.get(`/auth/login?return_to=${encodeURIComponent('/console/')}`);
      window.location.assign(url);
    } catch (why) {
      say(byId('sign-in-error'), why.message);
    }
  });
  byId('leave').addEventListener('click', async () => {
    const hadToken = api.hasToken();
    let url = null;
    if (!hadToken) url = (await api.post('/auth/logout').catch(() => ({}))).logout_url;
    api.forget();
    window.location.hash = '';
    signIn();
    if (url) window.location.assign(url);
  });
}

let isStarted = false;

async function enter() {
  let who;
  try {
    who = await api.me();
  } catch (why) {
    const wasToken = api.hasToken();
    api.forget();
    signIn(why.status === 401 ? (wasToken ? 'nO does not accept this token.' : '') : why.message);
    return;
  }
  const may = (permission) => who.permissions.includes(permission);
  byId('sign-in').hidden = true;
  byId('board').hidden = false;
  say(byId('who'), `${who.name || who.subject} · ${who.tenant}`);
  byId('leave').hidden = !(api.hasToken() || who.method === 'session');
  held = may;
  if (!isStarted) {
    isStarted = true;
    node.start();
    tasks.start((permission) => held(permission));
    detail.start((permission) => held(permission));
  }
  over = new AbortController();
  const { signal } = over;
  if (may('ops:read')) live(signal);
  else link('figures need ops:read', 'warn');
  if (may('tasks:read')) {
    every(LIST_MS, signal, tasks.refresh);
    every(HEALTH_MS, signal, tasks.look);
    detail.follow();
  } else {
    say(byId('list-note'), 'Tasks need tasks:read.');
  }
  if (may('ops:read')) {
    every(HEALTH_MS, signal, async () => {
      node.health(await api.get('/health/detailed', signal, (status) => status === 503));
    });
  }
}

let held = () => false;

function link(text, tone) {
  say(byId('link'), text);
  byId('link').dataset.tone = tone;
}

// Does something again and again, until it is over; who is no longer known signs in again.
async function every(ms, signal, run) {
  while (!signal.aborted) {
    try {
      await run();
    } catch (why) {
      if (why.status === 401 && !signal.aborted) signIn('Your session or token has ended.');
    }
    await api.pause(ms, signal);
  }
}

// Follows the figures; comes back after whatever breaks the stream, later and later.
async function live(signal) {
  let wait = 1000;
  while (!signal.aborted) {
    try {
      for await (const { name, data } of api.events('/admin/live', { signal })) {
        if (name === 'history') {
          node.add(data);
          continue;
        }
        link('live', 'good');
        wait = 1000;
        node.show(data);
        tasks.counts(data);
      }
    } catch (why) {
      if (signal.aborted) return;
      if (why.status === 401) {
        signIn('Your session or token has ended.');
        return;
      }
      link(why.status ? why.message : 'nO does not answer', 'bad');
      await api.pause(wait, signal);
      wait = Math.min(wait * 2, RETRY_MS_MAX);
      continue;
    }
    link('reconnecting', 'warn');
    await api.pause(250, signal);
  }
}

themes();
signInForm();
enter();
