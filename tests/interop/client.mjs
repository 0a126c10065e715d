// The program under test as a child process, and everything it says.
import { spawn } from 'node:child_process';
import assert from 'node:assert/strict';

const living = new Set();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });

// Lines end at the byte 10 and nowhere else: a raw U+2028 inside a line is part of it.
function onLines(stream, line) {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let rest = Buffer.alloc(0);
  stream.on('data', bytes => {
    let from = 0;
    for (let at; (at = bytes.indexOf(10, from)) >= 0; from = at + 1) {
      const whole = Buffer.concat([rest, bytes.subarray(from, at)]);
      rest = Buffer.alloc(0);
      let text;
      try { text = decoder.decode(whole); } catch { text = null; }
      line(text, whole);
    }
    rest = Buffer.concat([rest, bytes.subarray(from)]);
  });
  stream.on('end', () => { if (rest.length) line(rest.toString(), rest); });
}

const isProtocol = name => name.startsWith('pusher:') || name.startsWith('pusher_internal:');

export class Client {
  events = [];   // every line of stdout: {at, channel, event, data, line}
  said = [];     // every line of stderr
  states = [];   // {at, from, to}
  errors = [];   // {at, text}
  wrong = [];    // output that breaks the contract
  mayEnd = false;  // a test sets it where ending by itself is no fault
  #waiting = new Set();

  constructor(program, args, name) {
    this.name = name;
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    living.add(this.child);
    onLines(this.child.stdout, (line, bytes) => this.#event(line, bytes));
    onLines(this.child.stderr, line => this.#word(line ?? '(not UTF-8)'));
    this.gone = new Promise(resolve => {
      this.child.once('error', error => { this.wrong.push(`cannot be started: ${error.message}`); this.ended ??= 'not started'; this.#changed(); resolve(this.ended); });
      this.child.once('close', (code, signal) => { living.delete(this.child); this.ended = signal ?? code; this.#changed(); resolve(this.ended); });
    });
  }

  #event(line, bytes) {
    if (process.env.VERBOSE) console.error(`${this.name} > ${(line ?? String(bytes)).slice(0, 200)}`);
    let value;
    try { value = JSON.parse(line ?? 'not UTF-8'); } catch { /* below */ }
    if (typeof value?.channel !== 'string' || typeof value.event !== 'string')
      this.wrong.push(`stdout: not an event as one line of JSON: ${String(bytes).slice(0, 200)}`);
    else
      this.events.push({ at: Date.now(), line, ...value });
    this.#changed();
  }

  #word(line) {
    if (process.env.VERBOSE) console.error(`${this.name} ! ${line}`);
    this.said.push(line);
    const state = /^state: (\S+) -> (\S+)$/.exec(line);
    if (state) this.states.push({ at: Date.now(), from: state[1], to: state[2] });
    const error = /^error: (.+)$/.exec(line);
    if (error) this.errors.push({ at: Date.now(), text: error[1] });
    this.#changed();
  }

  #changed() { for (const look of this.#waiting) look(); }

  get state() { return this.states.at(-1)?.to; }

  // What was published, without the protocol's own events.
  published(channel) {
    return this.events.filter(e => !isProtocol(e.event) && (channel === undefined || e.channel === channel))
      .map(({ channel, event, data }) => ({ channel, event, data }));
  }

  count(event, channel) {
    return this.events.filter(e => e.event === event && (channel === undefined || e.channel === channel)).length;
  }

  until(what, holds, seconds = 10) {
    return new Promise((resolve, reject) => {
      const started = Date.now();
      const end = error => { clearTimeout(timer); this.#waiting.delete(look); error ? reject(error) : resolve(Date.now() - started); };
      const look = () => {
        let done;
        try { done = holds(); } catch (error) { return end(error); }
        if (done) end();
        else if (this.wrong.length) end(new Error(`${this.name}: ${this.wrong[0]}`));
        else if (this.ended !== undefined) end(new Error(`${this.name} ended (${this.ended}) before: ${what}`));
      };
      const timer = setTimeout(() => end(new Error(`${this.name}: not within ${seconds} s: ${what}`)), seconds * 1000);
      this.#waiting.add(look);
      look();
    });
  }

  untilState(state, seconds) { return this.until(`state ${state}`, () => this.state === state, seconds); }

  untilSubscribed(channels, { times = 1, seconds } = {}) {
    return this.until(`pusher:subscription_succeeded for ${channels.length} channel(s)${times > 1 ? `, time ${times}` : ''}`,
      () => channels.every(channel => this.count('pusher:subscription_succeeded', channel) >= times), seconds);
  }

  untilEvent(event, channel, seconds) {
    return this.until(`event ${event}${channel ? ` on ${channel}` : ''}`, () => this.count(event, channel) > 0, seconds);
  }

  // Asks it to end, and holds it to its word: exit 0, soon, and nothing said that was not an event.
  async finish(signal = 'SIGTERM', seconds = 5) {
    if (this.finished) return;
    if (!this.mayEnd) assert.equal(this.ended, undefined, `${this.name} ended by itself`);
    this.finished = true;
    if (this.ended === undefined) {
      this.child.kill(signal);
      const timer = setTimeout(() => this.child.kill('SIGKILL'), seconds * 1000);
      await this.gone;
      clearTimeout(timer);
      assert.equal(this.ended, 0, `${this.name}: ${signal} must end it with exit code 0 within ${seconds} s`);
    }
    assert.deepEqual(this.wrong, []);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.gone;
  }

  // For the report of a failed test.
  tail() {
    const short = this.events.slice(-8).map(e => `  > ${e.line.slice(0, 160)}`);
    return [`${this.name}: ${this.ended === undefined ? 'running' : `ended (${this.ended})`}, ${this.events.length} lines out`, ...short,
      ...this.said.slice(-15).map(line => `  ! ${line.slice(0, 300)}`)].join('\n');
  }
}
