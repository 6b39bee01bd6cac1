/* The search page: a form, a list of visits, both told by the part of the URL after #.

   in: elements of search.html, Index, Hits    out: rows, files to download
   Data is put into the page as text, never as HTML. */

"use strict";
window.icf ??= {};

(() => {
  const ROWS = 50; // on a page
  const PROPOSED = 50;
  const TYPING = 40; // ms without a key until the list follows
  const SHOWN = 3; // descriptions of series in a row
  const LONG = 200; // characters of a value that is offered to choose
  const DATE = 20;
  const STATUS = { // what is shown, in which colour
    verified: ["verified", "ok"], unverified: ["unverified", "warn"], failed: ["failed", "bad"],
    skipped: ["skipped", "muted"], none: ["not converted", "muted"],
  };

  const $ = (id) => document.getElementById(id);
  const { study, site } = $("search").dataset;
  const narrow = matchMedia("(max-width: 60rem)");
  const digits = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const count = (number, one) => `${digits(number)} ${one}${number === 1 || one === "series" ? "" : "s"}`;

  function make(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }
  const bdi = (text) => make("bdi", { textContent: text });
  const shorten = (text, most = LONG) => (text.length > most ? `${text.slice(0, most)}…` : text);

  /* To show again what a screen reader has told would have it told again. */
  function tell(element, text) {
    if (element.textContent !== text) element.textContent = text;
    element.hidden = !text;
  }

  /* The form */

  class Field {
    constructor(element) {
      const { type, name, keywords } = element.dataset;
      Object.assign(this, { element, type, name, keywords: keywords.split(" ") });
      this.inputs = [...element.querySelectorAll("input, select")];
      this.label = element.querySelector("label, legend").textContent;
      this.list = element.querySelector("datalist");
      this.fault = element.querySelector(".fault");
    }

    /* One that is chosen may begin with a blank. */
    get #values() {
      return this.inputs.map(({ tagName, value }) => (tagName === "SELECT" ? value : value.trim()));
    }

    /* As it stands in the URL; empty where nothing is asked for. */
    get text() {
      const values = this.#values;
      if (this.type === "sphere") {
        values[4] = this.inputs[4].checked ? "part" : "";
        return values.slice(0, 4).some(Boolean) ? values.join(",").replace(/,+$/, "") : "";
      }
      return this.inputs.length === 1 ? values[0] : values.some(Boolean) ? values.join("..") : "";
    }

    set text(text) {
      const [first] = this.inputs;
      if (this.type === "drop-down" && ![...first.options].some(({ value }) => value === text)) this.#offer(text);
      const values = this.type === "sphere" ? text.split(",") : this.inputs.length > 1 ? text.split("..") : [text];
      this.inputs.forEach((input, i) => { input.value = values[i] ?? ""; });
      if (this.type === "sphere") this.inputs[4].checked = values[4] === "part";
    }

    /* Take it from the URL; false, and nothing is asked for, where the form cannot hold it. */
    read(text) {
      this.text = text;
      const good = this.text.trim() === text.trim();
      if (!good) this.text = "";
      return good;
    }

    /* As the line of what is chosen has it. */
    get shown() {
      if (this.inputs.length !== 2) return shorten(this.inputs[0].selectedOptions?.[0].textContent ?? this.text);
      const [from, to] = this.#values;
      if (from && to) return `${from} – ${to}`;
      return from ? `${from} or ${this.type === "date-range" ? "later" : "more"}` : `up to ${to}`;
    }

    /* Say what is wrong with what is typed; the focus stays. */
    check() {
      if (!this.fault) return;
      if (this.inputs.length === 2) {
        const [from, to] = this.inputs;
        const crossed = from.valueAsNumber > to.valueAsNumber; // not so where one is empty
        const what = this.type === "date-range" ? "date is later" : "number is larger";
        to.setCustomValidity(crossed ? `The first ${what} than the second.` : "");
      }
      for (const input of this.inputs) input.setAttribute("aria-invalid", !input.validity.valid);
      tell(this.fault, this.inputs.find(({ validity }) => !validity.valid)?.validationMessage ?? "");
    }

    /* What query.js understands, or null. */
    get condition() {
      const { type, keywords, text } = this;
      if (!text) return null;
      const values = this.#values;
      if (type !== "sphere") return { type, keywords, value: values.length > 1 ? values : values[0] };
      if (values.slice(0, 3).includes("")) return null;
      const value = { point: values.slice(0, 3).map(Number), radius: Number(values[3]), part: this.inputs[4].checked };
      return { type, keywords, value };
    }

    #offer(value) {
      const known = this.keywords.includes("DerivativeStatus") && STATUS[value];
      this.inputs[0].append(make("option", { value, textContent: known ? known[0] : shorten(value) }));
    }

    /* Show what the data has to choose from; without any there is nothing to ask. */
    fill(index) {
      const found = new Set();
      for (const part of index.parts) {
        for (const keyword of this.keywords) for (const value of icf.distinct(part, keyword)) found.add(value);
      }
      this.values = found;
      const one = this.name === "Study" && found.size < 2;
      const some = this.type === "sphere" ? index.hasBoxes : found.size > 0 && !one;
      this.element.hidden = !some && !this.text;
      if (this.type === "drop-down") {
        const [select] = this.inputs;
        const chosen = select.value;
        const sorted = [...found].map(String).sort(new Intl.Collator("en", { numeric: true }).compare);
        select.length = 1;
        for (const value of new Set([...sorted, chosen].filter(Boolean))) this.#offer(value);
        select.value = chosen;
      }
      if (this.type === "number-range") {
        let [low, high] = [Infinity, -Infinity];
        for (const value of found) {
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
        const [{ min }, { max }] = this.inputs; // as the study has settled it
        [low, high].forEach((end, i) => {
          this.inputs[i].placeholder = [min, max][i] || (Number.isFinite(end) ? Number(end.toPrecision(6)) : "");
        });
      }
    }

    /* Propose values that have what is typed so far. */
    propose() {
      if (!this.list || !this.values) return;
      const words = icf.fold(this.inputs[0].value).split(/\s+/).filter(Boolean);
      const options = [];
      if (words.length) {
        for (const value of this.values) {
          if (options.length === PROPOSED) break;
          if (value.length > LONG) continue;
          const text = icf.fold(value);
          if (words.every((word) => text.includes(word))) options.push(make("option", { value }));
        }
      }
      this.list.replaceChildren(...options);
    }
  }

  const form = $("form");
  const fields = [...form.querySelectorAll(".field")].map((element) => new Field(element));

  /* State: the form, the order, the page; location.hash never reaches a server's log. */

  const heads = [...document.querySelectorAll("th[data-key]")];
  const usual = site ? "study" : "visit"; // the order in which parts arrive, so that rows stay
  let order = usual; // a key of icf.KEYS, with - before it for descending
  let page = 1;
  let edited = null; // the field whose edits are one step of the history

  function toHash() {
    const state = new URLSearchParams();
    for (const field of fields) if (field.text) state.set(field.name, field.text);
    if (order !== usual) state.set("sort", order);
    if (page > 1) state.set("page", page);
    return String(state);
  }

  function fromHash() {
    const state = new URLSearchParams(location.hash.slice(1));
    const bad = fields.filter((field) => !field.read(state.get(field.name) ?? ""));
    const known = new Set(["sort", "page", ...fields.map(({ name }) => name)]);
    const ignored = [
      ...bad.map(({ label, name }) => [label, state.get(name)]),
      ...[...state].filter(([name]) => !known.has(name)),
    ];
    const sort = state.get("sort") ?? "";
    order = heads.some((head) => head.dataset.key === sort.replace(/^-/, "")) ? sort : usual;
    page = Math.max(1, Number.parseInt(state.get("page"), 10) || 1);
    renderIgnored(ignored);
    if (ignored.length) history.replaceState(null, "", `#${toHash()}`); // which is what is listed
  }

  function keepState(by) {
    const hash = toHash();
    if (hash === location.hash.slice(1)) return;
    const how = by !== null && by === edited ? "replaceState" : "pushState";
    history[how](null, "", `#${hash}`);
    edited = by;
  }

  /* The list */

  let hits = [];

  function describeSeries({ part, picked, from, to, visit }) {
    const found = new Set();
    for (let i = from; i < to; i++) found.add(icf.describe(part, picked[i]));
    found.delete("");
    const all = part.start[visit + 1] - part.start[visit];
    const shown = [...found].slice(0, SHOWN).flatMap((text, i) => [i ? ", " : "", bdi(shorten(text))]);
    const more = found.size > SHOWN ? ` and ${found.size - SHOWN} more` : "";
    const number = to - from < all ? `${to - from} of ${all}` : `${all}`;
    return [number, " ",
      make("span", { className: "clip muted" }, ...shown, more)];
  }

  function describeDates(hit) {
    const dates = icf.dates(hit).map((date) => shorten(icf.isoDate(date), DATE));
    const ends = dates.length > 1 ? [dates[0], dates.at(-1)] : dates;
    return ends.flatMap((date, i) => [i ? " – " : "", bdi(date)]);
  }

  function describeSize(bytes) {
    let power = 0;
    for (; bytes >= 999.5 && power < 4; power++) bytes /= 1000;
    return `${bytes.toFixed(power && bytes < 99.5 ? 1 : 0)}\u00a0${["B", "kB", "MB", "GB", "TB"][power]}`;
  }

  function describeStatus({ part, picked, from, to }) {
    const found = {};
    for (let i = from; i < to; i++) found[part.status[picked[i]]] = (found[part.status[picked[i]]] ?? 0) + 1;
    const shown = Object.entries(STATUS).filter(([status]) => found[status]).map(([status, [text, colour]]) => (
      make("span", { className: colour, textContent: `${found[status]} ${text}` })));
    const rest = shown.slice(1).flatMap((text) => [text, ", "]).slice(0, -1);
    const comma = make("span", { className: "sr", textContent: rest.length ? ", " : "" });
    return [...shown.slice(0, 1), comma, " ", make("span", { className: "clip" }, ...rest)];
  }

  function row(hit) {
    const { part, visit } = hit;
    const name = part.names[visit];
    const link = make("a", { href: `${part.shard.base}view/${encodeURIComponent(name)}.html` }, bdi(name));
    const cells = {
      visit: [link],
      study: [bdi(part.shard.study)],
      date: describeDates(hit),
      scanner: [make("span", { className: "clip" }, bdi(shorten(icf.scanners(hit))))],
      series: describeSeries(hit),
      images: [digits(hit.images)],
      size: [describeSize(part.sizes[visit])],
      conversion: describeStatus(hit),
    };
    const line = make("tr", { role: "row" });
    for (const { dataset: { key }, className, textContent } of heads) {
      const head = key === "visit";
      const cell = make(head ? "th" : "td", { role: head ? "rowheader" : "cell", className }, ...cells[key]);
      if (head) cell.scope = "row";
      Object.assign(cell.dataset, { label: textContent, column: key });
      line.append(cell);
    }
    return line;
  }

  function renderRows() {
    const pages = Math.max(1, Math.ceil(hits.length / ROWS));
    const at = Math.min(page, pages);
    if (index.done) page = at; // until then a later page may still come
    $("rows").replaceChildren(...hits.slice((at - 1) * ROWS, at * ROWS).map(row));
    $("table").hidden = !hits.length;
    $("pager").hidden = pages === 1;
    tell($("page"), `Page ${at} of ${digits(pages)}`);
    for (const button of $("pager").querySelectorAll("button")) {
      // Not `disabled`, which would take the focus away.
      const { step } = button.dataset;
      button.setAttribute("aria-disabled", step === "first" || step === "previous" ? at === 1 : at === pages);
    }
    const down = order.startsWith("-");
    for (const head of heads) {
      if (head.dataset.key === order.replace("-", "")) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function renderCount(asked) {
    let series = 0;
    for (const { from, to } of hits) series += to - from;
    let text = `${count(hits.length, "visit")}, ${count(series, "series")}`;
    const more = [];
    if (!index.done) more.push(`loading, ${digits(index.read)} of ${count(index.visits, "visit")} read`);
    if (boxes === "loading") more.push("loading what each series covers");
    if (asked.some(({ type, condition, text: typed }) => type === "sphere" && typed && !condition)) {
      more.push("a sphere needs x, y and z");
    }
    if (more.length) text += ` (${more.join("; ")})`;
    const element = $("count");
    element.setAttribute("aria-busy", !index.done); // told to a screen reader when it is final
    tell(element, text);
    $("nothing").hidden = hits.length > 0 || !asked.length || !index.done;
    tell($("problem"), index.problem);
  }

  function renderIgnored(asked) {
    $("ignored").hidden = !asked.length;
    $("ignored").replaceChildren("Left out of the address, as this page does not understand it: ",
      ...asked.flatMap(([name, value], i) => [i ? "; " : "", bdi(shorten(name)), ": ", bdi(shorten(value))]));
  }

  function renderChosen(asked) {
    $("filters-count").textContent = asked.length ? ` (${asked.length})` : "";
    $("chosen").replaceChildren(...asked.map(({ label, shown }) => make("span", {}, bdi(label), ": ", bdi(shown))));
  }

  let boxes = "";

  function apply() {
    for (const field of fields) field.check();
    const asked = fields.filter((field) => field.text);
    const conditions = asked.map((field) => field.condition).filter(Boolean);
    if (!boxes && index.done && conditions.some(({ type }) => type === "sphere")) {
      boxes = "loading";
      index.loadBoxes().then(() => { boxes = "there"; apply(); });
    }
    const down = order.startsWith("-");
    hits = icf.sort(icf.filter(index.parts, conditions), order.replace("-", ""), down);
    renderRows();
    renderCount(asked);
    renderChosen(asked);
  }

  /* What the user does */

  function edit(by) {
    page = 1;
    renderIgnored([]);
    apply();
    keepState(by);
  }

  let timer = 0;
  form.addEventListener("input", ({ target }) => {
    const field = fields.find(({ inputs }) => inputs.includes(target));
    clearTimeout(timer);
    timer = setTimeout(() => { field.propose(); edit(field); }, target.tagName === "SELECT" ? 0 : TYPING);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault(); // it would undo to what a browser has kept
    reset();
  });
  $("again").addEventListener("click", () => { reset(); $("main").focus(); });

  function reset() {
    clearTimeout(timer);
    for (const field of fields) field.text = "";
    edit(null);
  }

  for (const head of heads) {
    head.firstElementChild.addEventListener("click", () => {
      const { key } = head.dataset;
      order = order === key ? `-${key}` : key;
      edit(null);
    });
  }

  $("pager").addEventListener("click", ({ target }) => {
    if (!target.dataset.step || target.getAttribute("aria-disabled") === "true") return;
    const last = Math.ceil(hits.length / ROWS);
    page = { first: 1, previous: page - 1, next: page + 1, last }[target.dataset.step];
    renderRows();
    keepState(null);
    $("search").scrollIntoView();
    $("table").focus({ preventScroll: true });
  });

  function download(name, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  const here = () => location.href.replace(/\/\/[^/@]*@/, "//"); // without a password
  $("csv").addEventListener("click", () => {
    download(`${study || "series"}.csv`, "text/csv;charset=utf-8", icf.toCsv(hits));
  });
  $("script").addEventListener("click", () => {
    const get = document.querySelector("input[name=get]:checked").value;
    download(`${study || "visits"}.sh`, "text/x-shellscript;charset=utf-8", icf.toScript(hits, get, { site, from: here() }));
  });
  const menu = $("export");
  document.addEventListener("click", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
  menu.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    menu.open = false;
    menu.firstElementChild.focus();
  });

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // #main would replace the state
    $("main").focus();
  });
  window.addEventListener("hashchange", () => { edited = null; fromHash(); apply(); });
  const fold = () => { $("filters").open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();

  /* Parts arrive faster than a page is worth to be drawn again. */
  let due = 0;
  function changed() {
    if (index.done) {
      clearTimeout(due);
      show();
    } else if (!due && index.parts.length) {
      due = setTimeout(show, shown ? 150 : 0);
    }
  }

  let shown = false;
  function show() {
    due = 0;
    shown = true;
    for (const field of fields) field.fill(index);
    apply();
  }

  const index = new icf.Index(changed);
  document.documentElement.classList.toggle("disk", location.protocol === "file:"); // as copy.js
  $("search").hidden = false;
  fromHash();
  index.load();
})();
