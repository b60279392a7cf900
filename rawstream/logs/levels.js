// @ts-check
// How severe a line is, by what it says about itself: the rules of levels.py.

export const LEVELS = ["trace", "debug", "info", "warning", "error", "fatal"];
export const NONE = 255;

const LOOKED_AT = 400;

/** @type {Record<string, number>} */
const WORDS = {
  trace: 0, verbose: 0, 10: 0,
  debug: 1, dbug: 1, dbg: 1, 20: 1,
  info: 2, information: 2, notice: 2, inf: 2, i: 2, 30: 2,
  warning: 3, warn: 3, wrn: 3, w: 3, 40: 3,
  error: 4, err: 4, severe: 4, e: 4, exception: 4, traceback: 4, 50: 4,
  fatal: 5, critical: 5, crit: 5, alert: 5, emerg: 5, panic: 5, f: 5, 60: 5,
};

const NAMES = "trace|verbose|debug|dbug|dbg|info|information|notice|inf|warning|warn|wrn|error|err|severe"
  + "|fatal|critical|crit|alert|emerg|panic";
const LEVEL = new RegExp(
  '"(?:level|lvl|severity|levelname|log\\.level)" ?: ?"?([\\p{L}\\p{N}_]+)'
  + '|(?<![\\p{L}\\p{N}_])(?:level|lvl|severity)="?([\\p{L}\\p{N}_]+)'
  + "|^([IWEF])[0-9]{4} "
  + `|(?<![\\p{L}\\p{N}_])(${NAMES.toUpperCase()})(?![\\p{L}\\p{N}_])`
  + `|[\\[<(](${NAMES})[\\]>)]`
  + `|(?:^|: )(${NAMES}): `
  + "|^[\\p{L}\\p{N}_]*(Error|Exception)(?![\\p{L}\\p{N}_])|^(Traceback) ", "u");
const ESCAPE = /\x1b\[[0-9;:?]*[a-zA-Z]/g;

/** The level of a line, a place in `LEVELS`, or NONE. @param {string} text */
export function levelOf(text) {
  let start = text.slice(0, LOOKED_AT);
  if (start.includes("\x1b")) start = start.replace(ESCAPE, "");
  const found = LEVEL.exec(start);
  if (!found) return NONE;
  const word = found.slice(1).find(group => group !== undefined)?.toLowerCase() ?? "";
  return WORDS[word] ?? NONE;
}
