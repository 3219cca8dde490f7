// Engine.IO 4 at the level of packets, with `fetch` and `ws`: for tests of single requests, packets and their timing, which a client library
// hides. Does not know Socket.IO, except for packet names in the helpers at the end.

import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { keep, within } from './suite.mjs';

const PATH = '/socket.io/';
const SEPARATOR = '\x1e';
// A payload of this many bytes gets no more packets.
const PAYLOAD = 100_000;

/** `url` with the path and query of Engine.IO; parameters that are undefined are left out. */
export function engineUrl(url, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return `${url}${PATH}?${new URLSearchParams(given)}`;
}

/** The answer to a request: status, text and content type. */
export async function request(url, parameters, options = {}) {
  const response = await fetch(engineUrl(url, parameters), options);
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}

/** A session over HTTP long-polling. */
export class Polling {
  /** Opens a session; `handshake` is the server's open packet. */
  static async open(url, parameters = {}) {
    const answer = await request(url, { EIO: '4', transport: 'polling', ...parameters });
    assert.equal(answer.status, 200, `the handshake is answered by ${answer.status} ${answer.text}`);
    assert.equal(answer.text[0], '0', `${answer.text} is no open packet`);
    return new Polling(url, JSON.parse(answer.text.slice(1)));
  }

  constructor(url, handshake) {
    this.url = url;
    this.handshake = handshake;
    this.sid = handshake.sid;
  }

  /** One GET: the packets that wait, or the next ones. */
  poll(options) {
    return request(this.url, { EIO: '4', transport: 'polling', sid: this.sid }, options);
  }

  /** POSTs packets. */
  push(...packets) {
    return request(this.url, { EIO: '4', transport: 'polling', sid: this.sid }, { method: 'POST', body: encode(packets) });
  }

  /** A websocket of this session before the upgrade. */
  upgrade() {
    return Wire.dial(this.url, this.sid);
  }
}

/** Packets over a websocket; received packets are queued. */
export class Wire {
  /** An open websocket with a new session, or for the given one. */
  static async dial(url, sid) {
    const wire = new Wire(engineUrl(url.replace('http', 'ws'), { EIO: '4', transport: 'websocket', sid }));
    await within(10, 'opening a websocket', wire.opened);
    return wire;
  }

  /** A session; `handshake` is the server's open packet. */
  static async open(url) {
    const wire = await Wire.dial(url);
    const packet = await wire.next();
    assert.equal(packet[0], '0', `${packet} is no open packet`);
    wire.handshake = JSON.parse(packet.slice(1));
    return wire;
  }

  constructor(url) {
    this.socket = new WebSocket(url);
    this.waiting = [];
    this.listeners = [];
    /** Whether pings are answered instead of returned. */
    this.beats = false;
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
    // A refused websocket never opens: close or error ends it.
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve(performance.now())));
    this.opened.catch(() => {});
    this.socket.on('error', () => {});
    this.socket.on('message', (bytes, isBinary) => this.hear(isBinary ? bytes : bytes.toString()));
    this.socket.on('close', () => this.listeners.splice(0).forEach(({ reject }) => reject(new Error('the connection was closed'))));
    keep({ disconnect: () => this.socket.terminate() });
  }

  send(...packets) {
    for (const packet of packets) this.socket.send(packet);
  }

  /** The next packet: text, or a Buffer. */
  next(seconds = 10) {
    if (this.waiting.length > 0) return Promise.resolve(this.waiting.shift());
    if (this.socket.readyState > WebSocket.OPEN) return Promise.reject(new Error('the connection was closed'));
    const packet = new Promise((resolve, reject) => this.listeners.push({ resolve, reject }));
    return within(seconds, 'hearing a packet', packet);
  }

  /** Answers pings from now on, including queued ones. */
  beat() {
    this.beats = true;
    for (const packet of this.waiting.splice(0)) this.hear(packet);
    return this;
  }

  hear(packet) {
    if (this.beats && packet === '2') return void this.socket.send('3');
    const listener = this.listeners.shift();
    if (listener) listener.resolve(packet);
    else this.waiting.push(packet);
  }
}

/** The same over HTTP long-polling: polls continuously and answers pings. */
export class PollingWire {
  static async open(url) {
    const session = await Polling.open(url);
    return new PollingWire(session);
  }

  constructor(session) {
    this.session = session;
    this.handshake = session.handshake;
    this.waiting = [];
    this.listeners = [];
    this.unsent = [];
    this.abort = new AbortController();
    this.closed = this.listen().then(() => {
      this.ended = true;
      this.listeners.splice(0).forEach(({ reject }) => reject(new Error('the session was closed')));
      return performance.now();
    });
    keep({ disconnect: () => this.abort.abort() });
  }

  send(...packets) {
    this.unsent.push(...packets);
    this.flush();
  }

  next(seconds = 10) {
    if (this.waiting.length > 0) return Promise.resolve(this.waiting.shift());
    if (this.ended) return Promise.reject(new Error('the session was closed'));
    const packet = new Promise((resolve, reject) => this.listeners.push({ resolve, reject }));
    return within(seconds, 'hearing a packet', packet);
  }

  beat() {
    return this;
  }

  /** Sends queued packets, one POST after the other. */
  async flush() {
    if (this.flushing) return;
    this.flushing = true;
    while (this.unsent.length > 0) {
      const packets = [];
      for (let size = 0; this.unsent.length > 0 && size < PAYLOAD; size += packets.at(-1).length) packets.push(this.unsent.shift());
      await this.session.push(...packets).catch(() => {});
    }
    this.flushing = false;
  }

  /** Polls until the session is over. */
  async listen() {
    for (;;) {
      const answer = await this.session.poll({ signal: this.abort.signal }).catch(() => undefined);
      if (answer?.status !== 200) return;
      for (const packet of decode(answer.text)) {
        if (packet === '1') return;
        if (packet === '2') this.send('3');
        else if (packet !== '6') this.hear(packet);
      }
    }
  }

  hear(packet) {
    const listener = this.listeners.shift();
    if (listener) listener.resolve(packet);
    else this.waiting.push(packet);
  }
}

/** Transports: each opens a session that sends and receives packets. */
export const WIRES = { websocket: Wire, polling: PollingWire };

/** A payload of HTTP long-polling. */
export function encode(packets) {
  const texts = packets.map((packet) => (typeof packet === 'string' ? packet : `b${Buffer.from(packet).toString('base64')}`));
  return texts.join(SEPARATOR);
}

/** The packets of a payload. */
export function decode(payload) {
  return payload.split(SEPARATOR).map((packet) => (packet[0] === 'b' ? Buffer.from(packet.slice(1), 'base64') : packet));
}

/** A session that answers pings and is connected to the namespace `/`; `first` is the first event that it received. */
export async function greeted(kind, url, auth = '') {
  const wire = (await kind.open(url)).beat();
  wire.send(`40${auth}`);
  const packet = await wire.next();
  assert.match(packet, /^40\{/, `${packet} is no connect packet`);
  wire.id = JSON.parse(packet.slice(2)).sid;
  wire.first = await wire.next();
  return wire;
}

/** Waits until the connection is closed. */
export function closed(wire, seconds = 5) {
  return within(seconds, 'closing the connection', wire.closed);
}

/** Whether a websocket with these parameters is refused or closed. */
export function refused(url, parameters) {
  const wire = new Wire(engineUrl(url.replace('http', 'ws'), parameters));
  return within(5, `refusing a websocket with ${JSON.stringify(parameters)}`, wire.closed);
}
