// pusher-js under the commands of a differential test. drive.c is the same around pusher.h and says
// what the commands are, and what is printed.
import readline from 'node:readline';
import { need } from './modules.mjs';

// Two waits of pusher-js that no option can change: a second before it reconnects, and 15 for an
// attempt. There is no need to spend them.
const realTimeout = setTimeout;
const hurried = new Map([[1000, 25], [15000, 500], [30000, 1000], [60000, 2000]]);
globalThis.setTimeout = (fn, ms, ...more) => realTimeout(fn, hurried.get(ms) ?? ms, ...more);

const words = process.argv.slice(2).filter((_, i, all) => all[i] !== '--modules' && all[i - 1] !== '--modules');
const port = Number(words.shift());
const settings = Object.fromEntries(words.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
const named = prefix => Object.fromEntries(Object.entries(settings).filter(([name]) => name.startsWith(prefix))
  .map(([name, value]) => [name.slice(prefix.length), value]));

const say = value => process.stdout.write(JSON.stringify(value) + '\n');

const Pusher = need('pusher-js');
const auth = (path, given) => ({ endpoint: given ?? `http://127.0.0.1:${port}${path}`, transport: 'ajax', headers: named('header:'), params: named('param:') });
const number = name => settings[name] === undefined ? {} : { [`${name}Timeout`]: Number(settings[name]) };

// The constructor would connect at once, but here a script says when.
Object.getPrototypeOf(Pusher).isReady = false;
const pusher = new Pusher(settings.key ?? 'app-key', {
  cluster: 'x', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], enableStats: false,
  channelAuthorization: auth('/pusher/auth', settings.endpoint), userAuthentication: auth('/pusher/user-auth', settings['user-endpoint']),
  ...number('activity'), ...number('pong'), ...number('unavailable'),
});

pusher.connection.bind('state_change', ({ previous, current }) => say({ state: current, from: previous }));
pusher.connection.bind('error', error => say(plain(error)));

function plain(error) {
  switch (error?.type) {
    case 'MessageParseError': return { error: 'PARSE' };
    case 'HandshakeError': return { error: 'HANDSHAKE', says: String(error.error?.error ?? error.error) };
    case 'PusherError': return coded(error.data);
    case 'WebSocketError': return error.error?.type === 'PusherError' ? { ...coded(error.error.data), again: true } : { error: 'lost' };
    default: return { error: 'unknown', says: JSON.stringify(error) };
  }
}

function coded(data) {
  if (data?.code === 1005 || data?.code === 1006) return { error: 'lost' };
  return { error: 'server', ...(data?.code == null ? {} : { code: data.code }) };
}

// What it throws while it handles a message would end the program.
process.on('uncaughtException', error => say({ thrown: true, says: error.message }));

// ---- handlers ----

const handlers = new Map();
const places = { '@all': pusher, '@user': pusher.user, '@watchlist': pusher.user.watchlist };
const place = name => places[name] ?? pusher.channel(name);
const isMark = name => name.startsWith('mark-');

pusher.bind_global(name => { if (isMark(name)) say({ mark: name }); });

const member = ({ id, info }) => ({ id, ...(info === undefined ? {} : { info }) });
function members(list) {
  const all = [];
  list.each(one => all.push(member(one)));
  return { count: list.count, list: all, ...(list.me ? { me: member(list.me) } : {}) };
}

function seen(name, label, where, data) {
  const channel = where.startsWith('@') ? {} : { channel: where };
  const presence = where.startsWith('presence-');
  if (presence && name === 'pusher:subscription_succeeded') return { event: name, handler: label, ...channel, members: members(data) };
  if (presence && /^pusher:member_/.test(name)) return { event: name, handler: label, ...channel, member: member(data) };
  return { event: name, handler: label, ...channel, ...(data === undefined ? {} : { data }) };
}

function bind(where, event, label) {
  const target = place(where);
  if (!target) return say({ refused: 'bind' });
  const handler = { event };
  const then = () => {
    const command = handler.then;
    handler.then = undefined;
    if (command) run(command);
  };
  handler.fn = event === undefined
    ? (name, data) => { if (!isMark(name)) { say(seen(name, label, where, data)); then(); } }
    : (data, metadata) => { say({ ...seen(event, label, where, data), ...(metadata?.user_id ? { user: metadata.user_id } : {}) }); then(); };
  handler.undo = () => event === undefined ? target.unbind_global(handler.fn) : target.unbind(event, handler.fn);
  handlers.set(label, handler);
  event === undefined ? target.bind_global(handler.fn) : target.bind(event, handler.fn);
}

// ---- commands ----

const refusing = (what, call) => {
  try { if (call() === false) say({ refused: what }); } catch { say({ refused: what }); }
};

const commands = {
  connect: [0, () => pusher.connect()],
  disconnect: [0, () => pusher.disconnect()],
  signin: [0, () => pusher.signin()],
  switch: [1, appKey => pusher.switchCluster({ appKey, cluster: 'x' })],
  subscribe: [1, channel => refusing('subscribe', () => pusher.subscribe(channel))],
  listen: [1, channel => { commands.subscribe[1](channel); bind(channel, undefined, channel); }],
  unsubscribe: [1, channel => pusher.unsubscribe(channel)],
  bind: [3, bind],
  'bind-all': [2, (where, label) => bind(where, undefined, label)],
  unbind: [1, label => handlers.get(label).undo()],
  'unbind-event': [2, (where, event) => place(where).unbind(event)],
  'unbind-everything': [1, where => place(where).unbind_all()],
  on: [2, (label, command) => { handlers.get(label).then = command; }],
  trigger: [3, (channel, event, json) => refusing('trigger', () => pusher.channel(channel).trigger(event, JSON.parse(json)))],
  members: [1, channel => say({ members: channel, ...members(pusher.channel(channel).members) })],
  quit: [0, () => {
    say({ quit: true });
    input.close();
    process.stdin.destroy();
    pusher.disconnect();
    realTimeout(() => process.exit(), 200).unref();   // should a timer of pusher-js be left over
  }],
};

function run(line) {
  const [name] = line.split(' ', 1);
  const [count, call] = commands[name];
  let rest = line.slice(name.length + 1);
  const given = [];
  for (let i = 0; i < count; i++) {
    const space = i + 1 < count ? rest.indexOf(' ') : -1;
    given.push(space < 0 ? rest : rest.slice(0, space));
    rest = space < 0 ? '' : rest.slice(space + 1);
  }
  call(...given.map((word, i) => name === 'on' && i === 1 ? word : decodeURIComponent(word)));
}

const input = readline.createInterface({ input: process.stdin });
input.on('line', line => { run(line); say({ done: true }); });
