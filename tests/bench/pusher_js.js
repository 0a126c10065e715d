// pusher_js.js PORT CHANNELS MESSAGES - the pusher-js side of loopback.c: prints "done" when all
// messages have reached a handler.
'use strict';

const path = require('path');
const Pusher = require(path.resolve('build/interop/node_modules/pusher-js'));
const [port, channels, messages] = process.argv.slice(2).map(Number);

const pusher = new Pusher('app-key', {
  cluster: '',
  wsHost: '127.0.0.1',
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws'],
  enableStats: false,
});

let seen = 0;
function onMessage() {
  if (++seen === messages) {
    process.stdout.write('done\n', () => process.exit(0));
  }
}
for (let i = 0; i < channels; i++) {
  const name = `channel-${String(i).padStart(6, '0')}`;
  pusher.subscribe(name).bind('message', onMessage);
}
setTimeout(() => process.exit(1), 60000);
