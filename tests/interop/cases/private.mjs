// Private and encrypted channels: who authorizes, and what happens when somebody does not.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { api, pause, test } from '../harness.mjs';
import { apps } from '../soketi.mjs';

const asUser = (backend, more = []) => ['--auth-endpoint', backend.endpoint, ...more];
const keyOf = () => crypto.randomBytes(32).toString('base64');

test('a private channel: the endpoint gets what pusher-js sends, headers and fields included', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const channel = t.name('private-orders=a;b,c@d.e');
  const ours = t.listen(server.port, [channel], { args: asUser(backend, ['--header', 'Authorization: Bearer é=&+', '--header', 'X-Other: 1', '--user-id', 'ann & "co"+é']) });
  const theirs = t.player('theirs', server.port, { backend, user: 'them', headers: { Authorization: 'Bearer them' } });
  await theirs.connect();
  await Promise.all([ours.untilSubscribed([channel]), theirs.listen(channel)]);
  await api(server).trigger(channel, 'hello', { n: 1 });
  await Promise.all([ours.untilEvent('hello'), theirs.untilEvent('hello', channel)]);
  assert.deepEqual(ours.published(), [{ channel, event: 'hello', data: { n: 1 } }]);
  assert.deepEqual(theirs.payloads('hello', channel), [{ n: 1 }]);

  const [[our], [their]] = [backend.asks(channel, 'ann & "co"+é'), backend.asks(channel, 'them')];
  assert.equal(backend.asked.length, 2);
  assert.deepEqual(Object.keys(our.form).sort(), Object.keys(their.form).sort());
  assert.equal(our.path, their.path);
  assert.match(our.form.socket_id, /^\d+\.\d+$/);
  assert.equal(Buffer.from(our.headers.authorization, 'latin1').toString(), 'Bearer é=&+');
  assert.equal(our.headers['x-other'], '1');
  assert.equal(our.headers.host, `127.0.0.1:${backend.port}`);
  assert.equal(our.headers['content-type'], their.headers['content-type']);
  assert.deepEqual(ours.errors, []);
});

test('a channel refused with 403 is told once and not asked for again; the others live on', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const [no, yes] = [t.name('private-no'), t.name('private-yes')];
  backend.answer = ({ form }) => form.channel_name === no ? { status: 403, body: '{"error":"not for you"}' } : {};
  const client = t.listen(server.port, [no, yes], { args: asUser(backend) });
  await client.untilEvent('pusher:subscription_error', no);
  await client.untilSubscribed([yes]);
  await pause(2.5);
  assert.equal(backend.asks(no).length, 1);
  const [{ data }] = client.events.filter(e => e.event === 'pusher:subscription_error');
  assert.equal(data.type, 'AuthError');
  assert.equal(data.status, 403);
  assert.equal(client.errors.length, 1);
  assert.match(client.errors[0].text, new RegExp(`403.*${no}|${no}.*403`));
  await api(server).trigger([no, yes], 'hello', '1');
  await client.untilEvent('hello', yes);
  assert.deepEqual(client.published().map(e => e.channel), [yes]);
});

test('an endpoint that is down for a while: 500 is asked again, with growing waits, three times in all', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const [soon, never] = [t.name('private-soon'), t.name('private-never')];
  backend.answer = ({ form }) => form.channel_name === never || backend.asks(soon).length < 3 ? { status: 500, body: 'oops' } : {};
  const client = t.listen(server.port, [soon, never], { args: asUser(backend) });
  await client.untilSubscribed([soon], { seconds: 15 });
  assert.equal(backend.asks(soon).length, 3);
  await client.untilEvent('pusher:subscription_error', never, 15);
  assert.equal(backend.asks(never).length, 3);
  assert.equal(client.events.find(e => e.event === 'pusher:subscription_error').data.status, 500);
  await api(server).trigger(soon, 'hello', '1');
  await client.untilEvent('hello', soon);
});

test('an endpoint that is slow, and one that answers byte by byte: events of others flow meanwhile', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const [slow, pieces, open] = [t.name('private-slow'), t.name('private-pieces'), t.name('open')];
  backend.answer = ({ form }) => form.channel_name === slow ? { seconds: 3 } : { chunked: true };
  // The slow one stands in front: nothing may wait for it that need not.
  const client = t.listen(server.port, [open, pieces, slow], { args: asUser(backend) });
  await client.untilSubscribed([open, pieces]);
  for (let i = 0; i < 5; i++) await api(server).trigger(open, 'tick', { i });
  await client.until('five ticks', () => client.count('tick', open) === 5);
  assert.equal(client.count('pusher:subscription_succeeded', slow), 0);
  await client.untilSubscribed([slow]);
  await api(server).trigger([slow, pieces], 'hello', '1');
  await client.until('both', () => client.count('hello') === 2);
  assert.deepEqual(client.errors, []);
});

test('a signature that is wrong: soketi says so, and the channel is told', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ secret: 'not the secret' });
  const channel = t.name('private-forged');
  const client = t.listen(server.port, [channel], { args: asUser(backend) });
  await client.untilEvent('pusher:subscription_error', channel);
  assert.equal(client.events[0].data.type, 'AuthError');
  assert.equal(client.events[0].data.status, 401);
  assert.equal(client.state, 'connected');
  assert.ok(client.said.every(line => !line.includes('not the secret')));
});

test('signed with the secret, without an endpoint: private and presence', {}, async t => {
  const server = await t.shared();
  const channels = [t.name('private-own'), t.name('presence-own')];
  const client = t.listen(server.port, channels, { args: ['--secret', apps.main.secret, '--user-id', 'ann'] });
  await client.untilSubscribed(channels);
  await api(server).trigger(channels, 'hello', '1');
  await client.until('both', () => client.count('hello') === 2);
  assert.ok(![...client.said, ...client.events.map(e => e.line)].some(line => line.includes(apps.main.secret)));
});

test('an encrypted channel: what the pusher package seals, both open alike', {}, async t => {
  const server = await t.shared();
  const key = keyOf();
  const backend = await t.backend({ key });
  const channel = t.name('private-encrypted-diary');
  const players = ['ours', 'theirs'].map(kind => t.player(kind, server.port, { backend, user: kind }));
  await Promise.all(players.map(async player => { await player.connect(); await player.listen(channel); }));
  const values = ['plain text', { snow: '☃', clef: '𝄞', list: [1, 2.5, null, true] }, '', ' ', 'x'.repeat(9000), 42, '{"open":', ['"', '\\', '\u0000', '\u2028']];
  const sealing = api(server, 'main', { encryptionMasterKeyBase64: key });
  for (const value of values) await sealing.trigger(channel, 'page', value);
  await Promise.all(players.map(player => player.untilEvent('page', channel, { times: values.length })));
  assert.deepEqual(players[0].payloads('page', channel), players[1].payloads('page', channel));
  assert.deepEqual(players[0].payloads('page', channel), values);
  assert.equal(backend.asked.length, 2);
});

test('the key of an encrypted channel changes: one refresh, and no event is lost or out of order', {}, async t => {
  const server = await t.shared();
  const keys = [keyOf(), keyOf()];
  const backend = await t.backend({ key: keys[0] });
  const channel = t.name('private-encrypted-rotating');
  const [ours, theirs] = ['ours', 'theirs'].map(kind => t.player(kind, server.port, { backend, user: kind }));
  await Promise.all([ours, theirs].map(async player => { await player.connect(); await player.listen(channel); }));
  await api(server, 'main', { encryptionMasterKeyBase64: keys[0] }).trigger(channel, 'page', 'old key');
  await Promise.all([ours, theirs].map(player => player.untilEvent('page', channel)));

  backend.key = keys[1];
  backend.answer = () => ({ seconds: 0.5 });        // so that events come in while the key is asked for
  const sealing = api(server, 'main', { encryptionMasterKeyBase64: keys[1] });
  const later = Array.from({ length: 8 }, (_, i) => `new key, page ${i}`);
  for (const text of later) await sealing.trigger(channel, 'page', text);
  await Promise.all([ours, theirs].map(player => player.untilEvent('page', channel, { times: 9 })));
  assert.deepEqual(ours.payloads('page', channel), ['old key', ...later]);
  assert.deepEqual(theirs.payloads('page', channel).sort(), ['old key', ...later].sort());
  assert.equal(backend.asks(channel, 'ours').length, 2, 'one more request, however many events');
  assert.deepEqual(ours.errors(), []);

  // A key that nobody gives out: reported, and the next one that opens arrives. The backend was asked
  // just now, and is not asked for each event that somebody may make up.
  await api(server, 'main', { encryptionMasterKeyBase64: keyOf() }).trigger(channel, 'page', 'unreadable');
  await sealing.trigger(channel, 'last', 'page');
  await ours.untilEvent('last', channel);
  await ours.untilEvent('pusher:decryption_error', channel);
  assert.equal(ours.events('page', channel).length, 9);
  assert.equal(backend.asks(channel, 'ours').length, 2);
});

for (const kind of ['cache-', 'private-cache-', 'presence-cache-', 'private-encrypted-cache-'])
  test(`cache channels: ${kind}: a miss; then the last event, marked, for whoever comes later`, {}, async t => {
    const server = await t.shared();
    const key = keyOf();
    const backend = await t.backend({ key });
    const channel = t.name(`${kind}weather`);
    const come = user => t.listen(server.port, [channel], { args: asUser(backend, ['--user-id', user]) });
    const first = come('ann');
    await first.untilEvent('pusher:cache_miss', channel);
    const sender = api(server, 'main', { encryptionMasterKeyBase64: key });
    await sender.trigger(channel, 'reading', { celsius: 20 });
    await sender.trigger(channel, 'reading', { celsius: 21 });
    await first.until('two readings', () => first.count('reading') === 2);
    const second = come('bob');
    await second.untilEvent('reading', channel);
    await sender.trigger(channel, 'reading', { celsius: 22 });
    await Promise.all([first.until('three readings', () => first.count('reading') === 3), second.until('two readings', () => second.count('reading') === 2)]);
    const marked = client => client.events.filter(e => e.event === 'reading').map(e => [e.data.celsius, e.from_cache ?? false]);
    assert.deepEqual(marked(first), [[20, false], [21, false], [22, false]]);
    assert.deepEqual(marked(second), [[21, true], [22, false]]);
    assert.equal(second.count('pusher:cache_miss'), 0);
    assert.equal(first.events[0].event, 'pusher:subscription_succeeded');
    assert.deepEqual([...first.errors, ...second.errors], []);
  });

test('soketi is killed and comes back: private, presence and encrypted channels with it', { seconds: 75 }, async t => {
  const server = await t.soketi();
  const key = keyOf();
  const backend = await t.backend({ key });
  const channels = ['private-a', 'presence-b', 'private-encrypted-c', 'private-cache-d', 'e'];
  const client = t.listen(server.port, channels, { args: asUser(backend, ['--user-id', 'ann']) });
  await client.untilSubscribed(channels);
  const sockets = () => new Set(backend.asked.map(({ form }) => form.socket_id)).size;
  assert.equal(backend.asked.length, 4);
  await server.kill();
  await client.until('the loss', () => client.states.some(s => s.from === 'connected'));
  await server.restart();
  await client.untilSubscribed(channels, { times: 2, seconds: 40 });
  assert.equal(backend.asked.length, 8, 'each asked for anew');
  assert.equal(sockets(), 2);
  const sender = api(server, 'main', { encryptionMasterKeyBase64: key });
  for (const channel of channels) await sender.trigger(channel, 'hello', { channel });
  await client.until('one event on each', () => client.count('hello') === channels.length);
  assert.deepEqual(client.published().map(e => e.data.channel), channels);
  // Nobody came and nobody left: the same member, before and after.
  assert.equal(client.count('pusher:member_added') + client.count('pusher:member_removed'), 0);
});
