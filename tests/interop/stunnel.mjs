// stunnel: OpenSSL's TLS in front of a plain server on this machine.
//
//     const front = await Stunnel.start(server.port, { only: 'TLSv1.2' });
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { certificates } from './certificates.mjs';
import { freePort } from './soketi.mjs';

const living = new Set();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });

const answers = port => new Promise(resolve => {
  const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
  socket.once('error', () => resolve(false));
});

export class Stunnel {
  log = '';

  // only: one version of TLS; certificate: by its name in certificates.mjs
  static async start(toPort, { only, certificate = 'here' } = {}) {
    const front = new Stunnel();
    front.port = await freePort();
    const file = certificates().file(`stunnel-${front.port}.conf`);
    fs.writeFileSync(file, ['foreground = yes', 'pid =', 'debug = notice', 'syslog = no', '[front]',
      `accept = 127.0.0.1:${front.port}`, `connect = 127.0.0.1:${toPort}`,
      `cert = ${certificates().certificate(certificate)}`, `key = ${certificates().key(certificate)}`,
      ...(only ? [`sslVersionMin = ${only}`, `sslVersionMax = ${only}`] : []), ''].join('\n'));
    front.child = spawn('stunnel', [file], { stdio: ['ignore', 'ignore', 'pipe'] });
    living.add(front.child);
    front.child.stderr.on('data', bytes => { front.log += bytes; });
    front.gone = new Promise(resolve => {
      front.child.once('error', error => { front.log += error.message; front.ended = true; resolve(); });
      front.child.once('close', () => { living.delete(front.child); front.ended = true; resolve(); });
    });
    for (const started = Date.now(); !await answers(front.port); await new Promise(resolve => setTimeout(resolve, 50)))
      if (front.ended || Date.now() - started > 10_000) throw new Error(`stunnel does not start:\n${front.log}`);
    return front;
  }

  async close() { this.child.kill('SIGKILL'); await this.gone; }
}
