// Beside Pusher's own JavaScript client: both hear the same.
import assert from 'node:assert/strict';
import { api, eventually, test } from '../harness.mjs';
import { apps } from '../soketi.mjs';
import { need } from '../modules.mjs';
import { payloads } from './public.mjs';

test('pusher-js and we hear the same 200 events', { seconds: 45 }, async t => {
  const server = await t.shared();
  const channels = ['red', 'green', 'cache-blue'].map(word => t.name(word));
  const heard = [];
  const PusherJs = need('pusher-js');
  PusherJs.logToConsole = false;
  const theirs = new PusherJs(apps.main.key, { cluster: 'x', wsHost: '127.0.0.1', wsPort: server.port, forceTLS: false, enabledTransports: ['ws'], enableStats: false });
  t.after.push(() => theirs.disconnect());
  await Promise.race([
    Promise.all(channels.map(name => new Promise((resolve, reject) => {
      const channel = theirs.subscribe(name);
      channel.bind('pusher:subscription_succeeded', resolve);
      channel.bind('pusher:subscription_error', error => reject(new Error(`pusher-js: ${JSON.stringify(error)}`)));
      channel.bind_global((event, data) => { if (!event.startsWith('pusher')) heard.push({ channel: name, event, data }); });
    }))),
    new Promise((_, reject) => setTimeout(() => reject(new Error('pusher-js does not subscribe within 10 s')), 10_000).unref()),
  ]);
  const ours = t.listen(server.port, channels);
  await ours.untilSubscribed(channels);

  // Single triggers and batches by turns, over all channels, names and payloads.
  const small = payloads.filter(payload => payload.length < 20_000);
  const event = i => ({
    channel: channels[i % 3],
    name: ['message', 'App\\Events\\Tick', '☃ event', 'a "b"'][(i >> 1) % 4],
    data: i % 4 ? small[i % small.length] : { n: i, text: `event "${i}"` },
  });
  const backend = api(server);
  for (let i = 0; i < 200;) {
    if (i % 20 < 10) {
      const { channel, name, data } = event(i++);
      await backend.trigger(channel, name, data);
    } else {
      await backend.triggerBatch(Array.from({ length: 10 }, () => event(i++)));
    }
  }
  for (const channel of channels) await backend.trigger(channel, 'fence', '1');
  const fences = list => list.filter(e => e.event === 'fence').length;
  await ours.until('all that was sent', () => fences(ours.published()) === 3);
  await eventually('pusher-js hears all that was sent', () => fences(heard) === 3, 5);
  assert.equal(heard.length, 203);
  assert.deepEqual(ours.published(), heard);
});
