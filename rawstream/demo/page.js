import { follow } from "/follow.js";

const at = id => document.getElementById(id);
const later = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const newKey = () => Math.random().toString(36).slice(2, 12);
document.querySelector("nav a").search = location.search;  // the token of the wire, if it has one
for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;

// Text in, cut anywhere; a parsed line of JSON out at each line end.
function lineParser(take) {
  let rest = "";
  return text => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) take(JSON.parse(line));
  };
}

// fetch only fails if there is no answer at all: an error status is an answer, too.
async function fetched(url, options) {
  const response = await fetch(url, { cache: "no-store", ...options });
  if (response.ok) return response;
  throw new Error((await response.text()).trim() || `status ${response.status}`);
}

// Read a response as text, piece by piece. A piece is a network read, not a message.
async function eachRead(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let reads = 0; ; reads += 1) {
    const { value, done } = await reader.read();
    if (done) return reads;
    take(value);
  }
}

// -- One channel, four readers ---------------------------------------------------------------------

const CHANNEL = "/channels/news", SHOWN = 48;
let newest = 0;

class Lane {
  constructor(name, how, way) {
    Object.assign(this, { name, way, key: newKey(), cursor: "", seen: 0, lost: 0, repeated: 0, cuts: 0, isOpen: false });
    this.state = document.createElement("span");
    this.state.textContent = how;
    this.how = how;
    this.track = Object.assign(document.createElement("div"), { className: "track" });
    this.track.setAttribute("role", "img");
    const title = Object.assign(document.createElement("div"), { className: "name" });
    title.append(Object.assign(document.createElement("b"), { textContent: name }), this.state);
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Cut" });
    button.setAttribute("aria-label", `Cut the connection of ${name}`);
    button.onclick = () => this.cut();
    this.row = Object.assign(document.createElement("div"), { className: "lane" });
    this.row.append(title, this.track, button);
    at("tracks").append(this.row);
  }
  // The server cuts without warning, as a network might. (A poll that is cut the browser repeats by
  // itself, unseen by the page.)
  cut() {
    this.mark("scissors", newest);
    fetch(`/cut?reader=${this.key}`, { method: "POST" });
  }
  mark(kind, n) {
    const mark = Object.assign(document.createElement("i"), { className: kind });
    mark.style.setProperty("--n", n);
    this.track.append(mark);
    while (this.track.firstChild && Number(this.track.firstChild.style.getPropertyValue("--n")) < newest - SHOWN * 2) this.track.firstChild.remove();
  }
  // An id is opaque to clients. This page looks into it only to check the server.
  took(id, data) {
    const [epoch, position] = [id.split("-")[0], Number(id.split("-")[1])];
    const [oldEpoch, old] = [this.cursor.split("-")[0], Number(this.cursor.split("-")[1])];
    this.cursor = id;
    if (data === undefined) return;
    if (epoch === oldEpoch) {
      if (position <= old) this.repeated += 1;
      else this.lost += position - old - 1;
    } else if (oldEpoch) {  // another server: its numbers begin anew
      newest = 0;
      for (const lane of lanes) lane.track.replaceChildren();
    }
    this.seen += 1;
    this.mark(position < newest ? "dot late" : "dot", position);
    if (position > newest) {
      newest = position;
      at("tracks").style.setProperty("--newest", newest);
    }
    count();
  }
  came({ status, seconds }) {
    if (this.isOpen && status !== "open") this.cuts += 1;
    this.isOpen = status === "open";
    this.tell({ waiting: seconds ? `reconnecting in ${seconds} s` : "reconnecting", connecting: "connecting" }[status] ?? "");
  }
  left(note) {
    this.isOpen = false;
    this.tell(note);
  }
  tell(note) {
    this.row.classList.toggle("away", !this.isOpen);
    this.state.textContent = note || (this.cuts ? `${this.how}, cut ${this.cuts}×` : this.how);
  }
  get url() { return `${CHANNEL}?reader=${this.key}`; }
}

function count() {
  const sum = key => lanes.reduce((total, lane) => total + lane[key], 0);
  for (const key of ["lost", "repeated"]) at(key).textContent = sum(key);
  document.querySelector(".score").classList.toggle("bad", sum("lost") + sum("repeated") > 0);
  for (const lane of lanes) lane.track.setAttribute("aria-label", `${lane.name} has read ${lane.seen} entries`);
}

// `follow` reads until `signal` stops it: it reconnects, and goes on from its cursor.
async function read(lane, signal) {
  const { way, cursor } = lane;
  const onstate = state => { if (!signal.aborted) lane.came(state); };
  try {
    for await (const entry of follow(lane.url, { ways: [way], after: cursor, signal, onstate })) {
      lane.took(entry.id, entry.data);
    }
  } catch (error) {
    lane.tell(error.message);
  }
}

const lanes = [
  new Lane("Events", "EventSource", "events"),
  new Lane("Lines", "fetch, in chunks", "lines"),
  new Lane("Long-poll", "fetch, again and again", "poll"),
  new Lane("WebSocket", "frames", "websocket"),
];
let isPublishing = true, published = 0, acknowledged = 0, publisher = null;

function connectPublisher() {
  publisher = new WebSocket(location.origin.replace(/^http/, "ws") + CHANNEL);
  publisher.onmessage = event => { if (JSON.parse(event.data).published) acknowledged += 1; };
  const own = publisher;
  publisher.onclose = async () => { await later(1000); if (publisher === own) connectPublisher(); };
}

at("publishing").onclick = () => {
  isPublishing = !isPublishing;
  at("publishing").textContent = isPublishing ? "Pause" : "Start";
};
setInterval(() => {
  if (isPublishing && reading && publisher?.readyState === WebSocket.OPEN) {
    published += 1;
    publisher.send(JSON.stringify({ publish: `entry ${published}`, channel: "news" }));
  }
  at("lanes-state").textContent = `published ${published}, acknowledged ${acknowledged}`;
}, 200);

// Over HTTP/1.1 a browser has six connections to an origin, for all its tabs. So only one tab reads:
// the one that was opened or chosen last. When another is chosen, its readers go on from their cursors.
let reading = null;
const tabs = new BroadcastChannel("lanes");
function readAll() {
  if (reading || document.hidden || !publisher || (closing && isHttp1)) return;
  tabs.postMessage("another tab reads now");
  reading = new AbortController();
  for (const lane of lanes) read(lane, reading.signal);
}
function leave(note) {
  reading?.abort();
  reading = null;
  for (const lane of lanes) lane.left(note);
}
function leaveTab() {
  closeFifty();
  leave("waits until this tab is chosen");
}
tabs.onmessage = leaveTab;
document.addEventListener("visibilitychange", () => document.hidden ? leaveTab() : readAll());
window.addEventListener("focus", readAll);

// -- Which one do I need? --------------------------------------------------------------------------

const WAYS = [
  {
    id: "chunked", question: "One answer that grows?", take: "A chunked response",
    why: "The client asks, and the answer comes as it is made: a report, an export, the tokens of a model. Each piece is a chunk of one HTTP response, which any client can read.",
    fields: [["prompt", "Prompt", "Why is the sky blue?"]], faults: true, measured: "chunked",
    curl: ({ prompt, fault }) => `curl -N -d '${quoted(prompt)}' ${location.origin}/generate${fault && `?fault=${fault}`}`,
    async run({ prompt, query }, { line, note, signal }) {
      let text = "";
      const response = await fetched(`/generate?${query}`, { method: "POST", body: prompt, signal });
      const reads = await eachRead(response, lineParser(({ token, done }) => {
        text += token ?? "";
        line(text, { replace: true });
        if (done) note("the server says: done");
      }));
      note(`ended after ${reads} reads; a read is not a chunk`);
    },
  },
  {
    id: "ticks", question: "The server tells, and nothing may be missed?", take: "Server-Sent Events",
    why: "Notifications, progress, live figures. The browser reconnects by itself and says what it has seen last. Stop the server and start it again: the ticks go on.",
    fields: [["count", "Ticks", "10", "number"]], faults: true, measured: "sse",
    curl: ({ count, fault }) => `curl -N '${location.origin}/ticks?count=${count}${fault && `&fault=${fault}`}'`,
    run({ count, query }, { line, note, signal }) {
      return new Promise((resolve, reject) => {
        const source = new EventSource(`/ticks?count=${count}&${query}`);
        const end = (how, value) => { source.close(); how(value); };
        signal.addEventListener("abort", () => end(resolve));
        source.addEventListener("open", () => note("open"));
        source.addEventListener("tick", event => line(`id ${event.lastEventId}  ${event.data}`));
        source.addEventListener("message", event => {
          line(event.data);
          if (event.data === "[DONE]") { note("ended: [DONE] is the agreed last event"); end(resolve); }
        });
        source.addEventListener("error", () => {
          // After an answer that is no event stream, such as 400, it never reconnects.
          if (source.readyState === EventSource.CLOSED) end(reject, new Error("refused for good: the answer was no event stream"));
          else note("interrupted; EventSource reconnects by itself");
        });
      });
    },
  },
  {
    id: "ws", question: "Both sides talk at any time?", take: "A WebSocket",
    why: "Chat, games, shared editing. Messages go both ways over one connection: the server echoes yours, and counts seconds. To reconnect and to go on where one was is up to the application.",
    fields: [["text", "Message", "hello"]], measured: "websocket", button: "Send", staysOpen: true,
    curl: () => `python -m websockets ${location.origin.replace(/^http/, "ws")}/ws`,
    async run({ text, query }, { line, note, signal, keep }) {
      let socket = keep.socket;
      if (!socket || socket.readyState > WebSocket.OPEN) {
        socket = keep.socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws?seconds=2&${query}`);
        note("connecting");
        await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error("cannot connect")); });
        note("open");
        socket.onmessage = event => line(`← ${event.data}`);
        socket.onclose = event => note(`closed with code ${event.code}${event.reason && `: ${event.reason}`}; send again to reconnect`);
      }
      line(`→ ${text}`);
      socket.send(text);
    },
  },
  {
    id: "poll", question: "Nothing else gets through?", take: "Long-polling",
    why: "Proxies that buffer, clients that know only whole answers. The server holds a request until there is news, and the client asks again at once. Open two tabs: both get every line, however late they ask.",
    fields: [["text", "Line", "news"]], measured: "long-poll", button: "Post", staysOpen: true,
    curl: ({ text }) => `curl -i '${location.origin}/poll?wait=20'\ncurl -d '${quoted(text)}' ${location.origin}/poll`,
    async run({ text, query }, { line, note, keep }) {
      if (!keep.isPolling) {
        keep.isPolling = true;
        const first = await fetched(`/poll?wait=0&${query}`);  // only for its cursor
        keep.cursor = first.headers.get("etag").replaceAll('"', "");
        pollOn(query, keep, line, note);
      }
      await fetched("/poll", { method: "POST", body: text });
    },
  },
];

async function pollOn(query, keep, line, note) {
  while (keep.isPolling) {
    try {
      // Without no-store, two tabs that ask for the same URL would wait for each other: the cache of
      // the browser sends only one of the requests, to answer both with it.
      const response = await fetched(`/poll?wait=20&after=${keep.cursor}&${query}`);
      if (response.status === 200) {
        const answer = await response.json();
        if (answer.gap) line("(some lines may be missing here)");
        for (const entry of answer.entries) line(entry);
      }
      keep.cursor = response.headers.get("etag").replaceAll('"', "");
      note(`waiting, with cursor ${keep.cursor}`);
    } catch (error) {
      note(`${error.message}; asks again`);
      await later(1000);
    }
  }
}

const FAULTS = [["", "none"], ["bytes", "send byte by byte"], ["join", "join three writes"], ["buffer", "buffer like a proxy"],
                ["stall", "stall for 5 s"], ["drop", "drop after three"]];
const quoted = text => text.replaceAll("'", `'\\''`);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const compared = JSON.parse(at("compared").textContent);

class Experiment {
  constructor(way) {
    this.way = way;
    this.key = newKey();
    this.keep = {};  // of ways that stay open
    this.connections = new Set();  // that carry an exchange of its own
    this.pieces = new WeakSet();
    theWire?.listeners.add(piece => this.recognize(piece));
    const fields = way.fields.map(([name, title, value, type = "text"]) =>
      make("label", { className: type === "text" ? "wide" : "" }, title, make("input", { name, value, type, min: 1, required: true })));
    if (way.faults) {
      fields.push(make("label", {}, "Fault", make("select", { name: "fault" }, ...FAULTS.map(([value, text]) => make("option", { value }, text)))));
    }
    this.button = make("button", { className: "main" }, way.button ?? "Start");
    this.form = make("form", {}, ...fields, this.button);
    this.out = make("pre", { className: "out" });
    this.note = make("p", { className: "status" });
    this.note.setAttribute("role", "status");
    this.panels = { Parsed: make("div", { className: "panel" }, this.out), Wire: make("div", { className: "panel wire" }),
                    curl: make("div", { className: "panel" }, this.command = make("pre", { className: "out" })) };
    const section = make("article", { className: "way", id: way.id },
      make("h3", {}, `${way.question} ${way.take}.`), make("p", {}, way.why), this.figures(), this.form, this.tabs(),
      ...Object.values(this.panels), this.note);
    at("ways").append(section);
    this.form.oninput = () => this.tellCommand();
    this.form.onsubmit = event => { event.preventDefault(); this.start(); };
    this.tellCommand();
    this.choose("Parsed");
  }
  figures() {
    const { way } = this, found = compared?.ways?.find(({ name }) => name === way.measured);
    return make("p", { className: "figures" }, found ? figuresOf(found) : "");
  }
  tabs() {
    const list = make("div", { className: "tabs" });
    list.setAttribute("role", "tablist");
    this.buttons = Object.keys(this.panels).map(name => {
      const tab = make("button", { type: "button", id: `${this.way.id}-${name}` }, name), panel = this.panels[name];
      tab.setAttribute("role", "tab");
      panel.id = `${this.way.id}-${name}-panel`;
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      panel.tabIndex = 0;
      tab.onclick = () => this.choose(name);
      tab.onkeydown = event => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const names = Object.keys(this.panels);
        this.choose(names[(names.indexOf(name) + step + names.length) % names.length]);
        this.buttons.find(other => other.tabIndex === 0).focus();
      };
      return tab;
    });
    list.append(...this.buttons);
    return list;
  }
  choose(name) {
    for (const tab of this.buttons) {
      const isChosen = tab.textContent === name;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      this.panels[tab.textContent].hidden = !isChosen;
    }
    if (name === "Wire") this.openWire();
  }
  // Of everything on the wire, the exchanges whose requests carry the key of this experiment.
  recognize(piece) {
    for (const row of piece.rows) {
      const { name } = theWire.term(piece, row.span), isKnown = theWire.span(piece, row.span).value?.includes(this.key);
      if (name === "request-line") this.connections[isKnown ? "add" : "delete"](piece.connection);
      // Over HTTP/2 the connection is shared, so other exchanges are seen as well.
      if (name === "header section" && isKnown) this.connections.add(piece.connection);
    }
    if (this.connections.has(piece.connection)) this.pieces.add(piece);
  }
  openWire() {
    if (this.ladder) return;
    const root = make("div"), explained = make("div", { className: "hint" }, "Point at a byte: what it is, in every layer.");
    this.panels.Wire.append(root, explained);
    if (!theWire) return void (explained.textContent = "The wire is not recorded here.");
    this.ladder = new Ladder(root, theWire, { scroller: this.panels.Wire, onbyte: (...spot) => explain(explained, theWire, ...spot) });
    this.ladder.filter = piece => this.pieces.has(piece);
    this.ladder.follows = true;
    this.ladder.show();
  }
  tellCommand() { this.command.textContent = this.way.curl(Object.fromEntries(new FormData(this.form))); }
  line(text, { replace = false } = {}) {
    if (replace) this.out.textContent = text;
    else this.out.append(`${text}\n`);
    while (this.out.childNodes.length > 500) this.out.firstChild.remove();
    this.panels.Parsed.scrollTop = this.panels.Parsed.scrollHeight;
  }
  // Another start ends the one before: their lines would mix.
  async start() {
    const { way } = this, values = Object.fromEntries(new FormData(this.form));
    this.running?.abort();
    const running = this.running = new AbortController();
    if (!way.staysOpen) this.out.textContent = "";
    const counts = () => way.staysOpen || running === this.running;
    const note = text => { if (counts()) this.note.textContent = text; };
    const query = new URLSearchParams({ reader: this.key, ...(values.fault && { fault: values.fault }) });
    const isStop = !way.staysOpen && this.button.textContent === "Stop";
    if (isStop) return this.ended("stopped");
    if (!way.staysOpen) this.button.textContent = "Stop";
    try {
      await way.run({ ...values, query }, { line: (...line) => { if (counts()) this.line(...line); }, note, signal: running.signal, keep: this.keep });
      if (running === this.running) this.ended();
    } catch (error) {
      if (running === this.running) this.ended(error.message);
    }
  }
  ended(text) {
    if (text) this.note.textContent = text;
    if (!this.way.staysOpen) this.button.textContent = "Start";
  }
}

function figuresOf(way) {
  const number = value => value < 10 ? value.toFixed(1) : Math.round(value);
  return `A message of ${compared.size} bytes: ${number(way.bytes_down)} bytes down the wire, ${number(way.cpu_down)} µs of the server’s CPU; ` +
    `${way.round_trips} round trip${way.round_trips === 1 ? "" : "s"} and ${number(way.bytes_setup)} bytes to set up.`;
}
if (compared) at("measured").textContent = `The figures were measured by python examples/compare.py.`;

// The records of the wire, over a WebSocket: of other connections a browser has only six.
let theWire = null;
async function openTheWire() {
  if (typeof Wire === "undefined") return;
  const response = await fetch("/wire/terms");
  if (!response.ok) return;
  theWire = new Wire(await response.json());
  const opened = new Promise(resolve => receiveRecords(record => theWire.add(record), resolve));
  await Promise.race([opened, later(1000)]);
}
const experiments = [];
Object.assign(window, { lanes, experiments });  // for the console
// Only then the page connects: connections that are accepted earlier are not recorded, and a browser
// uses them again.
openTheWire().finally(() => {
  experiments.push(...WAYS.map(way => new Experiment(way)));
  connectPublisher();
  readAll();
});

// -- Fifty event streams at once -------------------------------------------------------------------

const STREAMS = 50, OPEN_SECONDS = 20;
const isStill = matchMedia("(prefers-reduced-motion: reduce)");

class EventStreams {
  constructor(origin, version, title = version) {
    Object.assign(this, { origin, version, sources: [], events: [], most: 0, frame: 0 });
    this.cells = Array.from({ length: STREAMS }, () => document.createElement("i"));
    const cells = make("div", { className: "cells" }, ...this.cells);
    cells.setAttribute("aria-hidden", true);  // the line below them says it
    this.state = make("p", { className: "status" });
    this.state.setAttribute("role", "status");
    const name = make("div", {}, make("b", {}, title), make("span", {}, origin));
    at("origins").append(make("div", { className: "from" }, name, cells, this.state));
  }
  get count() { return this.sources.filter(source => source.readyState === EventSource.OPEN).length; }
  open() {
    this.most = 0;
    this.events = this.cells.map(() => 0);
    this.sources = this.cells.map((cell, n) => {
      const source = new EventSource(`${this.origin}/pulse`);
      source.onopen = () => {
        this.most = Math.max(this.most, this.count);
        this.tell();
      };
      source.onerror = () => this.tell();
      source.onmessage = event => {
        this.events[n] += 1;
        this.version = event.data;  // the server says it
        if (!isStill.matches) cell.animate({ opacity: [.4, 1] }, 500);
        this.tell();
      };
      return source;
    });
    this.tell();
  }
  close() {
    // Those that wait come first: else the browser begins them, and holds their connections for seconds.
    for (const source of [...this.sources].sort((a, b) => a.readyState - b.readyState)) source.close();
    for (const cell of this.cells) cell.className = "";
    this.state.textContent = `closed: ${this.most} of ${STREAMS} were open, over ${this.version}`;
  }
  // At most once a frame, and only what is new: the line is read aloud.
  tell() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!closing) return;
      this.sources.forEach((source, n) => { this.cells[n].className = source.readyState === EventSource.OPEN ? "open" : ""; });
      const text = `${this.count} of ${STREAMS} are open, over ${this.version}`;
      if (this.state.textContent !== text) this.state.textContent = text;
    });
  }
}

// The page itself may have come over HTTP/2: then it reads from an origin of HTTP/1.1 beside its own.
const isHttp1 = performance.getEntriesByType("navigation")[0].nextHopProtocol.startsWith("http/1");
const own = isHttp1 ? "HTTP/1.1" : "HTTP/2", beside = at("fifty").dataset.http1;
const fifty = [new EventStreams(location.origin, own, `${own}, this page`)];
if (beside && !isHttp1 && ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname)) {
  fifty.push(new EventStreams(beside, "HTTP/1.1"));
}
at("fifty-http1").hidden = !isHttp1;
window.fifty = fifty;  // for the console
let closing = 0;  // a timer, while they are open

function openFifty() {
  at("fifty-button").textContent = "Close";
  closing = setTimeout(endFifty, OPEN_SECONDS * 1000);
  if (isHttp1) leave("waits for the fifty streams");
  for (const streams of fifty) streams.open();
}
function closeFifty() {  // needs no connection
  if (!closing) return;
  clearTimeout(closing);
  closing = 0;
  at("fifty-button").textContent = "Open";
  for (const streams of fifty) streams.close();
}
function endFifty() {
  closeFifty();
  readAll();
}
at("fifty-button").onclick = () => closing ? endFifty() : openFifty();

// -- Large files -----------------------------------------------------------------------------------

const SIZE = 20_000_000;
async function part(range, line) {
  const response = await fetched(`/download?size=${SIZE}`, { headers: { Range: range } });
  const reader = response.body.getReader();
  let count = 0;
  for (let read; !(read = await reader.read()).done; ) count += read.value.length;
  line(`${response.status}  ${response.headers.get("content-range")}  got ${count}`);
  return count;
}
function onSubmit(id, act) {
  const form = at(id), out = form.querySelector(".out"), button = form.querySelector("button");
  form.onsubmit = async event => {
    event.preventDefault();
    out.textContent = "";
    button.disabled = true;  // one at a time
    const line = text => out.append(`${text}\n`);
    try { await act(new FormData(form), line); } catch (error) { line(error.message); }
    button.disabled = false;
  };
}
onSubmit("download", async (form, line) => {
  const start = performance.now();
  const first = await part(`bytes=0-${SIZE / 2 - 1}`, line);
  const total = first + await part(`bytes=${first}-`, line);
  line(`${total} bytes in ${Math.round(performance.now() - start)} ms`);
});
onSubmit("upload", async (form, line) => {
  const response = await fetched("/upload", { method: "PUT", body: form.get("file") });
  line((await response.text()).trim());
});
