// What the viewer tells: a sentence in place of the picture, and warnings above it.
// A classic script: view.js, which comes after it, takes `notice`.
"use strict";

const notice = (() => {
  const DOWNLOAD = "download the file, or get it with datalad.";
  const element = (name) => document.getElementById(`viewer-${name}`);
  let warnings = {}; // by what they are about
  let hasWebGl = null;

  // A sentence in place of the picture; none takes it away.
  function say(text, isError = true) {
    const state = element("state");
    if (!state) {
      const note = document.createElement("p");
      note.className = "note alone";
      note.textContent = text;
      document.getElementById("main").prepend(note);
      return;
    }
    if (state.textContent === text) return;
    const isFailed = isError && text !== "";
    state.textContent = text;
    state.hidden = text === "";
    element("body").classList.toggle("failed", isFailed);
    if (isFailed) element("tools").open = true; // there is the file to download
  }

  function fail(error) {
    const why = error instanceof Error ? error.message : "The viewer cannot start";
    say(`${why}; ${error.todo ? `${error.todo}.` : DOWNLOAD}`);
  }

  function warn(about, text) {
    warnings[about] = text;
    const all = Object.values(warnings).filter(Boolean).join(" ");
    element("warning").textContent = all;
    element("warning").hidden = all === "";
  }

  function forget() {
    warnings = {};
    warn("", "");
  }

  // Why no volume can be shown here, as far as it is known before trying.
  function obstacle() {
    if (!address.isServed) {
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

  function cut(text) {
    return text.length > 40 ? `${text.slice(0, 40)}…` : text;
  }

  return { say, fail, warn, forget, obstacle, cut };
})();
