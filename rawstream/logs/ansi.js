// @ts-check
// The colors and styles that escape sequences give a text (ECMA-48 section 8.3.117, SGR). All other
// sequences are left out. The result is text and class names, never markup.

/**
 * @typedef {object} Fragment
 * @property {string} text
 * @property {string} kind  class names
 * @property {string} [color]  of 256 or 16 million
 * @property {string} [background]
 */

// CSI; OSC, DCS and the like, whose text is no part of the line; two characters.
const SEQUENCE = /\x1b(?:\[([0-9;:<=>?]*)[ -/]*([@-~])|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-~]|$)/g;
const CUBE = [0, 95, 135, 175, 215, 255];
const STYLES = new Map([[1, "bold"], [2, "faint"], [3, "italic"], [4, "underline"], [9, "struck"]]);
const ENDED_BY = new Map([[22, ["bold", "faint"]], [23, ["italic"]], [24, ["underline"]], [29, ["struck"]]]);

/** The text without its sequences. @param {string} text */
export function plain(text) {
  return text.includes("\x1b") ? text.replace(SEQUENCE, "") : text;
}

/** @param {string} text @returns {Fragment[]} */
export function fragments(text) {
  if (!text.includes("\x1b")) return [{ text, kind: "" }];
  const found = [];
  const style = new Style();
  let last = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    if (match.index > last) found.push(style.fragment(text.slice(last, match.index)));
    if (match[2] === "m") style.change(match[1].split(";").flatMap(codesOf));
    last = match.index + match[0].length;
  }
  if (last < text.length) found.push(style.fragment(text.slice(last)));
  return found;
}

/** The numbers of one parameter. With colons, a color may name its space, and a kind of underline is one.
 * @param {string} parameter */
function codesOf(parameter) {
  const codes = parameter.split(":").map(Number);
  if (codes.length === 1) return codes;
  if (codes[1] === 2 && codes.length > 5) codes.splice(2, 1);
  if (codes[0] === 4) return [codes[1] ? 4 : 24];
  return codes[0] === 38 || codes[0] === 48 ? codes : [];
}

class Style {
  constructor() { this.reset(); }

  reset() {
    /** @type {Set<string>} */
    this.kinds = new Set();
    this.isInverse = false;
    /** @type {{color: string, background: string}} each a class name, or a color */
    this.ink = { color: "", background: "" };
  }

  /** @param {string} text @returns {Fragment} */
  fragment(text) {
    let { color, background } = this.ink;
    if (this.isInverse) [color, background] = [background || "paper", color || "ink"];
    const kinds = [...this.kinds];
    /** @type {Fragment} */
    const made = { text, kind: "" };
    if (color.includes("(")) made.color = color;
    else if (color) kinds.push(`fg-${color}`);
    if (background.includes("(")) made.background = background;
    else if (background) kinds.push(`bg-${background}`);
    made.kind = kinds.join(" ");
    return made;
  }

  /** @param {number[]} codes */
  change(codes) {
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      const style = STYLES.get(code);
      if (code === 0) this.reset();
      else if (style) this.kinds.add(style);
      else if (ENDED_BY.has(code)) for (const kind of ENDED_BY.get(code) ?? []) this.kinds.delete(kind);
      else if (code === 7 || code === 27) this.isInverse = code === 7;
      else if (code === 39) this.ink.color = "";
      else if (code === 49) this.ink.background = "";
      else if (code === 38 || code === 48) {
        const side = code === 38 ? "color" : "background";
        if (codes[at + 1] === 5) { this.ink[side] = indexed(codes[at + 2]); at += 2; }
        else if (codes[at + 1] === 2) { this.ink[side] = rgb(codes.slice(at + 2, at + 5)); at += 4; }
      }
      else if (code >= 30 && code <= 37) this.ink.color = String(code - 30);
      else if (code >= 40 && code <= 47) this.ink.background = String(code - 40);
      else if (code >= 90 && code <= 97) this.ink.color = String(code - 82);
      else if (code >= 100 && code <= 107) this.ink.background = String(code - 92);
    }
  }
}

/** A color of the 256. @param {number} number */
function indexed(number) {
  if (!(number >= 0 && number < 256)) return "";
  if (number < 16) return String(number);
  if (number >= 232) return rgb(Array(3).fill(8 + 10 * (number - 232)));
  const place = number - 16;
  return rgb([CUBE[Math.floor(place / 36)], CUBE[Math.floor(place / 6) % 6], CUBE[place % 6]]);
}

/** @param {number[]} parts */
function rgb(parts) {
  const [red, green, blue] = parts.map(part => Math.min(255, Math.max(0, Math.floor(part) || 0)));
  return `rgb(${red ?? 0} ${green ?? 0} ${blue ?? 0})`;
}
