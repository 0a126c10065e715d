// A TCP relay between the client and the server that writes down what the client did: each
// connection it made and each WebSocket frame it sent. So a test can count attempts and see close
// codes without believing either side.
import net from 'node:net';
import { freePort } from './soketi.mjs';

class Connection {
  at = Date.now();
  request = '';      // the HTTP request, once whole
  frames = [];       // {at, opcode, masked, text}
  messages = [];     // JSON messages of the client
  closeCode = undefined;
  socketId = undefined;   // what the server called it
  fromServer = Buffer.alloc(0);   // the first bytes of the server's, a TLS handshake for example
  #buffer = Buffer.alloc(0);

  fromClient(bytes) {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    if (!this.request) {
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.request = this.#buffer.subarray(0, end).toString('latin1');
      this.#buffer = this.#buffer.subarray(end + 4);
    }
    for (let used; (used = this.#frame(this.#buffer)) > 0;) this.#buffer = this.#buffer.subarray(used);
  }

  #frame(b) {
    if (b.length < 2) return 0;
    const opcode = b[0] & 15, masked = b[1] >= 128;
    let length = b[1] & 127, at = 2;
    if (length === 126) { if (b.length < 4) return 0; length = b.readUInt16BE(2); at = 4; }
    else if (length === 127) { if (b.length < 10) return 0; length = Number(b.readBigUInt64BE(2)); at = 10; }
    const mask = masked ? b.subarray(at, at += 4) : [0, 0, 0, 0];
    if (b.length < at + length) return 0;
    const body = Buffer.from(b.subarray(at, at + length));
    for (let i = 0; i < length; i++) body[i] ^= mask[i & 3];
    this.frames.push({ at: Date.now(), opcode, masked, text: body.toString() });
    if (opcode === 1) try { this.messages.push(JSON.parse(body.toString())); } catch { this.messages.push(null); }
    if (opcode === 8) this.closeCode = length >= 2 ? body.readUInt16BE(0) : 1005;
    return at + length;
  }
}

export class Tap {
  connections = [];
  #sockets = new Set();

  static async open(toPort) {
    const tap = new Tap();
    tap.port = await freePort();
    tap.server = net.createServer(near => {
      const seen = new Connection();
      tap.connections.push(seen);
      const far = net.connect(toPort, '127.0.0.1');
      const ends = [near, far];
      for (const end of ends) { end.setNoDelay(true); tap.#sockets.add(end); end.on('error', () => ends.forEach(e => e.destroy())); end.on('close', () => { tap.#sockets.delete(end); ends.forEach(e => e.end()); }); }
      near.on('data', bytes => seen.fromClient(bytes));
      far.on('data', bytes => {
        if (seen.fromServer.length < 16384) seen.fromServer = Buffer.concat([seen.fromServer, bytes]);
        seen.socketId ??= /"socket_id\\?":\\?"(\d+\.\d+)/.exec(bytes.toString('latin1'))?.[1];
      });
      near.pipe(far);
      far.pipe(near);
    });
    await new Promise((resolve, reject) => tap.server.once('error', reject).listen(tap.port, '127.0.0.1', resolve));
    return tap;
  }

  // milliseconds between one connection and the next
  gaps() { return this.connections.slice(1).map((c, i) => c.at - this.connections[i].at); }

  // Every connection ends here and now; new ones may come.
  cut() { for (const socket of this.#sockets) socket.destroy(); }

  close() {
    this.cut();
    return new Promise(resolve => this.server.close(resolve));
  }
}
