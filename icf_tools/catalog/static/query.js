/* Which series pass the filters, and in which order visits are listed; no page, no files.

   in: Parts of index.js, conditions    out: Hits: visits with their series that pass
   A condition is {type, keywords, value}; value is a text, [from, to] or a sphere. */

"use strict";
window.icf ??= {};

(() => {
  const IMAGES = "NumberOfSeriesRelatedInstances";

  /* Letters without case and marks: Müller is found by muller. */
  function fold(value) {
    const text = String(value);
    const plain = /^[\0-\x7f]*$/.test(text) ? text : text.normalize("NFD").replace(/\p{M}/gu, "");
    return plain.toLowerCase();
  }
  const list = (value) => (Array.isArray(value) ? value : value === undefined || value === "" ? [] : [value]);

  /* What a part says of a keyword: at which level, and what its i-th item there has:
     a value, a list of them or nothing. */
  function column(part, keyword) {
    const { shard, names, dates, number, images, status, profile, profiles } = part;
    if (keyword === "Visit") return ["visits", (i) => names[i]];
    if (keyword === "Study") return ["visits", () => shard.study];
    if (Object.hasOwn(dates, keyword)) return ["visits", (i) => dates[keyword][i]];
    if (keyword === "SeriesNumber") return ["series", (i) => number[i]];
    if (keyword === IMAGES) return ["series", (i) => images[i]];
    if (keyword === "DerivativeStatus") return ["series", (i) => status[i]];
    return ["profiles", (i) => profiles[i][keyword]];
  }

  const size = (part, level) => ({ visits: part.names, profiles: part.profiles, series: part.profile })[level].length;

  /* Each different value of a keyword in a part. */
  function distinct(part, keyword) {
    const key = `distinct ${keyword}`;
    if (!part.texts.has(key)) {
      const [level, values] = column(part, keyword);
      const found = new Set();
      const end = size(part, level);
      for (let i = 0; i < end; i++) for (const value of list(values(i))) found.add(value);
      part.texts.set(key, found);
    }
    return part.texts.get(key);
  }

  /* Folded text of each item of a level, lines for its values; kept, as typing asks again. */
  function texts(part, level, keywords) {
    const key = `${level} ${keywords.join(" ")}`;
    if (!part.texts.has(key)) {
      const columns = keywords.map((keyword) => column(part, keyword)).filter(([at]) => at === level);
      const line = (_, i) => fold(columns.flatMap(([, values]) => list(values(i))).join("\n"));
      part.texts.set(key, columns.length && Array.from({ length: size(part, level) }, line));
    }
    return part.texts.get(key);
  }

  const FITS = {
    "drop-down": (wanted) => (value) => String(value) === wanted,
    "number-range": ([from, to]) => {
      const low = from === "" ? -Infinity : Number(from);
      const high = to === "" ? Infinity : Number(to);
      return (value) => Number(value) >= low && Number(value) <= high;
    },
    "date-range": ([from, to]) => {
      const low = from.replaceAll("-", "") || "0";
      const high = to.replaceAll("-", "") || "9";
      return (value) => String(value) >= low && String(value) <= high;
    },
  };

  /* Whether a box holds the sphere, or touches it. All in 0.1 mm; `n` as formats.md has it:
     center, then three half-axes. */
  function fitsBox(n, at, { point, radius, part }) {
    let outside = 0;
    for (let axis = at + 3; axis < at + 12; axis += 3) {
      const length = Math.hypot(n[axis], n[axis + 1], n[axis + 2]);
      if (!length) return false;
      let along = 0;
      for (let i = 0; i < 3; i++) along += n[axis + i] * (point[i] - n[at + i]);
      const over = Math.abs(along) / length - length;
      if (part ? over > radius : over + radius > 0) return false;
      if (over > 0) outside += over * over;
    }
    return !part || outside <= radius * radius;
  }

  function inSphere(part, value) {
    const { start, numbers } = part.boxes ?? {};
    return Uint8Array.from(part.profile, (_, s) => {
      if (!start) return 0;
      for (let box = start[s]; box < start[s + 1]; box++) {
        if (fitsBox(numbers, 12 * box, value)) return 1;
      }
      return 0;
    });
  }

  /* A condition as tests, each a mask by level; a series passes that has a 1 in any of them. */
  function masks(part, { type, keywords, value }) {
    if (type === "sphere") {
      const scaled = { ...value, point: value.point.map((mm) => 10 * mm), radius: 10 * value.radius };
      return [{ series: inSphere(part, scaled) }];
    }
    const levels = ["visits", "profiles", "series"];
    if (type === "text") { // a test for each word; words may be in different keywords
      return fold(value).split(/\s+/).filter(Boolean).map((word) => (
        Object.fromEntries(levels.map((level) => {
          const all = texts(part, level, keywords);
          return [level, all && Uint8Array.from(all, (text) => text.includes(word))];
        }))));
    }
    const fits = FITS[type](value);
    const test = {};
    for (const keyword of keywords) {
      const [level, values] = column(part, keyword);
      const mask = test[level] ??= new Uint8Array(size(part, level));
      for (let i = 0; i < mask.length; i++) {
        const value = values(i);
        if (Array.isArray(value) ? value.some(fits) : value !== undefined && value !== "" && fits(value)) mask[i] = 1;
      }
    }
    return [test];
  }

  /* Hits of a part: those series that pass all tests; visits without series pass by
     what is known of visits. */
  function filterPart(part, conditions, hits) {
    const tests = conditions.flatMap((condition) => masks(part, condition));
    const { start, profile, images } = part;
    const only = (level) => tests.filter((test) => (
      Object.keys(test).every((each) => each === level || !test[each])));
    const ofVisits = only("visits");
    const ofProfiles = only("profiles");
    const mixed = tests.filter((test) => !ofVisits.includes(test) && !ofProfiles.includes(test));
    const good = Uint8Array.from(part.profiles, (_, p) => ofProfiles.every((test) => test.profiles[p]));
    const picked = new Uint32Array(profile.length);
    let end = 0;
    for (let v = 0; v < part.names.length; v++) {
      if (!ofVisits.every((test) => test.visits?.[v])) continue;
      const from = end;
      let sum = 0;
      for (let s = start[v]; s < start[v + 1]; s++) {
        if (!good[profile[s]]) continue;
        let passes = true;
        for (const test of mixed) {
          passes &&= test.visits?.[v] || test.profiles?.[profile[s]] || test.series?.[s];
        }
        if (!passes) continue;
        picked[end++] = s;
        sum += images[s];
      }
      if (end > from || (start[v] === start[v + 1] && tests.every((test) => test.visits?.[v]))) {
        hits.push({ part, visit: v, picked, from, to: end, images: sum });
      }
    }
  }

  icf.filter = (parts, conditions) => {
    const hits = [];
    for (const part of parts) filterPart(part, conditions, hits);
    return hits;
  };

  const first = (part, s, ...keywords) => {
    for (const keyword of keywords) {
      const [value] = list(part.profiles[part.profile[s]][keyword]);
      if (value !== undefined) return String(value);
    }
    return "";
  };

  /* Texts of a hit: description, scanner. */
  const describe = (part, s) => first(part, s, "SeriesDescription", "ProtocolName");
  const scanner = (part, s) => first(part, s, "ManufacturerModelName", "Manufacturer");

  function scanners({ part, visit }) {
    const of = part.scanners ??= [];
    if (of[visit] === undefined) {
      const found = new Set();
      for (let s = part.start[visit]; s < part.start[visit + 1]; s++) found.add(scanner(part, s));
      found.delete("");
      of[visit] = [...found].sort().join(", ");
    }
    return of[visit];
  }

  const dates = ({ part, visit }) => list(part.dates.StudyDate?.[visit]);
  const isoDate = (date) => date.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
  const series = ({ picked, from, to }) => Array.from(picked.subarray(from, to));

  /* S2 before S10. */
  const natural = (name) => name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(16, "0"));
  const visitKey = ({ part, visit }) => (part.keys ??= part.names.map(natural))[visit];

  const KEYS = {
    visit: visitKey,
    study: ({ part }) => part.shard.study,
    date: (hit) => dates(hit)[0] ?? "",
    scanner: (hit) => scanners(hit).toLowerCase(),
    series: ({ from, to }) => to - from,
    images: ({ images }) => images,
    size: ({ part, visit }) => part.sizes[visit],
    conversion: ({ part, picked, from, to }) => {
      let verified = 0;
      for (let i = from; i < to; i++) verified += part.status[picked[i]] === "verified";
      return to > from ? verified / (to - from) : "";
    },
  };

  /* By a column, where that is equal by name; what has no value comes last either way. */
  icf.sort = (hits, column, descending) => {
    const sign = descending ? -1 : 1;
    const keyed = hits.map((hit) => ({ hit, key: KEYS[column](hit), name: visitKey(hit) }));
    keyed.sort((a, b) => {
      if (a.key !== b.key) {
        if (a.key === "" || b.key === "") return a.key === "" ? 1 : -1;
        return a.key < b.key ? -sign : sign;
      }
      return a.name < b.name ? -1 : a.name > b.name ? 1 : 0; // then by study, as they come
    });
    return keyed.map(({ hit }) => hit);
  };

  Object.assign(icf, { KEYS, column, dates, describe, distinct, fold, isoDate, list, scanner, scanners, series });
})();
