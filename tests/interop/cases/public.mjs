// Public and cache channels: what is published arrives, as it was, in order, once.
import assert from 'node:assert/strict';
import { api, eventually, printed, test } from '../harness.mjs';
import { apps } from '../soketi.mjs';
import { need } from '../modules.mjs';

const laravel = 'App\\Events\\OrderShipped';

// A payload is a text. If that text is JSON the client prints the value, else the text as a string.
export const payloads = [
  'plain text',
  ' ',
  '{"text":"hello","list":[1,2.5,-3e2,true,false,null,{"deep":{"er":[]}}],"":"empty name"}',
  'snow ☃, clef 𝄞, family 👨‍👩‍👧, accents é and e\u0301, line separators \u2028 and \u2029, right to left שלום, BOM \ufeff',
  JSON.stringify({ 'ключ 🔑': '☃ \u2028 👍🏽', nul: 'a\u0000b' }),
  '{"escaped":"\\u00e9\\ud83d\\ude00\\u2028\\u0000\\/\\b\\f\\n\\r\\t\\"\\\\"}',
  'she said "no" \\ and \\n \\u0041 \' / <b>&amp;</b>',
  'line one\nline two\r\n\ttab \u0001\u001f\u007f end',
  'before \u0000 after',
  '{\n  "printed": [\n    "pretty",\r\n\t1\n  ]\n}\n',
  '  {"spaces":"around"}  ',
  '42', '-0.5e3', '0', '12345678901234567890', 'true', 'null', '[]', '{}', '[[[[[[1]]]]]]',
  '"a JSON string"', '""', '"{\\"twice\\":1}"',
  // not JSON, however much they look like it
  '007', '1.', '.5', '+1', '1 2', '0x10', 'NaN', 'nul', 'True', "'x'", '{"open":', '{a:1}', '[1,]', '{"a" 1}', '{"a":1}}', '"open', '"\\x41"', '"raw\ttab"', '\ufeff1',
  'x'.repeat(10_000),
  JSON.stringify({ rows: Array.from({ length: 400 }, (_, i) => ({ id: i, name: `row ${i} ☃` })) }),
  'y'.repeat(60_000),
  JSON.stringify(Array.from({ length: 6000 }, (_, i) => i * 7)),
];

test('events arrive in order with their exact payloads', {}, async t => {
  const server = await t.shared();
  const a = t.name('orders'), b = t.name('chat=with_every,legal.sign;@-1');
  const client = t.listen(server.port, [a, b]);
  await client.untilSubscribed([a, b]);
  const before = client.states.map(s => `${s.from} -> ${s.to}`);
  assert.deepEqual(before.slice(-1), ['connecting -> connected']);

  const expected = [];
  for (const [i, payload] of payloads.entries()) {
    const channel = i % 3 ? a : b, event = i % 2 ? laravel : `message ${i}`;
    await api(server).trigger(channel, event, payload);
    expected.push({ channel, event, data: printed(payload) });
  }
  await client.until(`${payloads.length} events`, () => client.published().length >= payloads.length);
  assert.equal(client.published().length, payloads.length);
  client.published().forEach((got, i) => assert.deepEqual(got, expected[i], `payload ${JSON.stringify(payloads[i]).slice(0, 100)}`));
  // A number that no double can hold keeps its digits.
  assert.ok(client.events.some(e => /:\s*12345678901234567890\s*[,}]/.test(e.line)), '12345678901234567890 lost digits');
  assert.deepEqual(client.errors, []);
});

test('event names arrive as they are', {}, async t => {
  const server = await t.shared();
  const channel = t.name('names');
  const client = t.listen(server.port, [channel]);
  await client.untilSubscribed([channel]);
  const names = [laravel, 'App\\Events\\Ünïcode☃', '.client.dot', 'with space', 'quote"back\\slash/', 'tab\tnew\nline', '👍', '1', 'null', 'constructor', '__proto__', 'pusher', 'n'.repeat(200)];
  for (const name of names) await api(server).trigger(channel, name, '{}');
  await client.until(`${names.length} events`, () => client.published().length >= names.length);
  assert.deepEqual(client.published().map(e => e.event), names);
});

test('payloads that only another client can send', {}, async t => {
  // The HTTP API refuses an empty payload and turns all else into text. A client event reaches the
  // others as it stood: any JSON value, or nothing at all. soketi relays them on public channels.
  const server = await t.shared();
  const channel = t.name('peers');
  const client = t.listen(server.port, [channel]);
  await client.untilSubscribed([channel]);
  const WebSocket = need('ws');
  const peer = new WebSocket(`ws://127.0.0.1:${server.port}/app/${apps.main.key}?protocol=7`);
  t.after.push(() => peer.terminate());
  await new Promise((resolve, reject) => {
    peer.on('error', reject);
    peer.on('message', text => {
      const { event } = JSON.parse(text);
      if (event === 'pusher:connection_established') peer.send(JSON.stringify({ event: 'pusher:subscribe', data: { channel } }));
      if (event === 'pusher_internal:subscription_succeeded') resolve();
    });
  });
  const wire = ['', 'text', '{"a":1}', { object: { b: [1, 'ü'] } }, [1, [2]], 12.5, 0, true, false, null];
  for (const [i, data] of wire.entries()) peer.send(JSON.stringify({ event: `client-${i}`, channel, data }));
  peer.send(JSON.stringify({ event: 'client-nothing', channel }));
  await client.untilEvent('client-nothing', channel);
  assert.deepEqual(client.published().filter(e => e.event !== 'client-nothing'),
    wire.map((data, i) => ({ channel, event: `client-${i}`, data: typeof data === 'string' ? printed(data) : data })));
});

test('only what was subscribed; several channels at once; batches', {}, async t => {
  const server = await t.shared();
  const [a, b, other] = ['left', 'right', 'other'].map(word => t.name(word));
  const client = t.listen(server.port, [a, b]);
  await client.untilSubscribed([a, b]);
  const backend = api(server);
  await backend.trigger(other, 'not-for-us', 'x');
  await backend.trigger(a + 'x', 'not-for-us', 'x');
  await backend.trigger(a.slice(0, -1), 'not-for-us', 'x');
  await backend.trigger([a, other, b], 'to-three', { n: 1 });
  const batch = Array.from({ length: 10 }, (_, i) => ({ channel: [a, b, other][i % 3], name: `batch-${i}`, data: { i } }));
  await backend.triggerBatch(batch.map(item => ({ ...item })));
  await backend.trigger(a, 'fence', '1');
  await client.untilEvent('fence');
  assert.deepEqual(client.published(), [
    { channel: a, event: 'to-three', data: { n: 1 } },
    { channel: b, event: 'to-three', data: { n: 1 } },
    ...batch.filter(item => item.channel !== other).map(({ channel, name, data }) => ({ channel, event: name, data })),
    { channel: a, event: 'fence', data: 1 },
  ]);
});

test('an event can leave out the socket that caused it', {}, async t => {
  const server = await t.shared();
  const tap = await t.tap(server.port);
  const channel = t.name('echo');
  const causing = t.listen(tap.port, [channel]), other = t.listen(server.port, [channel]);
  await Promise.all([causing.untilSubscribed([channel]), other.untilSubscribed([channel])]);
  await api(server).trigger(channel, 'to-others', '1', { socket_id: tap.connections[0].socketId });
  await api(server).trigger(channel, 'to-all', '2');
  await Promise.all([causing.untilEvent('to-all'), other.untilEvent('to-all')]);
  assert.deepEqual(causing.published().map(e => e.event), ['to-all']);
  assert.deepEqual(other.published().map(e => e.event), ['to-others', 'to-all']);
});

test('an event above the receive limit is reported and costs no later event', { seconds: 45 }, async t => {
  const server = await t.shared();
  const channel = t.name('big');
  const client = t.listen(server.port, [channel]);
  await client.untilSubscribed([channel]);
  await api(server).trigger(channel, 'too-big', 'z'.repeat(90_000));
  await client.until('an error about the size', () => client.errors.length > 0);
  // Skipping the event and coming back on a new connection are both fine.
  await eventually('an event after the one that was too big', async () => {
    await api(server).trigger(channel, 'after', '1');
    return client.count('after') > 0;
  }, 30);
  assert.equal(client.count('too-big'), 0);
});

test('cache channel: a miss, then the last event for whoever comes later', {}, async t => {
  const server = await t.shared();
  const channel = t.name('cache-weather');
  const first = t.listen(server.port, [channel]);
  await first.untilSubscribed([channel]);
  await first.untilEvent('pusher:cache_miss', channel);
  await api(server).trigger(channel, 'reading', { celsius: 20 });
  await api(server).trigger(channel, 'reading', { celsius: 21 });
  await first.until('two readings', () => first.published().length === 2);

  const second = t.listen(server.port, [channel]);
  await second.untilSubscribed([channel]);
  await second.untilEvent('reading', channel);
  await api(server).trigger(channel, 'reading', { celsius: 22 });
  await Promise.all([second.until('the next reading', () => second.published().length >= 2), first.until('the next reading', () => first.published().length >= 3)]);
  const reading = celsius => ({ channel, event: 'reading', data: { celsius } });
  assert.deepEqual(second.published(), [reading(21), reading(22)]);
  assert.deepEqual(first.published(), [reading(20), reading(21), reading(22)]);
  assert.equal(first.count('pusher:cache_miss'), 1);
  assert.equal(second.count('pusher:cache_miss'), 0);
});

test('a clean end: close 1000, exit 0, nobody left in the channel', {}, async t => {
  const server = await t.shared();
  const tap = await t.tap(server.port);
  const channel = t.name('leaving');
  const occupied = async () => channel in (await (await api(server).get({ path: '/channels' })).json()).channels;
  for (const signal of ['SIGINT', 'SIGTERM']) {
    const client = t.listen(tap.port, [channel]);
    await client.untilSubscribed([channel]);
    assert.equal(await occupied(), true);
    await client.finish(signal);
    const seen = tap.connections.at(-1);
    assert.equal(seen.closeCode, 1000, `${signal}: the close code`);
    assert.match(seen.request, new RegExp(`^GET /app/${apps.main.key}\\?\\S*protocol=\\d+\\S* HTTP/1\\.1`));
    assert.ok(seen.frames.every(frame => frame.masked), 'a client must mask its frames');
    assert.equal(seen.messages.filter(m => m?.event === 'pusher:subscribe').length, 1);
    await eventually('the server counts no subscriber', async () => !await occupied(), 3);
  }
  assert.equal(tap.connections.length, 2);
});
