
// -- The page ------------------------------------------------------------------------------------

const at = id => document.getElementById(id);
const wire = new Wire(JSON.parse(at("terms").textContent));
const ladder = new Ladder(at("ladder"), wire, { onbyte: (...spot) => explain(document.querySelector("aside"), wire, ...spot) });
const strip = new Strip(at("strip"), ladder);
const kept = document.querySelectorAll("script.records");  // of a page that was saved
const isLive = kept.length === 0;
let isPaused = false, note = "";

const MOST_LISTED = 200;  // connections to choose from
let isTold = false;
function take(record) {
  wire.add(record);
  if (!isTold) requestAnimationFrame(() => { isTold = false; tell(); });
  isTold = true;
}

function tell() {
  const count = wire.pieces.length + wire.dropped;
  const held = isPaused ? `, ${Math.max(0, count - ladder.limit)} of them not shown yet` : "";
  at("state").textContent = `${count} reads and writes${held}${note}`;
  at("step").disabled = !isPaused || count <= ladder.limit;
  const { value, options } = at("connection");
  const listed = [...wire.connections].slice(-MOST_LISTED).map(([number, { labels }]) => [String(number), `#${number} ${labels[0] ?? ""}`.slice(0, 60)]);
  const isNew = listed.length !== options.length - 1 || listed.at(-1)?.[1] !== options[options.length - 1].textContent;
  if (isNew) {
    at("connection").replaceChildren(options[0], ...listed.map(([number, text]) => element("option", { value: number }, text)));
    at("connection").value = listed.some(([number]) => number === value) ? value : "";
  }
}

for (const layer of ["tcp", "http2", "http", "sse", "ndjson", "websocket", "message"]) {
  const box = element("input", { type: "checkbox", checked: true, value: layer });
  at("layers").append(element("label", { className: "chip-box" }, box, layer));
}
const show = () => { ladder.show(); strip.draw(); };
at("layers").onchange = () => {
  const boxes = [...at("layers").querySelectorAll("input")], chosen = boxes.filter(box => box.checked);
  ladder.layers = chosen.length === boxes.length ? null : new Set(chosen.map(box => box.value));
  show();
};
at("connection").onchange = event => {
  const chosen = Number(event.target.value);
  ladder.filter = piece => !chosen || piece.connection === chosen;
  show();
};
at("depth").onchange = event => { ladder.depth = event.target.value; ladder.turned = new WeakMap(); show(); };
at("pause").onclick = () => {
  isPaused = !isPaused;
  ladder.limit = isPaused ? wire.pieces.length + wire.dropped : Infinity;
  at("pause").textContent = isPaused ? "Go on" : "Pause";
  show();
  tell();
};
at("step").onclick = () => {
  for (let piece; (piece = ladder.piece(ladder.limit)); ) {
    ladder.limit += 1;
    if (!ladder.shows(piece)) continue;  // it is filtered out
    ladder.append(piece);
    ladder.reveal(piece);
    break;
  }
  strip.draw();
  tell();
};
// The page itself, with what it has seen: a file that needs nothing else.
at("save").onclick = async () => {
  const html = await (await fetch(location.href)).text();
  const lines = wire.pieces.map(piece => JSON.stringify(piece.record).replaceAll("<", "\\u003c")).join("\n");
  const page = html.replace("<!-" + "- records -->", () => `<scr` + `ipt type="application/x-ndjson" class="records">${lines}</scr` + "ipt>");
  const link = element("a", { download: "wire.html", href: URL.createObjectURL(new Blob([page], { type: "text/html" })) });
  link.click();
  URL.revokeObjectURL(link.href);
};

const measure = () => document.documentElement.style.setProperty("--top", `${document.querySelector("header").offsetHeight + 16}px`);
new ResizeObserver(measure).observe(document.querySelector("header"));

if (isLive) {
  document.querySelector("h1 a").search = location.search;  // the token, if there is one
  receiveRecords(take, text => { note = text && `; ${text}`; tell(); });
  ladder.follows = true;
  tell();
} else {
  for (const id of ["pause", "step", "save"]) at(id).hidden = true;
  document.querySelector("h1 a").removeAttribute("href");
  const intake = new Intake(take);
  for (const script of kept) intake.add(...script.textContent.split("\n").filter(Boolean));
}
