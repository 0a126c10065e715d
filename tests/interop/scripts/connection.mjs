// The connection: its states, errors, close codes, and coming back.
import { dialects, script } from '../differential.mjs';

script('a clean end and another beginning', { dialects }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.disconnect();
  await s.state('disconnected');
  await s.connections(0);
  await s.connect();
  await s.live('ch');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('asked twice', async s => {
  await s.connect();
  await s.do('connect');
  await s.listen('ch');
  await s.disconnect();
  await s.state('disconnected');
  await s.disconnect();
  await s.connections(0);
});

script('disconnected before it was ever connected', async s => {
  await s.listen('ch', false);
  await s.disconnect();
  await s.connect();
  await s.live('ch');
});

script('subscribing and unsubscribing while disconnected', async s => {
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  await s.disconnect();
  await s.state('disconnected');
  await s.connections(0);
  await s.listen('c', false);
  await s.unsubscribe('a');
  await s.connect();
  await s.live('c');
  await s.live('b');
  for (const name of ['a', 'b', 'c']) await s.publish(name, 'e', `"${name}"`);
  await s.settle();
});

script('a handler disconnects', async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'e');
  await s.on('e', 'disconnect');
  await s.publish('ch', 'e', '1');
  await s.state('disconnected');
  await s.connections(0);
});

script('to another app, with all channels', { options: { key: 'app-key' } }, async s => {
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  await s.bind('b', 'e', 'e');
  await s.do('switch', 'app-key');
  await s.state('connected');
  await s.live('a');
  await s.live('b');
  await s.publish('b', 'e', '1');
  await s.settle();
});

script('to an app that is not there', { differs: ['failed', 'goodbye-when-refused'] }, async s => {
  await s.connect();
  await s.listen('a');
  await s.do('switch', 'nobody');
  await s.error('server');
  await s.connections(0);
});

for (const [code, again] of [[1000, true], [1001, true], [1011, true], [1002, true], [1003, true], [1007, true], [1008, true], [1009, true], [3000, true], [3999, true], [4100, true], [4199, true], [4200, true], [4201, true], [4299, true]])
  script(`closed by the server: ${code}`, { differs: code === 1000 || code === 1001 ? ['clean-close-is-told'] : [] }, async s => {
    await s.connect();
    await s.listen('a');
    await s.listen('b');
    await s.close(code, 'because');
    if (again) await s.state('connected');
    await s.live('a');
    await s.live('b');
    await s.publish('a', 'e', '1');
    await s.settle();
  });

for (const code of [4001, 4003, 4004, 4009, 4099])
  script(`refused by the server: ${code}`, { differs: ['failed'] }, async s => {
    await s.connect();
    await s.listen('ch');
    await s.close(code, 'go away');
    await s.error('server');
    await s.connections(0);
  });

for (const code of [4300, 4301, 4999])
  script(`closed with a code of no class: ${code}`, { differs: ['codes-from-4300'] }, async s => {
    await s.connect();
    await s.listen('ch');
    await s.close(code);
    await s.error('server');
    await s.connections(0);
  });

script('closed without a code', { dialects, differs: ['clean-close-is-told', 'empty-close'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.close(0);
  await s.state('connected');
  await s.live('ch');
});

script('hung up', { dialects }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.close(-1);
  await s.state('connected');
  await s.live('ch');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('reset', async s => {
  await s.connect();
  await s.listen('ch');
  await s.close(-2);
  await s.state('connected');
  await s.live('ch');
});

script('the server is restarted', { dialects, differs: ['down-meanwhile'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.bind('ch', 'e', 'e');
  await s.ask('stop');
  await s.ask('start');
  await s.state('connected');
  await s.live('ch');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('the server dies and comes back', { differs: ['down-meanwhile'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.ask('stop', 'reset');
  await s.ask('start');
  await s.state('connected');
  await s.live('ch');
});

script('five connections in a row', async s => {
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  for (let i = 0; i < 4; i++) {
    await s.close(4200);
    await s.state('connected');
    await s.live('a');
    await s.live('b');
    await s.publish('b', 'round', String(i));
    await s.settle();
  }
});

script('unsubscribing while the connection is lost', async s => {
  await s.connect();
  await s.listen('a');
  await s.listen('b');
  await s.bind('a', 'e', 'e');
  await s.on('e', 'unsubscribe', 'b');
  await s.publish('a', 'e', '1');
  await s.subscribers('b', 0);
  await s.close(4200);
  await s.state('connected');
  await s.live('a');
  await s.settle();
});

script('an unknown app', { dialects, options: { key: 'nobody' }, differs: ['failed', 'goodbye-when-refused'] }, async s => {
  await s.do('connect');
  await s.error('server');
  await s.connections(0);
});

script('over the quota', { server: ['--max-connections', '1'], dialects: ['pusher', 'sockudo'], differs: ['failed'] }, async s => {
  await s.faults(1, { establish_error: 4004 });
  await s.do('connect');
  await s.error('server');
  await s.connections(0);
});

for (const code of [4100, 4200])
  script(`an error instead of connection_established: ${code}`, { dialects: ['pusher', 'soketi', 'sockudo'], differs: ['goodbye-when-refused'] }, async s => {
    await s.faults(1, { establish_error: code });
    await s.listen('ch', false);
    await s.connect();
    await s.live('ch');
  });

script('the upgrade is refused once', { differs: ['refused-upgrade'] }, async s => {
  await s.faults(1, { http_status: 503, http_reason: 'Busy' });
  await s.listen('ch', false);
  await s.connect();
  await s.live('ch');
});

script('hung up before connection_established', async s => {
  await s.faults(1, { never_establish: true });
  await s.listen('ch', false);
  await s.do('connect');
  await s.sent('request', 1);
  await s.connections(1);
  await s.close(-1);
  await s.state('connected');
  await s.live('ch');
});

script('data of connection_established as an object', async s => {
  await s.faults(0, { established_object: true });
  await s.connect();
  await s.listen('ch');
});

script('no activity timeout', { differs: ['activity-timeout-missing'] }, async s => {
  await s.faults(1, { no_activity_timeout: true });
  await s.do('connect');
  await s.outcome();
});

const established = data => ({ event: 'pusher:connection_established', data });
for (const [name, timeout] of [['a text', '"120"'], ['a fraction', '1.5'], ['negative', '-1']])
  script(`an activity timeout that is ${name}`, async s => {
    await s.faults(0, { never_establish: true });
    await s.do('connect');
    await s.connections(1);
    await s.raw('-', established(`{"socket_id":"1.1","activity_timeout":${timeout}}`));
    await s.state('connected');
  });

for (const [name, text] of [['an event', '{"event":"e","data":"1"}'], ['a ping', '{"event":"pusher:ping","data":{}}'], ['no JSON', 'text']])
  script(`before connection_established comes ${name}`, { differs: ['first-message'] }, async s => {
    await s.faults(0, { never_establish: true });
    await s.do('connect');
    await s.connections(1);
    await s.raw('-', text);
    await s.raw('-', established('{"socket_id":"1.1","activity_timeout":120}'));
    await s.outcome();
  });

for (const [name, message, differs] of [['no data', established(), 'first-message'], ['no socket_id', established('{"activity_timeout":120}'), 'socket-id-missing']])
  script(`connection_established with ${name}`, { differs: [differs] }, async s => {
    await s.faults(0, { never_establish: true });
    await s.do('connect');
    await s.connections(1);
    await s.raw('-', message);
    await s.outcome();
  });

for (const [name, data] of [['of no class', { code: 4301, message: 'm' }], ['that is missing', { message: 'm' }]])
  script(`an error instead of connection_established, with a code ${name}`, { differs: ['codes-from-4300', 'goodbye-when-refused'] }, async s => {
    await s.faults(1, { never_establish: true });
    await s.do('connect');
    await s.connections(1);
    await s.raw('-', { event: 'pusher:error', data });
    await s.error('server');
  });

script('lower case headers, in drops', async s => {
  await s.faults(0, { lower_case_headers: true, write_bytes: 7 });
  await s.connect();
  await s.listen('ch');
  await s.publish('ch', 'e', '{"n":1}');
  await s.settle();
});

for (const [name, faults] of [['fragments', { fragment: 5 }], ['fragments with pings between', { fragment: 9, ping_between: true }], ['an empty last fragment', { empty_final: true }], ['byte by byte', { write_bytes: 1 }]])
  script(`messages in ${name}`, { dialects }, async s => {
    await s.faults(0, faults);
    await s.connect();
    await s.listen('ch');
    for (let i = 0; i < 5; i++) await s.publish('ch', 'e', `{"text":"snow ☃ 𝄞 ${i}"}`);
    await s.settle();
  });

script('pings are answered', { dialects }, async s => {
  await s.connect();
  await s.listen('ch');
  for (const [i, data] of [{}, '{}', undefined, null].entries()) {
    await s.raw('-', { event: 'pusher:ping', data });
    await s.sent('text', i + 1, '"pusher:pong"');
  }
  await s.ask('ping', 'payload');
  await s.sent('pong', 1, 'payload');
  await s.settle();
});

script('pings in a burst', { differs: ['pongs-together'] }, async s => {
  await s.connect();
  await s.listen('ch');
  const ping = JSON.stringify({ event: 'pusher:ping' });
  await s.ask('bytes', `%81%${ping.length.toString(16)}${encodeURIComponent(ping)}`.repeat(20));
  await s.settle();
});

script('a pong that nobody asked for', async s => {
  await s.connect();
  await s.listen('ch');
  for (const data of [{}, '{}', undefined]) await s.raw('-', { event: 'pusher:pong', data });
  await s.settle();
});

script('silence: a ping, answered', { options: { activity: 150 }, dialects }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.sent('text', 2, '"pusher:ping"');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('silence: no answer to the ping', { options: { activity: 150, pong: 150 }, differs: ['timeouts-are-told'] }, async s => {
  await s.faults(1, { never_pong: true });
  await s.connect();
  await s.listen('ch');
  await s.state('connected');
  await s.live('ch');
});

script('unavailable for a while', { options: { unavailable: 200 } }, async s => {
  await s.faults(1, { never_answer: true });
  await s.listen('ch', false);
  await s.do('connect');
  await s.state('unavailable');
  await s.disconnect();
  await s.state('disconnected');
  await s.connect();
  await s.live('ch');
});

script('errors on a live connection', { dialects: ['pusher', 'reverb'] }, async s => {
  await s.connect();
  await s.listen('ch');
  for (const code of [4301, -1, 4009, 4200, 4100, 4001, 4302]) await s.serverError(code, 'words', 'ch');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('errors on a live connection, with the channel', { dialects: ['soketi', 'sockudo'], differs: ['error-is-no-event'] }, async s => {
  await s.connect();
  await s.listen('ch');
  for (const [code, channel] of [[4301, 'ch'], [-1], [4009], [4200], [4100], [4001], [4302, 'elsewhere']])
    await s.serverError(code, 'words', channel);
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('shapes of an error', { differs: ['error-code-text'] }, async s => {
  await s.connect();
  await s.listen('ch');
  for (const data of [{ code: 4301, message: 'm' }, '{"code":4301,"message":"m"}', { message: 'm' }, { code: null, message: 'm' }, { code: '4301', message: 'm' }, { code: 4302, error: 'e' }, {}, undefined, null, 'text', 7])
    await s.raw('-', { event: 'pusher:error', data });
  await s.settle();
});

script('errors that name a channel', { differs: ['error-is-no-event'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.raw('-', { event: 'pusher:error', channel: 'ch', data: { code: 4301, message: 'm' } });
  await s.raw('-', { event: 'pusher:error', channel: 'no', data: { code: 4301, message: 'm' } });
  await s.settle();
});

script('messages that are not JSON', async s => {
  await s.connect();
  await s.listen('ch');
  for (const text of ['{', 'text', '{"event":"e","channel":"ch","data":"x"', '{"event":"e",}', "{'event':'e'}", '{"event":"e","channel":"ch","data":"raw\nline"}', '{"event":"e"} {"event":"f"}', '\ufeff{"event":"e"}'])
    await s.raw('-', text);
  await s.publish('ch', 'e', '1');
  await s.settle();
});

script('a message that is null', async s => {
  await s.connect();
  await s.listen('ch');
  await s.raw('-', 'null');
  await s.publish('ch', 'e', '1');
  await s.settle();
});

for (const text of ['5', '"text"', '[]', '{}', '{"event":null}', '{"event":5}', '{"channel":"ch","data":"x"}'])
  script(`a message without a name: ${text}`, { differs: ['nameless-messages'] }, async s => {
    await s.connect();
    await s.listen('ch');
    await s.raw('-', text);
    await s.outcome();
    await s.outcome();
  });

script('a binary message', { differs: ['binary-messages'] }, async s => {
  await s.connect();
  await s.listen('ch');
  const message = JSON.stringify({ event: 'e', channel: 'ch', data: 'binary' });
  await s.ask('bytes', `%82%${message.length.toString(16)}${encodeURIComponent(message)}`);
  await s.settle();
});

script('what is between the client and the server', { differs: ['pings-are-no-events'] }, async s => {
  await s.connect();
  await s.listen('ch');
  await s.bindAll('@all', 'all');
  for (const channel of ['ch', undefined]) {
    for (const event of ['pusher:ping', 'pusher:pong', 'pusher:connection_established', 'pusher:other'])
      await s.raw('-', { event, channel, data: '{}' });
    await s.settle(); // a pong for each ping, and not one for both
  }
});

script('connection_established once more', async s => {
  await s.connect();
  await s.listen('ch');
  await s.raw('-', { event: 'pusher:connection_established', data: '{"socket_id":"1.1","activity_timeout":120}' });
  await s.publish('ch', 'e', '1');
  await s.settle();
});
