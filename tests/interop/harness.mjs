// The little that the tests need:
//
//     test('name', { seconds: 30 }, async t => {
//       const server = await t.shared();                       // or t.soketi(), one of its own
//       const client = t.listen(server.port, ['chat']);
//       await client.untilSubscribed(['chat']);
//       await api(server).trigger('chat', 'message', 'hello');
//       await client.untilEvent('message');
//     });
//
// Every wait has a deadline. When a body returns, its clients must end cleanly on SIGTERM; whatever
// it started is gone before the next test takes its place. A few tests run at a time, since most of
// their time is waiting; so each uses channel names of its own (t.name('chat')).
import { Backend } from './backend.mjs';
import { Client } from './client.mjs';
import { Player } from './player.mjs';
import { apps, Soketi } from './soketi.mjs';
import { Tap } from './tap.mjs';
import { need } from './modules.mjs';

const options = { client: 'build/examples/listen', words: [] };
for (let args = process.argv.slice(2), i = 0; i < args.length; i++) {
  if (args[i] === '--client') options.client = args[++i];
  else if (args[i] === '--modules') i++;
  else options.words.push(args[i]);
}

const AT_A_TIME = 3;
const tests = [];
export function test(name, settings, body) { tests.push({ name, seconds: 30, slow: false, ...settings, body }); }

export const pause = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000));

// For what no client prints: asks again and again.
export async function eventually(what, holds, seconds) {
  for (const started = Date.now(); !await holds(); await pause(0.1))
    if (Date.now() - started > seconds * 1000) throw new Error(`not within ${seconds} s: ${what}`);
}

// The server's HTTP API, as somebody's backend calls it.
export function api(server, app = 'main', more = {}) {
  const Pusher = need('pusher');
  const { id: appId, key, secret } = apps[app];
  return new Pusher({ appId, key, secret, host: '127.0.0.1', port: String(server.port), useTLS: false, timeout: 10000, ...more });
}

// How listen prints a payload: the JSON value if it is JSON, else the text.
export function printed(payload) {
  try { return JSON.parse(payload); } catch { return payload; }
}

let sharedServer;
let number = 0;

class Context {
  clients = [];
  players = [];
  servers = [];
  after = [];
  id = ++number;

  name(word) { return `${word}-${this.id}`; }

  // One soketi for all tests that do it no harm.
  async shared() {
    sharedServer ??= Soketi.start();
    const server = await sharedServer;
    if (server.running) return server;
    sharedServer = undefined;
    return this.shared();
  }

  async soketi(options) { const server = await Soketi.start(options); this.servers.push(server); return server; }
  async noSoketiYet(options) { const server = await Soketi.reserve(options); this.servers.push(server); return server; }
  async tap(port) { const tap = await Tap.open(port); this.after.push(() => tap.close()); return tap; }

  listen(port, channels, { app = 'main', key = apps[app].key, args = [] } = {}) {
    const client = new Client(options.client, ['--host', '127.0.0.1', '--port', String(port), '--key', key, ...args, ...channels],
      `client ${this.id}.${this.clients.length + 1}`);
    this.clients.push(client);
    return client;
  }

  // An application's backend that authorizes for one app of the server; see backend.mjs.
  async backend(options) { const backend = await Backend.start(options); this.after.push(() => backend.close()); return backend; }

  // A client under commands, 'ours' or 'theirs' (pusher-js); see player.mjs.
  player(kind, port, options) {
    const player = new Player(kind, port, options);
    player.name = `${kind} ${this.id}.${this.players.length + 1}`;
    this.players.push(player);
    return player;
  }

  async clean() {
    for (const player of this.players) await player.kill();
    for (const client of this.clients) if (client.ended === undefined) await client.kill();
    for (const undo of this.after.reverse()) await undo();
    for (const server of this.servers) await server.kill();
  }
}

async function one({ name, seconds, body }) {
  const t = new Context();
  const started = Date.now();
  let timer, failure;
  try {
    await Promise.race([
      (async () => { await body(t); await Promise.all([...t.clients, ...t.players].map(client => client.finish())); })(),
      new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`the whole test took longer than ${seconds} s`)), seconds * 1000); }),
    ]);
  } catch (error) { failure = error; }
  clearTimeout(timer);
  try { await t.clean(); } catch (error) { failure ??= error; }
  console.log(`${failure ? 'FAIL' : 'ok  '} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  if (failure) {
    const own = failure.stack?.split('\n').find(line => line.includes('/cases/'))?.trim();
    console.log([failure.message, own, ...[...t.clients, ...t.players].map(client => client.tail()),
      ...t.servers.map(server => `soketi ${server.port}: ${server.log.join('').split('\n').slice(-6).join('\n')}`)]
      .filter(Boolean).join('\n').replace(/^/gm, '     '));
  }
  return !failure;
}

export async function run() {
  const wanted = tests.filter(({ name, slow }) => (!slow || process.env.SLOW === '1') &&
    (options.words.length === 0 || options.words.some(word => name.includes(word))));
  if (wanted.length === 0) { console.log('interop: no test has such a name'); process.exitCode = 1; }
  let passed = 0, failed = 0;
  const left = wanted.sort((a, b) => b.seconds - a.seconds);    // the long ones first
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));   // 'exit' ends the children
  await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
    for (let next; (next = left.shift());) (await one(next)) ? passed++ : failed++;
  }));
  if (sharedServer) try { await (await sharedServer).stop(); } catch (error) { console.log(`FAIL ${error.message}`); failed++; }
  const slow = tests.filter(t => t.slow).length;
  if (slow && process.env.SLOW !== '1' && options.words.length === 0) console.log(`(${slow} that take minutes left out; SLOW=1 runs them)`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}
