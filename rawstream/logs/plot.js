// @ts-check
// Lines a second, for the last two minutes.

const SECONDS = 120;

export class Plot {
  /** @param {SVGSVGElement} svg @param {HTMLElement} label */
  constructor(svg, label) {
    this.label = label;
    /** @type {number[]} */
    this.counts = Array(SECONDS).fill(0);
    this.now = 0;
    svg.setAttribute("viewBox", `0 0 ${SECONDS} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    this.path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.append(this.path);
  }

  /** @param {number} count  lines that came just now */
  add(count) { this.now += count; }

  /** Call this once a second. */
  tick() {
    this.counts.push(this.now);
    this.counts.shift();
    this.label.textContent = `${this.now.toLocaleString("en")} lines/s`;
    this.now = 0;
    const most = Math.max(1, ...this.counts);
    const steps = this.counts.map((count, at) => `L${at} ${20 - 19 * count / most}H${at + 1}`);
    this.path.setAttribute("d", `M0 20${steps.join("")}V20Z`);
  }
}
