// A client under commands, pusher.h ('ours', drive.c) or pusher-js ('theirs', drive.mjs): the same
// commands, the same lines. A test against a real server drives several of them together.
import assert from 'node:assert/strict';
import { clients, Driver } from './differential.mjs';
import { apps } from './soketi.mjs';

const word = text => encodeURIComponent(text);

export class Player {
  #driver;

  // backend: authorizes; user: who this says to be; headers: of its requests
  constructor(kind, port, { app = 'main', backend, user, headers = {}, options = [] } = {}) {
    this.#driver = clients[kind](port, [`key=${apps[app].key}`,
      ...(backend ? [`endpoint=${backend.endpoint}`, `user-endpoint=${backend.userEndpoint}`] : []),
      ...(user ? [`param:user_id=${user}`] : []),
      ...Object.entries(headers).map(([name, value]) => `header:${name}=${value}`), ...options]);
    assert.ok(this.#driver instanceof Driver);
  }

  set name(name) { this.#driver.name = name; }
  get name() { return this.#driver.name; }
  get seen() { return this.#driver.seen; }        // everything it printed, in order
  get lastState() { return this.seen.filter(one => one.state).at(-1)?.state; }

  async #until(what, holds, seconds) {
    try { await this.#driver.until(what, holds, seconds); } catch (error) { throw new Error(`${this.name}: ${error.message}`); }
  }

  // ---- commands ----
  do(...words) { return this.#driver.do(...words); }
  async connect() { await this.do('connect'); await this.untilState('connected'); }
  async subscribe(...channels) { for (const channel of channels) await this.do('listen', word(channel)); }
  async listen(...channels) { await this.subscribe(...channels); for (const channel of channels) await this.live(channel); }
  unsubscribe(channel) { return this.do('unsubscribe', word(channel)); }
  bind(where, event, label) { return this.do('bind', word(where), word(event), label); }
  bindAll(where, label) { return this.do('bind-all', word(where), label); }
  trigger(channel, event, value) { return this.do('trigger', word(channel), word(event), word(JSON.stringify(value))); }
  async members(channel) {
    await this.do('members', word(channel));
    const { count, list, me } = this.seen.filter(one => one.members === channel).at(-1);
    return { count, list: [...list].sort((a, b) => a.id < b.id ? -1 : 1), me };
  }

  // ---- what it saw ----
  events(event, channel) { return this.seen.filter(one => one.event === event && (channel === undefined || one.channel === channel)); }
  payloads(event, channel) { return this.events(event, channel).map(one => one.data); }
  errors(code) { return this.seen.filter(one => one.error && (code === undefined || one.code === code)); }

  untilState(state, seconds) { return this.#until(`state ${state}`, () => this.lastState === state, seconds); }
  untilEvent(event, channel, { times = 1, seconds } = {}) {
    return this.#until(`${event} on ${channel}${times > 1 ? `, time ${times}` : ''}`, () => this.events(event, channel).length >= times, seconds);
  }
  live(channel, more) { return this.untilEvent('pusher:subscription_succeeded', channel, more); }
  until(what, holds, seconds) { return this.#until(what, () => holds(this), seconds); }

  async finish() {
    if (this.finished) return;
    this.finished = true;
    assert.equal(this.#driver.ended, undefined, `${this.name} ended by itself: ${this.#driver.errors.slice(-2000)}`);
    this.#driver.tell('quit');
    await this.#until('its end', () => this.#driver.ended !== undefined);
    assert.equal(this.#driver.ended, 0, `${this.name}: ${this.#driver.errors.slice(-2000)}`);
  }

  async crash() { this.finished = true; await this.kill(); }
  kill() { return this.#driver.kill(); }

  tail() {
    return [`${this.name}: ${this.#driver.ended === undefined ? 'running' : `ended (${this.#driver.ended})`}`,
      ...this.#driver.lines.filter(line => line !== '{"done":true}').slice(-12).map(line => `  > ${line.slice(0, 200)}`), this.#driver.errors.slice(-500)].join('\n');
  }
}
