// @ts-check
// The page of the logs: what is read, and what the controls do.

import { follow } from "./follow.js";
import { plain } from "./ansi.js";
import { LEVELS, levelOf } from "./levels.js";
import { EXIT, GAP, Lines } from "./lines.js";
import { Plot } from "./plot.js";
import { View, clock, fieldsOf, highlighted, kindOf, partsOf, textOf } from "./view.js";

/**
 * @typedef {import("./follow.js").Entry} Entry
 * @typedef {{name: string, kind: string, about: string, ended: boolean}} Log
 */

const FIRST_LINES = 1000;  // of a log that is chosen
const QUIET_MS = 150;  // after so much silence, what comes is new
const OLDER_LINES = 2000;  // fetched when the first line comes in sight
const WARNING = LEVELS.indexOf("warning"), ERROR = LEVELS.indexOf("error");

/** @template {HTMLElement} [T=HTMLElement] @param {string} id */
const byId = id => /** @type {T} */ (document.getElementById(id));
/** @param {string} id */
const input = id => /** @type {HTMLInputElement} */ (byId(id));
/** @param {number} number */
const grouped = number => number.toLocaleString("en");

let lines = new Lines();
const view = new View(byId("lines"), lines, {
  open: index => showDetail(index),
  top: () => void loadOlder(),
  followed: follows => { byId("bottom").hidden = follows; },
});
const plot = new Plot(/** @type {any} */ (byId("plot")), byId("rate"));

// -- What is read -----------------------------------------------------------------------------------

/** All there are. @type {Log[]} */
let logs = [];
/** The names of those that are read. @type {string[]} */
let chosen = [];
/** @type {import("./follow.js").Follower | null} */
let reader = null;
let isPaused = false;
let isCatchingUp = true;  // with what there was before: when that arrived here says nothing
let lastCame = 0;
let missed = 0;  // while it is paused
let hasOlder = true;
let isLoading = false;
let attempt = 0;
let isReading = Promise.resolve();
/** The cursor where the page was paused; what comes behind it is only counted. @type {string | undefined} */
let pausedAt;

/** Read the chosen logs from a cursor on, or from the last lines, until another reader takes over.
 * @param {{after?: string, last?: number}} from */
async function read(from) {
  attempt += 1;
  const own = attempt;
  await stopped();
  if (own !== attempt) return;
  isCatchingUp = true;
  lastCame = 0;
  const [name, ...others] = chosen;
  const way = /** @type {import("./follow.js").Way | ""} */ (input("way").value);
  const current = reader = follow(`logs/${encodeURIComponent(name)}`, {
    ...from, channels: others, types: ["exit"], onstate: state => { if (own === attempt) showState(state); },
    ...(way && { ways: [way] }),
  });
  isReading = (async () => {
    try {
      for await (const entry of current) if (chosen[0] === name) take(entry);
    } catch (error) {
      if (own === attempt) setState("refused", error instanceof Error ? error.message : String(error));
    }
  })();
}

/** End the reader. What has arrived is taken first: then its cursor is the place of the page. */
async function stopped() {
  reader?.close();
  await isReading;
}

/** Go on where the page is, with another transport. */
async function goOn() {
  attempt += 1;
  const own = attempt;
  await stopped();
  if (own !== attempt) return;
  const after = reader?.cursor;
  await read(after ? { after } : { last: FIRST_LINES });
}

/** Begin anew with other logs. @param {string[]} names @param {{after?: string, last?: number}} [from] */
function choose(names, from = { last: FIRST_LINES }) {
  chosen = names;
  lines = view.lines = new Lines();
  view.selected = -1;
  view.showsNames = names.length > 1;
  view.setFollows(from.after === undefined);
  hasOlder = names.length === 1 && from.after !== "0";
  pausedAt = undefined;
  setPaused(false);
  byId("detail").hidden = true;
  delete byId("counts").dataset.note;
  search();
  showLogs();
  document.title = `${names.join(", ")} - logs`;
  history.replaceState(null, "", `#logs=${names.map(encodeURIComponent).join(",")}`);
  void read(from);
}

/** @param {Entry} entry */
function take(entry) {
  plot.add(1);
  const now = Date.now();
  if (lastCame && now - lastCame > QUIET_MS) isCatchingUp = false;
  lastCame = now;
  if (isPaused) {
    missed += 1;
    return;
  }
  const name = entry.channel ?? chosen[0];
  lines.add({ ...lineOf(entry), id: idOf(entry, name) || "-0", name, arrived: isCatchingUp ? 0 : now });
  view.changed();
}

/** @param {Entry} entry */
function lineOf(entry) {
  if (entry.gap) return { text: "lines are missing here", level: GAP };
  if (entry.end) return { text: "the end", level: EXIT };
  if (entry.event === "exit") return { text: entry.data, level: EXIT };
  return { text: entry.data, level: levelOf(entry.data) };
}

/** The ID of an entry in its own log. @param {Entry} entry @param {string} name */
function idOf(entry, name) {
  if (!entry.id?.includes(":")) return entry.id ?? "";
  const own = entry.id.split(",").find(part => part.startsWith(`${name}:`));
  return own?.slice(name.length + 1) ?? "";
}

/** Lines before one, the oldest first; null if the log does not have this one any more. @param {string} name @param {string} id @param {number} count */
async function older(name, id, count) {
  const url = `logs/${encodeURIComponent(name)}?before=${encodeURIComponent(id)}&last=${count}`;
  const response = await fetch(url, { cache: "no-store" });
  if (response.status === 410) return null;  // the log does not go back to this line
  if (!response.ok) throw new Error(`older lines: status ${response.status}`);
  const text = await response.text();
  const entries = text.split("\n").filter(Boolean).map(line => /** @type {Entry} */ (JSON.parse(line)));
  return entries.map(entry => ({ ...lineOf(entry), id: entry.id, name, arrived: 0 }));
}

/** Fetch lines before the first one, when it comes in sight. */
async function loadOlder() {
  const [first] = lines;
  if (!hasOlder || isLoading || !first || lines.count >= 900_000) return;
  isLoading = true;
  const own = lines;
  try {
    const found = await older(chosen[0], first.id, OLDER_LINES);
    if (own !== lines) return;
    hasOlder = found !== null && found.length > 0;
    view.shift(lines.addBefore(found ?? []));
  } catch {
    await new Promise(resolve => setTimeout(resolve, 1000));  // the next movement asks again
  } finally {
    isLoading = false;
  }
}

/** Open a log at a line. @param {string} name @param {string} id */
async function openAt(name, id) {
  const before = await older(name, id, FIRST_LINES).catch(() => null);
  if (!before) {
    choose([name]);
    byId("counts").dataset.note = "The line of the link cannot be had. ";
    return;
  }
  const last = before.at(-1);
  choose([name], { after: last ? last.id : "0" });
  lines.addBefore(before);
  hasOlder = before.length > 0;
  view.marked = id;
  history.replaceState(null, "", linkTo(name, id));
  for (let tries = 0; tries < 100; tries += 1) {
    const index = lines.indexOf(id);
    if (index >= 0) {
      view.select(index, false);
      view.moveTo(index - view.visible / 2);
      return;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** @param {string} name @param {string} id */
const linkTo = (name, id) => `#logs=${encodeURIComponent(name)}&line=${encodeURIComponent(id)}`;

// -- The list of logs -------------------------------------------------------------------------------

async function readList() {
  for await (const entry of follow("logs", { last: 1 })) {
    if (!entry.data) continue;
    logs = entry.data;
    if (!chosen.length && logs.length) begin();
    showLogs();
  }
}

/** Choose what the address says, or the first log. */
function begin() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const names = (asked.get("logs") ?? "").split(",").filter(name => logs.some(log => log.name === name));
  const line = asked.get("line");
  if (line && names.length === 1) void openAt(names[0], line);
  else if (asked.get("from") === "0" && names.length === 1) choose(names, { after: "0" });
  else choose(names.length ? names : [logs[0].name]);
}

function showLogs() {
  const focused = document.activeElement?.closest("#logs li");
  const place = focused ? [...byId("logs").children].indexOf(focused) : -1;
  const kind = document.activeElement?.localName ?? "";
  byId("logs").replaceChildren(...logs.map(log => {
    const item = document.createElement("li");
    const isChosen = chosen.includes(log.name);
    item.classList.toggle("chosen", isChosen);
    const also = document.createElement("input");
    also.type = "checkbox";
    also.checked = isChosen;
    also.setAttribute("aria-label", `Also show ${log.name}`);
    also.onchange = () => {
      const names = isChosen ? chosen.filter(name => name !== log.name) : [...chosen, log.name];
      if (names.length) choose(names);
      else also.checked = true;
    };
    const only = document.createElement("button");
    only.type = "button";
    if (isChosen && chosen.length === 1) only.setAttribute("aria-current", "true");
    const name = document.createElement("b"), about = document.createElement("small");
    name.textContent = log.name;
    about.textContent = `\u200e${log.about}${log.ended ? " (ended)" : ""}`;
    about.title = `${log.kind}: ${log.about}`;
    only.append(name, about);
    only.onclick = () => {
      closeMenu();
      choose([log.name]);
    };
    item.append(also, only);
    return item;
  }));
  if (place >= 0) /** @type {HTMLElement | null} */ (byId("logs").children[place]?.querySelector(kind))?.focus();
}

function closeMenu() {
  byId("sidebar").classList.remove("open");
  byId("menu").setAttribute("aria-expanded", "false");
}

byId("menu").onclick = () => {
  const isOpen = byId("sidebar").classList.toggle("open");
  byId("menu").setAttribute("aria-expanded", String(isOpen));
};

// -- State ------------------------------------------------------------------------------------------

const WAYS = { websocket: "WebSocket", events: "EventSource", lines: "fetch", poll: "long-poll" };

/** @param {import("./follow.js").State} state */
function showState({ status, way, seconds, why }) {
  if (status === "open") setState(status, `live by ${WAYS[way]}`);
  else if (status === "waiting") {
    setState(status, seconds === undefined ? "connection lost" : `connection lost, again in ${seconds} s`, why);
  }
  else if (status === "closed") setState(status, "ended");
  else setState(status, "connecting");
}

/** @param {string} status @param {string} text @param {string} [why] */
function setState(status, text, why = "") {
  const state = byId("state");
  if (state.textContent !== text) state.textContent = text;
  state.dataset.status = status;
  state.title = why;
}

/** @param {boolean} paused */
function setPaused(paused) {
  isPaused = paused;
  missed = 0;
  byId("pause").setAttribute("aria-pressed", String(paused));
  showCounts();
}

byId("pause").onclick = async () => {
  attempt += 1;
  const own = attempt, wasPaused = isPaused;
  await stopped();
  if (own !== attempt) return;
  if (!wasPaused) pausedAt = reader?.cursor;
  setPaused(!wasPaused);
  await read(pausedAt ? { after: pausedAt } : { last: FIRST_LINES });
};

/** Set a text, where it is another. @param {string} id @param {string} text */
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showCounts() {
  const { count, shownCount, foundCount, perLevel, filter } = lines;
  const note = byId("counts").dataset.note ?? "";
  const isWhole = shownCount === count;
  say("pause", isPaused ? `Go on (${grouped(missed)} new)` : "Pause");
  say("counts", `${note}${isWhole ? "" : `${grouped(shownCount)} of `}${grouped(count)} lines`);
  say("warnings", grouped(perLevel[WARNING]));
  say("errors", grouped(perLevel[ERROR] + perLevel[ERROR + 1]));
  say("found", filter.search ? `${grouped(foundCount)} found` : "");
  byId("next").hidden = byId("previous").hidden = !filter.search;
  const isEmpty = shownCount === 0 && !lines.isSearching;
  byId("empty").hidden = !isEmpty;
  if (!isEmpty) return;
  say("empty", count ? "No line is like this." : chosen.length ? "No lines yet." : "No log yet. They appear here.");
}

// -- Search and filters -----------------------------------------------------------------------------

function search() {
  const text = input("search").value;
  let found = null;
  input("search").removeAttribute("aria-invalid");
  try {
    const isRegex = input("regex").checked;
    if (text) found = new RegExp(isRegex ? text : text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), isRegex && /[A-Z]/.test(text) ? "u" : "iu");
  } catch {
    input("search").setAttribute("aria-invalid", "true");
  }
  const level = /** @type {HTMLInputElement} */ (document.querySelector("[name=level]:checked"));
  const filter = { least: Number(level.value), search: found, onlyFound: input("only").checked };
  const anchor = view.follows ? undefined : lines.shownAt(view.selected >= 0 ? view.selected : Math.ceil(view.top));
  const own = lines;
  view.selected = -1;
  void lines.setFilter(filter, () => {
    if (own !== lines) return;
    view.changed();
    showCounts();
    const index = anchor && !lines.isSearching ? lines.indexOf(anchor.id) : -1;
    if (index >= 0) view.moveTo(index - view.visible / 2);
  });
}

for (const id of ["search", "regex", "only"]) byId(id).addEventListener("input", search);
for (const radio of document.querySelectorAll("[name=level]")) radio.addEventListener("change", search);

/** @param {1 | -1} step */
function toNext(step) {
  const from = view.selected >= 0 ? view.selected : step > 0 ? Math.ceil(view.top) - 1 : Math.floor(view.top + view.visible);
  const index = lines.nextFound(from, step);
  if (index >= 0) view.select(index, false);
}

byId("next").onclick = () => toNext(1);
byId("previous").onclick = () => toNext(-1);
byId("time").addEventListener("change", () => { view.showsTime = input("time").checked; view.changed(); });
byId("way").addEventListener("change", () => { if (chosen.length) void goOn(); });
byId("bottom").onclick = () => { view.setFollows(true); view.changed(); };
byId("first").onclick = () => choose(chosen, { after: chosen.length === 1 ? "0" : chosen.map(name => `${name}:0`).join(",") });

// -- One line ---------------------------------------------------------------------------------------

/** @param {number} index */
function showDetail(index) {
  const line = lines.shownAt(index);
  if (!line) return;
  const level = kindOf(line.level);
  const arrived = line.arrived ? `, arrived ${clock(line.arrived)}` : "";
  byId("where").textContent = `${line.name}${level === "none" ? "" : `, ${level}`}${arrived}`;
  const whole = byId("whole");
  const fields = fieldsOf(line.text);
  if (fields) {
    const list = document.createElement("dl");
    for (const [name, value] of Object.entries(fields)) {
      const term = document.createElement("dt"), definition = document.createElement("dd");
      term.textContent = name;
      definition.textContent = textOf(value, 2);
      list.append(term, definition);
    }
    whole.replaceChildren(list);
  } else whole.replaceChildren(...highlighted(partsOf(line.text), lines.filter.search));
  /** @type {HTMLAnchorElement} */ (byId("link")).href = linkTo(line.name, line.id);
  byId("copy").onclick = () => void navigator.clipboard?.writeText(plain(line.text));
  byId("detail").hidden = false;
}

byId("close").onclick = () => { byId("detail").hidden = true; byId("lines").focus(); };
byId("link").addEventListener("click", event => {
  event.preventDefault();
  const { hash, href } = /** @type {HTMLAnchorElement} */ (byId("link"));
  view.marked = new URLSearchParams(hash.slice(1)).get("line") ?? "";
  view.changed();
  history.replaceState(null, "", hash);
  void navigator.clipboard?.writeText(href);
});

// -- Keyboard ---------------------------------------------------------------------------------------

const keys = /** @type {HTMLDialogElement} */ (byId("keys"));
byId("help").onclick = () => keys.showModal();

/** @param {number} by */
function otherLog(by) {
  const at = logs.findIndex(log => log.name === chosen[0]);
  const log = logs[(at + by + logs.length) % logs.length];
  if (log) choose([log.name]);
}

/** @type {Record<string, () => void>} */
const COMMANDS = {
  "/": () => input("search").focus(),
  n: () => toNext(1), N: () => toNext(-1),
  p: () => byId("pause").click(),
  j: () => view.select(view.selected < 0 ? Math.ceil(view.top) : view.selected + 1, false),
  k: () => view.select(view.selected < 0 ? Math.floor(view.top + view.visible) - 1 : view.selected - 1, false),
  g: () => view.moveTo(0), Home: () => view.moveTo(0),
  G: () => byId("bottom").click(), End: () => byId("bottom").click(),
  t: () => byId("time").click(),
  "[": () => otherLog(-1), "]": () => otherLog(1),
  "?": () => keys.showModal(),
  PageDown: () => view.moveTo(view.top + view.visible - 1), PageUp: () => view.moveTo(view.top - view.visible + 1),
  Enter: () => { if (view.selected >= 0) showDetail(view.selected); },
  Escape: () => {
    if (!byId("detail").hidden) byId("close").click();
    else if (input("search").value) { input("search").value = ""; search(); }
  },
};
COMMANDS.ArrowDown = COMMANDS.j;
COMMANDS.ArrowUp = COMMANDS.k;

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  const { target } = event;
  if (target === byId("search")) {
    if (event.key === "Enter") toNext(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") { COMMANDS.Escape(); byId("lines").focus(); }
    return;
  }
  if (target instanceof HTMLElement && target.matches("select")) return;
  const isControl = target instanceof HTMLElement && target.matches("button, input, a, [tabindex]:not(#lines)");
  if (isControl && /^(Enter| |Arrow.*|Home|End|Page.*)$/.test(event.key)) return;
  if (/^[1-4]$/.test(event.key)) {
    /** @type {HTMLElement} */ (document.querySelectorAll("[name=level]")[Number(event.key) - 1]).click();
    return;
  }
  const command = COMMANDS[event.key];
  if (!command) return;
  event.preventDefault();
  command();
});

addEventListener("hashchange", begin);

byId("post").textContent = `tail -f x | curl -X POST -T - ${location.origin}/logs/x`;
setInterval(() => plot.tick(), 1000);
setInterval(showCounts, 250);
showCounts();
void readList();

// For tests and the console: `const { lines } = await import("./page.js")`.
export { lines, view };
