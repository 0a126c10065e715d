// Presence channels: who is there, in all the shapes that servers have for it.
import { dialects, script } from '../differential.mjs';

const room = 'presence-room';
const as = (user, more = {}) => ({ auth: 'on', 'param:channel_data': JSON.stringify({ user_id: user, ...more }) });
const ann = as('ann', { user_info: { name: 'Ann ☃' } });

// The acknowledgement is the script's own.
async function subscribeQuietly(s) {
  await s.connect();
  await s.faultsNow({ never_acknowledge: true });
  await s.listen(room, false);
  await s.subscribers(room, 1);
}
const acknowledge = (s, data) => s.raw(room, { event: 'pusher_internal:subscription_succeeded', channel: room, data });
const added = (s, data) => s.raw(room, { event: 'pusher_internal:member_added', channel: room, data });
const removed = (s, data) => s.raw(room, { event: 'pusher_internal:member_removed', channel: room, data });
const snapshot = (presence, text = true) => text ? JSON.stringify({ presence }) : { presence };

script('alone in a room', { dialects, options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  await s.members(room);
  await s.publish(room, 'e', '1');
  await s.settle();
  await s.unsubscribe(room);
  await s.subscribers(room, 0);
});

script('somebody comes and goes', { dialects, options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, '{"user_id":"bob","user_info":{"name":"Bob"}}');
  await s.settle();
  await s.members(room);
  await removed(s, '{"user_id":"bob"}');
  await s.settle();
  await s.members(room);
});

script('the same user comes twice and goes twice', { options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, '{"user_id":"bob","user_info":{"n":1}}');
  await added(s, '{"user_id":"bob","user_info":{"n":2}}');
  await s.settle();
  await s.members(room);
  await removed(s, '{"user_id":"bob"}');
  await removed(s, '{"user_id":"bob"}');
  await removed(s, '{"user_id":"never"}');
  await s.settle();
  await s.members(room);
});

script('members as objects', { options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, { user_id: 'bob', user_info: { name: 'Bob' } });
  await added(s, { user_info: [1], more: true, user_id: 'cyd' });
  await removed(s, { user_id: 'bob', user_info: { name: 'Bob' } });
  await s.settle();
  await s.members(room);
});

script('members without info', { options: as('ann'), dialects: ['pusher', 'sockudo'] }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, '{"user_id":"bob"}');
  await added(s, '{"user_id":"cyd","user_info":null}');
  await s.settle();
  await s.members(room);
});

script('info of every kind', { options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  for (const [i, info] of [{}, [], 'text', '', 0, 5.5, true, false, { deep: { er: [null, { ü: '☃' }] } }].entries())
    await added(s, JSON.stringify({ user_id: `u${i}`, user_info: info }));
  await s.settle();
  await s.members(room);
});

script('ids that are numbers', { options: as(7, { user_info: {} }), differs: ['ids-are-text'] }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, '{"user_id":8,"user_info":{}}');
  await added(s, '{"user_id":"8","user_info":{"again":1}}');
  await added(s, '{"user_id":-1.5,"user_info":{}}');
  await s.settle();
  await s.members(room);
  await removed(s, '{"user_id":8}');
  await s.settle();
  await s.members(room);
});

script('ids that are odd texts', { options: as('ü ☃ "q"\\/', { user_info: {} }) }, async s => {
  await s.connect();
  await s.listen(room);
  for (const id of ['0', ' ', 'constructor', 'a.b', '👍', 'x'.repeat(128), '\u2028'])
    await added(s, JSON.stringify({ user_id: id, user_info: { id } }));
  await s.settle();
  await s.members(room);
});

for (const [name, data, differs = []] of [
  ['count, then ids, then hash', snapshot({ count: 2, ids: ['ann', 'bob'], hash: { ann: { n: 1 }, bob: { n: 2 } } })],
  ['as an object', snapshot({ ids: ['ann', 'bob'], hash: { ann: {}, bob: {} }, count: 2 }, false)],
  ['without ids', snapshot({ hash: { ann: {}, bob: {} }, count: 2 })],
  ['with more members than ids', snapshot({ ids: ['ann'], hash: { ann: {}, bob: {} }, count: 2 })],
  ['with null for info', snapshot({ ids: ['ann', 'bob'], hash: { ann: null, bob: null }, count: 2 })],
  ['with ids twice', snapshot({ ids: ['ann', 'ann', 'bob'], hash: { ann: {}, bob: {} }, count: 2 })],
  ['without this client', snapshot({ ids: ['bob'], hash: { bob: {} }, count: 1 })],
  ['nobody in it', snapshot({ ids: [], hash: {}, count: 0 })],
  ['with more in it', JSON.stringify({ presence: { ids: ['ann'], hash: { ann: {} }, count: 1, more: [] }, extra: null })],
  ['and the hash is an empty list', snapshot({ ids: [], hash: [], count: 0 })],
  ['and the count is of connections', snapshot({ ids: ['ann', 'ann'], hash: { ann: {} }, count: 2 }), ['members-are-counted']],
  ['without count', snapshot({ ids: ['ann'], hash: { ann: {} } }), ['members-are-counted']],
  ['without info for somebody', snapshot({ ids: ['ann', 'bob'], hash: { ann: {} }, count: 2 }), ['ids-are-members']],
  ['and the hash is a list', snapshot({ ids: ['ann', 'bob'], hash: [{ n: 1 }, { n: 2 }], count: 2 }), ['hash-as-list']],
])
  script(`a snapshot ${name}`, { options: ann, differs }, async s => {
    await subscribeQuietly(s);
    await acknowledge(s, data);
    await s.live(room);
    await s.members(room);
  });

for (const [name, data] of [['nothing', undefined], ['null', null], ['an empty object', '{}'], ['a text', 'text'], ['presence that is null', '{"presence":null}'], ['no hash', '{"presence":{"count":1}}']])
  script(`a presence acknowledgement with ${name}`, { options: ann, differs: ['snapshots-missing'] }, async s => {
    await subscribeQuietly(s);
    const more = s.more();
    await acknowledge(s, data);
    await more();
  });

for (const [name, send] of [
  ['no id', s => added(s, '{"user_info":{}}')], ['an id that is null', s => added(s, '{"user_id":null}')], ['an id that is a list', s => added(s, '{"user_id":[1]}')],
  ['no data', s => added(s, undefined)], ['a text', s => added(s, 'text')]])
  script(`a member with ${name}`, { options: ann, differs: ['members-without-id'] }, async s => {
    await s.connect();
    await s.listen(room);
    const more = s.more();
    await send(s);
    await more();
  });

script('a member before the list', { options: ann, differs: ['members-before-the-list'] }, async s => {
  await subscribeQuietly(s);
  await added(s, '{"user_id":"bob","user_info":{}}');
  await acknowledge(s, snapshot({ ids: ['ann', 'bob'], hash: { ann: {}, bob: {} }, count: 2 }));
  await s.live(room);
  await s.members(room);
});

script('a second list', { options: ann, differs: ['second-acknowledgement'] }, async s => {
  await s.connect();
  await s.listen(room);
  await acknowledge(s, snapshot({ ids: ['ann', 'bob'], hash: { ann: {}, bob: {} }, count: 2 }));
  await s.settle();
});

script('this client among those who come and go', { options: ann, differs: ['me-is-a-member'] }, async s => {
  await subscribeQuietly(s);
  await acknowledge(s, snapshot({ ids: ['bob'], hash: { bob: {} }, count: 1 }));
  await s.live(room);
  for (const n of [1, 2]) {
    await added(s, `{"user_id":"ann","user_info":{"n":${n}}}`);
    await s.settle();
    await s.members(room);
  }
  await removed(s, '{"user_id":"ann"}');
  await s.settle();
  await s.members(room);
});

script('the list is new after a reconnect', { options: ann, differs: ['member-difference'] }, async s => {
  await s.connect();
  await s.listen(room);
  await added(s, '{"user_id":"bob","user_info":{}}');
  await s.settle();
  await s.close(4200);
  await s.state('connected');
  await s.live(room);
  await s.settle();
});

script('the list of a lost connection', { options: ann, differs: ['members-while-away'] }, async s => {
  await s.connect();
  await s.listen(room);
  await s.disconnect();
  await s.state('disconnected');
  await s.members(room);
});

script('client events in a room', { dialects: ['pusher', 'soketi', 'sockudo'], options: ann }, async s => {
  await s.connect();
  await s.listen(room);
  await s.bind(room, 'client-e', 'e');
  await s.trigger(room, 'client-mine', '{"n":1}');
  await s.sent('text', 1, 'client-mine');
  for (const [data, user_id] of [['{"n":1}', 'bob'], [{ n: 2 }, undefined], ['text', 'ü ☃']])
    await s.raw(room, { event: 'client-e', channel: room, data, user_id });
  await s.settle();
});

script('user ids of client events that are no texts', { options: ann, differs: ['ids-are-text', 'user-id-falsy'] }, async s => {
  await s.connect();
  await s.listen(room);
  await s.bind(room, 'client-e', 'e');
  for (const user_id of [5, 0, '', null])
    await s.raw(room, { event: 'client-e', channel: room, data: '1', user_id });
  await s.settle();
});

script('no subscriber counts in a room', { options: ann, server: ['--counts'] }, async s => {
  await s.connect();
  await s.listen(room);
  await s.raw(room, { event: 'pusher_internal:subscription_count', channel: room, data: '{"subscription_count":3}' });
  await s.settle();
});

script('a presence cache channel', { dialects: ['pusher', 'soketi', 'sockudo'], options: ann }, async s => {
  await s.connect();
  await s.listen('presence-cache-room');
  await s.event('pusher:cache_miss', 'presence-cache-room');
  await s.publish('presence-cache-room', 'e', '1');
  await s.settle();
  await s.members('presence-cache-room');
});

script('a room refused', { options: ann, differs: ['channel-errors', 'refusal-words'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.connect();
  await s.listen(room, false);
  await s.event('pusher:subscription_error', room);
  await s.members(room);
});

for (const [name, data] of [['no JSON', 'text'], ['no user_id', '{"user_info":{}}']])
  script(`channel_data with ${name}`, { options: { auth: 'on', 'param:channel_data': data }, differs: ['channel-errors', 'channel-data-checked'] }, async s => {
    await s.connect();
    await s.listen(room, false);
    await s.sent('form', 1);
    await s.listen('fence');
    await s.settle();
  });

script('a member of a room who is nobody yet', { options: { auth: 'on' }, differs: ['channel-errors', 'refusal-words'] }, async s => {
  await s.faults(0, { auth_no_data: true });
  await s.connect();
  await s.listen(room, false);
  await s.sent('form', 1);
  await s.listen('fence');
  await s.settle();
});
