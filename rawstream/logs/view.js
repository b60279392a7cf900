// @ts-check
// A list of lines of which only those in sight are in the document.
//
// A browser cannot make an element as high as a million lines. Up to a height that all of them can
// make, the scroll position is the place; beyond it, it stands for the place in proportion, and the
// wheel moves by lines.

import { fragments, plain } from "./ansi.js";
import { LEVELS } from "./levels.js";
import { EXIT, GAP } from "./lines.js";

/** @typedef {import("./lines.js").Line} Line */

const HIGHEST = 8_000_000;
const BESIDE = 8;  // lines above and below those in sight
const LONGEST_SHOWN = 2000;  // characters; a line that is opened is shown whole

export class View {
  /**
   * @param {HTMLElement} scroller @param {import("./lines.js").Lines} lines
   * @param {{open: (index: number) => void, top: () => void, followed: (follows: boolean) => void}} told
   */
  constructor(scroller, lines, told) {
    this.scroller = scroller;
    this.lines = lines;
    this.told = told;
    this.height = document.createElement("div");
    this.height.className = "height";
    this.height.setAttribute("role", "presentation");
    this.rows = document.createElement("div");
    this.rows.className = "rows";
    this.rows.setAttribute("role", "presentation");
    scroller.append(this.height, this.rows);
    /** The first line in sight, with a fraction. */
    this.top = 0;
    this.follows = true;
    this.selected = -1;
    /** The line that a link has led to. */
    this.marked = "";
    this.showsTime = false;
    this.showsNames = false;
    this.isDirty = false;
    this.rowHeight = 20;
    this.visible = 1;
    this.position = 0;  // that we have set last
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    scroller.addEventListener("wheel", event => this.wheeled(event), { passive: false });
    this.rows.addEventListener("click", event => {
      const row = event.target instanceof Element ? event.target.closest(".row") : null;
      if (row instanceof HTMLElement && !getSelection()?.toString()) this.select(Number(row.dataset.index), true);
    });
    new ResizeObserver(() => this.measure()).observe(scroller);
    this.measure();
  }

  measure() {
    this.rowHeight = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 20;
    this.visible = this.scroller.clientHeight / this.rowHeight;
    this.changed();
  }

  /** Draw with the next frame. */
  changed() {
    if (this.isDirty) return;
    this.isDirty = true;
    requestAnimationFrame(() => {
      this.isDirty = false;
      this.draw();
    });
  }

  /** The last place that `top` can have. */
  get bottom() { return Math.max(0, this.lines.shownCount - this.visible); }

  get isScaled() { return this.lines.shownCount * this.rowHeight > HIGHEST; }

  // -- Where it is --------------------------------------------------------------------------------

  scrolled() {
    if (Math.abs(this.scroller.scrollTop - this.position) < 1) return;  // our own doing
    this.position = this.scroller.scrollTop;
    const room = this.height.offsetHeight - this.scroller.clientHeight;
    // More lines may have come than are drawn. Whoever is at the end of those that are, is at the end: the
    // browser itself moves there when the list becomes higher, as where a button above it takes less room.
    const isAtEnd = this.position >= room - this.rowHeight / 2;
    const top = this.isScaled ? this.bottom * this.position / Math.max(1, room) : this.position / this.rowHeight;
    this.moveTo(isAtEnd ? this.bottom : top);
  }

  /** @param {WheelEvent} event */
  wheeled(event) {
    if (event.deltaY < 0 && this.top < 2) this.told.top();  // also where there is nothing to scroll
    if (!this.isScaled || event.ctrlKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * this.rowHeight : event.deltaY;
    this.moveTo(this.top + pixels / this.rowHeight);
  }

  /** @param {number} top */
  moveTo(top) {
    this.top = Math.min(Math.max(0, top), this.bottom);
    this.setFollows(this.top >= this.bottom - .5);
    this.changed();
    if (this.top < 2) this.told.top();
  }

  /** @param {boolean} follows */
  setFollows(follows) {
    if (this.follows === follows) return;
    this.follows = follows;
    this.changed();
    this.told.followed(follows);
  }

  /** Lines came before the first one, or were dropped there. @param {number} count */
  shift(count) {
    this.top = Math.max(0, this.top + count);
    if (this.selected >= 0) this.selected = Math.max(-1, this.selected + count);
    this.changed();
  }

  /** @param {number} index */
  bringIntoSight(index) {
    if (index < this.top + 1) this.moveTo(index - 2);
    else if (index > this.top + this.visible - 2) this.moveTo(index - this.visible + 3);
  }

  /** @param {number} index @param {boolean} opens */
  select(index, opens) {
    this.selected = Math.min(Math.max(0, index), this.lines.shownCount - 1);
    this.bringIntoSight(this.selected);
    this.changed();
    if (opens) this.told.open(this.selected);
  }

  // -- Drawing ------------------------------------------------------------------------------------

  draw() {
    const dropped = this.lines.takeDropped();
    if (dropped) this.shift(-dropped);
    const count = this.lines.shownCount;
    if (this.follows) this.top = this.bottom;
    this.top = Math.min(this.top, this.bottom);
    const height = Math.min(HIGHEST, count * this.rowHeight);
    this.height.style.height = `${height}px`;
    const room = Math.max(0, height - this.scroller.clientHeight);
    const position = this.isScaled ? room * this.top / Math.max(1, this.bottom) : this.top * this.rowHeight;
    if (Math.abs(this.scroller.scrollTop - position) >= 1) {
      this.scroller.scrollTop = position;
    }
    this.position = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(this.top) - BESIDE);
    const last = Math.min(count, Math.ceil(this.top + this.visible) + BESIDE);
    const rows = [];
    for (let index = first; index < last; index += 1) {
      const line = this.lines.shownAt(index);
      if (line) rows.push(this.row(line, index));
    }
    this.rows.style.transform = `translateY(${this.position - (this.top - first) * this.rowHeight}px)`;
    this.rows.replaceChildren(...rows);
    if (this.selected >= 0) this.scroller.setAttribute("aria-activedescendant", `line-${this.selected}`);
  }

  /** @param {Line} line @param {number} index */
  row(line, index) {
    const row = document.createElement("div");
    row.className = `row ${kindOf(line.level)}`;
    if (line.id === this.marked) row.classList.add("marked");
    row.id = `line-${index}`;
    row.dataset.index = String(index);
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(index === this.selected));
    row.setAttribute("aria-posinset", String(index + 1));
    row.setAttribute("aria-setsize", String(this.lines.shownCount));
    if (this.showsTime) row.append(part("time", line.arrived ? clock(line.arrived) : ""));
    if (this.showsNames) row.append(part("name", line.name));
    const text = part("text", "");
    const cut = line.text.length > LONGEST_SHOWN;
    const parts = partsOf(cut ? line.text.slice(0, LONGEST_SHOWN) : line.text);
    text.append(...highlighted(parts, this.lines.filter.search));
    if (cut) text.append(part("more", ` … ${(line.text.length - LONGEST_SHOWN).toLocaleString("en")} more characters`));
    row.append(text);
    return row;
  }
}

// -- What a line looks like -------------------------------------------------------------------------

/** @param {number} level */
export function kindOf(level) {
  if (level === GAP) return "gap";
  if (level === EXIT) return "exit";
  return LEVELS[level] ?? "none";
}

/** @param {number} ms */
export function clock(ms) {
  const time = new Date(ms);
  return `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {string} kind @param {string} text */
function part(kind, text) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

/** The fields of a line that is a JSON object; null if it is none. Numbers that a computer's arithmetic
 * would change are left as they are written. @param {string} text */
export function fieldsOf(text) {
  if (!text.startsWith("{") || !text.endsWith("}") || DEEP.test(text)) return null;
  /** @param {string} _ @param {unknown} value @param {{source?: string}} [context] */
  const asWritten = (_, value, context) =>
    typeof value === "number" && context?.source && context.source !== String(value) ? context.source : value;
  try {
    return /** @type {Record<string, unknown>} */ (JSON.parse(text, asWritten));
  } catch {
    return null;
  }
}

const DEEP = /[[{]{100}/;  // would exhaust the stack

/** A value of JSON as text. @param {unknown} value @param {number} [indent] */
export function textOf(value, indent) {
  return typeof value === "string" ? value : JSON.stringify(value, null, indent);
}

/** The parts of a line: colored text, or the message of a JSON object and its other fields.
 * @param {string} text @returns {import("./ansi.js").Fragment[]} */
export function partsOf(text) {
  const fields = fieldsOf(text);
  if (!fields) return fragments(text);
  const rest = new Map(Object.entries(fields));
  /** @param {string[]} names  of which the first that is text is taken out */
  const taken = names => {
    const name = names.find(name => typeof rest.get(name) === "string") ?? "";
    const value = rest.get(name);
    rest.delete(name);
    return typeof value === "string" ? `${plain(value)} ` : "";
  };
  const parts = [
    { text: taken(["time", "@timestamp", "timestamp", "ts"]), kind: "key" },
    { text: taken(["message", "msg", "event"]), kind: "" },
  ];
  if (typeof rest.get("level") === "string" && (rest.size > 1 || parts.some(({ text }) => text))) {
    rest.delete("level");  // it is seen in the color
  }
  for (const [name, value] of rest) {
    parts.push({ text: ` ${plain(name)}=`, kind: "key" }, { text: plain(textOf(value)), kind: "value" });
  }
  return parts;
}

/** Elements for parts, with what a search finds marked.
 * @param {import("./ansi.js").Fragment[]} parts @param {RegExp | null} search */
export function highlighted(parts, search) {
  const whole = parts.map(({ text }) => text).join("");
  const ranges = search ? [...whole.matchAll(new RegExp(search.source, search.flags + "g"))]
    .slice(0, 200).map(match => [match.index, match.index + match[0].length]) : [];
  const elements = [];
  let place = 0;
  for (const { text, kind, color, background } of parts) {
    const cuts = new Set([0, text.length]);
    for (const [start, end] of ranges) {
      if (start > place && start < place + text.length) cuts.add(start - place);
      if (end > place && end < place + text.length) cuts.add(end - place);
    }
    const stops = [...cuts].sort((one, other) => one - other);
    for (let at = 0; at + 1 < stops.length; at += 1) {
      const from = place + stops[at];
      const isFound = ranges.some(([start, end]) => start <= from && from < end);
      const element = document.createElement(isFound ? "mark" : "span");
      element.className = kind;
      element.textContent = text.slice(stops[at], stops[at + 1]);
      if (color) element.style.color = color;
      if (background) element.style.backgroundColor = background;
      elements.push(element);
    }
    place += text.length;
  }
  return elements;
}
