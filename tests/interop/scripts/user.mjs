// Signing in, events for the user, and the watchlist.
import { dialects, script } from '../differential.mjs';

const as = (id, more = {}) => ({ auth: 'on', 'param:user_data': JSON.stringify({ id, ...more }) });
const ann = as('ann', { user_info: { name: 'Ann ☃' }, watchlist: ['bob', 'cyd'] });
const able = ['pusher', 'soketi', 'sockudo'];      // Reverb knows no sign-in

// Signed in, and the user's own channel is there.
async function signIn(s) {
  await s.signin();
  await s.subscribers('#server-to-user-ann', 1);
}

script('signing in', { dialects: able, options: as('ann'), differs: ['signin-to-user'] }, async s => {
  await s.bindAll('@user', 'user');
  await s.bindAll('@all', 'all');
  await s.connect();
  await signIn(s);
  await s.settle();
});

script('signing in before connecting', { dialects: able, options: as('ann'), differs: ['signin-to-user'] }, async s => {
  await s.bindAll('@user', 'user');
  await s.signin();
  await s.connect();
  await s.subscribers('#server-to-user-ann', 1);
  await s.publish('#server-to-user-ann', 'hello', '{"n":1}');
  await s.settle();
});

script('signing in twice', { options: as('ann') }, async s => {
  await s.connect();
  await signIn(s);
  await s.signin();
  await s.listen('fence');
  await s.settle();
});

script('events for the user', { dialects: able, options: as('ann'), differs: ['signin-to-user', 'user-before-all'] }, async s => {
  await s.bindAll('@user', 'user');
  await s.bind('@user', 'hello', 'hello');
  await s.bindAll('@all', 'all');
  await s.connect();
  await signIn(s);
  for (const text of ['{"n":1}', 'plain', '5']) await s.publish('#server-to-user-ann', 'hello', text);
  await s.publish('#server-to-user-ann', 'other', '{}');
  await s.raw('-', { event: 'hello', channel: '#server-to-user-bob', data: '"not for us"' });
  await s.raw('-', { event: 'pusher:x', channel: '#server-to-user-ann', data: '1' });
  await s.raw('-', { event: 'pusher_internal:x', channel: '#server-to-user-ann', data: '1' });
  await s.settle();
});

script('events for the user with empty data', { options: as('ann'), differs: ['falsy-data'] }, async s => {
  await s.connect();
  await signIn(s);
  await s.bind('@user', 'hello', 'hello');
  for (const text of ['', '0', 'false', 'null', '{}']) await s.publish('#server-to-user-ann', 'hello', text);
  await s.settle();
});

script('signed in again after a reconnect', { dialects: able, options: as('ann'), differs: ['signin-to-user'] }, async s => {
  await s.bindAll('@user', 'user');
  await s.connect();
  await signIn(s);
  await s.close(4200);
  await s.state('connected');
  await s.subscribers('#server-to-user-ann', 1);
  await s.publish('#server-to-user-ann', 'hello', '{"n":1}');
  await s.settle();
});

script('channels and a user', { options: ann, differs: ['signin-to-user'] }, async s => {
  await s.listen('a', false);
  await s.signin();
  await s.bindAll('@user', 'user');
  await s.connect();
  await s.live('a');
  await s.subscribers('#server-to-user-ann', 1);
  await s.publish('a', 'e', '1');
  await s.publish('#server-to-user-ann', 'e', '2');
  await s.settle();
});

script('signed in by the server, unasked', { differs: ['signed-in-unasked'] }, async s => {
  await s.connect();
  await s.bindAll('@all', 'all');
  await s.bindAll('@user', 'user');
  const more = s.more();
  await s.raw('-', { event: 'pusher:signin_success', data: '{"user_data":"{\\"id\\":\\"ann\\"}"}' });
  await s.raw('-', { event: 'e', data: '1' });
  await more();
  await s.settle();
});

script('signed in twice by the server', { options: as('ann'), differs: ['signed-in-twice'] }, async s => {
  await s.connect();
  await signIn(s);
  await s.raw('-', { event: 'pusher:signin_success', data: '{"user_data":"{\\"id\\":\\"ann\\"}"}' });
  await s.listen('fence');
  await s.bindAll('@user', 'user');
  await s.publish('#server-to-user-ann', 'e', '1');
  await s.settle();
});

for (const status of [401, 403])
  script(`no sign-in for you: ${status}`, { options: as('ann'), differs: ['channel-errors', 'refusal-words'] }, async s => {
    await s.faults(0, { auth_status: status });
    await s.bindAll('@user', 'user');
    await s.connect();
    await s.signin();
    await s.event('pusher:signin_error', 'user');
    await s.listen('fence');
    await s.settle();
  });

script('no sign-in for you, asked again', { options: as('ann'), differs: ['channel-errors', 'refusal-words', 'signin-again'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.bindAll('@user', 'user');
  await s.connect();
  await s.signin();
  await s.event('pusher:signin_error', 'user');
  await s.faultsNow({});
  await s.signin();
  await s.listen('fence');
  await s.settle();
});

const unsigned = { auth: `app-key:${'0'.repeat(64)}` };
for (const [name, body] of [['no JSON', 'Forbidden'], ['null', 'null'], ['nothing', '{}'], ['no user_data', JSON.stringify(unsigned)], ['user_data that is no text', JSON.stringify({ ...unsigned, user_data: { id: 'ann' } })]])
  script(`a sign-in answered with ${name}`, { options: as('ann'), differs: ['unusable-signins'] }, async s => {
    await s.faults(0, { auth_body: body });
    await s.bindAll('@user', 'user');
    await s.connect();
    const more = s.more();
    await s.signin();
    await more();
  });

script('no sign-in for you, then a new connection', { options: as('ann'), differs: ['channel-errors', 'refusal-words', 'signin-to-user'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.bindAll('@user', 'user');
  await s.connect();
  await s.signin();
  await s.event('pusher:signin_error', 'user');
  await s.faultsNow({});
  await s.close(4200);
  await s.state('connected');
  await s.subscribers('#server-to-user-ann', 1);
  await s.settle();
});

script('the server refuses the sign-in', { dialects: able, options: as('ann'), differs: ['failed', 'signin-refused'] }, async s => {
  await s.faults(0, { auth_body: '{"auth":"app-key:0000000000000000000000000000000000000000000000000000000000000000","user_data":"{\\"id\\":\\"ann\\"}"}' });
  await s.bindAll('@user', 'user');
  await s.connect();
  await s.signin();
  await s.error('server');
  await s.connections(0);
});

script('a server that knows no sign-in', { dialects: ['reverb'], options: as('ann') }, async s => {
  await s.bindAll('@user', 'user');
  await s.connect();
  await s.signin();
  await s.error('server');
  await s.listen('fence');
  await s.settle();
});

// Reverb does not answer a sign-in, so the answer can be made here.
for (const [name, data] of [['no id', { user_data: '{}' }], ['an id that is a number', { user_data: '{"id":5}' }], ['an empty id', { user_data: '{"id":""}' }], ['no JSON', { user_data: 'text' }], ['nothing', {}]])
  script(`signin_success with ${name}`, { dialects: ['reverb'], options: as('ann'), differs: [name === 'an id that is a number' ? 'numeric-user' : 'signin-unusable'] }, async s => {
    await s.bindAll('@user', 'user');
    await s.connect();
    await s.signin();
    await s.error('server');
    await s.raw('-', { event: 'pusher:signin_success', data });
    await s.settle();
    await s.listen('fence');
  });

script('what watched users do', { dialects: ['pusher'], options: ann }, async s => {
  await s.bindAll('@watchlist', 'watch');
  await s.bind('@watchlist', 'online', 'online');
  await s.connect();
  await signIn(s);
  await s.event('offline', 'watch');
  await s.raw('-', { event: 'pusher_internal:watchlist_events', channel: '#server-to-user-ann', data: '{"events":[{"name":"online","user_ids":["bob"]},{"name":"offline","user_ids":["bob","cyd"]},{"name":"online","user_ids":[]}]}' });
  await s.raw('-', { event: 'pusher_internal:watchlist_events', channel: '#server-to-user-ann', data: { events: [{ name: 'online', user_ids: ['bob', 'ü'] }] } });
  await s.raw('-', { event: 'pusher_internal:watchlist_events', channel: '#server-to-user-ann', data: { events: [] } });
  await s.settle();
});

script('watchlist events of other names, without a channel, before the sign-in', async s => {
  await s.bindAll('@watchlist', 'watch');
  await s.bind('@watchlist', 'online', 'online');
  await s.connect();
  await s.raw('-', { event: 'pusher_internal:watchlist_events', data: '{"events":[{"name":"online","user_ids":["bob"],"more":{"a":1}},{"name":"away","user_ids":["bob"]},{"name":"busy"},{"user_ids":["x"],"name":"online"}]}' });
  await s.settle();
});

script('what watched users do, by Sockudo', { dialects: ['sockudo'], options: ann, differs: ['watchlist-of-sockudo'] }, async s => {
  await s.bindAll('@watchlist', 'watch');
  await s.connect();
  await signIn(s);
  await s.raw('-', { event: 'online', data: '{"user_ids":["bob"]}' });
  await s.settle();
});

script('a member by being signed in', { options: as('ann', { user_info: { name: 'Ann' } }) }, async s => {
  await s.faults(0, { auth_no_data: true });
  await s.connect();
  await signIn(s);
  await s.listen('presence-room');
  await s.members('presence-room');
});

script('a member by being signed in, while that is under way', { options: as('ann', { user_info: { name: 'Ann' } }) }, async s => {
  await s.faults(0, { auth_no_data: true, auth_delay_ms: 100 });
  await s.signin();
  await s.listen('presence-room', false);
  await s.connect();
  await s.live('presence-room');
  await s.members('presence-room');
});

script('a member by being signed in, after a reconnect', { options: as('ann', { user_info: { name: 'Ann' } }) }, async s => {
  await s.faults(0, { auth_no_data: true });
  await s.signin();
  await s.listen('presence-room', false);
  await s.connect();
  await s.live('presence-room');
  await s.close(4200);
  await s.state('connected');
  await s.live('presence-room');
  await s.members('presence-room');
});
