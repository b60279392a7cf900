// @ts-check
// Follow a channel, and never lose the place in it.
//
//     import { follow } from "/follow.js";
//     for await (const entry of follow("/channels/news")) console.log(entry.data);
//
// A channel can be read in four ways: over a WebSocket, by an EventSource, as lines with fetch, and
// by long-polling. If one does not get through, the next is tried, with the same cursor: nothing is
// lost and nothing comes twice. What the server has dropped in the meantime comes as a gap.
//
// An EventSource delivers only events whose types it was told beforehand, so it is used only where
// it is asked for, and told `types`.

/**
 * @typedef {"websocket" | "events" | "lines" | "poll"} Way
 *
 * @typedef {object} Entry
 * @property {string} id  the cursor behind this entry
 * @property {any} [data]  its text, or the value in a channel of JSON; missing in a gap
 * @property {string} [event]  its type
 * @property {string} [channel]  where several channels are read
 * @property {{from: string, to: string}} [gap]  entries between these are lost
 * @property {boolean} [end]  the channel is closed: nothing follows
 *
 * @typedef {object} State
 * @property {"connecting" | "open" | "waiting" | "closed"} status
 * @property {Way} way
 * @property {number} [seconds]  until the next attempt, while waiting
 * @property {string} [why]  of the last interruption
 *
 * @typedef {object} Options
 * @property {Way[]} [ways]  in the order in which they are tried
 * @property {string[]} [channels]  others to read over the same connection
 * @property {string} [after]  the cursor to go on from; "0" is the oldest entry there is
 * @property {number} [last]  without a cursor: how many entries before the present to begin at
 * @property {string[]} [types]  for an EventSource: the types of entries beside "message"
 * @property {string} [token]  sent as `Authorization: Bearer`, which only lines and polls can
 * @property {AbortSignal} [signal]  ends it
 * @property {(state: State) => void} [onstate]  is told how the connection is
 * @property {number} [openSeconds]  within which a way has to get through
 * @property {number} [silenceSeconds]  after which a connection is looked after: lines without a
 *   heartbeat count as cut, and beside others a poll asks whether something was missed
 */

/** The connection failed in a way that will not change. */
export class Refused extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text || `refused with status ${status}`);
    this.status = status;
  }
}

const PASSING = new Set([408, 425, 429]);  // of the statuses below 500
const LONGEST_PAUSE = 30;
const LASTING_SECONDS = 10;  // a connection that lasted as long was a good one
const POLL_SECONDS = 25;
const ANSWERED_WITHIN = 10;

/**
 * Follow a channel. The result is an async iterator of entries and gaps. It ends when the channel is
 * closed or `signal` is aborted, and throws `Refused` when the server will never answer otherwise.
 * @param {string} url
 * @param {Options} [options]
 */
export function follow(url, options = {}) {
  return new Follower(url, options);
}

export class Follower {
  /** @param {string} url @param {Options} [options] */
  constructor(url, options = {}) {
    this.url = new URL(url, location.href);
    /** The name of the channel of the URL. */
    this.name = decodeURIComponent(this.url.pathname.split("/").at(-1) ?? "");
    this.options = options;
    /** @type {Way[]} */
    this.ways = options.ways ?? (options.token ? ["lines", "poll"] : ["websocket", "lines", "poll"]);
    this.way = this.ways[0];
    this.channels = new Set(options.channels ?? []);
    /** Those that have ended. @type {Set<string>} */
    this.ended = new Set();
    /** The last ID of each channel; of an only one under "".
     * @type {Map<string, string>} */
    this.ids = new Map();
    if (options.after) this.remember(options.after);
    /** @type {State} */
    this.state = { status: "connecting", way: this.way };
    this.closing = new AbortController();
    /** @type {Entry[]} */
    this.queue = [];
    this.wake = () => {};
    /** @type {unknown} */
    this.failure = null;
    this.isOver = false;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {Map<string, {resolve: (reply: any) => void, reject: (error: Error) => void}>} */
    this.replies = new Map();
    this.isStarted = false;
    // Of the current attempt:
    this.hasOpened = false;
    this.hasWorked = false;  // it has brought entries, or has lasted
    this.asked = 0;  // seconds that the server asks to wait
    this.heard = 0;  // how often something has come
    /** @type {(() => void) | undefined} */
    this.reconnect = undefined;
    this.isRejoining = false;  // it was ended by us, to read other channels
    const { signal } = options;
    signal?.addEventListener("abort", () => this.close(), { signal: this.closing.signal });
    if (signal?.aborted) this.close();
  }

  /** The cursor: give it to `follow` as `after` to go on from here. */
  get cursor() {
    if (this.ids.has("")) return this.ids.get("") ?? "";
    return [...this.ids].map(([name, id]) => `${name}:${id}`).join(",");
  }

  /** End it. Entries that have arrived can still be read. */
  close() {
    this.closing.abort();
    this.wake();
  }

  async *[Symbol.asyncIterator]() {
    if (!this.isStarted) {
      this.isStarted = true;
      this.run().catch(error => { this.failure = error; }).finally(() => {
        this.isOver = true;
        this.tell({ status: "closed", way: this.way });
        this.wake();
      });
    }
    try {
      for (;;) {
        while (this.queue.length) yield /** @type {Entry} */ (this.queue.shift());
        if (this.isOver) break;
        await new Promise(resolve => { this.wake = () => resolve(undefined); });
      }
      if (this.failure) throw this.failure;
    } finally {
      this.close();
    }
  }

  // -- What is sent back --------------------------------------------------------------------------

  /**
   * Publish an entry. Returns its ID once the server has it. Without an answer it may be in the
   * channel or not: that is an error, too.
   * @param {any} data
   * @param {{channel?: string, event?: string}} [to]
   * @returns {Promise<string>}
   */
  async publish(data, { channel = this.name, event } = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) {
      const reply = await this.ask({ publish: data, channel, ...(event && { event }) });
      return reply.published;
    }
    const url = this.urlOf(channel);
    if (event) url.searchParams.set("event", event);
    const body = typeof data === "string" ? data : JSON.stringify(data);
    const signal = AbortSignal.timeout(ANSWERED_WITHIN * 1000);
    const response = await fetch(url, { method: "POST", body, headers: this.headers(), signal });
    if (!response.ok) throw new Refused(response.status, (await response.text()).trim());
    return (await response.json()).id;
  }

  /** Read another channel, too, from the present on. @param {string} channel */
  async join(channel) {
    const own = this.ids.get("");  // from now on, IDs are told apart by channel
    if (own) this.ids = new Map([[this.name, own]]);
    this.channels.add(channel);
    try {
      if (this.socket?.readyState === WebSocket.OPEN) await this.ask({ join: channel });
      else this.rejoin();
    } catch (error) {
      if (error instanceof Refused) this.channels.delete(channel);  // else nothing would be read
      throw error;
    }
  }

  /** Read a channel no longer. @param {string} channel */
  async leave(channel) {
    this.channels.delete(channel);
    this.ids.delete(channel);
    if (this.socket?.readyState === WebSocket.OPEN) await this.ask({ leave: channel });
    else this.rejoin();
  }

  rejoin() {
    this.isRejoining = this.reconnect !== undefined;
    this.reconnect?.();
  }

  /** @param {string} channel */
  urlOf(channel) {
    const url = new URL(encodeURIComponent(channel), this.url);
    url.search = this.url.search;
    return url;
  }

  /** @param {Record<string, unknown>} command @returns {Promise<any>} */
  ask(command) {
    const ref = crypto.getRandomValues(new Uint32Array(2)).join("-");
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error("the server has not answered"));
      const timer = setTimeout(late, ANSWERED_WITHIN * 1000);
      this.replies.set(ref, {
        resolve: reply => { clearTimeout(timer); resolve(reply); },
        reject: error => { clearTimeout(timer); reject(error); },
      });
      this.socket?.send(JSON.stringify({ ...command, ref }));
    }).finally(() => this.replies.delete(ref));
  }

  // -- The connection -----------------------------------------------------------------------------

  /** Connect, and connect again, until the channel ends. */
  async run() {
    let failures = 0;  // connections in a row that were of no use
    let left = this.ways.length;  // ways that can still be tried before there is a pause
    while (!this.closing.signal.aborted && !this.isOver) {
      const attempt = new AbortController();
      const end = () => attempt.abort();
      this.closing.signal.addEventListener("abort", end);
      this.reconnect = end;
      this.hasOpened = this.hasWorked = false;
      this.asked = 0;
      const began = Date.now();
      this.tell({ status: "connecting", way: this.way });
      let why = "the connection was cut";
      try {
        await this.within(attempt, this[this.way](attempt.signal));
      } catch (error) {
        if (error instanceof Refused && !PASSING.has(error.status) && error.status < 500) throw error;
        why = error instanceof Error ? error.message : String(error);
      } finally {
        attempt.abort();
        this.closing.signal.removeEventListener("abort", end);
        this.reconnect = undefined;
      }
      if (this.closing.signal.aborted || this.isOver) return;
      if (this.isRejoining) {
        this.isRejoining = false;
        continue;
      }
      if (this.hasWorked || (this.hasOpened && Date.now() - began > LASTING_SECONDS * 1000)) failures = 0;
      if (this.hasOpened) left = this.ways.length;  // it was cut: this way has got through
      else {
        // The next way is tried at once; when all have failed, there is a pause, and they are tried
        // again in the same order.
        this.way = this.ways[(this.ways.indexOf(this.way) + 1) % this.ways.length];
        left -= 1;
        if (left > 0) continue;
        left = this.ways.length;
      }
      failures += 1;
      const pause = Math.min(LONGEST_PAUSE, .5 * 2 ** failures) * (.5 + Math.random());  // not all clients at once
      await this.pause(Math.max(pause, this.asked), why);
    }
  }

  /** Give up an attempt that has not opened in time. @param {AbortController} attempt @param {Promise<void>} reading */
  async within(attempt, reading) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => {
        if (!this.hasOpened) reject(new Error(`nothing gets through by ${this.way}`));
      }, (this.options.openSeconds ?? 8) * 1000);
    });
    try {
      await Promise.race([reading, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Wait; shorter if the browser comes online or the page is seen again. @param {number} seconds @param {string} why */
  async pause(seconds, why) {
    const end = Date.now() + seconds * 1000;
    let isOver = false;
    const hurry = () => { if (navigator.onLine && !document.hidden) isOver = true; };
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    while (!isOver && !this.closing.signal.aborted && (Date.now() < end || !navigator.onLine)) {
      this.tell({ status: "waiting", way: this.way, seconds: Math.max(0, Math.ceil((end - Date.now()) / 1000)), why });
      await new Promise(resolve => setTimeout(resolve, Math.min(250, Math.max(20, end - Date.now()))));
    }
    removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
  }

  /** @param {State} state */
  tell(state) {
    const old = this.state;
    this.state = state;
    if (JSON.stringify(old) === JSON.stringify(state)) return;
    try {
      this.options.onstate?.(state);
    } catch (error) {
      reportError(error);  // a mistake of the page must not end the reading
    }
  }

  opened() {
    this.hasOpened = true;
    this.tell({ status: "open", way: this.way });
  }

  /** @param {any} entry */
  took(entry) {
    this.hasWorked = true;
    this.heard += 1;
    if (entry.id) this.remember(entry.id, entry.channel);
    const name = entry.channel ?? this.name;
    const isNews = "data" in entry || entry.gap || (entry.end && !this.ended.has(name));
    if (isNews) this.queue.push(entry);
    if (entry.end) this.ended.add(name);
    if (this.ended.has(this.name) && [...this.channels].every(name => this.ended.has(name))) this.isOver = true;
    this.wake();
    if (this.isOver) this.reconnect?.();
  }

  /** @param {string} id @param {string} [channel] */
  remember(id, channel) {
    for (const part of id.split(",")) {
      const [, name = "", own = part] = /^(.*):(.*)$/.exec(part) ?? [];
      this.ids.set(name || (this.channels.size ? channel ?? this.name : ""), own);
    }
  }

  /** @param {Record<string, string>} [more] */
  target(more = {}) {
    const url = new URL(this.url);
    for (const name of this.channels) url.searchParams.append("channel", name);
    if (this.cursor) url.searchParams.set("after", this.cursor);
    else if (this.options.last) url.searchParams.set("last", String(this.options.last));
    for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
    return url;
  }

  headers(more = {}) {
    const { token } = this.options;
    return { ...(token && { Authorization: `Bearer ${token}` }), ...more };
  }

  // -- Four ways to read. Each returns when its connection has ended -------------------------------

  /** @param {AbortSignal} signal @returns {Promise<void>} */
  websocket(signal) {
    const url = this.target({ batch: "1" });
    url.protocol = url.protocol.replace("http", "ws");
    const socket = this.socket = new WebSocket(url);
    return new Promise(resolve => {
      const end = () => {
        if (this.socket === socket) this.socket = null;
        for (const { reject } of this.replies.values()) reject(new Error("the connection was cut"));
        socket.close();
        resolve();
      };
      signal.addEventListener("abort", end);
      socket.onopen = () => {
        this.opened();
        this.guard(signal, end);
      };
      socket.onclose = end;
      socket.onmessage = ({ data }) => {
        if (signal.aborted) return;
        for (const line of data.split("\n")) if (line) this.heardOf(JSON.parse(line));
      };
    });
  }

  /** @param {any} message */
  heardOf(message) {
    const waiting = this.replies.get(message.ref);
    if (message.error) waiting?.reject(new Refused(message.error, message.text));
    else waiting?.resolve(message);
    if (message.joined) this.remember(message.id, message.joined);
    else if (message.id) this.took(message);
  }

  /** It reconnects by itself, and respects `retry:`, until an answer is no event stream.
   * @param {AbortSignal} signal @returns {Promise<void>} */
  async events(signal) {
    // An EventSource does not tell the page where it begins: a poll does.
    if (!this.cursor) {
      const answer = await this.answer(this.target({ wait: "0" }), signal);
      for (const entry of answer.entries) this.took(entry);
      if (answer.next) this.remember(answer.next);
    }
    const source = new EventSource(this.target());
    return new Promise(resolve => {
      const end = () => { source.close(); resolve(); };
      signal.addEventListener("abort", end);
      this.guard(signal, end);
      let failures = 0;  // in a row
      source.onopen = () => { failures = 0; this.opened(); };
      source.onerror = () => {
        failures += 1;
        if (source.readyState === EventSource.CLOSED || failures > 3) end();
        else this.tell({ status: "waiting", way: "events", why: "the connection was cut" });
      };
      /** @param {MessageEvent} event @param {object} [more] */
      const entry = (event, more) => {
        if (signal.aborted) return;
        if (more) return this.took({ id: event.lastEventId, ...more });
        const { type, data } = event;
        const told = this.channels.size ? JSON.parse(data) : { data };
        this.took({ id: event.lastEventId, ...told, ...(type !== "message" && { event: type }) });
      };
      source.onmessage = event => entry(event);
      source.addEventListener("gap", event => {
        const { channel, ...gap } = JSON.parse(event.data);
        entry(event, { ...(channel && { channel }), gap });
      });
      source.addEventListener("end", event => entry(event, { ...JSON.parse(event.data), end: true }));
      for (const type of this.options.types ?? []) source.addEventListener(type, event => entry(/** @type {MessageEvent} */ (event)));
    });
  }

  /** @param {AbortSignal} signal @returns {Promise<void>} */
  async lines(signal) {
    const response = await this.fetched(this.target(), { headers: this.headers({ Accept: "application/x-ndjson" }), signal });
    if (!response.body) throw new Error("an answer without a body");
    this.opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await this.inTime(reader.read(), this.silenceSeconds).catch(error => {
        // A proxy may pass the head on, and hold everything else back: then this way is none.
        if (!this.hasWorked) this.hasOpened = false;
        throw error;
      });
      if (done || signal.aborted) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line) this.took(JSON.parse(line));
    }
  }

  get silenceSeconds() { return this.options.silenceSeconds ?? 45; }

  /** A page is not told of the pings of a WebSocket, nor of the heartbeats of an EventSource. So when
   * nothing has come for a while, a poll asks: if it is not answered, or brings entries, then the
   * connection is dead. @param {AbortSignal} signal @param {() => void} end */
  async guard(signal, end) {
    for (;;) {
      const seen = this.heard;
      await new Promise(resolve => setTimeout(resolve, this.silenceSeconds * 1000));
      if (signal.aborted) return;
      if (this.heard !== seen || !this.hasOpened) continue;
      try {
        const cursor = this.cursor;
        const answer = await this.inTime(this.answer(this.target({ wait: "0" }), signal), ANSWERED_WITHIN);
        if (signal.aborted || this.heard !== seen || cursor !== this.cursor) continue;
        if (!cursor || !(answer.entries.length || answer.gap || answer.gaps)) continue;
      } catch { /* the server is away */ }
      return end();
    }
  }

  /** Streams have heartbeats: one that is silent is cut, although nobody has said so.
   * @template T @param {Promise<T>} reading @param {number} seconds @returns {Promise<T>} */
  async inTime(reading, seconds) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`silent for ${seconds} s`)), seconds * 1000);
    });
    try {
      return /** @type {T} */ (await Promise.race([reading, late]));
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {AbortSignal} signal @returns {Promise<void>} */
  async poll(signal) {
    let wait = 0;  // the first answer comes at once, and shows that the way is open
    while (!signal.aborted) {
      const url = this.target({ wait: String(wait) });
      const answer = await this.inTime(this.answer(url, signal), wait + ANSWERED_WITHIN);
      if (!this.hasOpened) this.opened();
      wait = POLL_SECONDS;
      for (const { channel, ...gap } of answer.gaps ?? []) this.took({ channel, gap });
      if (answer.gap) this.took({ id: answer.gap.to, gap: answer.gap });
      for (const entry of answer.entries) this.took(entry);
      if (answer.next) this.remember(answer.next);
      for (const channel of answer.ended ?? []) this.took({ channel, end: true });
      if (answer.end) {
        if (!this.channels.size) this.took({ id: answer.next, end: true });
        this.isOver = true;
      }
      if (this.isOver) return;
    }
  }

  /** What a poll is answered. @param {URL} url @param {AbortSignal} signal @returns {Promise<any>} */
  async answer(url, signal) {
    const response = await this.fetched(url, { headers: this.headers(), signal });
    if (response.status === 200) return response.json();
    return { entries: [], next: response.headers.get("etag")?.replaceAll('"', "") };
  }

  /** @param {URL} url @param {RequestInit} options */
  async fetched(url, options) {
    const response = await fetch(url, { cache: "no-store", ...options });
    if (response.ok) return response;
    this.asked = Number(response.headers.get("retry-after")) || 0;
    throw new Refused(response.status, (await response.text()).trim());
  }
}
