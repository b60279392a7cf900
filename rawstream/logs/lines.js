// @ts-check
// The lines that a page holds, at most a million, and which of them are shown.
//
// Lines lie in blocks. The texts of a full block are one string, and the rest is typed arrays: a
// million lines take little more memory than their characters. What is shown is found block by block,
// a few milliseconds at a time, the newest first.

import { plain } from "./ansi.js";
import { NONE } from "./levels.js";

export const MOST_LINES = 1_000_000;
const MOST_CHARACTERS = 160_000_000;
const BLOCK_LINES = 4096;
const SLICE_MS = 8;

/** What a line is, beside its level. */
export const GAP = 254, EXIT = 253;

/**
 * @typedef {object} Line
 * @property {string} text
 * @property {number} level  a place in LEVELS; NONE, GAP or EXIT
 * @property {string} id  the cursor behind it
 * @property {string} name  of its log
 * @property {number} arrived  in ms; 0 where it is not known
 *
 * @typedef {object} Filter
 * @property {number} least  the least level; -1 for all lines
 * @property {RegExp | null} search
 * @property {boolean} onlyFound
 */

class Block {
  constructor() {
    this.count = 0;
    /** @type {string[] | null} until the block is full */
    this.texts = [];
    this.text = "";
    this.ends = new Uint32Array(BLOCK_LINES);  // of each text in `text`
    this.levels = new Uint8Array(BLOCK_LINES);
    this.numbers = new Float64Array(BLOCK_LINES);
    this.prefixes = new Uint16Array(BLOCK_LINES);
    this.arrived = new Float64Array(BLOCK_LINES);
    this.characters = 0;
    /** The lines that are shown. @type {Uint16Array | null} null: not looked for yet */
    this.shown = null;
    /** Whether the search finds it, for each line. */
    this.isFound = new Uint8Array(BLOCK_LINES);
    /** It may be looked at just now. */
    this.isDropped = false;
    /** How many were looked at. */
    this.looked = 0;
    this.shownCount = 0;
    this.foundCount = 0;
  }

  /** @param {number} index */
  textAt(index) {
    if (this.texts) return this.texts[index];
    return this.text.slice(index ? this.ends[index - 1] : 0, this.ends[index]);
  }

  seal() {
    if (!this.texts) return;
    this.text = this.texts.join("");
    this.texts = null;
    for (const name of /** @type {const} */ (["ends", "levels", "numbers", "prefixes", "arrived", "isFound"])) {
      // @ts-ignore: each is replaced by one of its own kind
      if (this.count < BLOCK_LINES) this[name] = this[name].slice(0, this.count);
    }
  }
}

export class Lines {
  constructor() {
    /** @type {Block[]} */
    this.blocks = [];
    this.count = 0;
    this.characters = 0;
    this.shownCount = 0;
    this.foundCount = 0;
    /** Lines of each level that are held. */
    this.perLevel = new Uint32Array(256);
    /** All that have ever come. */
    this.ever = 0;
    /** Shown lines that were dropped since somebody asked. */
    this.droppedShown = 0;
    /** @type {{name: string, start: string}[]} names of logs, and starts of IDs */
    this.prefixes = [];
    /** @type {Map<string, number>} */
    this.prefixNumbers = new Map();
    /** @type {Filter} */
    this.filter = { least: -1, search: null, onlyFound: false };
    this.isSearching = false;
    /** Of the newest line of each log. @type {Map<string, number>} */
    this.lastLevels = new Map();
  }

  // -- Adding -------------------------------------------------------------------------------------

  /** @param {Line} line */
  add(line) {
    let block = this.blocks.at(-1);
    if (!block || block.count === BLOCK_LINES || !block.texts) {
      block?.seal();
      block = new Block();
      block.shown = new Uint16Array(BLOCK_LINES);
      this.blocks.push(block);
    }
    this.put(block, line);
    this.ever += 1;
    if (block.looked === block.count - 1) this.look(block, block.count);
    while (this.count > MOST_LINES || this.characters > MOST_CHARACTERS) this.dropOldest();
  }

  /** Add older lines, in their order. @param {Line[]} lines */
  addBefore(lines) {
    const blocks = [], lastLevels = new Map();
    for (let at = 0; at < lines.length; at += BLOCK_LINES) {
      const block = new Block();
      block.shown = new Uint16Array(BLOCK_LINES);
      for (const line of lines.slice(at, at + BLOCK_LINES)) this.put(block, line, lastLevels);
      block.seal();
      this.look(block, block.count);
      blocks.push(block);
    }
    this.blocks.unshift(...blocks);
    return blocks.reduce((sum, block) => sum + block.shownCount, 0);
  }

  /** @param {Block} block @param {Line} line @param {Map<string, number>} [lastLevels] */
  put(block, line, lastLevels = this.lastLevels) {
    const at = block.count;
    block.texts?.push(line.text);
    block.characters += line.text.length;
    block.ends[at] = block.characters;
    let { level } = line;
    // What is indented belongs to the line before: a stack trace has the level of its error.
    if (level === NONE && /^\s/.test(line.text)) level = lastLevels.get(line.name) ?? NONE;
    lastLevels.set(line.name, level);
    block.levels[at] = level;
    const dash = line.id.lastIndexOf("-");
    block.numbers[at] = Number(line.id.slice(dash + 1));
    block.prefixes[at] = this.prefixOf(line.name, line.id.slice(0, dash));
    block.arrived[at] = line.arrived;
    block.count += 1;
    this.count += 1;
    this.characters += line.text.length;
    this.perLevel[level] += 1;
  }

  /** @param {string} name @param {string} start */
  prefixOf(name, start) {
    const key = `${name}:${start}`;
    let number = this.prefixNumbers.get(key);
    if (number === undefined) {
      number = this.prefixes.push({ name, start }) - 1;
      this.prefixNumbers.set(key, number);
    }
    return number;
  }

  dropOldest() {
    const block = this.blocks.shift();
    if (!block) return;
    block.isDropped = true;
    this.count -= block.count;
    this.characters -= block.characters;
    for (let at = 0; at < block.count; at += 1) this.perLevel[block.levels[at]] -= 1;
    this.shownCount -= block.shownCount;
    this.foundCount -= block.foundCount;
    this.droppedShown += block.shownCount;
  }

  // -- Which are shown ----------------------------------------------------------------------------

  /** @param {Filter} filter @param {() => void} changed  called whenever more is known */
  async setFilter(filter, changed) {
    this.filter = filter;
    this.shownCount = this.foundCount = 0;
    for (const block of this.blocks) {
      block.looked = block.shownCount = block.foundCount = 0;
      block.shown = null;
    }
    this.isSearching = true;
    let end = performance.now() + SLICE_MS;
    for (const block of [...this.blocks].reverse()) {
      for (let stop = 0; block.looked < block.count && !block.isDropped;) {
        stop = Math.min(block.count, block.looked + 512);
        block.shown ??= new Uint16Array(block.texts ? BLOCK_LINES : block.count);
        this.look(block, stop);
        if (performance.now() > end) {
          changed();
          await new Promise(resolve => setTimeout(resolve));
          if (this.filter !== filter) return;  // another one was set
          end = performance.now() + SLICE_MS;
        }
      }
    }
    this.isSearching = false;
    changed();
  }

  /** Look at the lines of a block up to an index. @param {Block} block @param {number} stop */
  look(block, stop) {
    if (!block.shown) return;
    const { least, search, onlyFound } = this.filter;
    const shown = block.shownCount, found = block.foundCount;
    for (let at = block.looked; at < stop; at += 1) {
      const level = block.levels[at];
      if (least >= 0 && (level < least || level === NONE)) continue;
      const isFound = search !== null && search.test(plain(block.textAt(at)));
      block.isFound[at] = Number(isFound);
      if (isFound) block.foundCount += 1;
      if (isFound || !onlyFound || search === null) block.shown[block.shownCount++] = at;
    }
    block.looked = stop;
    this.shownCount += block.shownCount - shown;
    this.foundCount += block.foundCount - found;
  }

  /** Shown lines that were dropped since this was last asked. */
  takeDropped() {
    const dropped = this.droppedShown;
    this.droppedShown = 0;
    return dropped;
  }

  // -- Reading ------------------------------------------------------------------------------------

  /** The shown line at an index. @param {number} index @returns {Line | undefined} */
  shownAt(index) {
    for (const block of this.blocks) {
      if (index < block.shownCount) return block.shown ? this.line(block, block.shown[index]) : undefined;
      index -= block.shownCount;
    }
  }

  /** @param {Block} block @param {number} at @returns {Line} */
  line(block, at) {
    const { name, start } = this.prefixes[block.prefixes[at]];
    return {
      text: block.textAt(at), level: block.levels[at], id: `${start}-${block.numbers[at]}`, name,
      arrived: block.arrived[at],
    };
  }

  /** Where the line with this ID is among the shown; -1 if it is not. @param {string} id */
  indexOf(id) {
    const dash = id.lastIndexOf("-");
    const number = Number(id.slice(dash + 1)), start = id.slice(0, dash);
    let before = 0;
    for (const block of this.blocks) {
      for (let place = 0; place < block.shownCount; place += 1) {
        const at = block.shown?.[place] ?? 0;
        if (block.numbers[at] === number && this.prefixes[block.prefixes[at]].start === start) return before + place;
      }
      before += block.shownCount;
    }
    return -1;
  }

  /** The next found line behind a shown index, or before it; -1 if there is none.
   * @param {number} from @param {1 | -1} step */
  nextFound(from, step) {
    let before = 0, last = -1;
    for (const block of this.blocks) {
      const { shown, shownCount } = block;
      for (let place = 0; shown && block.foundCount && place < shownCount; place += 1) {
        if (!block.isFound[shown[place]]) continue;
        const index = before + place;
        if (step < 0 && index >= from) return last;
        if (step > 0 && index > from) return index;
        last = index;
      }
      before += shownCount;
    }
    return step < 0 ? last : -1;
  }

  /** All lines that are held, the oldest first. */
  *[Symbol.iterator]() {
    for (const block of this.blocks) for (let at = 0; at < block.count; at += 1) yield this.line(block, at);
  }
}
