// The API: who asks, requests with the proof of it, and streams of events. A token is in memory,
// or in this tab's storage if its owner says so; never in a URL. A session's cookie is the
// browser's affair: here is only the proof that this page makes a request.

const STORED = 'no.token';

let token = sessionStorage.getItem(STORED);
let csrf = null;

// Why something was not done, in the words of the API.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `nO answered ${status}`);
    this.status = status;
    this.code = problem.code ?? '';
  }
}

export const hasToken = () => token !== null;

export function useToken(text, isKept) {
  token = text;
  csrf = null;
  if (isKept) sessionStorage.setItem(STORED, text);
}

export function forget() {
  token = null;
  csrf = null;
  sessionStorage.removeItem(STORED);
}

function headersFor(method, more) {
  const headers = { accept: 'application/json', ...more };
  if (token) headers.authorization = `Bearer ${token}`;
  else if (csrf && method !== 'GET') headers['x-csrf-token'] = csrf;
  return headers;
}

async function send(method, path, { headers, body, signal } = {}) {
  const answer = await fetch(path, {
    method,
    headers: headersFor(method, headers),
    body,
    signal,
    credentials: 'same-origin',
    cache: 'no-store',
    redirect: 'error',
  });
  return answer;
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  return new Refused(answer.status, problem);
}

// `is_fine` says which statuses beside 2xx carry an answer.
export async function get(path, signal, isFine = () => false) {
  const answer = await send('GET', path, { signal });
  if (!answer.ok && !isFine(answer.status)) throw await refusal(answer);
  return answer.json();
}

export async function post(path, value) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  const answer = await send('POST', path, { headers, body });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

// Who asks; remembers the proof that a session needs.
export async function me() {
  const who = await get('/auth/me');
  csrf = who.csrf_token ?? null;
  return who;
}

// Gives each event of a stream, as {id, name, data}, until it ends or is aborted.
export async function* events(path, { signal, after } = {}) {
  const headers = { accept: 'text/event-stream' };
  if (after) headers['last-event-id'] = after;
  const answer = await send('GET', path, { headers, signal });
  if (!answer.ok) throw await refusal(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = { id: undefined, name: '', data: [] };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (event.data.length) yield { ...event, data: JSON.parse(event.data.join('\n')) };
        event = { id: event.id, name: '', data: [] };
        continue;
      }
      const at = line.indexOf(':');
      if (at === 0) continue;
      const field = at < 0 ? line : line.slice(0, at);
      const text = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
      if (field === 'data') event.data.push(text);
      else if (field === 'event') event.name = text;
      else if (field === 'id') event.id = text;
    }
  }
}

// Returns after so long, or at once when aborted.
export function pause(ms, signal) {
  return new Promise((done) => {
    if (signal?.aborted) {
      done();
      return;
    }
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      done();
    }, { once: true });
  });
}
