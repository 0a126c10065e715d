// TLS: soketi's own, and stunnel's (OpenSSL) in front of the plain server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { certificates } from '../certificates.mjs';
import { api, pause, test } from '../harness.mjs';
import { apps } from '../soketi.mjs';
import { Stunnel } from '../stunnel.mjs';

const secure = (...more) => ['--tls', '--ca', certificates().ca, ...more];
const own = name => ({ 'ssl.certPath': certificates().certificate(name), 'ssl.keyPath': certificates().key(name) });

// Against a server that speaks TLS itself, the HTTP API does, too.
async function publish(server, channels, event, value) {
  const { default: https } = await import('node:https');
  const { default: fs } = await import('node:fs');
  const plain = api(server);
  const body = JSON.stringify({ name: event, data: JSON.stringify(value), channels });
  const query = plain.createSignedQueryString({ method: 'POST', path: `/apps/${apps.main.id}/events`, body });
  await new Promise((resolve, reject) => {
    const request = https.request({ host: 'localhost', family: 4, port: server.port, method: 'POST', path: `/apps/${apps.main.id}/events?${query}`,
      ca: fs.readFileSync(certificates().ca), headers: { 'Content-Type': 'application/json' } }, response => {
      response.resume().on('end', () => response.statusCode === 200 ? resolve() : reject(new Error(`the HTTP API says ${response.statusCode}`)));
    });
    request.once('error', reject).end(body);
  });
}

// What the server said in the clear at the beginning of a TLS connection: its version and the types
// of its handshake messages up to ChangeCipherSpec. A whole handshake of TLS 1.2 has a Certificate
// (11) in it, one that resumes a session has none.
function handshake(connection) {
  const bytes = connection.fromServer;
  let clear = Buffer.alloc(0);
  for (let at = 0; at + 5 <= bytes.length && bytes[at] === 22; at += 5 + bytes.readUInt16BE(at + 3))
    clear = Buffer.concat([clear, bytes.subarray(at + 5, at + 5 + bytes.readUInt16BE(at + 3))]);
  const types = [];
  for (let at = 0; at + 4 <= clear.length; at += 4 + clear.readUIntBE(at + 1, 3)) types.push(clear[at]);
  assert.equal(types[0], 2, 'a ServerHello');
  return { version: clear.readUInt16BE(4), types, whole: types.includes(11) };
}

// What the program under test was built with.
const speaks13 = () => /MBEDTLS_SSL_PROTO_TLS1_3\b/.test(execFileSync('sh', ['-c', `echo '#include <mbedtls/ssl.h>' | ${process.env.CC ?? 'cc'} ${process.env.CPPFLAGS ?? ''} -E -dM -`]));

test('TLS: soketi with a certificate of a known authority; not with one of another, nor for another name', { seconds: 45 }, async t => {
  const server = await t.soketi(own('localhost'));
  const channels = ['chat', 'private-chat', 'presence-chat'];
  const secret = ['--secret', apps.main.secret, '--user-id', 'ann'];
  const right = t.listen(server.port, channels, { args: [...secure('--host', 'localhost'), ...secret] });
  await right.untilSubscribed(channels);
  for (let i = 0; i < 20; i++) await publish(server, channels, 'message', { i, text: 'y'.repeat(3000 * (i % 4)) });
  await right.until('60 events', () => right.count('message') >= 60);
  for (const channel of channels) assert.deepEqual(right.published(channel).map(e => e.data.i), Array.from({ length: 20 }, (_, i) => i));
  assert.deepEqual(right.errors, []);

  const tap = await t.tap(server.port);
  const untrusting = t.listen(tap.port, channels, { args: ['--tls', '--ca', certificates().otherCa, '--host', 'localhost', ...secret] });
  const elsewhere = t.listen(tap.port, channels, { args: [...secure('--host', '127.0.0.1'), ...secret] });
  const plain = t.listen(server.port, ['chat']);
  for (const [client, says] of [
    [untrusting, /TLS: certificate of localhost is not signed by a known authority \(issuer: "ca of a test"\)/],
    [elsewhere, /TLS: certificate is for localhost, not 127\.0\.0\.1/],
  ]) {
    await client.until('an error', () => client.errors.length > 0);
    assert.match(client.errors[0].text, says);
    // It goes on trying, in vain.
    await client.until('another attempt', () => client.errors.length > 1, 15);
    assert.ok(client.errors.every(error => says.test(error.text)));
    assert.ok(!client.states.some(s => s.to === 'connected' || s.to === 'failed'));
    assert.deepEqual(client.events, []);
  }
  await plain.until('an error', () => plain.errors.length > 0);
  assert.ok(!plain.states.some(s => s.to === 'connected'));
});

test('TLS where the server speaks none', {}, async t => {
  // soketi says nothing at all to a ClientHello; a Node server answers with 400.
  const { port } = await t.backend();
  const client = t.listen(port, ['chat'], { args: secure() });
  await client.until('an error', () => client.errors.length > 0);
  assert.match(client.errors[0].text, /TLS: the server does not speak TLS on this port: it answers in plain HTTP/);
  assert.ok(!client.states.some(s => s.to === 'connected'));
});

test('TLS: a lost connection resumes its session; a soketi that was restarted gets a whole handshake', { seconds: 75 }, async t => {
  const server = await t.soketi(own('localhost'));
  const tap = await t.tap(server.port);
  const channels = ['chat', 'private-chat', 'presence-chat'];
  const client = t.listen(tap.port, channels, { args: [...secure('--host', 'localhost'), '--secret', apps.main.secret, '--user-id', 'ann'] });
  await client.untilSubscribed(channels);
  tap.cut();
  await client.untilSubscribed(channels, { times: 2, seconds: 20 });
  const [first, second] = tap.connections.map(handshake);
  assert.equal(first.whole, true);
  if (first.version === 0x0303 && !speaks13()) assert.equal(second.whole, false, 'the session was not resumed');

  await server.kill();
  await client.until('the loss', () => client.states.filter(s => s.from === 'connected').length === 2);
  await pause(0.5);
  await server.restart();
  await client.untilSubscribed(channels, { times: 3, seconds: 40 });
  if (!speaks13()) assert.equal(handshake(tap.connections.at(-1)).whole, true, 'a session that the server cannot know');
  await publish(server, channels, 'hello', 1);
  await client.until('one event on each', () => client.count('hello') === 3);
  assert.ok(client.errors.every(error => !/certificate|handshake failed/.test(error.text)), JSON.stringify(client.errors));
});

test('TLS of OpenSSL, 1.2 only: a certificate with the address, 200 events, and a session resumed', { seconds: 45 }, async t => {
  const server = await t.shared();
  const front = await Stunnel.start(server.port, { only: 'TLSv1.2' });
  t.after.push(() => front.close());
  const tap = await t.tap(front.port);
  const channels = [t.name('chat'), t.name('private-chat')];
  const client = t.listen(tap.port, channels, { args: [...secure('--secret', apps.main.secret)] });
  await client.untilSubscribed(channels);
  tap.cut();
  await client.untilSubscribed(channels, { times: 2, seconds: 20 });
  const [first, second] = tap.connections.map(handshake);
  assert.deepEqual([first.version, first.whole, second.whole], [0x0303, true, false]);
  for (let i = 0; i < 20; i++)
    await api(server).triggerBatch(Array.from({ length: 10 }, (_, k) => ({ channel: channels[k % 2], name: 'message', data: { n: 10 * i + k, text: 'z'.repeat(500 * k) } })));
  await client.until('200 events', () => client.count('message') === 200);
  assert.deepEqual(client.published().map(e => e.data.n), Array.from({ length: 200 }, (_, n) => n));
});

test('TLS of OpenSSL, 1.3 only: a client that speaks 1.2 at most is refused and says why; another gets in', {}, async t => {
  const server = await t.shared();
  const front = await Stunnel.start(server.port, { only: 'TLSv1.3' });
  t.after.push(() => front.close());
  const channel = t.name('chat');
  const client = t.listen(front.port, [channel], { args: secure() });
  if (speaks13()) {
    await client.untilSubscribed([channel]);
    await api(server).trigger(channel, 'hello', '1');
    await client.untilEvent('hello');
  } else {
    await client.until('an error', () => client.errors.length > 0);
    assert.match(client.errors[0].text, /TLS: the server refused: protocol_version: it and this mbedTLS have none in common, from TLS 1\.2 on/);
    assert.ok(!client.states.some(s => s.to === 'connected'));
  }
});

test('an https:// endpoint authorizes channels and users, over TLS and over a plain connection; and is not believed blindly', { seconds: 45 }, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'user' });
  const [front, wrong] = await Promise.all([Stunnel.start(backend.port), Stunnel.start(backend.port, { certificate: 'localhost' })]);
  const outer = await Stunnel.start(server.port);
  t.after.push(() => Promise.all([front, wrong, outer].map(one => one.close())));
  const channel = t.name('presence-room');
  const args = (port, user) => ['--ca', certificates().ca, '--auth-endpoint', `https://127.0.0.1:${port}/pusher/auth`,
    '--user-auth-endpoint', `https://127.0.0.1:${port}/pusher/user-auth`, '--user-id', user, '--signin'];
  const over = t.listen(outer.port, [channel], { app: 'user', args: ['--tls', ...args(front.port, 'ann')] });
  const plain = t.listen(server.port, [channel], { app: 'user', args: args(front.port, 'bob') });
  for (const client of [over, plain]) {
    await client.untilSubscribed([channel]);
    await client.untilEvent('pusher:signin_success');
    assert.deepEqual(client.errors, []);
  }
  await api(server, 'user').trigger(channel, 'hello', '1');
  await Promise.all([over, plain].map(client => client.untilEvent('hello')));

  const asked = backend.asked.length;
  const mistrusting = t.listen(server.port, [channel], { app: 'user', args: args(wrong.port, 'eve') });
  await mistrusting.untilEvent('pusher:subscription_error', channel, 25);
  assert.ok(mistrusting.errors.some(error => /certificate is for localhost, not 127\.0\.0\.1/.test(error.text)), JSON.stringify(mistrusting.errors));
  assert.equal(backend.asked.length, asked, 'not a byte of ours reaches it');
});
