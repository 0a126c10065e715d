// Private and encrypted channels, client events: all that needs authorization, but no members.
import { dialects, script } from '../differential.mjs';

const auth = { auth: 'on' };

script('a private channel', { dialects, options: auth }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.publish('private-a', 'e', '{"n":1}');
  await s.settle();
  await s.unsubscribe('private-a');
  await s.subscribers('private-a', 0);
});

script('a private channel, subscribed before connecting', { dialects, options: auth }, async s => {
  await s.listen('private-a', false);
  await s.connect();
  await s.live('private-a');
  await s.publish('private-a', 'e', '{"n":1}');
  await s.settle();
});

script('authorization headers and fields', { options: { ...auth, 'header:X-Token': 'secret words', 'param:tenant': 'a b&c=d/ü', 'param:more': '' } }, async s => {
  await s.connect();
  await s.listen('private-a;b,c@d=e');
  await s.sent('http', 1, 'X-Token: secret words');
});

script('a private channel after a reconnect', { dialects, options: auth }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.bind('private-a', 'e', 'e');
  await s.close(4200);
  await s.state('connected');
  await s.live('private-a');
  await s.publish('private-a', 'e', '1');
  await s.settle();
});

script('a private cache channel', { dialects, options: auth }, async s => {
  await s.connect();
  await s.listen('private-cache-a');
  await s.event('pusher:cache_miss', 'private-cache-a');
  await s.publish('private-cache-a', 'e', '1');
  await s.settle();
  await s.unsubscribe('private-cache-a');
  await s.subscribers('private-cache-a', 0);
  await s.listen('private-cache-a');
  await s.event('e', 'private-cache-a');
});

for (const status of [201, 400, 401, 403, 404])
  script(`authorization refused: ${status}`, { options: auth, differs: ['channel-errors', 'refusal-words'] }, async s => {
    await s.faults(0, { auth_status: status });
    await s.connect();
    await s.listen('private-a', false);
    await s.event('pusher:subscription_error', 'private-a');
    await s.listen('fence');
    await s.publish('private-a', 'e', '1');
    await s.settle();
  });

for (const status of [429, 500, 503])
  script(`authorization refused for the moment: ${status}`, { options: auth, differs: ['channel-errors', 'refusal-words', 'asked-again'] }, async s => {
    await s.faults(0, { auth_status: status });
    await s.connect();
    await s.listen('private-a', false);
    await s.event('pusher:subscription_error', 'private-a');
    await s.listen('fence');
    await s.settle();
  });

script('authorization refused, given up and subscribed anew', { options: auth, differs: ['channel-errors', 'refusal-words'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.connect();
  await s.listen('private-a', false);
  await s.event('pusher:subscription_error', 'private-a');
  await s.unsubscribe('private-a');
  await s.faultsNow({});
  await s.listen('private-a');
  await s.publish('private-a', 'e', '1');
  await s.settle();
});

script('authorization refused, then a new connection', { options: auth, differs: ['channel-errors', 'refusal-words'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.connect();
  await s.listen('private-a', false);
  await s.event('pusher:subscription_error', 'private-a');
  await s.faultsNow({});
  await s.close(4200);
  await s.state('connected');
  await s.live('private-a');
  await s.publish('private-a', 'e', '1');
  await s.settle();
});

script('authorization refused, then asked again', { options: auth, differs: ['channel-errors', 'refusal-words'] }, async s => {
  await s.faults(0, { auth_status: 403 });
  await s.connect();
  await s.listen('private-a', false);
  await s.event('pusher:subscription_error', 'private-a');
  await s.faultsNow({});
  await s.subscribe('private-a');
  await s.live('private-a');
});

for (const [name, body] of [['no JSON', 'Forbidden'], ['nothing in it', '{}'], ['a text', '"auth"'], ['a list', '[]'], ['null', 'null'], ['auth that is no text', '{"auth":5}']])
  script(`authorization answered with ${name}`, { options: auth, differs: ['channel-errors', 'unusable-answers'] }, async s => {
    await s.faults(0, { auth_body: body });
    await s.connect();
    await s.listen('private-a', false);
    await s.sent('form', 1);
    await s.faultsNow({});
    await s.listen('fence');
    await s.settle();
  });

script('authorization with more in the answer', { options: auth, differs: ['signature-refused'] }, async s => {
  await s.faults(0, { auth_body: '{"auth":"app-key:0000000000000000000000000000000000000000000000000000000000000000","shared_secret":"AAAA","more":{"a":[1]}}' });
  await s.connect();
  await s.listen('private-a', false);
  await s.sent('text', 1, 'private-a');
  await s.listen('fence');
  await s.settle();
});

script('a chunked answer, the connection closed after it', { options: auth }, async s => {
  await s.faults(0, { auth_chunked: true, auth_close: true });
  await s.connect();
  await s.listen('private-a');
  await s.listen('private-b');
});

script('a redirected request', { options: auth, differs: ['channel-errors', 'refusal-words', 'redirects'] }, async s => {
  await s.faults(0, { auth_status: 302, auth_location: '/nowhere' });
  await s.connect();
  await s.listen('private-a', false);
  await s.event('pusher:subscription_error', 'private-a');
});

script('a slow answer, and other channels meanwhile', { options: auth }, async s => {
  await s.faults(0, { auth_delay_ms: 150 });
  await s.connect();
  await s.listen('private-a', false);
  await s.listen('b');
  await s.publish('b', 'e', '1');
  await s.live('private-a');
});

for (const dialect of dialects) script('the server refuses the signature', { dialects: [dialect], options: auth, differs: [dialect === 'soketi' ? 'channel-errors' : 'signature-refused'] }, async s => {
  await s.connect();
  await s.faultsNow({ refuse_subscriptions: true });
  await s.listen('private-a', false);
  await s.sent('text', 1, 'private-a');
  await s.faultsNow({});
  await s.listen('fence');
  await s.settle();
});

script('an error that quotes the string to sign', { options: auth, differs: ['signature-refused'] }, async s => {
  await s.faults(0, { auth_body: '{"auth":"app-key:0000000000000000000000000000000000000000000000000000000000000000"}' });
  await s.connect();
  await s.listen('private-a', false);
  await s.listen('private-b', false);
  await s.error('server');
  await s.error('server');
});

script('shapes of pusher:subscription_error', { options: auth, differs: ['channel-errors'] }, async s => {
  await s.connect();
  await s.faultsNow({ never_acknowledge: true });
  for (const [i, data] of [{ type: 'AuthError', error: 'no', status: 401 }, '{"type":"LimitReached","error":"long","status":4009}', {}, undefined].entries()) {
    await s.listen(`private-${i}`, false);
    await s.sent('text', 1, `private-${i}`);
    await s.raw('-', { event: 'pusher:subscription_error', channel: `private-${i}`, data });
  }
  await s.settle();
});

script('unsubscribed while the authorization is under way', { options: auth }, async s => {
  await s.faults(0, { auth_delay_ms: 200 });
  await s.connect();
  await s.listen('private-a', false);
  await s.sent('form', 1);
  await s.unsubscribe('private-a');
  await s.faultsNow({});
  await s.listen('private-b', false);
  await s.live('private-b');
  await s.subscribers('private-a', 0);
});

script('the connection is lost while the authorization is under way', { options: auth, differs: ['late-answers'] }, async s => {
  await s.faults(0, { auth_delay_ms: 200 });
  await s.connect();
  await s.listen('private-a', false);
  await s.sent('form', 1);
  await s.close(4200);
  await s.state('connected');
  await s.live('private-a');
  await s.listen('private-b');
  await s.settle();
});

// ---- client events ----

script('client events', { dialects: ['pusher', 'soketi', 'sockudo'], options: auth }, async s => {
  await s.connect();
  await s.listen('private-a');
  for (const json of ['{"n":1}', '[]', '"text"', '5', 'null', 'true', '{"deep":{"ü":"☃ \\u2028"}}', '""'])
    await s.trigger('private-a', 'client-e', json);
  await s.sent('text', 8, 'client-e');
});

script('client events that are refused', { options: auth, differs: ['client-events-public'] }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.listen('public');
  await s.trigger('private-a', 'e', '1');
  await s.trigger('private-a', 'Client-e', '1');
  await s.trigger('public', 'client-e', '1');
  await s.trigger('private-a', 'client-last', '1');
  await s.sent('text', 1, 'client-last');
  await s.settle();
});

for (const [name, event, json] of [['a quote in its name', 'client-"x"', '1'], ['a backslash in its name', 'client-a\\b', '1'], ['a control character in its name', 'client-a\nb', '1'],
  ['a long name', 'client-' + 'x'.repeat(194), '1'], ['much data', 'client-e', JSON.stringify('x'.repeat(10240))]])
  script(`a client event with ${name}`, { options: auth, differs: ['client-event-limits'] }, async s => {
    await s.connect();
    await s.listen('private-a');
    await s.trigger('private-a', event, json);
    await s.trigger('private-a', 'client-good', '1');
    await s.sent('text', 1, 'client-good');
    await s.settle();
  });

script('client events that just fit', { options: auth }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.trigger('private-a', 'client-', '1');
  await s.trigger('private-a', 'client-ü ☃', '1');
  await s.trigger('private-a', 'client-' + 'x'.repeat(193), '1');
  await s.trigger('private-a', 'client-e', JSON.stringify('x'.repeat(10238)));
  await s.sent('text', 4, 'client-');
  await s.settle();
});

script('more client events than the server takes', { options: auth, differs: ['client-event-limits'] }, async s => {
  await s.connect();
  await s.listen('private-a');
  for (let i = 0; i < 10; i++) await s.trigger('private-a', 'client-good', '1');
  for (let i = 0; i < 2; i++) await s.trigger('private-a', 'client-over', '1');
  await s.listen('fence');
  await s.settle();
});

script('client events on an encrypted channel', { options: auth }, async s => {
  await s.connect();
  await s.listen('private-encrypted-a');
  await s.trigger('private-encrypted-a', 'client-e', '1');
});

script('client events before the connection and after', { options: auth }, async s => {
  await s.listen('private-a', false);
  await s.trigger('private-a', 'client-early', '1');
  await s.connect();
  await s.live('private-a');
  await s.trigger('private-a', 'client-e', '1');
  await s.sent('text', 1, 'client-e');
  await s.disconnect();
  await s.state('disconnected');
  await s.trigger('private-a', 'client-late', '1');
});

script('client events before the subscription is confirmed', { options: auth, differs: ['client-events-early'] }, async s => {
  await s.faults(0, { never_acknowledge: true });
  await s.connect();
  await s.listen('private-a', false);
  await s.subscribers('private-a', 1);
  await s.trigger('private-a', 'client-early', '1');
  await s.raw('private-a', { event: 'pusher_internal:subscription_succeeded', channel: 'private-a', data: '{}' });
  await s.live('private-a');
  await s.trigger('private-a', 'client-later', '1');
  await s.sent('text', 1, 'client-later');
});

script('client events of others', { options: auth }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.bind('private-a', 'client-e', 'e');
  for (const [data, user_id] of [['{"n":1}', 'u1'], [{ n: 2 }, undefined], ['text', 5], [null, ''], [undefined, null]])
    await s.raw('private-a', { event: 'client-e', channel: 'private-a', data, user_id });
  await s.settle();
});

for (const dialect of dialects) script('the server refuses a client event', { server: ['--no-client-events'], dialects: [dialect], options: auth, differs: ['soketi', 'sockudo'].includes(dialect) ? ['error-is-no-event'] : [] }, async s => {
  await s.connect();
  await s.listen('private-a');
  await s.trigger('private-a', 'client-e', '{}');
  await s.error('server');
});

// ---- encrypted channels ----

const secret = 'private-encrypted-a';

script('an encrypted channel', { dialects, options: auth }, async s => {
  await s.connect();
  await s.listen(secret);
  for (const text of ['{"hello":"world"}', 'plain text', '', '"quoted"', '5', 'null', '☃ ü', '[1,2', 'x'.repeat(5000)])
    await s.seal(secret, 'e', text);
  await s.settle();
});

script('an encrypted channel, data as an object', { options: auth }, async s => {
  await s.connect();
  await s.faultsNow({ never_acknowledge: true });
  await s.listen('private-encrypted-test', false);
  await s.subscribers('private-encrypted-test', 1);
  await s.raw('private-encrypted-test', { event: 'pusher_internal:subscription_succeeded', channel: 'private-encrypted-test', data: {} });
  await s.raw('private-encrypted-test', { event: 'e', channel: 'private-encrypted-test', data: { ciphertext: 'BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe', nonce: 'QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX' } });
  await s.raw('private-encrypted-test', { event: 'e', channel: 'private-encrypted-test', data: { nonce: 'QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX', more: 1, ciphertext: 'XFeSFLkUPH8dUU06fuyxMD7rEiOOqV1KleA=' } });
  await s.raw('private-encrypted-test', { event: 'e', channel: 'private-encrypted-test', data: '{"ciphertext":"jslG1BcbvBsTqFKt+irmqg==","nonce":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX"}' });
  await s.settle();
});

script('an encrypted cache channel', { dialects: ['pusher', 'soketi', 'sockudo'], options: auth }, async s => {
  await s.connect();
  await s.listen('private-encrypted-cache-a');
  await s.event('pusher:cache_miss', 'private-encrypted-cache-a');
  await s.seal('private-encrypted-cache-a', 'e', '{"n":1}');
  await s.settle();
  await s.unsubscribe('private-encrypted-cache-a');
  await s.subscribers('private-encrypted-cache-a', 0);
  await s.listen('private-encrypted-cache-a');
  await s.event('e', 'private-encrypted-cache-a');
});

const ones = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';

script('the key of an encrypted channel changes', { dialects, options: auth }, async s => {
  await s.connect();
  await s.listen(secret);
  await s.seal(secret, 'e', '1');
  await s.settle();
  await s.ask('master-key', encodeURIComponent(ones));
  await s.seal(secret, 'e', '2');
  await s.sent('form', 2);
  await s.event('e', secret);
  await s.event('e', secret);
  await s.seal(secret, 'e', '3');
  await s.settle();
});

script('events while the new key is being fetched', { options: auth, differs: ['encrypted-in-order'] }, async s => {
  await s.connect();
  await s.listen(secret);
  await s.faultsNow({ auth_delay_ms: 150 });
  await s.faults(0, { auth_delay_ms: 150 });
  await s.ask('master-key', encodeURIComponent(ones));
  for (const n of [1, 2, 3]) await s.seal(secret, 'e', `${n}`);
  for (const _ of [1, 2, 3]) await s.event('e', secret);
  await s.seal(secret, 'e', '4');
  await s.settle();
});

script('an event that nobody can decrypt', { options: auth, differs: ['decryption-errors'] }, async s => {
  await s.connect();
  await s.listen(secret);
  await s.sealWith(ones, secret, 'e', '1');
  await s.sent('form', 2);
  await s.listen('private-fence');
  await s.seal(secret, 'e', '2');
  await s.settle();
});

script('no new key to be had', { options: auth, differs: ['decryption-errors'] }, async s => {
  await s.connect();
  await s.listen(secret);
  await s.faults(0, { auth_status: 403 });
  await s.faultsNow({ auth_status: 403 });
  await s.sealWith(ones, secret, 'e', '1');
  await s.sent('form', 2);
  await s.faultsNow({});
  await s.listen('private-fence');
  await s.seal(secret, 'e', '2');
  await s.settle();
});

const box = 'BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe', nonce = 'QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX';
for (const [name, data] of [['no ciphertext', { nonce }], ['no nonce', { ciphertext: box }], ['a short nonce', { ciphertext: box, nonce: 'AAAA' }], ['a short ciphertext', { ciphertext: 'AAAA', nonce }],
  ['plain data', { a: 1 }], ['the name of a client event', { a: 1 }], ['a text', 'plain'], ['nothing', {}], ['numbers', { ciphertext: 1, nonce: 2 }], ['no base64', { ciphertext: '****', nonce }], ['base64 without its end', { ciphertext: box + 'AA', nonce }]])
  script(`an encrypted event with ${name}`, { options: auth, differs: ['decryption-errors', ...name === 'base64 without its end' ? ['lenient-base64'] : []] }, async s => {
    await s.connect();
    await s.listen(secret);
    await s.outcome();
    await s.raw(secret, { event: name === 'the name of a client event' ? 'client-e' : 'e', channel: secret, data });
    if (name === 'no base64') return s.outcome();      // what throws in pusher-js is its last message
    await s.settle();
    await s.listen('private-fence');
  });

for (const [name, faults] of [['no shared_secret', { auth_no_secret: true }], ['a short shared_secret', { auth_secret_bytes: 31 }], ['a long shared_secret', { auth_secret_bytes: 33 }]])
  script(`an encrypted channel and ${name}`, { options: auth, differs: ['channel-errors', 'unusable-answers'] }, async s => {
    await s.faults(0, faults);
    await s.connect();
    await s.listen(secret, false);
    await s.sent('form', 1);
    await s.faultsNow({});
    await s.listen('fence');
    await s.settle();
  });
