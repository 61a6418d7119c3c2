// The interactive plot of method.md: hard against soft top-p on one made-up distribution of ten tokens. It knows
// nothing of models. Where it does not run, the picture in its place stays.
"use strict";

(() => {
  const LOGITS = [3.2, 2.6, 2.3, 1.6, 1.2, 0.6, 0.2, -0.4, -1.0, -1.6]; // those of figures.py
  const SLIDERS = [
    { name: "T", label: "temperature T", min: 0.1, max: 2, step: 0.05, value: 1 },
    { name: "P", label: "top-p P", min: 0.05, max: 1, step: 0.01, value: 0.7 },
    { name: "alpha", label: "decay α", min: 1, max: 200, step: 1, value: 30 },
  ];
  const RULES = { inclusive: "inclusive (the paper)", exclusive: "exclusive" };
  const KINDS = { p: "softmax(l / T)", hard: "hard top-p", soft: "soft top-p" };
  const WIDTH = 640, HEIGHT = 260, LEFT = 44, BOTTOM = 28;
  const STYLE = `
    .soft-top-p label { display: flex; gap: .8em; align-items: center; margin: .2em 0; }
    .soft-top-p label > span { min-width: 9em; }
    .soft-top-p input { flex: 1; max-width: 24em; }
    .soft-top-p svg { width: 100%; height: auto; max-width: ${WIDTH}px; color: inherit; }
    .soft-top-p .p { fill: none; stroke: currentColor; stroke-dasharray: 3 2; }
    .soft-top-p .hard { fill: #33608f; }
    .soft-top-p .soft { fill: #f0a45d; stroke: #b36016; }
    .soft-top-p text { fill: currentColor; font-size: 12px; }
    .soft-top-p table { font-variant-numeric: tabular-nums; }`;

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const normalised = (weights) => weights.map((weight) => weight / sum(weights));

  // The three distributions, of logits in descending order.
  function distributions({ T, P, alpha, rule }) {
    const p = normalised(LOGITS.map((logit) => Math.exp((logit - LOGITS[0]) / T)));
    const before = p.map((_, at) => sum(p.slice(0, at)));
    const reached = rule === "exclusive" ? before : p.map((value, at) => before[at] + value);
    const kept = p.map((_, at) => (at === 0 || P >= 1 || before[at] < P ? 1 : 0));
    const log_m = reached.map((mass) => -alpha * Math.max(0, mass - P));
    const hard = normalised(p.map((value, at) => value * kept[at]));
    const soft = normalised(p.map((value, at) => value * Math.exp(log_m[at] - log_m[0])));
    return { p, hard, soft, kept: sum(kept) };
  }

  function element(name, attributes = {}, ...children) {
    const drawn = ["svg", "rect", "line", "text"].includes(name);
    const made = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function picture(found) {
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
    const y = (value) => 8 + (1 - value) * (HEIGHT - BOTTOM - 8);
    for (const level of [0, 0.25, 0.5, 0.75, 1]) {
      const across = { x1: LEFT, x2: WIDTH, y1: y(level), y2: y(level), stroke: "currentColor", opacity: 0.2 };
      svg.append(element("line", across));
      svg.append(element("text", { x: LEFT - 8, y: y(level) + 4, "text-anchor": "end" }, `${100 * level}%`));
    }
    const slot = (WIDTH - LEFT) / LOGITS.length;
    const bar = (kind, at, from, width) => {
      const top = y(found[kind][at]);
      const size = { width: slot * width, height: y(0) - top };
      return element("rect", { class: kind, x: LEFT + slot * (at + from), y: top, ...size });
    };
    LOGITS.forEach((_, at) => {
      svg.append(bar("hard", at, 0.12, 0.36), bar("soft", at, 0.52, 0.36), bar("p", at, 0.06, 0.88));
      svg.append(element("text", { x: LEFT + slot * (at + 0.5), y: HEIGHT - 8, "text-anchor": "middle" }, `${at + 1}`));
    });
    return svg;
  }

  function legend() {
    const line = element("p");
    for (const [kind, name] of Object.entries(KINDS)) {
      const key = element("svg", { viewBox: "0 0 16 12", style: "width: 1.3em", "aria-hidden": "true" });
      key.append(element("rect", { class: kind, x: 1, y: 1, width: 14, height: 10 }));
      line.append(key, ` ${name} \u2003 `);
    }
    return line;
  }

  function table(found) {
    const row = (cell, values) => element("tr", {}, ...values.map((value) => element(cell, {}, value)));
    const values = (at) => Object.keys(KINDS).map((kind) => found[kind][at].toFixed(4));
    const head = element("thead", {}, row("th", ["token", ...Object.values(KINDS)]));
    const body = element("tbody", {}, ...LOGITS.map((_, at) => row("td", [`${at + 1}`, ...values(at)])));
    return element("table", {}, head, body);
  }

  function inWords(found, { rule }) {
    const inside = sum(found.soft.slice(0, found.kept));
    const tokens = found.kept === 1 ? "1 token" : `${found.kept} tokens`;
    return `Hard top-p keeps ${tokens}, ${(100 * sum(found.p.slice(0, found.kept))).toFixed(1)}% of the mass. ` +
      `Soft top-p (${rule}) puts ${(100 * inside).toFixed(1)}% on the same tokens.`;
  }

  function start(place) {
    const setting = { rule: "inclusive", ...Object.fromEntries(SLIDERS.map(({ name, value }) => [name, value])) };
    const drawing = element("div");
    const numbers = element("div");
    const words = element("p", { role: "status" });
    const show = () => {
      const found = distributions(setting);
      drawing.replaceChildren(picture(found));
      numbers.replaceChildren(table(found));
      words.textContent = inWords(found, setting);
    };
    const controls = SLIDERS.map(({ name, label, ...range }) => {
      const input = element("input", { type: "range", name, ...range });
      const value = element("output", {}, `${setting[name]}`);
      input.addEventListener("input", () => {
        setting[name] = Number(input.value);
        value.textContent = input.value;
        show();
      });
      return element("label", {}, element("span", {}, label), input, value);
    });
    const options = Object.entries(RULES).map(([value, text]) => element("option", { value }, text));
    const select = element("select", { name: "rule" }, ...options);
    select.addEventListener("input", () => {
      setting.rule = select.value;
      show();
    });
    controls.push(element("label", {}, element("span", {}, "cumulative sum"), select));
    place.className = "soft-top-p";
    const details = element("details", {}, element("summary", {}, "The numbers"), numbers);
    place.replaceChildren(element("style", {}, STYLE), ...controls, drawing, legend(), words, details);
    show();
  }

  const place = document.getElementById("soft-top-p");
  if (place) start(place);
})();
