// A server that says no: for good, or not now.
import assert from 'node:assert/strict';
import { api, pause, test } from '../harness.mjs';

for (const [what, how, code] of [
  ['a wrong key', { key: 'no-such-key' }, /\b4001\b/],
  ['a disabled app', { app: 'disabled' }, /\b4003\b/],
]) {
  test(`${what} is reported once and not tried again`, {}, async t => {
    const server = await t.shared();
    const tap = await t.tap(server.port);
    // --keep: the program stays, so that it is the library that must not try again.
    const client = t.listen(tap.port, [t.name('never')], { ...how, args: ['--keep'] });
    await client.until(`an error that names ${code.source}`, () => client.errors.some(error => code.test(error.text)));
    await client.untilState('failed');
    await pause(3);
    assert.equal(tap.connections.length, 1, 'connections made');
    assert.equal(client.state, 'failed');
    assert.equal(client.errors.length, 1);
    assert.deepEqual(client.events, []);
    await client.finish();

    // Without it the program has nothing to wait for.
    const brief = t.listen(server.port, [t.name('never')], how);
    brief.mayEnd = true;
    await brief.until('its end', () => brief.ended !== undefined);
    assert.equal(brief.ended, 1);
    assert.ok(brief.errors.some(error => code.test(error.text)));
  });
}

test('over the quota: waits a second or more each time, and gets in when there is room', { seconds: 60 }, async t => {
  const server = await t.shared();
  const tap = await t.tap(server.port);
  const channel = t.name('room');
  const first = t.listen(server.port, [channel], { app: 'quota' });
  await first.untilSubscribed([channel]);
  const second = t.listen(tap.port, [channel], { app: 'quota' });
  await second.until('an error that names 4100', () => second.errors.some(error => /\b4100\b/.test(error.text)));
  await second.until('two more attempts', () => tap.connections.length >= 3, 20);
  assert.equal(second.count('pusher:subscription_succeeded'), 0);
  assert.ok(!second.states.some(s => s.to === 'connected' || s.to === 'failed'), `states ${JSON.stringify(second.states)}`);
  await first.finish();
  await second.untilSubscribed([channel], { seconds: 40 });
  for (const gap of tap.gaps()) assert.ok(gap >= 950, `attempts ${tap.gaps().join(', ')} ms apart`);
  await api(server, 'quota').trigger(channel, 'welcome', '1');
  await second.untilEvent('welcome');
});
