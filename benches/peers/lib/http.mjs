// The two clients for peers that speak HTTP, the same for nO and for Restate: `wrk` for rates,
// because it costs the machine least, and `drive` (restate/src/bin/drive.rs) for latencies at a
// fixed rate.
import fs from 'node:fs';
import path from 'node:path';
import { folder, output, sleep } from './processes.mjs';

const DRIVE_CONNECTIONS = 128;
let files = 0;

// Posts as fast as `connections` allow, then waits until all that was accepted is done, and gives
// what was done a second, from the first request to the last end. `count` asks the server side how
// many it has done; `tasks` is how many one request brings.
export async function peak({ url, body, token, connections, seconds, count, tasks = 1 }) {
  const script = path.join(folder, `post-${(files += 1)}.lua`);
  const lines = ['wrk.method = "POST"'];
  if (body) lines.push(`wrk.body = [==[${body}]==]`);
  if (body) lines.push('wrk.headers["Content-Type"] = "application/json"');
  if (token) lines.push(`wrk.headers["Authorization"] = "Bearer ${token}"`);
  fs.writeFileSync(script, lines.join('\n'), { mode: 0o600 });
  const before = await count();
  const startAt = performance.now();
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script];
  const text = await output('wrk', [...options, url]);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  if (!(requests > 0)) throw new Error(`wrk said: ${text}`);
  const accepted = (requests - refused) * tasks;
  const { done, endAt } = await drained(count, before, accepted);
  const perSecond = done / ((endAt - startAt) / 1000);
  return { perSecond, done, refused, drainSeconds: (endAt - startAt) / 1000 - seconds };
}

// Until everything accepted is done. What was on its way when `wrk` ended may be done as well.
async function drained(count, before, accepted) {
  const lateAt = performance.now() + 40_000;
  let [done, endAt] = [0, performance.now()];
  for (;;) {
    const now = (await count()) - before;
    if (done < now) [done, endAt] = [now, performance.now()];
    else if (accepted <= done) return { done, endAt };
    if (lateAt < performance.now()) {
      throw new Error(`${accepted} accepted, but only ${done} done after 40 s more`);
    }
    await sleep(100);
  }
}

// Latency in ms from when a request was due until its answer, which comes when the task is done.
export async function latency({ url, body, token, rate, seconds }) {
  const options = [url, body, rate, seconds, DRIVE_CONNECTIONS].map(String);
  const environment = { ...process.env, ...(token && { BEARER: token }) };
  const found = JSON.parse(await output(process.env.PEERS_DRIVE, options, { env: environment }));
  if (found.errors > 0) throw new Error(`${found.errors} of ${found.sent} failed at ${url}`);
  return { p50: found.p50_ms, p99: found.p99_ms };
}
