// The console as somebody uses it who has no mouse, in a real browser (npm playwright-core and the
// distribution's chromium). Ends with 0 and `done` when all was seen; else it says what was not.
//
//   node drive.mjs <folder with node_modules> <chromium> <folder for pictures>
//
// and one line of JSON on its input: url, token, bad (what stands for HTML in all texts), and the
// ids of tasks: dead, hostile, unknown.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createInterface } from 'node:readline';
import { mkdirSync } from 'node:fs';

const [tools, executablePath, pictures] = process.argv.slice(2);
const module = join(tools, 'node_modules/playwright-core/index.mjs');
const { chromium } = await import(pathToFileURL(module));
const [line] = await new Promise((done) => {
  createInterface({ input: process.stdin }).once('line', (text) => done([text]));
});
const { url, token, bad, tasks } = JSON.parse(line);
mkdirSync(pictures, { recursive: true });

// Root has no sandbox to put it in; small containers have little shared memory.
const args = ['--no-sandbox', '--disable-dev-shm-usage'];
const browser = await chromium.launch({ executablePath, args });
const context = await browser.newContext({ viewport: { width: 1440, height: 960 }, colorScheme: 'light' });
const page = await context.newPage();
page.setDefaultTimeout(20_000);

const faults = [];
let isSignedIn = false;
page.on('pageerror', (error) => faults.push(`error: ${error}`));
page.on('console', (message) => {
  if (message.type() !== 'error' && message.type() !== 'warning') return;
  // Whoever comes without a session is told so.
  if (!isSignedIn && message.location().url.endsWith('/auth/me')) return;
  faults.push(`${message.type()}: ${message.text()} (${message.location().url})`);
});
page.on('request', (request) => {
  const asked = request.url();
  if (!asked.startsWith(`${url}/`)) faults.push(`it asked for ${asked}`);
  if (asked.includes(token)) faults.push('the token is in a URL');
});
await page.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', (event) => {
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
  });
});

const key = (name) => page.keyboard.press(name);
const text = (selector) => page.locator(selector).innerText();
const seen = (what, test, given) => page.waitForFunction(test, given).catch(async () => {
  await page.screenshot({ path: join(pictures, 'failed.png') });
  throw new Error(`not seen: ${what}`);
});
// Goes on by Tab until the element has the focus, as far as one would go.
async function tabTo(selector) {
  for (let i = 0; i < 200; i += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector)) return;
    await key('Tab');
  }
  throw new Error(`Tab does not lead to ${selector}`);
}
async function visibleFocus(what) {
  const outline = await page.evaluate(() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return outlineStyle !== 'none' && parseFloat(outlineWidth);
  });
  if (!outline) throw new Error(`the focus does not show on ${what}`);
}
function check(is, what) {
  if (!is) throw new Error(what);
}

try {
  await page.goto(`${url}/console/`);
  await seen('the form', () => !document.getElementById('sign-in').hidden);
  await page.keyboard.type('not-a-token');
  await key('Enter');
  await seen('a refusal', () => document.getElementById('sign-in-error').textContent.includes('does not accept'));
  await page.keyboard.type(token);
  await key('Enter');
  await seen('the board', () => !document.getElementById('board').hidden);
  isSignedIn = true;
  faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes('/auth/me')));

  // Figures come, and move.
  await seen('figures', () => document.getElementById('link').textContent === 'live');
  await seen('a rate', () => Number.parseFloat(document.getElementById('f-ended').textContent) > 0);
  const first = await text('#about');
  await seen('the sum to grow', (was) => document.getElementById('about').innerText !== was, first);
  await seen('latency', () => /\d (µs|ms|s)/.test(document.getElementById('f-p99').textContent));
  await seen('shards', () => document.querySelectorAll('#shards tr').length === 2);
  await seen('agents', () => [...document.querySelectorAll('#agents tr')].some((row) => row.dataset.key === 'sleep'));
  await seen('the slot in use', () => document.querySelector('#pool [data-key=archive]').getBoundingClientRect().width > 0);
  await seen('health', () => document.querySelectorAll('#checks li').length >= 5);
  await seen('a drawn chart', () => ['c-throughput', 'c-latency', 'c-heat'].every((id) => {
    const canvas = document.getElementById(id);
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const paints = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3]) paints.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    return paints.size > 8;
  }));
  await seen('running loops', () => document.querySelectorAll('#list-body tr').length > 0);

  // By keyboard to the tabs, and by arrows to the dead letters.
  await tabTo('[role=tab]');
  await visibleFocus('a tab');
  for (let i = 0; i < 3; i += 1) await key('ArrowRight');
  await seen('both dead letters', (ids) => ids.every((id) => document.querySelector(`#list-body [data-key="${id}"]`)), [tasks.dead, tasks.hostile]);

  // What is HTML in a task is text here.
  check((await text(`#list-body [data-key="${tasks.hostile}"]`)).includes(bad), 'the list does not show the text as it is');
  await tabTo(`[data-key="${tasks.hostile}"] a`);
  await visibleFocus('a link');
  await key('Enter');
  await seen('the detail', () => !document.getElementById('detail').hidden && document.getElementById('d-input').textContent !== '');
  await seen('its step', () => document.querySelectorAll('#d-steps li').length === 1);
  await seen('its events', () => document.querySelectorAll('#d-events li').length >= 3);
  for (const place of ['#d-title', '#d-error', '#d-input', '#d-facts', '#d-steps', '#d-events']) {
    check((await page.locator(place).textContent()).includes(bad), `${place} does not show the text as it is`);
  }
  check(await page.evaluate(() => !window.hacked && !document.querySelector('#detail img, #detail script, #board img, #board script')), 'text became HTML');
  await key('Escape');
  await seen('the detail to close', () => document.getElementById('detail').hidden);
  check(await page.evaluate((id) => document.activeElement.closest('[data-key]')?.dataset.key === id, tasks.hostile), 'the focus does not go back to the row');

  // A dead letter goes round again.
  await tabTo(`[data-key="${tasks.dead}"] button`);
  await key('Enter');
  await seen('the dead letter to leave', (id) => !document.querySelector(`#list-body [data-key="${id}"]`), tasks.dead);
  await page.evaluate((id) => { window.location.hash = `#task/${id}`; }, tasks.dead);
  await seen('its success', () => document.getElementById('d-state').textContent === 'succeeded');
  await key('Escape');

  // A call of unknown outcome is answered for.
  await page.reload();
  await seen('the form again, as the token was not kept', () => !document.getElementById('sign-in').hidden);
  isSignedIn = false;
  await page.keyboard.type(token);
  await tabTo('#keep');
  await key('Space');
  await tabTo('#token-form [type=submit]');
  await key('Enter');
  await seen('figures', () => document.getElementById('link').textContent === 'live');
  faults.splice(0, faults.length, ...faults.filter((fault) => !fault.includes('/auth/me')));
  isSignedIn = true;
  await tabTo('[role=tab]');
  await key('ArrowRight');
  await key('ArrowRight');
  await tabTo(`[data-key="${tasks.unknown}"] a.button`);
  await key('Enter');
  await seen('the question', () => !document.getElementById('d-resolve').hidden);
  await seen('three steps of a timeline', () => document.querySelectorAll('#d-steps .track i').length === 2);
  await tabTo('#d-steps summary');
  await visibleFocus('a step');
  await key('Enter');
  await seen('what the model said', () => document.querySelector('#d-steps details[open] pre').getClientRects().length > 0);
  await page.screenshot({ path: join(pictures, 'resolve.png') });
  await page.evaluate(() => document.getElementById('detail').focus());
  await tabTo('#d-result');
  await page.keyboard.type('{"ok": ');
  await key('Tab');
  await key('Enter');
  await seen('a word about bad JSON', () => document.getElementById('said').textContent.includes('not JSON'));
  await page.keyboard.press('Control+A');
  await page.keyboard.type('{"ok": "by hand"}');
  await key('Tab');
  await key('Enter');
  await seen('the end', () => document.getElementById('d-state').textContent === 'succeeded');
  await seen('the whole timeline', () => document.querySelectorAll('#d-steps li').length === 3);
  const widths = await page.locator('#d-steps .track i').evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
  check(widths.every((width) => width > 0), 'a step has no bar');
  check((await page.locator('#d-steps').textContent()).includes('by hand'), 'the result is not in the step');
  await page.screenshot({ path: join(pictures, 'detail-light.png') });

  // All dead letters go round again, asked for twice.
  await key('Escape');
  await tabTo('[role=tab]');
  await key('ArrowRight');
  await seen('the dead letter', (id) => document.querySelector(`#list-body [data-key="${id}"]`), tasks.hostile);
  await tabTo('#redrive-all');
  await visibleFocus('the button for all');
  await key('Enter');
  await seen('the question', () => document.getElementById('redrive-all').textContent === 'Redrive all: sure?');
  await key('Enter');
  await seen('how many', () => document.getElementById('said').textContent.includes('1 dead letters go round again'));
  await seen('it to leave', (id) => !document.querySelector(`#list-body [data-key="${id}"]`), tasks.hostile);

  // A running task is cancelled.
  await page.evaluate((id) => { window.location.hash = `#task/${id}`; }, tasks.slow);
  await seen('that it runs', () => document.getElementById('d-state').textContent === 'running');
  await tabTo('#d-actions .danger');
  await key('Enter');
  await seen('its end', () => document.getElementById('d-state').textContent === 'cancelled');

  // The theme by its switch, which is kept.
  await key('Escape');
  await page.screenshot({ path: join(pictures, 'light.png') });
  await page.evaluate(() => document.activeElement.blur());
  await tabTo('#theme');
  await key('Enter');
  await key('Enter');
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  check((await ground()) === 'rgb(12, 13, 16)', 'the switch does not make it dark');
  await page.screenshot({ path: join(pictures, 'dark.png') });
  await key('Enter');
  check((await ground()) === 'rgb(246, 247, 249)', 'it does not follow the system');
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  check((await ground()) === 'rgb(12, 13, 16)', 'it does not follow the system to dark');
  const moves = await page.evaluate(() => getComputedStyle(document.getElementById('link'), '::before').animationName);
  check(moves === 'none', 'it moves for who wants no motion');

  // A telephone: one column, nothing beside the edge. The kept token serves after a reload.
  await page.setViewportSize({ width: 390, height: 844 });
  await page.reload();
  await seen('the board without a form', () => document.getElementById('link').textContent === 'live');
  await seen('a chart', () => Number.parseFloat(document.getElementById('f-ended').textContent) > 0);
  await page.screenshot({ path: join(pictures, 'phone-dark.png'), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  check(wide <= 390, `it is ${wide} px wide on a telephone`);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.screenshot({ path: join(pictures, 'phone-light.png') });
  await page.evaluate((id) => { window.location.hash = `#task/${id}`; }, tasks.unknown);
  await seen('its timeline', () => document.querySelectorAll('#d-steps li').length === 3);
  await page.screenshot({ path: join(pictures, 'phone-detail.png') });

  // Whoever signs out leaves nothing behind.
  await key('Escape');
  await tabTo('#leave');
  await key('Enter');
  await seen('the form', () => !document.getElementById('sign-in').hidden);
  check(await page.evaluate(() => sessionStorage.length === 0), 'a token stays in the storage');
  check(faults.length === 0, `faults:\n${faults.join('\n')}`);
  console.log('done');
} catch (error) {
  console.error(`${error.stack}\n${faults.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
