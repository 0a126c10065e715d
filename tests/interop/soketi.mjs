// A soketi of our own: a child process on a free loopback port.
//
//     const server = await Soketi.start();
//     await server.kill();      // SIGKILL: no goodbye
//     await server.restart();   // the same port again
//     await server.stop();      // SIGTERM: error 4200 and close 4200 to everybody, then gone
//
// Three traps, all met:
// * Two soketis on one port do not complain. They share it, and connections go to either. So stop()
//   and kill() return when the process has really ended, and start() looks whether the port is free.
// * A port from the range the system hands out itself can be connected to while nobody listens:
//   on loopback a socket then meets its own reflection, and "server away" looks like "server
//   there". Ours come from below that range.
// * soketi's command line lets environment variables (PORT, DEBUG, ...) override its configuration.
//   The child below starts the server object instead, and ends when this process ends, however
//   that happens.
import { fork } from 'node:child_process';
import dgram from 'node:dgram';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { need } from './modules.mjs';

export const apps = {
  main: { id: '1', key: 'main-key', secret: 'main-secret', enableClientMessages: true },
  quota: { id: '2', key: 'quota-key', secret: 'quota-secret', maxConnections: 1 },
  disabled: { id: '3', key: 'disabled-key', secret: 'disabled-secret', enabled: false },
  user: { id: '4', key: 'user-key', secret: 'user-secret', enableUserAuthentication: true, enableClientMessages: true },
  silent: { id: '6', key: 'silent-key', secret: 'silent-secret' },      // no client events
  limited: { id: '5', key: 'limited-key', secret: 'limited-secret', enableClientMessages: true, maxClientEventsPerSecond: 2 },
};

const living = new Set();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });

function isFree(port) {
  const tcp = new Promise(resolve => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
  const udp = new Promise(resolve => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', () => resolve(false));
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
  });
  return Promise.all([tcp, udp]).then(free => free.every(Boolean));
}

const given = new Set();
export async function freePort() {
  for (let tries = 0; tries < 200; tries++) {
    const port = 20000 + Math.floor(Math.random() * 12000);
    if (given.has(port) || !await isFree(port)) continue;
    given.add(port);
    return port;
  }
  throw new Error('no free loopback port between 20000 and 32000');
}

export class Soketi {
  // options: soketi's own, under their dotted names
  static async start(options = {}) {
    const server = new Soketi();
    server.port = await freePort();
    server.metricsPort = await freePort();
    server.clusterPort = await freePort();
    server.options = options;
    server.log = [];
    await server.restart();
    return server;
  }

  // A place where a server may be started later, with restart().
  static async reserve(options = {}) {
    const server = new Soketi();
    Object.assign(server, { port: await freePort(), metricsPort: await freePort(), clusterPort: await freePort(), options, log: [] });
    return server;
  }

  get running() { return this.child !== undefined; }

  async restart() {
    if (this.child) throw new Error('soketi is still running');
    if (!await isFree(this.port)) throw new Error(`port ${this.port} is taken`);
    const options = {
      'host': '127.0.0.1',
      'port': this.port,
      'metrics.host': '127.0.0.1',
      'metrics.port': this.metricsPort,
      'cluster.address': '127.0.0.1',
      'cluster.hostname': '127.0.0.1',
      'cluster.unicast': ['127.0.0.1'],     // instead of broadcasts
      'cluster.port': this.clusterPort,
      'shutdownGracePeriod': 300,
      'appManager.array.apps': Object.values(apps),
      ...this.options,
    };
    const child = fork(fileURLToPath(import.meta.url), ['--serve', JSON.stringify(options)],
      { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] });
    living.add(child);
    this.child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', bytes => { this.log.push(String(bytes)); if (process.env.VERBOSE) process.stderr.write(`soketi ${this.port}: ${bytes}`); });
    this.gone = new Promise(resolve => child.once('close', (code, signal) => {
      living.delete(child);
      this.child = undefined;
      resolve(signal ?? code);
    }));
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => { child.kill('SIGKILL'); reject(new Error(`soketi does not listen after 20 s\n${this.log.join('')}`)); }, 20000);
      child.once('message', word => { clearTimeout(timer); word === 'listening' ? resolve() : reject(new Error(`soketi: ${word}`)); });
      child.once('close', () => { clearTimeout(timer); reject(new Error(`soketi ended at its start\n${this.log.join('')}`)); });
    });
  }

  async #end(signal, seconds) {
    if (!this.child) return;
    const { child, gone } = this;
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    const how = await gone;
    clearTimeout(timer);
    if (how === 'SIGKILL' && signal !== 'SIGKILL') throw new Error(`soketi did not end within ${seconds} s of ${signal}`);
  }

  stop() { return this.#end('SIGTERM', 10); }
  kill() { return this.#end('SIGKILL', 10); }
}

// The child.
if (process.argv[2] === '--serve') {
  process.once('disconnect', () => process.exit());
  const { Server } = need('@soketi/soketi');
  const server = new Server(JSON.parse(process.argv[3]));
  const leave = () => server.stop().then(() => process.exit());
  process.on('SIGTERM', leave);
  process.on('uncaughtException', error => { console.error(error); leave(); });   // as its command line does
  server.start(() => process.send(server.serverProcess ? 'listening' : 'the port is taken'));
}
