// An application's backend: it authorizes channels and users with the `pusher` package.
//
//     const backend = await t.backend();
//     backend.answer = (request, good) => ({ status: 403, body: 'no' });   // instead of good
//     backend.key = someOtherKey;                                          // of encrypted channels
//     backend.asked                                                        // all requests so far
//
// An answer may be {status, body, seconds: wait before it, chunked: true}. Who asks is what the
// form's field user_id says: a test's backend believes anybody.
import http from 'node:http';
import { apps, freePort } from './soketi.mjs';
import { need } from './modules.mjs';

const wait = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000));

export class Backend {
  asked = [];      // {at, path, headers, form}
  answer = undefined;

  static async start({ app = 'main', key, secret = apps[app].secret } = {}) {
    const backend = new Backend();
    Object.assign(backend, { app: apps[app], secret, key, port: await freePort() });
    backend.server = http.createServer((request, response) => {
      const parts = [];
      request.on('data', part => parts.push(part));
      request.on('end', () => backend.#serve(request, Buffer.concat(parts).toString(), response));
    });
    await new Promise((resolve, reject) => backend.server.once('error', reject).listen(backend.port, '127.0.0.1', resolve));
    return backend;
  }

  get endpoint() { return `http://127.0.0.1:${this.port}/pusher/auth`; }
  get userEndpoint() { return `http://127.0.0.1:${this.port}/pusher/user-auth`; }

  // of one channel, by one user
  asks(channel, user) {
    return this.asked.filter(({ form }) => form.channel_name === channel && (user === undefined || form.user_id === user));
  }

  #sign(path, { socket_id, channel_name, user_id = 'nobody' }) {
    const Pusher = need('pusher');
    const { id: appId, key } = this.app;
    const pusher = new Pusher({ appId, key, secret: this.secret, ...(this.key ? { encryptionMasterKeyBase64: this.key } : {}) });
    const name = `the name of ${user_id}`;
    if (path === '/pusher/user-auth') return pusher.authenticateUser(socket_id, { id: user_id, user_info: { name } });
    return pusher.authorizeChannel(socket_id, channel_name, channel_name.startsWith('presence-') ? { user_id, user_info: { name } } : undefined);
  }

  async #serve({ method, url: path, headers }, text, response) {
    const form = Object.fromEntries(new URLSearchParams(text));
    const request = { at: Date.now(), path, headers, form };
    this.asked.push(request);
    let good;
    try {
      if (method !== 'POST' || headers['content-type'] !== 'application/x-www-form-urlencoded') throw new Error(`${method} of ${headers['content-type']}`);
      good = { status: 200, body: JSON.stringify(this.#sign(path, form)) };
    } catch (error) {
      good = { status: 400, body: error.message };
    }
    const { status, body, seconds, chunked } = { ...good, ...this.answer?.(request, good) };
    if (seconds) await wait(seconds);
    response.writeHead(status, { 'Content-Type': 'application/json', ...(chunked ? {} : { 'Content-Length': Buffer.byteLength(body) }) });
    if (chunked) for (const character of body) { response.write(character); await wait(0); }
    response.end(chunked ? '' : body);
  }

  close() {
    this.server.closeAllConnections();
    return new Promise(resolve => this.server.close(resolve));
  }
}
