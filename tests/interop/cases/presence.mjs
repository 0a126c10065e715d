// Presence channels: two clients of pusher.h and one of pusher-js in a room; and client events.
import assert from 'node:assert/strict';
import { api, eventually, pause, test } from '../harness.mjs';

const memberOf = id => ({ id, info: { name: `the name of ${id}` } });

async function enter(t, server, backend, channel, users) {
  const players = users.map(([user, kind]) => t.player(kind, server.port, { backend, user }));
  for (const player of players) {       // one after the other: so it is known who hears of whom
    await player.connect();
    await player.listen(channel);
  }
  return players;
}

const came = (player, channel) => player.events('pusher:member_added', channel).map(one => one.member.id);
const left = (player, channel) => player.events('pusher:member_removed', channel).map(one => one.member.id);

async function sameMembers(players, channel, ids) {
  const list = [...ids].sort().map(memberOf);
  for (const player of players) {
    const members = await player.members(channel);
    assert.deepEqual({ count: members.count, list: members.list }, { count: list.length, list }, player.name);
  }
}

test('presence: two of pusher.h and one pusher-js see each other come and go', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const channel = t.name('presence-lobby');
  const players = await enter(t, server, backend, channel, [['ann', 'ours'], ['jim', 'theirs'], ['bob', 'ours']]);
  const [ann, jim, bob] = players;
  await ann.untilEvent('pusher:member_added', channel, { times: 2 });
  await jim.untilEvent('pusher:member_added', channel);
  assert.deepEqual([ann, jim, bob].map(player => came(player, channel)), [['jim', 'bob'], ['bob'], []]);
  assert.deepEqual(ann.events('pusher:member_added', channel).map(one => one.member), [memberOf('jim'), memberOf('bob')]);
  await sameMembers(players, channel, ['ann', 'bob', 'jim']);
  for (const [player, id] of [[ann, 'ann'], [jim, 'jim'], [bob, 'bob']])
    assert.deepEqual((await player.members(channel)).me, memberOf(id));

  // The same user once more, and gone again: no news to anybody.
  const [again] = await enter(t, server, backend, channel, [['ann', 'ours']]);
  await sameMembers([...players, again], channel, ['ann', 'bob', 'jim']);
  await again.finish();
  // An unsubscription, a crash, a goodbye.
  await bob.unsubscribe(channel);
  await Promise.all([ann, jim].map(player => player.until('bob leaves', () => left(player, channel).length === 1)));
  const [eve] = await enter(t, server, backend, channel, [['eve', 'ours']]);
  await eve.crash();
  await Promise.all([ann, jim].map(player => player.until('eve leaves', () => left(player, channel).length === 2)));
  await sameMembers([ann, jim], channel, ['ann', 'jim']);
  await jim.finish();
  await ann.until('jim leaves', () => left(ann, channel).length === 3);
  await sameMembers([ann], channel, ['ann']);
  assert.deepEqual(came(ann, channel), ['jim', 'bob', 'eve']);
  assert.deepEqual(left(ann, channel), ['bob', 'eve', 'jim']);
  assert.deepEqual(ann.events('pusher:member_removed', channel).map(one => one.member), ['bob', 'eve', 'jim'].map(memberOf));
  assert.deepEqual([...ann.errors(), ...bob.errors()], []);
  // What the server says to whoever asks.
  const users = await (await api(server).get({ path: `/channels/${channel}/users` })).json();
  assert.deepEqual(users.users.map(user => user.id), ['ann']);
});

test('presence: soketi is killed and comes back, and the difference is told', { seconds: 75 }, async t => {
  const server = await t.soketi();
  const backend = await t.backend();
  const channel = 'presence-lobby';
  const players = await enter(t, server, backend, channel, [['ann', 'ours'], ['jim', 'theirs'], ['bob', 'ours'], ['cid', 'ours']]);
  const [ann, jim, bob, cid] = players;
  await ann.untilEvent('pusher:member_added', channel, { times: 3 });
  await sameMembers(players, channel, ['ann', 'bob', 'cid', 'jim']);

  await server.kill();
  await Promise.all(players.map(player => player.until('the loss', () => player.lastState !== 'connected')));
  // While nobody can tell: the list stays as it was. Bob goes for good, dan is there first.
  await sameMembers([ann, cid], channel, ['ann', 'bob', 'cid', 'jim']);
  await bob.finish();
  await server.restart();
  const [dan] = await enter(t, server, backend, channel, [['dan', 'ours']]);
  const back = [ann, jim, cid];
  await Promise.all(back.map(player => player.live(channel, { times: 2, seconds: 40 })));
  const everybody = [...back, dan];
  await eventually('the lists settle', async () => {
    for (const player of everybody) if ((await player.members(channel)).count !== 4) return false;
    return true;
  }, 10);
  await sameMembers(everybody, channel, ['ann', 'cid', 'dan', 'jim']);

  // Each list is what its events make of it: nobody comes twice, nobody leaves twice, no ghosts.
  for (const player of [ann, cid]) {
    const room = new Set();
    let first = true;
    for (const one of player.seen.filter(e => e.handler === channel)) {
      if (one.event === 'pusher:subscription_succeeded' && first) { for (const { id } of one.members.list) room.add(id); first = false; }
      if (one.event === 'pusher:member_added') { assert.ok(!room.has(one.member.id), `${one.member.id} came twice`); room.add(one.member.id); }
      if (one.event === 'pusher:member_removed') assert.ok(room.delete(one.member.id), `${one.member.id} left twice`);
    }
    assert.deepEqual([...room].sort(), ['ann', 'cid', 'dan', 'jim']);
    assert.equal(left(player, channel).filter(id => id === 'bob').length, 1);
    assert.equal(came(player, channel).filter(id => id === 'dan').length, 1);
  }
});

test('client events between pusher.h and pusher-js, both ways, with the sender on presence channels', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const [room, talk] = [t.name('presence-room'), t.name('private-talk')];
  const [ann, jim, bob] = ['ann', 'jim', 'bob'].map(user => t.player(user === 'jim' ? 'theirs' : 'ours', server.port, { backend, user }));
  for (const player of [ann, jim, bob]) {
    await player.connect();
    await player.listen(room, talk);
    for (const channel of [room, talk]) await player.bind(channel, 'client-says', `says ${channel}`.replace(' ', '-'));
  }
  const values = [{ text: '☃ "quoted" \\', n: 1.5 }, 'a text', 42, [1, null, true], 'x'.repeat(5000)];
  const heard = (player, channel) => player.seen.filter(one => one.handler === `says-${channel}`);
  for (const [i, sender] of [ann, jim].entries()) {
    const others = [ann, jim, bob].filter(player => player !== sender);
    for (const channel of [room, talk]) {
      for (const value of values) {
        await sender.trigger(channel, 'client-says', value);
        await pause(0.11);                    // ten a second are allowed
      }
      const wanted = others.map(player => values.length * (i === 1 && player === bob ? 2 : 1));
      await Promise.all(others.map((player, k) => player.until(`what ${sender.name} says`, () => heard(player, channel).length === wanted[k])));
      const expected = values.map(data => ({ event: 'client-says', handler: `says-${channel}`, channel, data, ...(channel === room ? { user: sender === ann ? 'ann' : 'jim' } : {}) }));
      for (const player of others) assert.deepEqual(heard(player, channel).slice(-values.length), expected, player.name);
    }
  }
  assert.equal(heard(ann, room).length, values.length, 'nobody hears himself');
  assert.deepEqual([...ann.errors(), ...bob.errors()], []);
});

test('client events of the command-line tool: sent once, the sender named', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend();
  const channel = t.name('presence-tool');
  const user = id => ['--auth-endpoint', backend.endpoint, '--user-id', id];
  const ann = t.listen(server.port, [channel], { args: user('ann') });
  await ann.untilSubscribed([channel]);
  const bob = t.listen(server.port, [channel], { args: [...user('bob'), '--trigger', channel, 'client-hi', '{"n": 1}'] });
  await ann.untilEvent('client-hi', channel);
  assert.deepEqual(ann.events.map(({ event, data, member, user_id }) => [event, member ?? data, user_id]).slice(1), [
    ['pusher:member_added', memberOf('bob'), undefined],
    ['client-hi', { n: 1 }, 'bob'],
  ]);
  assert.equal(bob.count('client-hi'), 0);
});

test('an app without client events: error 4301, and the connection lives on', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'silent' });
  const channel = t.name('private-silent');
  const player = t.player('ours', server.port, { app: 'silent', backend });
  await player.connect();
  await player.listen(channel);
  await player.trigger(channel, 'client-says', 1);
  await player.until('error 4301', () => player.errors(4301).length === 1);
  await api(server, 'silent').trigger(channel, 'hello', '1');
  await player.untilEvent('hello', channel);
  assert.equal(player.lastState, 'connected');
  assert.match(player.errors()[0].says, /client messaging/);
});

test('more client events than the app may send: those above are answered with 4301, the rest arrives', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'limited' });
  const channel = t.name('private-limited');
  const players = ['ann', 'bob'].map(user => t.player('ours', server.port, { app: 'limited', backend, user }));
  for (const player of players) { await player.connect(); await player.listen(channel); }
  const [ann, bob] = players;
  for (let n = 0; n < 6; n++) await ann.trigger(channel, 'client-says', n);
  await ann.until('errors 4301', () => ann.errors(4301).length === 4);
  await bob.untilEvent('client-says', channel, { times: 2 });
  await pause(1.1);
  await ann.trigger(channel, 'client-says', 'later');
  await bob.untilEvent('client-says', channel, { times: 3 });
  assert.deepEqual(bob.payloads('client-says', channel), [0, 1, 'later']);
  assert.equal(ann.errors().length, 4);
  assert.equal(ann.lastState, 'connected');
  // Our own limit, ten a second, needs no server.
  for (let n = 0; n < 12; n++) await ann.trigger(channel, 'client-says', n);
  assert.ok(ann.seen.filter(one => one.refused === 'trigger').length >= 2);
});
