// Sign-in: users, what is sent to them, and an app that lets nobody stay who has not said who he is.
import assert from 'node:assert/strict';
import { api, pause, test } from '../harness.mjs';
import { apps } from '../soketi.mjs';

const signingIn = (backend, user) => ['--user-auth-endpoint', backend.userEndpoint, '--auth-endpoint', backend.endpoint, '--user-id', user, '--signin'];

test('events for a user reach him on all his connections, pusher.h and pusher-js, and nobody else', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'user' });
  const players = [['ours', 'ann'], ['theirs', 'ann'], ['ours', 'bob']].map(([kind, user]) => t.player(kind, server.port, { app: 'user', backend, user }));
  for (const player of players) {
    await player.bindAll('@user', 'user');
    await player.do('signin');
    await player.connect();
  }
  const tool = t.listen(server.port, [], { app: 'user', args: signingIn(backend, 'ann') });
  const signedIn = player => player.until('signed in', () => player.lastState === 'connected' && player.seen.some(one => one.event === 'pusher:signin_success'));
  await Promise.all([signedIn(players[0]), signedIn(players[2]), tool.untilEvent('pusher:signin_success')]);
  const mine = player => player.seen.filter(one => one.handler === 'user' && !one.event.startsWith('pusher:')).map(({ event, data }) => [event, data]);
  const values = ['a text', { snow: '☃' }, 42];
  const send = async (user, event, value) => api(server, 'user').sendToUser(user, event, value);
  // pusher-js does not say to the user's handlers that it is signed in.
  for (const started = Date.now(); mine(players[1]).length === 0; await pause(0.1)) {
    assert.ok(Date.now() - started < 8000, 'pusher-js signs in');
    await send('ann', 'knock', 1);
  }
  for (const value of values) await send('ann', 'letter', value);
  await send('bob', 'letter', 'for bob');
  const letters = player => mine(player).filter(([event]) => event === 'letter');
  await Promise.all(players.map((player, i) => player.until('letters', () => letters(player).length === [3, 3, 1][i])));
  await tool.until('letters', () => tool.count('letter') === 3);
  assert.deepEqual(letters(players[0]), values.map(value => ['letter', value]));
  assert.deepEqual(letters(players[0]), letters(players[1]));
  assert.deepEqual(letters(players[2]), [['letter', 'for bob']]);
  assert.deepEqual(tool.published().filter(e => e.event === 'letter').map(e => e.data), values);
  const forms = backend.asked.map(({ path, form }) => [path, Object.keys(form).sort()]);
  for (const form of forms) assert.deepEqual(form, ['/pusher/user-auth', ['socket_id', 'user_id']]);
});

test('all connections of a user are terminated: 4009, failed, and no new attempt', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'user' });
  const tap = await t.tap(server.port);
  const channel = t.name('private-room');
  const gone = t.listen(tap.port, [channel], { app: 'user', args: [...signingIn(backend, 'eve'), '--keep'] });
  const stays = t.listen(server.port, [channel], { app: 'user', args: signingIn(backend, 'bob') });
  await Promise.all([gone, stays].map(client => Promise.all([client.untilSubscribed([channel]), client.untilEvent('pusher:signin_success')])));
  await api(server, 'user').terminateUserConnections('eve');
  await gone.untilState('failed');
  assert.ok(gone.errors.some(error => /\b4009\b/.test(error.text)), JSON.stringify(gone.errors));
  await pause(2);
  assert.equal(tap.connections.length, 1);
  await api(server, 'user').trigger(channel, 'hello', '1');
  await stays.untilEvent('hello', channel);
  assert.equal(gone.count('hello'), 0);
  assert.equal(stays.state, 'connected');
});

test('a sign-in with a wrong signature: 4009, refused for good', {}, async t => {
  const server = await t.shared();
  const backend = await t.backend({ app: 'user', secret: 'not the secret' });
  const client = t.listen(server.port, [], { app: 'user', args: signingIn(backend, 'ann') });
  client.mayEnd = true;
  await client.until('its end', () => client.ended !== undefined);
  assert.equal(client.ended, 1);
  assert.ok(client.errors.some(error => /not authorized/.test(error.text)), JSON.stringify(client.errors));
  assert.match(client.errors.at(-1).text, /\b4009\b/);
  assert.deepEqual(client.events.map(({ event, data }) => [event, data.type, data.status]), [['pusher:signin_error', 'AuthError', 4009]]);
  assert.equal(client.states.at(-1).to, 'failed');
});

test('a sign-in that the backend refuses: told; then soketi ends the connection after its time', {}, async t => {
  const server = await t.soketi({ userAuthenticationTimeout: 2500 });
  const backend = await t.backend({ app: 'user' });
  backend.answer = () => ({ status: 403, body: 'no' });
  const client = t.listen(server.port, ['chat'], { app: 'user', args: signingIn(backend, 'ann') });
  client.mayEnd = true;
  await client.untilEvent('pusher:signin_error');
  assert.equal(client.states.at(-1).to, 'connected', 'the channels live on meanwhile');
  await client.untilSubscribed(['chat']);
  await client.until('its end', () => client.ended !== undefined);
  assert.equal(backend.asked.length, 1);
  assert.ok(client.errors.some(error => /\b4009\b/.test(error.text)), JSON.stringify(client.errors));
});

test('an app that wants a sign-in and gets none: 4009 after its time; whoever signs in stays', {}, async t => {
  const server = await t.soketi({ userAuthenticationTimeout: 1500 });
  const silent = t.listen(server.port, ['chat'], { app: 'user' });
  silent.mayEnd = true;
  const signed = t.listen(server.port, ['chat'], { app: 'user', args: ['--secret', apps.user.secret, '--user-id', 'ann', '--signin'] });
  await Promise.all([silent.untilSubscribed(['chat']), signed.untilSubscribed(['chat']), signed.untilEvent('pusher:signin_success')]);
  await silent.until('its end', () => silent.ended !== undefined);
  assert.equal(silent.ended, 1);
  assert.ok(silent.errors.some(error => /\b4009\b.*within timeout|within timeout.*\b4009\b/.test(error.text)), JSON.stringify(silent.errors));
  await pause(1);
  await api(server, 'user').trigger('chat', 'hello', '1');
  await signed.untilEvent('hello');
  assert.deepEqual(signed.errors, []);
});

test('signed in again after soketi was killed', { seconds: 75 }, async t => {
  const server = await t.soketi();
  const backend = await t.backend({ app: 'user' });
  const client = t.listen(server.port, ['presence-room'], { app: 'user', args: signingIn(backend, 'ann') });
  await Promise.all([client.untilEvent('pusher:signin_success'), client.untilSubscribed(['presence-room'])]);
  await server.kill();
  await client.until('the loss', () => client.states.some(s => s.from === 'connected'));
  await server.restart();
  await client.until('signed in again', () => client.count('pusher:signin_success') === 2, 40);
  await client.untilSubscribed(['presence-room'], { times: 2 });
  await api(server, 'user').sendToUser('ann', 'letter', 'hello');
  await client.untilEvent('letter');
});
