// The server goes away and comes back. Nothing but the client's own effort brings the events back.
import assert from 'node:assert/strict';
import { api, eventually, pause, test } from '../harness.mjs';

const BACK = 40;    // seconds: a random share of a wait that doubles, so mostly far less

// One event on each channel, each must arrive exactly once.
async function eachOnce(server, client, channels, event) {
  await api(server).trigger(channels, event, { event });
  await api(server).trigger(channels[0], `${event} fence`, '1');
  await client.untilEvent(`${event} fence`);
  assert.deepEqual(client.events.filter(e => e.event === event).map(e => e.channel).sort(), [...channels].sort(), `${event}: each channel once`);
}

const lost = client => client.until('a report that the connection is lost', () => client.states.some(s => s.from === 'connected'));

test('soketi is killed and comes back: fifty channels subscribed again, no event doubled', { seconds: 75 }, async t => {
  const server = await t.soketi();
  const channels = Array.from({ length: 50 }, (_, i) => `channel-${i}`);
  const client = t.listen(server.port, channels);
  await client.untilSubscribed(channels);
  await eachOnce(server, client, channels, 'before');
  await server.kill();
  await lost(client);
  await pause(1);
  await server.restart();
  await client.untilSubscribed(channels, { times: 2, seconds: BACK });
  await eachOnce(server, client, channels, 'after');
  assert.equal(client.count('before'), 50);
  assert.equal(client.count('pusher:subscription_succeeded'), 100, 'acknowledgements: one per channel and connection');
  assert.equal(client.state, 'connected');
});

test('soketi shuts down with 4200 and comes back', { seconds: 75 }, async t => {
  // For a second after SIGTERM it still accepts connections, to answer each with 4200. That code
  // means "at once", so a client that takes it at its word each time would spin.
  const server = await t.soketi({ shutdownGracePeriod: 1000 });
  const tap = await t.tap(server.port);
  const channels = Array.from({ length: 50 }, (_, i) => `channel-${i}`);
  const client = t.listen(tap.port, channels);
  await client.untilSubscribed(channels);
  await eachOnce(server, client, channels, 'before');
  await server.stop();
  await lost(client);
  assert.ok(tap.connections.length <= 10, `${tap.connections.length} connections while the server shut down`);
  assert.ok(!client.states.some(s => s.to === 'failed'), '4200 is no reason to give up');
  await server.restart();
  await client.untilSubscribed(channels, { times: 2, seconds: BACK });
  await eachOnce(server, client, channels, 'after');
  const { messages } = tap.connections.at(-1);
  const subscribed = messages.filter(m => m?.event === 'pusher:subscribe').map(m => m.data.channel);
  assert.deepEqual(subscribed, channels, 'subscribed on the new connection, each once and in the old order');
});

test('soketi is restarted again and again', { seconds: 90 }, async t => {
  const server = await t.soketi();
  const channels = ['a', 'b', 'c'];
  const client = t.listen(server.port, channels);
  await client.untilSubscribed(channels);
  // as soon as the client is back
  for (let round = 1; round <= 2; round++) {
    await server.kill();
    await server.restart();
    await client.untilSubscribed(channels, { times: round + 1, seconds: BACK });
  }
  // without waiting for it
  for (let round = 0; round < 2; round++) {
    await server.kill();
    await server.restart();
  }
  // Its acknowledgements may be of any of these servers; the last one knows whom it has.
  await eventually('subscribed at the last soketi', async () => {
    const { channels: occupied } = await (await api(server).get({ path: '/channels' })).json();
    return channels.every(channel => channel in occupied);
  }, BACK);
  await eachOnce(server, client, channels, 'after');
});

test('soketi is not there at first', { seconds: 75 }, async t => {
  const server = await t.noSoketiYet();
  const client = t.listen(server.port, ['late']);
  await client.until('an error', () => client.errors.length > 0);
  await pause(2);
  assert.ok(!client.states.some(s => s.to === 'failed' || s.to === 'connected'), `states ${JSON.stringify(client.states)}`);
  assert.ok(client.errors.length <= 12, `${client.errors.length} errors within two seconds`);
  await server.restart();
  await client.untilSubscribed(['late'], { seconds: BACK });
  await eachOnce(server, client, ['late'], 'hello');
});

test('a clean end while there is no server', {}, async t => {
  const server = await t.noSoketiYet();
  const client = t.listen(server.port, ['never']);
  await client.until('an error', () => client.errors.length > 0);
  await client.finish('SIGTERM', 2);
});

test('130 s without an event', { seconds: 160, slow: true }, async t => {
  // soketi closes with 4201 after 120 s in which it sent nothing; only an answered pusher:ping
  // counts, WebSocket pings do not.
  const server = await t.soketi();
  const tap = await t.tap(server.port);
  const client = t.listen(tap.port, ['quiet']);
  await client.untilSubscribed(['quiet']);
  await pause(130);
  assert.equal(tap.connections.length, 1, 'the connection was lost');
  assert.deepEqual(client.errors, []);
  assert.ok(tap.connections[0].messages.some(m => m?.event === 'pusher:ping'), 'no pusher:ping was sent');
  await eachOnce(server, client, ['quiet'], 'hello');
});
