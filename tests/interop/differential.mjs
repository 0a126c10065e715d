// The differential test: a script is run through pusher-js and through pusher.h, each against a
// loopback server of its own, and what the two printed and sent is compared.
//
//     script('unsubscribe ends the events', { dialects: ['pusher'] }, async s => {
//       await s.connect();
//       await s.listen('news');                 // subscribe, and print all that comes
//       await s.publish('news', 'hello', '{"n":1}');
//       await s.settle();                       // all that was sent so far has been received
//       ...
//     });
//
// A script must do the same whatever client it drives: it may wait for what the client prints but
// never look at it. Where the two may differ is said in differences.mjs and nowhere else.
import { spawn } from 'node:child_process';
import { isDeepStrictEqual } from 'node:util';
import { fileURLToPath } from 'node:url';
import { differences, isRepeat } from './differences.mjs';

export const dialects = ['pusher', 'soketi', 'reverb', 'sockudo'];
export const scripts = [];

// settings: dialects, differs (ids of differences.mjs), options (of the client), server (arguments)
export function script(name, settings, steps) {
  if (typeof settings === 'function') [settings, steps] = [{}, settings];
  for (const dialect of settings.dialects ?? ['pusher'])
    scripts.push({ differs: [], options: {}, server: [], ...settings, name, dialect, steps });
}

const SECONDS = 8;                      // a wait that takes longer has failed
const living = new Set();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });

// A child process that is told lines and answers with lines.
class Lines {
  lines = [];
  errors = '';
  #rest = '';
  #waiting = new Set();

  constructor(program, args) {
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    living.add(this.child);
    this.child.stdin.on('error', () => {});
    this.child.stdout.setEncoding('utf8').on('data', text => {
      const all = (this.#rest + text).split('\n');
      this.#rest = all.pop();
      for (const line of all) this.line(line);
      this.changed();
    });
    this.child.stderr.setEncoding('utf8').on('data', text => { this.errors += text; });
    this.gone = new Promise(resolve => {
      this.child.once('error', error => { this.errors += error.message; this.ended = 'not started'; this.changed(); resolve(); });
      this.child.once('close', (code, signal) => { living.delete(this.child); this.ended = signal ?? code; this.changed(); resolve(); });
    });
  }

  line(text) { this.lines.push(text); }
  changed() { for (const look of [...this.#waiting]) look(); }
  tell(line) { this.child.stdin.write(line + '\n'); }

  until(what, holds, seconds = SECONDS) {
    return new Promise((resolve, reject) => {
      const end = error => { clearTimeout(timer); this.#waiting.delete(look); error ? reject(error) : resolve(); };
      const look = () => {
        if (holds()) end();
        else if (this.ended !== undefined) end(new Error(`ended (${this.ended}) before: ${what}\n${this.errors.slice(-2000)}`));
      };
      const timer = setTimeout(() => end(new Error(`not within ${seconds} s: ${what}`)), seconds * 1000);
      this.#waiting.add(look);
      look();
    });
  }

  async kill() { this.child.kill('SIGKILL'); await this.gone; }
}

const word = text => encodeURIComponent(text);

class Server extends Lines {
  #asked = 0;

  static async start(dialect, args) {
    const server = new Server('build/pusher-server', ['--control', '--quiet', '--patient', '--port', '0', '--dialect', dialect, ...args]);
    await server.until('the server listens', () => server.lines.length > 0);
    server.port = Number(/:(\d+)$/.exec(server.lines[0])[1]);
    return server;
  }

  async ask(...words) {
    const number = ++this.#asked;
    this.tell(words.join(' '));
    await this.until(words.join(' '), () => this.lines.length > number);
    const answer = this.lines[number];
    if (!/^ok( |$)/.test(answer)) throw new Error(`the server answers "${answer}" to "${words.join(' ').slice(0, 200)}"`);
    return answer.slice(3);
  }
}

export class Driver extends Lines {
  seen = [];
  dones = 0;
  told = 0;

  line(text) {
    if (process.env.VERBOSE) console.error(`${this.name} > ${text.slice(0, 300)}`);
    super.line(text);
    const value = JSON.parse(text);
    if (value.done) this.dones++;
    else this.seen.push(decoded(value));
  }

  async do(...words) {
    if (process.env.VERBOSE) console.error(`${this.name} < ${words.join(' ').slice(0, 300)}`);
    const number = ++this.told;
    this.tell(words.join(' '));
    await this.until(words.join(' '), () => this.dones >= number);
  }
}

// drive.c prints a payload that was a string as "text". Decoding it is the reader's business, by
// the rule of pusher-js: JSON if it is JSON.
function decoded(value) {
  if (!('text' in value)) return value;
  const { text, ...rest } = value;
  try { return { ...rest, data: JSON.parse(text) }; } catch { return { ...rest, data: text }; }
}

// What a script sees: a client and its server.
class Side {
  #marks = 0;
  #counts = new Map();

  constructor(driver, server) { this.driver = driver; this.server = server; }

  // ---- the client ----
  async connect() { await this.driver.do('connect'); await this.state('connected'); }
  do(...words) { return this.driver.do(...words); }
  disconnect() { return this.driver.do('disconnect'); }
  subscribe(channel) { return this.driver.do('subscribe', word(channel)); }
  unsubscribe(channel) { return this.driver.do('unsubscribe', word(channel)); }
  bind(where, event, label) { return this.driver.do('bind', word(where), word(event), label); }
  bindAll(where, label) { return this.driver.do('bind-all', word(where), label); }
  unbind(label) { return this.driver.do('unbind', label); }
  unbindEvent(where, event) { return this.driver.do('unbind-event', word(where), word(event)); }
  unbindEverything(where) { return this.driver.do('unbind-everything', word(where)); }
  on(label, ...command) { return this.driver.do('on', label, ...command); }
  trigger(channel, event, json) { return this.driver.do('trigger', word(channel), word(event), word(json)); }
  signin() { return this.driver.do('signin'); }
  members(channel) { return this.driver.do('members', word(channel)); }
  // Subscribes and prints all events; waits until the channel is live, unless told not to.
  async listen(channel, live = true) {
    await this.driver.do('listen', word(channel));
    if (live) await this.live(channel);
  }

  // ---- waiting: each call waits for one more of its kind ----
  #next(key, what, matches) {
    const n = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, n);
    return this.driver.until(`${what}${n > 1 ? `, time ${n}` : ''}`, () => this.driver.seen.filter(matches).length >= n);
  }
  live(channel) { return this.event('pusher:subscription_succeeded', channel); }
  event(event, handler) {
    return this.#next(`e ${handler} ${event}`, `${event} at ${handler}`, one => (event === undefined || one.event === event) && (handler === undefined || one.handler === handler));
  }
  state(state) { return this.#next(`s ${state}`, `state ${state}`, one => one.state === state); }
  error(kind) { return this.#next(`x ${kind}`, `an error, ${kind}`, (one, i, all) => one.error === kind && !isRepeat(all, i)); }
  // Where the one prints this and the other that: more() before it, and await what it gave after it.
  more() {
    const before = this.driver.seen.length;
    return () => this.driver.until('something more', () => this.driver.seen.length > before);
  }
  // Where the one fails and the other does not.
  outcome() { return this.#next('o', 'an outcome', one => one.error || one.thrown || one.state === 'connected'); }
  // Nothing that the server sent before is still on its way to this client.
  async settle() {
    const mark = `mark-${++this.#marks}`;
    await this.raw('-', { event: mark });
    await this.driver.until(mark, () => this.driver.seen.some(one => one.mark === mark));
  }
  // Until the server has had n messages, forms or whatever with these words.
  sent(kind, n, part = '') { return this.ask('wait', kind, n, ...(part ? [part] : [])); }
  subscribers(channel, n) { return this.ask('subscribers', word(channel), n); }
  connections(n) { return this.ask('connections', n); }

  // ---- the server ----
  ask(...words) { return this.server.ask(...words); }
  publish(channel, event, data) { return this.ask('publish', word(channel), word(event), word(data)); }
  seal(channel, event, data) { return this.ask('seal', word(channel), word(event), word(data)); }
  sealWith(key, channel, event, data) { return this.ask('seal-with', word(key), word(channel), word(event), word(data)); }
  raw(channel, message) { return this.ask('raw', channel === '-' ? '-' : word(channel), word(typeof message === 'string' ? message : JSON.stringify(message))); }
  close(code, reason = '') { return this.ask('close', code, ...(reason ? [word(reason)] : [])); }
  serverError(code, message, channel) { return this.ask('error', code, channel === undefined ? '-' : word(channel), word(message)); }
  #faults(all) { return Object.entries(all).map(([name, value]) => word(`${name}=${value === true ? 1 : value}`)); }
  faults(count, all) { return this.ask('faults', count, ...this.#faults(all)); }
  faultsNow(all) { return this.ask('faults-now', ...this.#faults(all)); }
}

// ---- what was sent ----

const signed = auth => typeof auth === 'string' && /^app-key:[0-9a-f]{64}$/.test(auth) ? 'signed' : auth;

function sentMessage(text) {
  let value;
  try { value = JSON.parse(text); } catch { return { bad: text }; }
  if (value.data && typeof value.data === 'object' && 'auth' in value.data) value.data.auth = signed(value.data.auth);
  return { sent: value };
}

function sentForm(text) {
  const fields = Object.fromEntries([...new URLSearchParams(text)]);
  if (/^\d+\.\d+$/.test(fields.socket_id)) fields.socket_id = 'of the connection';
  return { asked: fields };
}

// Messages and close codes by connection; forms in no order, for the clients ask in their own; what
// no correct client sends.
function sentLog(entries) {
  const upgraded = entries.filter(e => e.kind === 'request').map(e => e.connection);
  const sent = upgraded.map((connection, i) => entries.filter(e => e.connection === connection).flatMap(e => {
    if (e.kind === 'text') return sentMessage(e.text);
    return e.kind === 'close' ? { closed: e.code } : [];
  }).filter(one => one.sent?.event !== 'pusher:ping').map(one => ({ connection: i + 1, ...one })));
  const asked = entries.filter(e => e.kind === 'form').map(e => sentForm(e.text)).sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
  return { sent: sent.flat(), asked, violations: entries.filter(e => e.kind === 'violation').map(e => e.text) };
}

// ---- running and comparing ----

const here = name => fileURLToPath(new URL(name, import.meta.url));
export const clients = {
  theirs: (port, options) => new Driver(process.execPath, [here('drive.mjs'), '--modules', process.env.INTEROP_MODULES, String(port), ...options]),
  ours: (port, options) => new Driver(process.env.DRIVE ?? 'build/interop-drive', [String(port), ...options]),
};

async function runSide(name, { dialect, steps, options, server: args }) {
  const server = await Server.start(dialect, args);
  const driver = clients[name](server.port, Object.entries(options).map(([key, value]) => `${key}=${value}`));
  driver.name = name;
  try {
    const side = new Side(driver, server);
    let failure;
    try { await steps(side); } catch (error) { failure = error; }
    if (failure) throw new Error(`${failure.message}\n${name}, last lines:\n${driver.lines.slice(-12).map(line => `  ${line.slice(0, 300)}`).join('\n')}`);
    driver.tell('quit');
    await driver.until('the end', () => driver.ended !== undefined);
    const seen = driver.seen.slice(0, driver.seen.findIndex(one => one.quit)).filter(one => !one.mark);
    if (driver.ended !== 0) throw new Error(`${name} ended with ${driver.ended}\n${driver.errors.slice(-3000)}`);
    await server.ask('sockets', 0);
    return { seen, ...sentLog(JSON.parse(await server.ask('log'))) };
  } finally {
    driver.child.stdin.end();
    server.child.stdin.end();
    await Promise.all([driver.kill(), server.kill()]);
  }
}

const sortedMembers = list => [...list].sort((a, b) => String(a.id) < String(b.id) ? -1 : 1);
function comparable(one) {
  const { says, ...rest } = one;          // words for people
  if (rest.data?.auth) rest.data = { ...rest.data, auth: signed(rest.data.auth) };
  if (rest.list) rest.list = sortedMembers(rest.list);
  if (rest.members?.list) rest.members = { ...rest.members, list: sortedMembers(rest.members.list) };
  return rest;
}

// Plain data, without what is for people; then with these rules applied.
function view(log, side, rules) {
  let result = { seen: log.seen.map(comparable), sent: log.sent, asked: log.asked, violations: log.violations };
  result = structuredClone(result);
  for (const rule of rules)
    for (const part of ['seen', 'sent', 'asked']) {
      const change = rule[side]?.[part];
      if (change) result[part] = change(result[part]);
    }
  return result;
}

const equal = (logs, rules) => isDeepStrictEqual(view(logs.theirs, 'theirs', rules), view(logs.ours, 'ours', rules));

function report(logs, rules) {
  const [theirs, ours] = ['theirs', 'ours'].map(side => view(logs[side], side, rules));
  const lines = [];
  for (const part of ['seen', 'sent', 'asked', 'violations']) {
    if (isDeepStrictEqual(theirs[part], ours[part])) continue;
    const [a, b] = [theirs[part], ours[part]];
    let same = 0;
    while (same < a.length && same < b.length && isDeepStrictEqual(a[same], b[same])) same++;
    const show = list => list.slice(Math.max(0, same - 2), same + 8).map((one, i) => `    ${Math.max(0, same - 2) + i === same ? '>' : ' '} ${JSON.stringify(one).slice(0, 300)}`).join('\n');
    lines.push(`${part}: ${same} alike, then\n  pusher-js:\n${show(a)}\n  pusher.h:\n${show(b)}`);
  }
  return lines.join('\n');
}

// With SELF=1 pusher-js is compared with itself: whatever differs then is the fault of a script.

// Rules that hold in every script, and those that this script says it needs.
const rulesFor = one => differences.filter(rule => rule.always || one.differs.includes(rule.id));
export const needed = new Set();        // rules without which some script would fail

export async function compare(one) {
  for (const id of one.differs) if (!differences.some(rule => rule.id === id && !rule.always)) throw new Error(`no difference is called ${id}`);
  const [theirs, ours] = await Promise.all([runSide('theirs', one), runSide(process.env.SELF ? 'theirs' : 'ours', one)]);
  const logs = { theirs, ours };
  const rules = process.env.SELF ? differences.filter(rule => rule.sometimes || rule.id === 'refusal-words') : rulesFor(one);
  if (!equal(logs, rules)) throw new Error(report(logs, rules));
  if (process.env.SELF) return;
  for (const rule of rules)
    if (!equal(logs, rules.filter(other => other !== rule))) needed.add(rule.id);
    else if (!rule.always && !rule.sometimes) throw new Error(`the two do not differ in ${rule.id} any more`);
}
