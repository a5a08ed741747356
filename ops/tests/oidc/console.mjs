// The console as somebody uses it who logs in at the issuer, in a real browser. Ends with 0 and
// `done` when all was seen; else it says what was not.
//
//   node console.mjs <folder with node_modules> <chromium> <folder for pictures>
//
// and one line of JSON on its input: url, issuer, login (whose any password will do), and the id
// of a task of theirs that sleeps.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createInterface } from 'node:readline';
import { mkdirSync } from 'node:fs';

const [tools, executablePath, pictures] = process.argv.slice(2);
const module = join(tools, 'node_modules/playwright-core/index.mjs');
const { chromium } = await import(pathToFileURL(module));
const line = await new Promise((done) => {
  createInterface({ input: process.stdin }).once('line', done);
});
const { url, issuer, login, task } = JSON.parse(line);
mkdirSync(pictures, { recursive: true });

// Root has no sandbox to put it in; small containers have little shared memory.
const args = ['--no-sandbox', '--disable-dev-shm-usage'];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
page.setDefaultTimeout(20_000);
// What the issuer's pages would fetch from elsewhere is not to be had here.
await page.route((asked) => ![url, issuer].includes(asked.origin), (route) => route.abort());

const check = (is, what) => { if (!is) throw new Error(what); };
const seen = (what, test, given) => page.waitForFunction(test, given).catch(async () => {
  await page.screenshot({ path: join(pictures, 'failed-session.png') });
  throw new Error(`not seen: ${what} at ${page.url()}`);
});
const posts = [];
page.on('request', (request) => {
  if (request.method() === 'POST' && request.url().startsWith(url)) posts.push(request);
});

try {
  await page.goto(`${url}/console/`);
  await seen('the form', () => !document.getElementById('sign-in').hidden);
  await page.focus('#issuer');
  await page.keyboard.press('Enter');

  // At the issuer: who it is, and that nO may know.
  await page.waitForURL((at) => at.origin === issuer, { waitUntil: 'domcontentloaded' });
  await page.fill('[name=login]', login);
  await page.fill('[name=password]', 'any');
  await page.keyboard.press('Enter');
  await page.locator('[name=prompt][value=consent]').waitFor({ state: 'attached' });
  await page.locator('[type=submit]').press('Enter');

  // Back where they came from, with a session and nothing that a script could take.
  await page.waitForURL((at) => at.href === `${url}/console/`);
  await seen('the board', () => !document.getElementById('board').hidden);
  await seen('live figures', () => document.getElementById('link').textContent === 'live');
  check((await page.locator('#who').innerText()) === `The ${login} · acme`, 'it is somebody else');
  check((await page.evaluate(() => document.cookie)) === '', 'a script sees a cookie');
  check(await page.evaluate(() => sessionStorage.length + localStorage.length === 0), 'something is kept');

  // An order goes with the proof that this page makes it.
  await page.evaluate((id) => { window.location.hash = `#task/${id}`; }, task);
  await seen('that it waits', () => document.getElementById('d-state').textContent === 'waiting');
  await page.focus('#d-actions .danger');
  await page.keyboard.press('Enter');
  await seen('its end', () => document.getElementById('d-state').textContent === 'cancelled');
  check(posts.length === 1 && posts[0].headers()['x-csrf-token'], 'the order had no proof');
  check(!posts[0].headers().authorization, 'the order had a token');
  await page.screenshot({ path: join(pictures, 'session.png') });

  // Out of both: the issuer asks, and the session is gone.
  await page.keyboard.press('Escape');
  await page.focus('#leave');
  await page.keyboard.press('Enter');
  await page.waitForURL((at) => at.origin === issuer, { waitUntil: 'domcontentloaded' });
  await page.locator('[name=logout]').press('Enter');
  await page.waitForURL((at) => at.origin === url);
  await page.goto(`${url}/console/`);
  await seen('the form again', () => !document.getElementById('sign-in').hidden);
  console.log('done');
} catch (error) {
  console.error(error.stack);
  process.exitCode = 1;
} finally {
  await browser.close();
}
