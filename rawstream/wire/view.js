// The wire in a browser: what was recorded (`Wire`), the ladder of it (`Ladder`), a strip of time
// (`Strip`), and what there is to know about one byte (`explain`). No library, no build.
"use strict";

const element = (tag, properties = {}, ...children) => {
  const { data = {}, ...others } = properties;
  const made = Object.assign(document.createElement(tag), others);
  Object.assign(made.dataset, data);
  made.append(...children);
  return made;
};

// -- What was recorded ---------------------------------------------------------------------------

// All pieces, and all spans by connection and number. Of an endless recording the oldest are dropped.
class Wire {
  static MOST = 20000;
  constructor(terms) {
    this.terms = terms;
    this.pieces = [];
    this.connections = new Map();
    this.dropped = 0;
    this.base = { connection: 0, time: 0 };
    this.listeners = new Set();
  }
  add(record) {
    if (record.restart) {  // another server numbers its connections from 1, and its time from 0
      this.base = { connection: Math.max(0, ...this.connections.keys()), time: this.pieces.at(-1)?.time ?? 0 };
      return;
    }
    const connection = record.connection + this.base.connection;
    record = { ...record, connection, ...("time" in record && { time: record.time + this.base.time }) };
    if (record.lost) {  // no piece, but shown as one
      const { time = 0, to = "client" } = this.pieces.findLast(piece => piece.connection === connection) ?? {};
      record = { time, to, piece: 0, start: 0, size: 0, spans: [], rows: [], more: 0, ...record };
    }
    if (!this.connections.has(connection)) {
      this.connections.set(connection, { spans: new Map(), pieces: new Map(), labels: [] });
    }
    const known = this.connections.get(connection);
    for (const span of record.spans) known.spans.set(span.id, Object.assign(known.spans.get(span.id) ?? {}, { open: false }, span));
    const piece = { ...record, record, rows: [], number: this.dropped + this.pieces.length };
    known.pieces.set(piece.piece, piece);
    const mended = new Set();  // earlier pieces, whose bytes are only explained now
    for (const row of record.rows) {
      const owner = row.piece ? known.pieces.get(row.piece) : piece;
      owner?.rows.push(row);
      if (owner && owner !== piece) mended.add(owner);
      if (piece.to === "server" && ["request-line", "header section"].includes(this.term(piece, row.span).name) && known.labels.length < 100) known.labels.push(known.spans.get(row.span).value ?? "");
    }
    this.pieces.push(piece);
    if (this.pieces.length > Wire.MOST) this.drop(1000);
    for (const listener of this.listeners) listener(piece, mended);
  }
  drop(count) {
    for (const piece of this.pieces.splice(0, count)) {
      const known = this.connections.get(piece.connection);
      for (const { id } of piece.spans) if (!known.spans.get(id)?.open) known.spans.delete(id);
      known.pieces.delete(piece.piece);
      if (!known.pieces.size) this.connections.delete(piece.connection);
    }
    this.dropped += count;
  }
  span(piece, id) { return this.connections.get(piece.connection)?.spans.get(id); }
  term(piece, id) { return this.terms[this.span(piece, id)?.term ?? 0]; }
  // The span and those of its layer around it, from the inside out.
  chain(piece, id) {
    const found = [];
    for (let span = this.span(piece, id); span; span = this.span(piece, span.parent)) found.push(span);
    return found;
  }
  layers(piece) {
    return new Set(["tcp", ...piece.rows.map(row => this.term(piece, row.span).layer)]);
  }
}

// Take records, objects or lines of JSON, one after the other, so that however many come at once, each
// frame of the page stays short.
class Intake {
  static MILLISECONDS = 10;
  constructor(take) {
    Object.assign(this, { take, waiting: [] });
  }
  add(...records) {
    if (!this.waiting.length) setTimeout(() => this.go(), 16);
    for (const record of records) this.waiting.push(record);
  }
  go() {
    const end = performance.now() + (document.hidden ? 500 : Intake.MILLISECONDS);
    let count = 0;
    while (count < this.waiting.length && performance.now() < end) {
      const record = this.waiting[count++];
      this.take(typeof record === "string" ? JSON.parse(record) : record);
    }
    this.waiting.splice(0, count);
    if (this.waiting.length) setTimeout(() => this.go(), 8);
  }
}

// The records of a server, live. Over a WebSocket, since of other connections a browser has only six
// for each host. After an interruption it goes on from its cursor.
function receiveRecords(take, tell = () => {}, cursor = "") {
  const query = new URLSearchParams(location.search);
  if (cursor) query.set("after", cursor);
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/wire/events?${query}`);
  const intake = new Intake(take);
  socket.onopen = () => tell("");
  socket.onmessage = event => {
    const message = JSON.parse(event.data);
    cursor = message.id ?? cursor;
    if (message.gap) {
      tell("some were missed here");
      const [from, to] = [message.gap.from, message.gap.to].map(id => id.split("-")[0]);
      if (from !== to) intake.add({ restart: true });
    }
    if (message.data) intake.add(message.data);
  };
  socket.onclose = () => {
    tell("the server is away or refuses; trying again");
    setTimeout(() => receiveRecords(take, tell, cursor), 1000 + Math.random() * 1000);
  };
}

// Rows as boxes in boxes: a row whose bytes a layer above shows again holds the rows of that layer.
function nested(rows) {
  const top = { children: [] };
  const open = [top];
  for (const row of rows) {
    const end = box => box.row.start + box.row.size;
    while (open.length > 1 && (row.result ? row.start > end(open.at(-1)) : row.start >= end(open.at(-1)))) open.pop();
    const box = { row, children: [] };
    open.at(-1).children.push(box);
    if (row.above) open.push(box);
  }
  return top.children;
}

// The bytes of a row, as far as they are known without a hole: of a long row only the first are sent.
function bytesOf({ row, children }) {
  if (row.bytes !== undefined) return row.bytes;
  let found = "";
  for (const child of children) {
    if (child.row.result) continue;
    if (child.row.start !== row.start + found.length) break;
    const part = bytesOf(child);
    found += part;
    if (part.length < child.row.size) break;
  }
  return found;
}

// -- The ladder ----------------------------------------------------------------------------------

// Pieces lie in blocks, of which only those near the window are in the document.
class Ladder {
  static BLOCK = 20;
  static SHOWN_BYTES = 64;
  constructor(root, wire, { onbyte = () => {}, scroller = null } = {}) {
    Object.assign(this, { root, wire, onbyte, scroller });
    this.filter = () => true;
    this.layers = null;  // all of them, or a set of names
    this.depth = "bytes";  // what is shown of a piece: "pieces", "layers" or "bytes"
    this.turned = new WeakMap();  // pieces that were opened or closed one by one
    this.limit = Infinity;  // paused: pieces from this number on are not shown
    this.blocks = [];
    root.classList.add("ladder");
    this.observer = new IntersectionObserver(entries => entries.forEach(entry => {
      const block = this.blocks[entry.target.dataset.block];
      if (block?.section === entry.target) entry.isIntersecting ? this.build(block) : this.fold(block);
    }), { root: scroller, rootMargin: "800px" });
    wire.listeners.add((piece, mended) => this.came(piece, mended));
    // Who is at the end stays at the end.
    this.follows = false;
    const page = scroller ?? document.scrollingElement;
    (scroller ?? window).addEventListener("scroll", () => this.follows = page.scrollTop + page.clientHeight >= page.scrollHeight - 60);
    this.scroll = () => { this.isDue = false; if (this.follows) page.scrollTop = page.scrollHeight; };
    root.addEventListener("click", event => this.clicked(event));
    root.addEventListener("pointerover", event => this.pointed(event.target));
    root.addEventListener("focusin", event => this.pointed(event.target));
    root.addEventListener("keydown", event => this.pressed(event));
  }
  shows(piece) {
    if (piece.number >= this.limit) return false;
    if (!this.filter(piece)) return false;
    return !this.layers || [...this.wire.layers(piece)].some(layer => this.layers.has(layer));
  }
  show() {  // everything anew
    this.observer.disconnect();
    this.root.replaceChildren();
    this.blocks = [];
    this.last = undefined;
    for (const piece of this.wire.pieces) if (this.shows(piece)) this.append(piece);
    for (const block of this.blocks.slice(-2)) this.build(block);
  }
  came(piece, mended) {
    for (const block of this.blocks) {
      for (const old of mended) if (block.isBuilt && block.pieces.includes(old)) this.build(block, true);
    }
    if (this.shows(piece)) {
      this.append(piece);
      if (!this.isDue) this.isDue = requestAnimationFrame(this.scroll);
    }
    while (this.blocks.length && this.blocks[0].pieces[0].number < this.wire.dropped) {
      this.observer.unobserve(this.blocks[0].section);
      this.blocks[0].section.remove();
      this.blocks.shift();
      this.blocks.forEach((block, number) => block.section.dataset.block = number);
    }
  }
  append(piece) {
    let block = this.blocks.at(-1);
    if (!block || block.pieces.length === Ladder.BLOCK) {
      const section = element("section", { data: { block: this.blocks.length } });
      block = { pieces: [], section, isBuilt: false };
      this.blocks.push(block);
      this.root.append(section);
      this.observer.observe(section);
    }
    block.before = block.pieces.length ? block.before : this.last;
    block.pieces.push(piece);
    if (block.isBuilt) block.section.append(...this.made(piece, block.pieces.at(-2) ?? block.before));
    else block.section.style.minHeight = `${block.pieces.length * 3}rem`;
    this.last = piece;
  }
  build(block, again = false) {
    if (block.isBuilt && !again) return;
    block.isBuilt = true;
    let before = block.before;
    const made = block.pieces.flatMap(piece => { const parts = this.made(piece, before); before = piece; return parts; });
    block.section.replaceChildren(...made);
    block.section.style.minHeight = "";
  }
  fold(block) {
    if (!block.isBuilt || block.section.contains(document.activeElement)) return;
    block.section.style.minHeight = `${block.section.offsetHeight}px`;
    block.section.replaceChildren();
    block.isBuilt = false;
  }
  // The elements of a piece, with a word about a pause before it.
  made(piece, before) {
    const { wire } = this;
    const isOpen = this.isOpen(piece);
    const toServer = piece.to === "server";
    const rung = element("button", { className: "rung", type: "button" },
      element("time", {}, `${piece.time.toFixed(3)} s`),
      element("span", { className: "number" }, `#${piece.connection}`),
      element("span", { className: "direction" }, toServer ? "client → server" : "server → client"),
      element("span", { className: "what" }, ...this.summary(piece)),
      element("span", { className: "size" }, piece.size ? `${piece.size} B` : ""));
    rung.setAttribute("aria-expanded", isOpen);
    const made = element("article", { className: "piece", id: `piece-${piece.number}`,
      data: { to: piece.to, connection: piece.connection, number: piece.number } }, rung);
    if (isOpen && piece.rows.length) made.append(this.inside(piece));
    const waited = before ? piece.time - before.time : 0;
    return waited < 1 ? [made]
      : [element("p", { className: "pause" }, `${waited.toFixed(1)} s later`), made];
  }
  isOpen(piece) { return this.turned.get(piece) ?? this.depth !== "pieces"; }
  summary(piece) {
    const { wire } = this;
    if (piece.lost) return [`not shown any further: ${piece.lost}`];
    if (!piece.size) return ["the end of this direction"];
    const isTold = row => row.result || ["request-line", "status-line"].includes(wire.term(piece, row.span).name);
    const told = piece.rows.some(isTold) ? piece.rows.filter(isTold) : piece.rows.filter(row => !row.above);
    return told.slice(0, 4).map(row => {
      const span = wire.span(piece, row.span), term = wire.term(piece, row.span);
      const value = (span?.value ?? "").trim();
      return element("span", { className: "chip", data: { layer: term.layer } },
        element("b", { style: "color: var(--layer)" }, term.name), value ? ` ${value.slice(0, 80)}` : "");
    });
  }
  inside(piece) {
    const inside = element("div", { className: "inside" }, ...this.boxes(piece, nested(piece.rows), []));
    if (piece.more) inside.append(element("p", {}, `and ${piece.more} more lines, which are not shown`));
    return inside;
  }
  boxes(piece, boxes, below) {
    return boxes.flatMap(box => {
      const { row } = box, span = this.wire.span(piece, row.span), term = this.wire.term(piece, row.span);
      const under = row.above ? [...below, row] : below;
      const children = this.boxes(piece, box.children, under);
      if (this.layers && !this.layers.has(term.layer)) return children;
      const value = (span?.value ?? "").trim();
      const isContinued = span && span.start < row.start && !row.result;
      const label = element("div", { className: "label" },
        element("span", { className: "layer" }, term.layer),
        element("b", {}, row.result ? `→ ${term.name}` : term.name),
        element("span", { className: "value" }, (value && ` ${value.slice(0, 300)}`) + (isContinued ? " (continued)" : "")));
      if (span?.mistake) label.append(element("span", { className: "mistake" }, ` ${span.mistake}`));
      const made = element("div", { className: row.result ? "box result" : "box",
        data: { layer: term.layer, spans: this.ids(piece, row.span, row.start, below) } }, label);
      const deep = this.turned.get(piece) || this.depth === "bytes";
      // The bytes stand in the highest layer that is shown.
      const isHighest = !row.above || (this.layers && !this.layers.has(row.above));
      if (deep && isHighest && !row.result) made.append(this.bytes(piece, { ...row, bytes: bytesOf(box) }, below));
      made.append(...children);
      return [made];
    });
  }
  // The numbers of all spans over a byte: those of its layer from the inside out, then the layers below.
  ids(piece, id, at, below) {
    const under = below.toReversed().flatMap(row => {
      let start = row.start;
      for (const [number, size] of row.elements) {
        start += size;
        if (at < start) return this.wire.chain(piece, number);
      }
      return this.wire.chain(piece, row.span);
    });
    return [...this.wire.chain(piece, id), ...under].map(span => span.id).join(" ");
  }
  bytes(piece, row, below, most = Ladder.SHOWN_BYTES) {
    const made = element("div", { className: "bytes" });
    let at = 0;
    for (const [id, size] of row.elements) {
      if (at >= Math.min(most, row.bytes.length)) break;
      const term = this.wire.term(piece, id);
      const part = element("span", { className: "element",
        data: { layer: term.layer, spans: this.ids(piece, id, row.start + at, below) } });
      for (const character of row.bytes.slice(at, Math.min(at + size, most))) {
        const code = character.charCodeAt(0);
        part.append(element("span", { className: "byte", tabIndex: -1,
          data: { at: row.start + at, glyph: glyph(code) } }, code.toString(16).padStart(2, "0")));
        at += 1;
      }
      made.append(part);
    }
    if (row.size > at) {
      const rest = row.size - at;
      if (row.bytes.length > at) {
        const button = element("button", { className: "more", type: "button" }, `${rest} more bytes`);
        button.onclick = () => made.replaceWith(this.bytes(piece, row, below, Infinity));
        made.append(button);
      } else made.append(element("span", {}, `${rest} more bytes, which are not kept`));
    }
    return made;
  }

  // -- Looking at it
  piece(number) { return this.wire.pieces[number - this.wire.dropped]; }
  clicked({ target }) {
    const rung = target.closest(".rung");
    if (!rung) return this.pointed(target);
    const article = rung.closest(".piece"), piece = this.piece(article.dataset.number);
    if (!piece) return;
    const open = rung.getAttribute("aria-expanded") !== "true";
    this.turned.set(piece, open);
    rung.setAttribute("aria-expanded", open);
    article.querySelector(".inside")?.remove();
    if (open && piece.rows.length) article.append(this.inside(piece));
  }
  pointed(target) {
    const spot = target.closest?.(".byte, .element, .label, .rung");
    if (!spot || !this.root.contains(spot)) return;
    for (const old of this.root.querySelectorAll(".lit, .near, .around, .here")) old.classList.remove("lit", "near", "around", "here");
    const article = spot.closest(".piece"), piece = this.piece(article.dataset.number);
    if (!piece) return;
    const ids = (spot.closest("[data-spans]")?.dataset.spans ?? "").split(" ").filter(Boolean).map(Number);
    const own = this.root.querySelectorAll(`[data-connection="${piece.connection}"] .element`);
    const outer = this.wire.chain(piece, ids[0]).at(1)?.id;
    for (const other of own) {
      const theirs = other.dataset.spans.split(" ").map(Number);
      if (theirs.includes(ids[0])) other.classList.add("lit");
      else if (outer && theirs.includes(outer)) other.classList.add("near");
    }
    for (let box = spot.closest(".box"); box; box = box.parentElement.closest(".box")) box.classList.add("around");
    const byte = spot.closest(".byte");
    byte?.classList.add("here");
    this.onbyte(piece, ids, byte && { at: Number(byte.dataset.at), code: parseInt(byte.textContent, 16) });
  }
  pressed(event) {
    const byte = event.target.closest(".byte"), article = event.target.closest(".piece");
    if (!article || event.ctrlKey || event.metaKey || event.altKey) return;
    const go = to => { if (to) { event.preventDefault(); to.focus(); to.scrollIntoView({ block: "nearest" }); } };
    const bytes = [...article.querySelectorAll(".byte")], rungs = [...this.root.querySelectorAll(".rung")];
    const rung = article.querySelector(".rung"), place = rungs.indexOf(rung);
    switch (event.key) {
      case "ArrowRight": return go(byte ? bytes[bytes.indexOf(byte) + 1] : bytes[0]);
      case "ArrowLeft": return go(byte ? bytes[bytes.indexOf(byte) - 1] ?? rung : null);
      case "ArrowDown": return go(rungs[place + 1]);
      case "ArrowUp": return go(byte ? rung : rungs[place - 1]);
      case "Escape": return go(rung);
    }
  }
  reveal(piece) {
    const block = this.blocks.find(block => block.pieces.includes(piece));
    if (!block) return;
    this.build(block);
    const article = block.section.querySelector(`#piece-${piece.number}`);
    article.scrollIntoView({ block: "center" });
    article.querySelector(".rung").focus({ preventScroll: true });
  }
}

function glyph(code) {
  return { 9: "\\t", 10: "\\n", 13: "\\r", 32: "␣" }[code] ?? (code > 32 && code < 127 ? String.fromCharCode(code) : "·");
}

// -- One byte, explained -------------------------------------------------------------------------

function sectionLink(section) {
  const [, rfc, part] = /^RFC (\d+)(?: section ([\d.]+))?/.exec(section) ?? [];
  const url = rfc ? `https://www.rfc-editor.org/rfc/rfc${rfc}${part ? `#section-${part}` : ""}`
    : section.startsWith("WHATWG HTML") ? "https://html.spec.whatwg.org/multipage/server-sent-events.html"
    : section.startsWith("Fetch") ? "https://fetch.spec.whatwg.org/" : "";
  return url ? element("a", { href: url }, section) : section;
}

// Tell in `target` what a byte is, in every layer, from the top down.
function explain(target, wire, piece, ids, byte) {
  const made = [];
  if (byte) {
    const { at, code } = byte, bits = code.toString(2).padStart(8, "0");
    made.push(element("h2", {}, `Byte ${at} to the ${piece.to}`),
      element("p", { className: "value" }, `0x${code.toString(16).padStart(2, "0")} = ${code} = ${bits.slice(0, 4)} ${bits.slice(4)}` +
        (code > 32 && code < 127 ? ` = “${String.fromCharCode(code)}”` : "")));
  } else made.push(element("h2", {}, piece.to === "server" ? "From client to server" : "From server to client"));
  let layer = "";
  for (const id of [...ids, piece.piece]) {
    const span = wire.span(piece, id), term = wire.term(piece, id);
    if (!span) continue;
    const isInner = term.layer !== layer;
    layer = term.layer;
    const part = element("div", { data: { layer } });
    part.append(element("h3", {}, isInner ? `${layer}: ${term.name}` : `in: ${term.name}`));
    if (span.value?.trim()) part.append(element("p", { className: "value" }, span.value.trim().slice(0, 300)));
    part.append(element("p", {}, term.meaning));
    if (span.detail) part.append(element("p", {}, span.detail));
    if (span.bits) part.append(element("table", {}, ...bitRows(span.bits)));
    if (span.mistake) part.append(element("p", { className: "mistake" }, span.mistake));
    if (term.section) part.append(element("p", { className: "section" }, sectionLink(term.section)));
    made.push(part);
  }
  target.classList.add("explained");
  target.replaceChildren(...made);
}

function bitRows(bits) {
  let place = 0;
  return bits.map(([name, width, value, meaning]) => {
    const picture = ".".repeat(place) + value.padStart(width, "0") + ".".repeat(Math.max(0, 8 - place - width));
    place += width;
    return element("tr", {}, ...[picture, name, meaning].map(text => element("td", {}, text)));
  });
}

// -- The strip of time ---------------------------------------------------------------------------

// Each piece is a line: up from the client, down from the server; longer with more bytes.
class Strip {
  constructor(canvas, ladder) {
    Object.assign(this, { canvas, ladder, isDue: false });
    ladder.wire.listeners.add(() => this.draw());
    canvas.addEventListener("click", event => {
      const { left, width } = canvas.getBoundingClientRect();
      const time = this.begin + (event.clientX - left) / width * this.span;
      const shown = ladder.wire.pieces.filter(piece => ladder.shows(piece));
      const nearest = shown.reduce((best, piece) => Math.abs(piece.time - time) < Math.abs(best.time - time) ? piece : best, shown[0]);
      if (nearest) ladder.reveal(nearest);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    setTimeout(() => { this.isDue = false; this.paint(); }, 200);
  }
  paint() {
    const { canvas, ladder } = this, scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: width * scale, height: height * scale });
    const context = canvas.getContext("2d"), style = getComputedStyle(canvas);
    context.scale(scale, scale);
    const pieces = ladder.wire.pieces.filter(piece => ladder.shows(piece));
    this.begin = pieces[0]?.time ?? 0;
    this.span = Math.max((pieces.at(-1)?.time ?? 0) - this.begin, 1e-6);
    const middle = height / 2, x = time => 4 + (time - this.begin) / this.span * (width - 8);
    context.fillStyle = style.getPropertyValue("--line");
    context.fillRect(0, middle - .5, width, 1);
    const colors = Object.fromEntries(["tcp", "http2", "http", "sse", "ndjson", "websocket", "message"].map(layer => [layer, style.getPropertyValue(`--${layer}`)]));
    for (const piece of pieces) {
      const length = Math.min(middle - 2, 4 + 2 * Math.log2(1 + piece.size));
      context.fillStyle = colors[[...ladder.wire.layers(piece)].at(-1)];
      context.fillRect(x(piece.time) - .75, piece.to === "server" ? middle - length : middle, 1.5, length);
    }
    context.fillStyle = style.getPropertyValue("--soft");
    context.font = "11px system-ui";
    context.fillText(`${this.begin.toFixed(2)} s`, 4, height - 2);
    context.textAlign = "right";
    context.fillText(`${(this.begin + this.span).toFixed(2)} s`, width - 4, height - 2);
  }
}
