// Public and cache channels: subscribing, events and their data.
import { dialects, script } from '../differential.mjs';

script('one channel, one event', { dialects }, async s => {
  await s.connect();
  await s.listen('news');
  await s.publish('news', 'greeting', '{"n":1}');
  await s.settle();
});

script('subscribed before connecting', { dialects }, async s => {
  await s.listen('a', false);
  await s.listen('b', false);
  await s.connect();
  await s.live('a');
  await s.live('b');
  await s.publish('b', 'e', '"b"');
  await s.publish('a', 'e', '"a"');
  await s.settle();
});

script('many channels, in the order of subscription', { dialects }, async s => {
  const names = Array.from({ length: 12 }, (_, i) => `ch-${i * 7 % 12}`);
  for (const name of names) await s.listen(name, false);
  await s.connect();
  for (const name of names) await s.live(name);
  for (const name of [...names].reverse()) await s.publish(name, 'e', name);
  await s.settle();
});

script('payloads that are texts', { dialects }, async s => {
  await s.connect();
  await s.listen('data');
  const texts = ['', 'plain text', ' ', '{"a":{"b":[1,2.5,-3e2,true,false,null]}}', '{}', '[]', '[[[[1]]]]', '0', '-1', '1e3', '1.0', 'true', 'null', '"text"', '""', '"{\\"twice\\":1}"',
    '007', '1.', '.5', '+1', 'NaN', 'nul', "'x'", '{"open":', '{a:1}', '[1,]', '"open', '{"a":1}}', '1 2', ' {"spaces": "around"} ', '{\n\t"pretty":\r\n1}',
    'snow ☃, clef 𝄞, \u2028 \u2029, e\u0301', '{"ключ":"☃"}', 'she said "no" \\ and \\n', 'line\nline\ttab \u0001 \u001f \u007f end', '"\\u0041\\ud83d\\ude00\\u2028"',
    '"\\u0000"', '{"a":1,"a":2}', '\ufeff1', 'x'.repeat(9000), JSON.stringify(Array.from({ length: 300 }, (_, i) => ({ i })))];
  for (const text of texts) await s.publish('data', 'e', text);
  await s.settle();
});

script('payloads that are other JSON, or missing', async s => {
  await s.connect();
  await s.listen('data');
  await s.bind('data', 'e', 'e');
  for (const data of [{ a: [1, { b: null }] }, {}, [], [1, [2]], 1, 0, -0.5, true, false, null, '', 'text', '{"a":1}', undefined])
    await s.raw('data', { event: 'e', channel: 'data', data });
  await s.settle();
});

script('spellings of a message', async s => {
  await s.connect();
  await s.listen('data');
  for (const text of ['  {"event" : "e" , "channel":"data","data":"1"}  ', '{"data":{"z":1},"channel":"data","event":"last"}', '{"event":"\\u0065\\/x","channel":"d\\u0061ta","data":"\\u007b\\u007d"}',
    '{"more":[1,{"event":"no"}],"event":"e","extra":null,"channel":"data","data":"x","data2":"y"}', '{"event":"e","channel":"data","data":"\\ud83d\\ude00 \\u0000 \\b\\f\\n\\r\\t\\"\\\\\\/"}',
    '{"event":"e","channel":"data","data":"snow ☃"}', '{"event":"e","channel":"data","data":{"deep":[[[[[[[[[[{"a":{"b":{"c":[]}}}]]]]]]]]]]}}'])
    await s.raw('data', text);
  await s.settle();
});

script('a member named twice: the last one counts', async s => {
  await s.connect();
  await s.listen('data');
  await s.listen('other');
  await s.raw('data', '{"event":"first","event":"second","channel":"data","data":"1","data":"2"}');
  await s.raw('data', '{"event":"e","channel":"other","channel":"data","data":"1"}');
  await s.settle();
});

script('event names as they come', { dialects }, async s => {
  await s.connect();
  await s.listen('names');
  for (const name of ['App\\Events\\Shipped', 'with space', '.client.dot', 'ünïcode ☃', 'quote"back\\slash/', 'tab\tnew\nline', '1', 'null', '__proto__', 'constructor', 'pusher', 'client-x', 'n'.repeat(200)]) {
    await s.bind('names', name, `h-${encodeURIComponent(name).slice(0, 20)}`);
    await s.publish('names', name, '1');
  }
  await s.settle();
});

script('protocol names from the server', async s => {
  await s.connect();
  await s.listen('ch');
  for (const event of ['pusher:unknown', 'pusher_internal:unknown', 'pusher_internal:', 'pusher:', 'Pusher:x', 'pusherx', 'pusher_internalx'])
    await s.raw('ch', { event, channel: 'ch', data: '{}' });
  await s.settle();
});

script('names of what happens to a subscription, from the server', async s => {
  await s.connect();
  await s.listen('ch');
  for (const event of ['pusher:subscription_succeeded', 'pusher:subscription_count', 'pusher:member_added', 'pusher_internal:member_added', ''])
    await s.raw('ch', { event, channel: 'ch', data: '{"a":1}' });
  await s.settle();
});

script('refused when it was live', { differs: ['refused-when-live'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.raw('ch', { event: 'pusher:subscription_error', channel: 'ch', data: '{"type":"AuthError"}' });
  await s.publish('ch', 'e', '1');
  await s.settle();
  await s.subscribe('ch');
  await s.listen('fence');
  await s.settle();
});

script('refused by an internal event', { differs: ['channel-errors', 'internal-refusals'] }, async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribers('ch', 1);
  await s.raw('ch', { event: 'pusher_internal:subscription_error', channel: 'ch', data: '{}' });
  await s.settle();
});

script('what happens to subscriptions, for all', { differs: ['internals-to-all', 'channel-errors'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.bindAll('@all', 'all');
  await s.raw('ch', { event: 'pusher_internal:subscription_count', channel: 'ch', data: '{"subscription_count":3}' });
  for (const event of ['pusher:cache_miss', 'pusher:x', 'pusher:subscription_error']) await s.raw('ch', { event, channel: 'ch', data: '{}' });
  await s.settle();
});

script('channels that are not subscribed, and none at all', { differs: ['internals-to-all'] }, async s => {
  await s.connect();
  await s.bindAll('@all', 'all');
  await s.listen('ch');
  await s.raw('-', { event: 'e', channel: 'other', data: '1' });
  await s.raw('-', { event: 'e', data: '2' });
  await s.raw('-', { event: 'e', channel: '', data: '3' });
  await s.raw('-', { event: 'pusher_internal:x', data: '4' });
  await s.raw('-', { event: 'e', channel: null, data: '5' });
  await s.raw('-', { event: 'e', channel: 'ch', data: '6' });
  await s.settle();
});

script('all of them: the client-wide handlers', { dialects, differs: ['internals-to-all'] }, async s => {
  await s.bindAll('@all', 'all');
  await s.bind('@all', 'e', 'all-e');
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  await s.publish('a', 'e', '1');
  await s.publish('b', 'f', '2');
  await s.settle();
  await s.unbind('all-e');
  await s.publish('a', 'e', '3');
  await s.settle();
});

script('the order of handlers', async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'first');
  await s.bind('@all', 'e', 'everywhere-e');
  await s.bindAll('ch', 'all-of-ch');
  await s.bind('ch', 'e', 'second');
  await s.bind('ch', 'other', 'other');
  for (const name of ['e', 'other', 'unbound', 'e']) await s.publish('ch', name, '{}');
  await s.settle();
});

script('unbinding', async s => {
  await s.connect();
  await s.listen('ch');
  for (const label of ['a', 'b', 'c']) await s.bind('ch', 'e', label);
  await s.bind('ch', 'f', 'f');
  await s.unbind('b');
  await s.publish('ch', 'e', '1');
  await s.settle();
  await s.unbind('b');
  await s.unbindEvent('ch', 'e');
  await s.publish('ch', 'e', '2');
  await s.publish('ch', 'f', '3');
  await s.settle();
  await s.unbindEvent('ch', 'nothing');
  await s.unbindEverything('ch');
  await s.publish('ch', 'e', '4');
  await s.publish('ch', 'f', '5');
  await s.settle();
  await s.bind('ch', 'e', 'again');
  await s.publish('ch', 'e', '6');
  await s.settle();
});

script('a handler unbinds itself', async s => {
  await s.connect();
  await s.listen('ch');
  for (const label of ['a', 'b', 'c']) await s.bind('ch', 'e', label);
  await s.on('b', 'unbind', 'b');
  await s.publish('ch', 'e', '1');
  await s.publish('ch', 'e', '2');
  await s.settle();
});

script('a handler unbinds a later one', { differs: ['unbound-at-once'] }, async s => {
  await s.connect();
  await s.listen('ch');
  for (const label of ['a', 'b', 'c']) await s.bind('ch', 'e', label);
  await s.on('a', 'unbind', 'c');
  await s.publish('ch', 'e', '1');
  await s.publish('ch', 'e', '2');
  await s.settle();
});

script('a handler binds another', { differs: ['bound-from-next'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'a');
  await s.on('a', 'bind', 'ch', 'e', 'late');
  await s.publish('ch', 'e', '1');
  await s.publish('ch', 'e', '2');
  await s.settle();
});

script('unsubscribing ends the events', { dialects }, async s => {
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  await s.unsubscribe('a');
  await s.subscribers('a', 0);
  await s.publish('a', 'e', '1');
  await s.raw('-', { event: 'e', channel: 'a', data: '2' });
  await s.publish('b', 'e', '3');
  await s.settle();
  await s.unsubscribe('a');
  await s.unsubscribe('never-there');
});

script('subscribing again after unsubscribing: bindings are gone', { dialects }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'old');
  await s.unsubscribe('ch');
  await s.subscribers('ch', 0);
  await s.subscribe('ch');
  await s.subscribers('ch', 1);
  await s.bind('ch', 'e', 'new');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('a handler unsubscribes', async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'e');
  await s.on('e', 'unsubscribe', 'ch');
  await s.publish('ch', 'e', '1');
  await s.subscribers('ch', 0);
  await s.raw('-', { event: 'e', channel: 'ch', data: '2' });
  await s.settle();
});

script('a handler subscribes', async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'e');
  await s.on('e', 'listen', 'more');
  await s.publish('ch', 'e', '1');
  await s.live('more');
  await s.publish('more', 'f', '2');
  await s.settle();
});

script('subscribing twice, unsubscribing once', { differs: ['references'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.subscribe('ch');
  await s.unsubscribe('ch');
  await s.listen('fence');
  await s.raw('-', { event: 'e', channel: 'ch', data: '1' });
  await s.settle();
});

script('subscribing twice while it is pending', async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribe('ch');
  await s.subscribers('ch', 1);
  await s.raw('ch', { event: 'pusher_internal:subscription_succeeded', channel: 'ch', data: '{}' });
  await s.live('ch');
});

script('an acknowledgement twice', { differs: ['second-acknowledgement'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.raw('ch', { event: 'pusher_internal:subscription_succeeded', channel: 'ch', data: '{}' });
  await s.settle();
});

script('an event before the acknowledgement', async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribers('ch', 1);
  await s.publish('ch', 'early', '1');
  await s.raw('ch', { event: 'pusher_internal:subscription_succeeded', channel: 'ch' });
  await s.publish('ch', 'late', '2');
  await s.settle();
});

script('shapes of an acknowledgement', async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  for (const [i, data] of ['{}', {}, undefined, null, '', 'text', '[]', { more: 1 }].entries()) {
    await s.listen(`ch-${i}`, false);
    await s.subscribers(`ch-${i}`, 1);
    await s.raw(`ch-${i}`, { event: 'pusher_internal:subscription_succeeded', channel: `ch-${i}`, data });
  }
  await s.settle();
});

script('cancelled while pending', async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribers('ch', 1);
  await s.unsubscribe('ch');
  await s.raw('-', { event: 'pusher_internal:subscription_succeeded', channel: 'ch', data: '{}' });
  await s.subscribers('ch', 0);
  await s.raw('-', { event: 'e', channel: 'ch', data: '1' });
  await s.settle();
});

script('cancelled while pending, and taken back', { differs: ['cancelled-bindings'] }, async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribers('ch', 1);
  await s.unsubscribe('ch');
  await s.subscribe('ch');
  await s.listen('fence', false);
  await s.subscribers('fence', 1);
  await s.subscribers('ch', 1);
  await s.raw('ch', { event: 'pusher_internal:subscription_succeeded', channel: 'ch', data: '{}' });
  await s.raw('ch', { event: 'e', channel: 'ch', data: '1' });
  await s.settle();
});

script('cancelled before connecting', async s => {
  await s.listen('a', false);
  await s.listen('b', false);
  await s.unsubscribe('a');
  await s.connect();
  await s.live('b');
  await s.settle();
});

script('cancelled while pending, then a new connection', { differs: ['cancelled-comes-back'] }, async s => {
  await s.faults(1, { never_acknowledge: true });
  await s.connect();
  await s.listen('ch', false);
  await s.subscribers('ch', 1);
  await s.unsubscribe('ch');
  await s.listen('other', false);
  await s.subscribers('other', 1);
  await s.close(4200);
  await s.state('connected');
  await s.live('other');
  await s.settle();
});

script('numbers of subscribers', { server: ['--counts'], dialects: ['pusher', 'sockudo'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.event('pusher:subscription_count', 'ch');
  for (const data of ['{"subscription_count":7}', { subscription_count: 8 }, '{"subscription_count":0}'])
    await s.raw('ch', { event: 'pusher_internal:subscription_count', channel: 'ch', data });
  await s.settle();
});

script('numbers of subscribers that are none', async s => {
  await s.connect();
  await s.listen('ch');
  for (const data of ['{}', {}, '{"subscription_count":"7"}', '{"subscription_count":null}', '{"subscription_count":-1}', '{"subscription_count":1.5}'])
    await s.raw('ch', { event: 'pusher_internal:subscription_count', channel: 'ch', data });
  await s.settle();
});

script('cache channel: a miss', { dialects }, async s => {
  await s.connect();
  await s.listen('cache-weather');
  await s.event('pusher:cache_miss', 'cache-weather');
  await s.publish('cache-weather', 'reading', '{"celsius":20}');
  await s.settle();
});

script('cache channel: what was last', { dialects }, async s => {
  await s.publish('cache-weather', 'reading', '{"celsius":20}');
  await s.publish('cache-weather', 'reading', '{"celsius":21}');
  await s.connect();
  await s.listen('cache-weather');
  await s.event('reading', 'cache-weather');
  await s.unsubscribe('cache-weather');
  await s.subscribers('cache-weather', 0);
  await s.ask('forget', 'cache-weather');
  await s.listen('cache-weather');
  await s.event('pusher:cache_miss', 'cache-weather');
  await s.settle();
});

script('shapes of a cache miss', async s => {
  await s.connect();
  await s.listen('cache-a');
  await s.event('pusher:cache_miss', 'cache-a');
  for (const data of ['null', null, '{}', {}, ''])
    await s.raw('cache-a', { event: 'pusher:cache_miss', channel: 'cache-a', data });
  await s.settle();
});

script('odd channel names that are allowed', { dialects }, async s => {
  await s.connect();
  for (const name of ['A-z_0=9@,.;', 'x'.repeat(160), '0', 'privately', 'presencex', 'cachet'])
    await s.listen(name);
  await s.publish('0', 'e', '1');
  await s.settle();
});

script('channel names that are not', { differs: ['names-are-checked'] }, async s => {
  await s.connect();
  for (const name of ['#server-to-user-1', 'with space', 'ünï', 'a/b'])
    await s.subscribe(name);
  await s.listen('fence');
  await s.settle();
});
