// The URL that tells what the viewer shows, and numbers as it has them.
// view/VISIT.html?series=7&overlay=9&opacity=0.5&low=0&high=900&slice=axial&volume=1&at=0,0,0
// series, overlay: as at the button; low, high: values that are black and white;
// volume: from 1; at: mm, LPS; embed: nothing but the viewer
// A classic script: view.js, which comes after it, takes `address`.
"use strict";

const address = (() => {
  // in one order, so that equal views have equal URLs
  const PARAMETERS = ["series", "overlay", "opacity", "low", "high", "slice", "volume", "at"];
  const query = new URLSearchParams(location.search);
  const isEmbedded = query.has("embed");
  const isServed = location.protocol === "http:" || location.protocol === "https:";

  // URLs of what is shown: of the page, and for another page's frame.
  function of(values) {
    const now = new URLSearchParams();
    for (const name of PARAMETERS) {
      if (values[name] !== undefined) now.set(name, values[name]);
    }
    const base = location.href.split(/[?#]/)[0];
    const text = now.toString().replaceAll("%2C", ",");
    return {
      page: text ? `${base}?${text}` : base + location.hash,
      frame: text ? `${base}?embed&${text}` : `${base}?embed`,
    };
  }

  function keep({ page, frame }) {
    if (!isServed) return;
    try {
      history.replaceState(null, "", isEmbedded ? frame : page);
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

  return { query, isEmbedded, isServed, of, keep, number, short };
})();
