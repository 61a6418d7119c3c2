// What moves on the trace page: one position shared by every run's text, curves and table; search; tint; theme.
// Texts only ever enter the page as text nodes. The page works without this script: the tinted text is there before it.
"use strict";

(() => {
  const FIELDS = [
    "text", "bytes", "id", "special", "temperature", "topP", "nucleus", "rank", "baseEntropy", "entropy",
    "baseProbability", "probability", "alternatives",
  ];
  const STEPS = 20;
  const LARGEST_ENTROPY = 4; // nats; what is above has the darkest tint
  const TINTS = {
    temperature: { name: "Temperature", classes: "t", largest: 2, of: (token) => token.temperature },
    top_p: { name: "Top-p", classes: "s", largest: 1, of: (token) => token.topP },
    entropy: { name: "Entropy after, nats", classes: "s", largest: LARGEST_ENTROPY, of: (token) => token.entropy },
    probability: { name: "Probability after", classes: "s", largest: 1, of: (token) => token.probability },
  };
  const byId = (id) => document.getElementById(id);
  const sections = [...document.querySelectorAll(".run")];
  const runs = JSON.parse(byId("traces").textContent).map((rows, index) => {
    const section = sections[index];
    return {
      tokens: rows.map((row) => Object.fromEntries(FIELDS.map((field, at) => [field, row[at]]))),
      panel: section.querySelector(".panel"),
      text: section.querySelector(".tokens"),
      spans: section.querySelector(".tokens").children,
      slider: section.querySelector(".position"),
      detail: section.querySelector(".token"),
      charts: [...section.querySelectorAll(".chart svg")],
      cursors: [...section.querySelectorAll(".cursor")],
    };
  });
  const longest = Math.max(...runs.map((run) => run.tokens.length));
  let position = 0;
  let tint = "temperature";

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const number = (value) => (value === 0 ? "0" : value >= 0.0005 ? value.toFixed(3) : value.toExponential(0));
  const step = (value, largest) => Math.round(Math.min(Math.max(value / largest, 0), 1) * STEPS);
  const spoken = (token) => token.text.trim() || (token.text ? "space" : token.bytes || "no text");

  // A token by itself, with its leading and trailing spaces as dots, so that they can be seen.
  function label(text, bytes) {
    const bdi = element("bdi");
    const [, before, middle, after] = (text || bytes || "(no text)").match(/^( *)([^]*?)( *)$/);
    for (const [part, isSpace] of [[before, true], [middle, false], [after, true]]) {
      if (part) bdi.append(isSpace ? element("span", { className: "space" }, "·".repeat(part.length)) : part);
    }
    return bdi;
  }

  // Position

  function moveTo(index, { scrollIn = null } = {}) {
    position = Math.min(Math.max(index, 0), Math.max(0, longest - 1));
    for (const run of runs) {
      run.text.querySelector(".here")?.classList.remove("here");
      const token = run.tokens[position];
      run.slider.value = position + 1;
      run.slider.setAttribute("aria-valuetext", token
        ? `token ${position + 1} of ${run.tokens.length}: ${spoken(token)}, temperature ${token.temperature}`
        : "after the end");
      for (const cursor of run.cursors) cursor.style.left = token ? `${(100 * (position + 0.5)) / longest}%` : "";
      describe(run, token);
      if (!token) continue;
      run.spans[position].classList.add("here");
      if (scrollIn === run) reveal(run);
    }
  }

  // Scrolls only if the token is out of sight, or under the panel where that sticks to the top.
  function reveal(run) {
    const span = run.spans[position].getBoundingClientRect();
    const panel = run.panel.getBoundingClientRect();
    const sticks = getComputedStyle(run.panel).position === "sticky" && panel.left < span.right && panel.top <= 1;
    const top = sticks ? panel.bottom : 0;
    if (span.top < top + 8 || span.bottom > innerHeight - 8) {
      scrollBy({ top: span.top - top - (innerHeight - top) / 3, behavior: "instant" });
    }
  }

  function describe(run, token) {
    run.detail.hidden = false;
    if (!token) {
      run.detail.replaceChildren(element("p", { className: "name" }, element("small", {}, "This run has ended here.")));
      return;
    }
    const notes = [`token ${position + 1} of ${run.tokens.length}`, `id ${token.id}`];
    if (token.special) notes.push("special");
    if (token.bytes) notes.push(`bytes ${token.bytes} of a character`);
    const name = label(token.text, token.bytes);
    name.className = `t${step(token.temperature, 2)}`;
    run.detail.replaceChildren(
      element("p", { className: "name" }, name, element("small", {}, notes.join(" · "))),
      facts([
        ["T", token.temperature.toFixed(3)],
        ["P", token.topP.toFixed(3)],
        ["nucleus", token.nucleus && `${token.nucleus.toLocaleString("en")} ${token.nucleus === 1 ? "token" : "tokens"}`],
        ["entropy, nats", entropies(token)],
        ["rank", token.rank && String(token.rank)],
      ].filter(([, value]) => value)),
      token.probability === null ? "" : candidates(token),
    );
  }

  // Null is what a trace of a server's own figures does not say.
  function entropies({ baseEntropy: before, entropy: after }) {
    if (before === null) return after === null ? null : `${after.toFixed(2)} after`;
    return `${before.toFixed(2)} ${after === null ? "before" : `→ ${after.toFixed(2)}`}`;
  }

  function facts(pairs) {
    return element("dl", {}, ...pairs.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  function candidates(token) {
    const chosen = [token.text, token.id, token.baseProbability, token.probability, true];
    const rows = [...token.alternatives, chosen].sort((one, other) => other[2] - one[2]);
    const heads = [["token"], ["before", "number"], ["after", "number"], ["", "bars"]];
    const head = element("tr", {}, ...heads.map(([text, className = ""]) =>
      element(text ? "th" : "td", { className, ...(text && { scope: "col" }) }, text)));
    const body = rows.map(([text, , before, after, isChosen]) => element("tr", { className: isChosen ? "chosen" : "" },
      element("th", { scope: "row", title: text }, label(text, isChosen ? token.bytes : "")),
      element("td", { className: "number" }, number(before)),
      element("td", { className: after ? "number" : "number cut" }, after ? number(after) : "cut"),
      element("td", { className: "bars" }, bar("bar-before", before), bar("bar-after", after))));
    return element("table", { ariaLabel: "The chosen token and its best alternatives, by probability" },
      element("thead", {}, head), element("tbody", {}, ...body));
  }

  function bar(className, share) {
    const made = element("span", { className });
    made.style.width = `${100 * share}%`;
    if (!share) made.style.visibility = "hidden";
    return made;
  }

  // Tint

  function retint(name) {
    const { classes, largest, of } = TINTS[name];
    const old = new RegExp(`^${TINTS[tint].classes}\\d+$`);
    for (const run of runs) {
      run.tokens.forEach((token, index) => {
        const list = run.spans[index].classList;
        list.remove(...[...list].filter((one) => old.test(one)));
        if (of(token) !== null) list.add(`${classes}${step(of(token), largest)}`);
      });
    }
    tint = name;
    document.querySelector(".legend-name").textContent = TINTS[name].name;
    const swatches = document.querySelectorAll(".scale span");
    swatches.forEach((swatch, index) => {
      const value = (largest * index) / (swatches.length - 1);
      swatch.className = `${classes}${step(value, largest)}`;
      swatch.textContent = value.toFixed(1);
    });
  }

  // Search

  let matches = []; // [run, index of the first token, index after the last]
  let current = -1;

  function search(query) {
    for (const span of document.querySelectorAll(".hit")) span.classList.remove("hit", "now");
    matches = query ? runs.flatMap((run) => matchesIn(run, query)) : [];
    for (const [run, first, end] of matches) {
      for (let index = first; index < end; index += 1) run.spans[index].classList.add("hit");
    }
    current = -1;
    report(query);
  }

  function matchesIn(run, query) {
    const ends = [];
    let whole = "";
    for (const token of run.tokens) {
      whole += token.text;
      ends.push(whole.length);
    }
    const pattern = new RegExp(query.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"), "gi");
    const tokenAt = (offset) => {
      let low = 0;
      for (let high = ends.length; low < high;) {
        const middle = (low + high) >> 1;
        if (ends[middle] <= offset) low = middle + 1; else high = middle;
      }
      return low;
    };
    return [...whole.matchAll(pattern)].map((match) =>
      [run, tokenAt(match.index), tokenAt(match.index + match[0].length - 1) + 1]);
  }

  function nextMatch(by) {
    if (!matches.length) return;
    current = current < 0 ? (by > 0 ? 0 : matches.length - 1) : (current + by + matches.length) % matches.length;
    for (const span of document.querySelectorAll(".now")) span.classList.remove("now");
    const [run, first, end] = matches[current];
    for (let index = first; index < end; index += 1) run.spans[index].classList.add("now");
    moveTo(first, { scrollIn: run });
    report(byId("search-text").value);
  }

  function report(query) {
    const count = matches.length;
    const place = current < 0 ? "" : `${current + 1} of `;
    byId("search-result").textContent = query ? (count ? `${place}${count} found` : "nothing found") : "";
  }

  // Listeners

  for (const run of runs) {
    run.slider.hidden = longest < 2;
    run.slider.addEventListener("input", () => moveTo(run.slider.valueAsNumber - 1, { scrollIn: run }));
    run.text.addEventListener("click", (event) => {
      const span = event.target.closest(".tokens > span");
      if (!span || !getSelection().isCollapsed) return; // a selection of text is not a click
      moveTo([...run.spans].indexOf(span));
      run.slider.focus({ preventScroll: true });
    });
    for (const svg of run.charts) {
      const indexAt = (event) => {
        const box = svg.getBoundingClientRect();
        return Math.floor(((event.clientX - box.left) / box.width) * longest);
      };
      svg.addEventListener("pointermove", (event) => moveTo(indexAt(event)));
      svg.addEventListener("click", (event) => {
        moveTo(indexAt(event), { scrollIn: run });
        run.slider.focus({ preventScroll: true });
      });
    }
  }
  byId("tint").addEventListener("change", (event) => retint(event.target.value));
  byId("theme").addEventListener("change", (event) => { document.documentElement.dataset.theme = event.target.value; });
  byId("search-text").addEventListener("input", (event) => search(event.target.value));
  byId("search-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      nextMatch(event.shiftKey ? -1 : 1);
    }
  });
  byId("search-previous").addEventListener("click", () => nextMatch(-1));
  byId("search-next").closest("form").addEventListener("submit", (event) => {
    event.preventDefault();
    nextMatch(1);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, select")) {
      event.preventDefault();
      byId("search-text").focus();
    }
  });

  document.documentElement.classList.add("script");
  document.querySelector(".tools").hidden = false;
  moveTo(0);
})();
