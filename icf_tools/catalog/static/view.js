// The page of a visit: its dialog with the viewer, and the URL that tells what is shown.
// in: data attributes of the buttons "View"; the query of the URL, see PARAMETERS
// A classic script, since from file:// a browser runs no other; it says there why
// no volume is shown. What draws is in viewer.js and is loaded when first needed.
"use strict";

(() => {
  // view/VISIT.html?series=7&overlay=9&opacity=0.5&low=0&high=900&slice=axial&volume=1&at=0,0,0
  // series, overlay: as at the button; low, high: values that are black and white;
  // volume: from 1; at: mm, LPS; embed: nothing but the viewer
  const PARAMETERS = ["series", "overlay", "opacity", "low", "high", "slice", "volume", "at"];
  const query = new URLSearchParams(location.search);
  const embedded = query.has("embed");
  // before anything is painted
  if (embedded) document.documentElement.classList.add("embed");

  const DOWNLOAD = "download the file, or get it with datalad.";
  const element = (name) => document.getElementById(`viewer-${name}`);
  const canOwnUrl = location.protocol === "http:" || location.protocol === "https:";

  let dialog = null;
  let viewer = null; // of viewer.js, once it is there
  let shown = null; // button of the series that is shown
  let over = null; // button of the one that is laid over it
  let hasWebGl = null;
  let turn = 0; // counts what was asked for; an answer to an earlier question is dropped

  document.addEventListener("DOMContentLoaded", () => {
    dialog = document.getElementById("viewer");
    if (!dialog) {
      if (embedded || query.has("series")) say("This visit has no volume to show.");
      return;
    }
    for (const button of buttons()) {
      button.hidden = false;
      button.addEventListener("click", () => {
        show(button, new URLSearchParams());
      });
      const option = new Option(label(button), button.dataset.id);
      option.dir = "auto";
      element("overlay").add(option);
    }
    listen();
    if (query.has("series") || embedded) start();
  });

  function start() {
    const wanted = query.get("series") ?? buttons()[0].dataset.id;
    const button = find(wanted);
    if (button) {
      show(button, query);
      return;
    }
    open();
    element("body").classList.add("bare");
    const row = document.getElementById(`series-${wanted}`);
    say(
      row
        ? `Series ${wanted} has no volume to show; its row tells what came of its conversion.`
        : `This visit has no series ${wanted.slice(0, 40)}; close this, and choose one of the table.`,
    );
  }

  function buttons() {
    return [...document.querySelectorAll("button.view")];
  }

  function find(id) {
    return buttons().find((button) => button.dataset.id === id);
  }

  // Of an option and a title, which have no <bdi>: what turns the direction is left out.
  function label(button) {
    const row = button.closest("tr");
    const text = row.querySelector(".what bdi")?.textContent ?? "";
    const part = button.querySelector(".part")?.textContent ?? "";
    const plain = `${button.dataset.id}  ${part || text}`.replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
    return plain.length > 70 ? `${plain.slice(0, 69)}…` : plain;
  }

  // A sentence in place of the picture; none takes it away.
  function say(text, isError = true) {
    const state = document.getElementById("viewer-state");
    if (state?.textContent === text) return;
    if (!state) {
      const note = document.createElement("p");
      note.className = "note alone";
      note.textContent = text;
      document.getElementById("main").prepend(note);
      return;
    }
    state.textContent = text;
    element("body").classList.toggle("failed", isError && text !== "");
    state.hidden = text === "";
  }

  function open() {
    if (dialog.open) return;
    // alone in its frame there is nothing behind it
    if (embedded) dialog.show();
    else dialog.showModal();
  }

  // Why no volume can be shown here, as far as it is known before trying.
  function obstacle() {
    if (!canOwnUrl) {
      return `A page that was opened from a file may not read volumes; open it from a web server, ${DOWNLOAD}`;
    }
    // asked once: a browser has few contexts to give, and takes back the oldest
    hasWebGl ??= Boolean(document.createElement("canvas").getContext("webgl2"));
    if (!hasWebGl) {
      return `This browser has no WebGL 2, which draws volumes; switch hardware acceleration on, take another browser, or ${DOWNLOAD}`;
    }
    if (!window.DecompressionStream) {
      return `This browser is too old to unpack volumes; update it, or ${DOWNLOAD}`;
    }
    return "";
  }

  async function show(button, asked) {
    const mine = ++turn;
    shown = button;
    over = null;
    open();
    element("title").textContent = label(button);
    element("body").classList.remove("bare");
    const file = element("file");
    file.href = button.dataset.url;
    file.download = button.dataset.name;
    element("warning").hidden = true;
    for (const option of element("overlay").options) option.disabled = option.value === button.dataset.id;
    element("overlay").value = "";
    element("opacity").value = number(asked.get("opacity")) ?? 0.5;
    enable(false);
    const why = obstacle();
    if (why) {
      say(why);
      return;
    }
    say("Loading …", false);
    let state;
    try {
      viewer ??= await make();
      if (mine !== turn) return;
      viewer.slice(choose(asked.get("slice")));
      state = await viewer.load(source(button), (part) => {
        // in tens, for those who have it read out
        if (mine === turn) say(`Loading … ${Math.floor(10 * part)}0 %`, false);
      });
    } catch (error) {
      if (mine === turn) fail(error);
      return;
    }
    if (mine !== turn || !state) return;
    say("");
    describe(state);
    enable(true);
    restore(asked);
    if (asked.get("overlay")) {
      const other = find(asked.get("overlay"));
      if (other && other !== shown) await overlay(other);
      else warn(`This visit has no other series ${asked.get("overlay").slice(0, 40)} to lay over this one.`);
    }
    remember();
  }

  async function make() {
    const { Viewer } = await import(new URL(dialog.dataset.module, document.baseURI).href).catch(() => {
      throw new Error("The viewer's script is not in this catalog");
    });
    return Viewer.make(element("canvas"), new URL(dialog.dataset.library, document.baseURI).href, {
      moved: tell,
      windowed: (low, high) => {
        element("low").value = short(low);
        element("high").value = short(high);
        remember();
      },
      lost: () => {
        viewer = null;
        const canvas = element("canvas");
        canvas.replaceWith(canvas.cloneNode()); // one that can begin anew
        say("The graphics card has given up; close the viewer, and open it again.");
      },
    });
  }

  function fail(error) {
    const why = error instanceof Error ? error.message : "The viewer cannot start";
    say(`${why}; ${error.todo ? `${error.todo}.` : DOWNLOAD}`);
  }

  function source(button) {
    const { url, size, low, high } = button.dataset;
    return {
      url: new URL(url, document.baseURI).href,
      size: Number(size),
      window: low === undefined ? null : [Number(low), Number(high)],
    };
  }

  function describe(state) {
    const [a, b, c] = state.shape;
    const spacing = state.spacing.map((mm) => short(mm, 3)).join(" × ");
    const volumes = state.volumes > 1 ? `, ${state.volumes} volumes` : "";
    element("about").textContent = `${a} × ${b} × ${c} voxels of ${spacing} mm${volumes}. Slices lie as they were taken; the patient's right is on the left.`;
    element("volumes").hidden = state.volumes < 2;
    element("volume").max = state.volumes;
    element("volume").value = 1;
    element("volume-now").textContent = `1 of ${state.volumes}`;
    element("volumes-left").hidden = state.left === 0;
    element("volumes-left").textContent = `${state.left} more are in the file; all of it would not fit into the browser.`;
  }

  // What the URL asks for, or else what belongs to the series.
  function restore(asked) {
    const [low, high] = viewer.natural();
    setWindow(number(asked.get("low")) ?? low, number(asked.get("high")) ?? high);
    const volume = number(asked.get("volume"));
    if (volume !== null) setVolume(volume);
    const at = (asked.get("at") ?? "").split(",").map(number);
    if (at.length === 3 && !at.includes(null)) viewer.goTo(at);
  }

  function setWindow(low, high) {
    const isGood = low !== null && high !== null && low < high;
    for (const name of ["low", "high"]) {
      element(name).setCustomValidity(isGood ? "" : "Black is a smaller number than white.");
    }
    if (!isGood) {
      element("low").reportValidity();
      return;
    }
    element("low").value = short(low);
    element("high").value = short(high);
    viewer.setWindow(low, high);
  }

  function setVolume(wanted) {
    const slider = element("volume");
    slider.value = wanted;
    viewer.setVolume(Number(slider.value) - 1);
    element("volume-now").textContent = `${slider.value} of ${slider.max}`;
    slider.setAttribute("aria-valuetext", `${slider.value} of ${slider.max}`);
  }

  async function overlay(button) {
    const mine = ++turn;
    over = null;
    viewer.uncover();
    warn("");
    if (button) {
      element("overlay").value = button.dataset.id;
      say("Loading the overlay …", false);
      try {
        await viewer.cover(source(button), Number(element("opacity").value));
      } catch (error) {
        if (mine === turn) {
          say("");
          warn(`No overlay: ${error.message}.`);
          element("overlay").value = "";
        }
        return;
      }
      if (mine !== turn) return;
      say("");
      over = button;
      compareFrames();
    }
    element("over").hidden = over === null;
    remember();
  }

  function compareFrames() {
    const [one, other] = [shown.dataset.frame, over.dataset.frame];
    if (one === "0" || other === "0") {
      warn("Of one of these series it is not known in which frame of reference it lies: the two may not fit onto each other.");
    } else if (one !== other) {
      warn("These two series have different frames of reference: the patient may have moved between them, and they may not fit onto each other.");
    }
  }

  function warn(text) {
    element("warning").textContent = text;
    element("warning").hidden = text === "";
  }

  function tell({ lps, ras, voxel, values }) {
    ["x", "y", "z"].forEach((name, axis) => {
      // what is being typed is left alone
      if (document.activeElement !== element(name)) element(name).value = short(lps[axis], 2);
    });
    element("ras").textContent = ras.map((mm) => mm.toFixed(1)).join(", ");
    element("voxel").textContent = voxel.join(", ");
    element("value").textContent = short(values[0]);
    element("over-value").textContent = values.length > 1 ? short(values[1]) : "";
    later();
  }

  function choose(name) {
    const wanted = dialog.querySelector(`[name="slice"][value="${CSS.escape(name ?? "")}"]`);
    if (wanted) wanted.checked = true;
    return dialog.querySelector('[name="slice"]:checked').value;
  }

  function enable(isReady) {
    for (const each of element("controls").querySelectorAll("fieldset")) each.disabled = !isReady;
    element("slices").disabled = !isReady;
    element("controls").classList.toggle("idle", !isReady);
  }

  function listen() {
    element("controls").addEventListener("submit", (event) => event.preventDefault());
    element("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      turn += 1;
      viewer?.stop();
      const button = shown;
      shown = null;
      remember();
      button?.focus();
    });
    for (const choice of dialog.querySelectorAll('[name="slice"]')) {
      choice.addEventListener("change", () => {
        viewer.slice(choice.value);
        remember();
      });
    }
    for (const name of ["low", "high"]) {
      element(name).addEventListener("change", () => {
        setWindow(number(element("low").value), number(element("high").value));
        remember();
      });
    }
    element("reset").addEventListener("click", () => {
      setWindow(...viewer.natural());
      remember();
    });
    element("volume").addEventListener("input", () => {
      setVolume(element("volume").value);
      later();
    });
    element("overlay").addEventListener("change", () => {
      const button = find(element("overlay").value);
      overlay(button === shown ? null : (button ?? null));
    });
    element("opacity").addEventListener("input", () => {
      viewer.setOpacity(Number(element("opacity").value));
      later();
    });
    for (const name of ["x", "y", "z"]) {
      element(name).addEventListener("change", () => {
        const at = ["x", "y", "z"].map((each) => number(element(each).value));
        if (!at.includes(null)) viewer.goTo(at);
      });
    }
    element("overlays").hidden = buttons().length < 2;
    const full = element("full");
    // no frame may fill the screen unless the page around it allows that
    full.hidden = !document.fullscreenEnabled;
    full.addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else element("body").requestFullscreen().catch(() => { full.hidden = true; });
    });
    document.addEventListener("fullscreenchange", () => {
      full.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
    });
    if (embedded) {
      element("close").hidden = true;
      element("page").hidden = false;
    }
  }

  // The query of what is shown; parameters in one order, so that equal views have equal URLs.
  function state() {
    const now = new URLSearchParams();
    if (!shown || !viewer?.isReady) return now;
    const [low, high] = viewer.natural();
    const at = viewer.at();
    const values = {
      series: shown.dataset.id,
      overlay: over?.dataset.id,
      opacity: over ? element("opacity").value : undefined,
      low: Number(element("low").value) === Number(short(low)) ? undefined : element("low").value,
      high: Number(element("high").value) === Number(short(high)) ? undefined : element("high").value,
      slice: dialog.querySelector('[name="slice"]:checked').value,
      volume: element("volume").value === "1" ? undefined : element("volume").value,
      at: at?.map((mm) => short(mm, 1)).join(","),
    };
    for (const name of PARAMETERS) {
      if (values[name] !== undefined) now.set(name, values[name]);
    }
    return now;
  }

  let timer = 0;
  // browsers allow only so many changes of the URL in a while
  function later() {
    clearTimeout(timer);
    timer = setTimeout(remember, 300);
  }

  function remember() {
    clearTimeout(timer);
    const base = location.href.split(/[?#]/)[0];
    const text = state().toString().replaceAll("%2C", ",");
    const link = text ? `${base}?${text}` : base + location.hash;
    const frame = text ? `${base}?embed&${text}` : `${base}?embed`;
    element("link").textContent = link;
    element("frame").textContent = `<iframe src="${frame.replaceAll("&", "&amp;").replaceAll('"', "%22")}" title="${shown ? `Series ${shown.dataset.id}` : "Volume"}" width="960" height="640" allowfullscreen></iframe>`;
    element("page").href = link;
    if (!canOwnUrl) return;
    try {
      history.replaceState(null, "", embedded ? frame : link);
    } catch {
      // a browser may refuse it; nothing depends on it
    }
  }

  function number(text) {
    if (text === null || text === undefined || String(text).trim() === "") return null;
    const value = Number(text);
    return Number.isFinite(value) ? value : null;
  }

  // A number as it is read, not as it is computed.
  function short(value, decimals = null) {
    if (value === undefined || Number.isNaN(value)) return "–";
    return String(decimals === null ? Number(value.toPrecision(6)) : Number(value.toFixed(decimals)));
  }
})();
