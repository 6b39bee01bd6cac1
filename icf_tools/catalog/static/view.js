// The page of a visit: its dialog with the viewer.
// in: data attributes of the buttons "View"; the query of the URL, see address.js
// A classic script, since from file:// a browser runs no other; it says there why
// no volume is shown. What draws is in viewer.js and is loaded when first needed.
"use strict";

(() => {
  const { query, isEmbedded, number, short } = address;
  const { say, warn, cut } = notice;
  // before anything is painted
  if (isEmbedded) document.documentElement.classList.add("embed");

  const element = (name) => document.getElementById(`viewer-${name}`);
  const AXES = ["x", "y", "z"];

  let dialog = null;
  let making = null; // a promise of the viewer: there is one, however often it is asked for
  let viewer = null; // of viewer.js, once it is there
  let shown = null; // button of the series that is shown
  let over = null; // button of the one that is laid over it
  let turn = 0; // counts what was asked for; an answer to an earlier question is dropped

  document.addEventListener("DOMContentLoaded", () => {
    dialog = document.getElementById("viewer");
    if (!dialog) {
      const note = document.getElementById("no-viewer")?.textContent;
      if (isEmbedded || query.has("series")) say(note ?? "This visit has no volume to show.");
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
    if (query.has("series") || isEmbedded) start();
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
    const isThere = document.getElementById(`series-${wanted}`) !== null;
    const what = isThere ? `Series ${wanted} has no volume to show` : `This visit has no series ${cut(wanted)}`;
    const todo = isThere ? "its row tells what came of its conversion" : "close this, and choose one of the table";
    say(isEmbedded ? `${what}.` : `${what}; ${todo}.`);
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

  function open() {
    if (dialog.open) return;
    // alone in its frame there is nothing behind it
    if (isEmbedded) dialog.show();
    else dialog.showModal();
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
    notice.forget();
    for (const option of element("overlay").options) option.disabled = option.value === button.dataset.id;
    element("overlay").value = "";
    element("over").hidden = true;
    enable(false);
    const why = notice.obstacle();
    if (why) {
      say(why);
      return;
    }
    say("Loading …", false);
    let state;
    try {
      viewer = await (making ??= make().catch((error) => {
        making = null; // another time it may start
        throw error;
      }));
      if (mine !== turn) return;
      viewer.slice(choose(asked.get("slice")));
      state = await viewer.load(source(button), (part) => {
        // in tens, for those who have it read out
        if (mine === turn) say(`Loading … ${10 * Math.floor(10 * part)} %`, false);
      });
    } catch (error) {
      if (mine === turn) notice.fail(error);
      return;
    }
    if (mine !== turn || !state) return;
    say("");
    describe(state);
    enable(true);
    const other = restore(asked);
    if (other) await overlay(other);
    remember();
  }

  async function make() {
    const { Viewer } = await import(new URL(dialog.dataset.module, document.baseURI).href).catch(() => {
      throw new Error("The viewer's script is not in this catalog");
    });
    return Viewer.make(element("canvas"), element("sides"), new URL(dialog.dataset.library, document.baseURI).href, {
      moved: tell,
      windowed: (low, high) => {
        fill(low, high);
        remember();
      },
      lost: () => {
        turn += 1;
        making = viewer = over = null;
        const canvas = element("canvas");
        canvas.replaceWith(canvas.cloneNode()); // one that can begin anew
        element("sides").replaceChildren();
        enable(false);
        say("The graphics card has given up; close the viewer, and open it again.");
      },
    });
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
    element("about").textContent = `${a} × ${b} × ${c} voxels of ${spacing} mm${volumes}. Slices lie as they were taken; in axial and coronal ones the patient's right is on the left.`;
    element("volumes").hidden = state.volumes < 2;
    element("volume").max = state.volumes;
    element("volume").value = 1;
    element("volume-now").textContent = `1 of ${state.volumes}`;
    element("volumes-left").hidden = state.left === 0;
    element("volumes-left").textContent = `${state.left} more are in the file; all of it would not fit into the browser.`;
  }

  // What the URL asks for, or else what belongs to the series; returns what to lay over it.
  function restore(asked) {
    const odd = [];
    const take = (name, text, value) => {
      if (text !== null && value === null) odd.push(`${name} ${cut(text)}`);
      return value;
    };
    const within = (name, low, high) => {
      const value = number(asked.get(name));
      return take(name, asked.get(name), value >= low && value <= high ? value : null);
    };
    const [low, high] = ["low", "high"].map(
      (name, place) => within(name, -Infinity, Infinity) ?? viewer.natural()[place],
    );
    if (low >= high) odd.push(`black ${short(low)} with white ${short(high)}`);
    setWindow(...(low < high ? [low, high] : viewer.natural()));
    const volume = within("volume", 1, Number(element("volume").max));
    if (volume !== null) setVolume(volume);
    element("opacity").value = within("opacity", 0, 1) ?? 0.5;
    const at = (asked.get("at") ?? "").split(",").map(number);
    if (take("at", asked.get("at"), at.length === 3 && !at.includes(null) ? at : null)) viewer.goTo(at);
    const slice = asked.get("slice");
    if (slice && choose(slice) !== slice) odd.push(`slice ${cut(slice)}`);
    const other = find(asked.get("overlay"));
    if (asked.get("overlay") && (!other || other === shown)) odd.push(`overlay ${cut(asked.get("overlay"))}`);
    if (odd.length > 0) warn("link", `The link asks for what there is not: ${odd.join(", ")}.`);
    return other === shown ? null : other;
  }

  function setWindow(low, high) {
    if (fill(low, high)) viewer.setWindow(low, high);
  }

  // The fields of the window; returns whether it can be shown.
  function fill(low, high) {
    const fault = low < high ? "" : "Black has to be a smaller number than white.";
    for (const [name, value] of [["low", low], ["high", high]]) {
      element(name).value = short(value);
      element(name).setCustomValidity(fault);
    }
    element("window-fault").textContent = fault;
    element("window-fault").hidden = fault === "";
    return fault === "";
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
    warn("overlay", "");
    say("");
    element("overlay").value = button?.dataset.id ?? "";
    element("over").hidden = true;
    if (button) {
      say("Loading the overlay …", false);
      try {
        await viewer.cover(source(button), Number(element("opacity").value));
        if (mine !== turn) return;
        over = button;
        element("over").hidden = false;
        compareFrames();
      } catch (error) {
        if (mine !== turn) return;
        element("overlay").value = "";
        warn("overlay", `No overlay: ${error.message}.`);
      }
      say("");
    }
    remember();
  }

  function compareFrames() {
    const [one, other] = [shown.dataset.frame, over.dataset.frame];
    if (one === "0" || other === "0") {
      warn("overlay", "Of one of these series it is not known in which frame of reference it lies: the two may not fit onto each other.");
    } else if (one !== other) {
      warn("overlay", "These two series have different frames of reference: the patient may have moved between them, and they may not fit onto each other.");
    }
  }

  function tell({ lps, ras, voxel, values }) {
    // what is being typed is left alone
    place(lps, AXES.filter((name) => document.activeElement !== element(name)));
    // no -0
    element("ras").textContent = ras.map((mm) => (Number(mm.toFixed(1)) + 0).toFixed(1)).join(", ");
    element("voxel").textContent = voxel.join(", ");
    element("value").textContent = short(values[0]);
    element("over-value").textContent = values.length > 1 ? short(values[1]) : "";
    later();
  }

  function place(lps, names) {
    for (const name of names) element(name).value = short(lps[AXES.indexOf(name)], 2);
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
    element("close").addEventListener("click", async () => {
      if (document.fullscreenElement) await document.exitFullscreen().catch(() => {});
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      turn += 1;
      viewer?.clear(); // its memory is for the page again
      const button = shown;
      shown = over = null;
      remember();
      button?.focus();
    });
    for (const choice of dialog.querySelectorAll('[name="slice"]')) {
      choice.addEventListener("change", () => {
        viewer?.slice(choice.value);
        remember();
      });
    }
    for (const name of ["low", "high"]) {
      element(name).addEventListener("change", () => {
        if (!viewer) return;
        const [low, high] = viewer.natural();
        setWindow(number(element("low").value) ?? low, number(element("high").value) ?? high);
        remember();
      });
    }
    element("reset").addEventListener("click", () => {
      if (viewer) setWindow(...viewer.natural());
      remember();
    });
    element("volume").addEventListener("input", () => {
      if (viewer) setVolume(element("volume").value);
      later();
    });
    element("overlay").addEventListener("change", () => {
      const button = find(element("overlay").value);
      if (viewer) overlay(button === shown ? null : button);
    });
    element("opacity").addEventListener("input", () => {
      viewer?.setOpacity(Number(element("opacity").value));
      later();
    });
    for (const name of AXES) {
      element(name).addEventListener("change", () => {
        const now = viewer?.at();
        if (!now) return;
        viewer.goTo(now.map((mm, axis) => number(element(AXES[axis]).value) ?? mm));
        place(viewer.at(), AXES); // where that is outside, the nearest point
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
    if (isEmbedded) {
      element("close").hidden = true;
      element("more").hidden = false;
      element("tools").open = false;
      element("page").hidden = false;
    }
  }

  // What is shown, as parameters of the URL.
  function state() {
    if (!shown || !viewer?.isReady) return {};
    const [low, high] = viewer.natural();
    const [black, white] = viewer.range();
    const unless = (usual, value) => (value === usual ? undefined : value);
    return {
      series: shown.dataset.id,
      overlay: over?.dataset.id,
      opacity: over ? element("opacity").value : undefined,
      low: unless(short(low), short(black)),
      high: unless(short(high), short(white)),
      slice: dialog.querySelector('[name="slice"]:checked').value,
      volume: unless("1", element("volume").value),
      at: viewer.at().map((mm) => short(mm, 1)).join(","),
    };
  }

  let timer = 0;
  // browsers allow only so many changes of the URL in a while
  function later() {
    clearTimeout(timer);
    timer = setTimeout(remember, 300);
  }

  function remember() {
    clearTimeout(timer);
    const urls = address.of(state());
    element("link").textContent = urls.page;
    element("frame").textContent = `<iframe src="${urls.frame.replaceAll("&", "&amp;").replaceAll('"', "%22")}" title="${shown ? `Series ${shown.dataset.id}` : "Volume"}" width="960" height="640" allowfullscreen></iframe>`;
    element("page").href = urls.page;
    address.keep(urls);
  }
})();
