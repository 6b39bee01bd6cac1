/* Loads the index of a catalog.

   in: manifest.js and the files that it names    out: Parts, as they arrive
   Scripts rather than fetch(), which browsers refuse to pages from file://. */

"use strict";
window.icf ??= {};

(() => {
  const AT_ONCE = 6; // as many as browsers load from a host over HTTP/1.1
  const STATUS = { v: "verified", u: "unverified", s: "skipped", f: "failed", n: "none" };

  class Problem extends Error {}
  class Gone extends Problem {}

  /* After an update of the catalog shards have other names, which a new manifest tells. */
  const isGone = (error) => error instanceof Gone;

  let manifest = null;
  const arrived = new Map();
  icf.manifest = (content) => { manifest = content; };
  icf.data = (key, text) => { arrived.set(key, text); };

  function script(url) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.onload = () => { element.remove(); resolve(); };
      element.onerror = () => { element.remove(); reject(new Gone(`${url} cannot be loaded.`)); };
      element.src = url;
      document.head.append(element);
    });
  }

  async function inflate(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).json();
  }

  /* Content of a file, made by `use` from its JSON; whatever is wrong with it is told alike. */
  async function read(url, use) {
    const key = url.slice(url.lastIndexOf("/") + 1, -".js".length);
    await script(url);
    const text = arrived.get(key);
    arrived.delete(key);
    try {
      return use(await inflate(text));
    } catch (error) {
      throw new Problem(`${url} is damaged.`, { cause: error });
    }
  }

  function check(good) {
    if (!good) throw new Error("not as the format has it");
  }

  /* Where the items of each owner begin, and the end of the last one's. */
  function starts(counts) {
    const start = new Uint32Array(counts.length + 1);
    counts.forEach((count, i) => { start[i + 1] = start[i] + count; });
    return start;
  }

  /* A shard: columns by visit, by profile and by series. */
  class Part {
    boxes = null;
    texts = new Map(); // what query.js has prepared

    constructor(shard, content) {
      const { names, sizes, dates, urls, url, counts, profiles } = content;
      Object.assign(this, { shard, names, sizes, dates, urls, url, profiles });
      this.start = starts(counts);
      this.profile = Uint32Array.from(content.profile);
      this.number = content.number;
      this.images = Uint32Array.from(content.images);
      this.status = Array.from(content.status, (letter) => STATUS[letter] ?? letter);
      const series = this.start[names.length];
      check(content.format === 1);
      check([sizes, url, counts, ...Object.values(dates)].every((a) => a.length === names.length));
      check([this.profile, this.number, this.images, this.status].every((a) => a.length === series));
      check(this.profile.every((index) => index < profiles.length));
    }

    async readBoxes() {
      if (this.boxes || !this.shard.boxes) return;
      this.boxes = await read(this.shard.boxes, ({ format, counts, numbers }) => {
        const start = starts(counts);
        check(format === 1 && counts.length === this.profile.length);
        check(numbers.length === 12 * start[counts.length]);
        return { start, numbers: Int32Array.from(numbers) };
      });
    }
  }

  async function readManifest() {
    manifest = null;
    await script(`manifest.js?${Date.now()}`); // never from a cache
    if (manifest?.format !== 1) throw new Problem("manifest.js is damaged, or of another version.");
    return manifest.studies.flatMap(({ study, base, shards }) => (
      shards.map((shard) => ({ ...shard, study, base }))));
  }

  /* Does a step for all of the items, a few at once; what fails is returned. */
  async function forAll(items, step) {
    const left = items.values();
    const errors = [];
    const work = async () => {
      for (const item of left) await step(item).catch((error) => errors.push(error));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return errors;
  }

  /* The index, whose parts come one by one; `changed` is called after each. */
  icf.Index = class {
    parts = [];
    shards = [];
    done = false;
    problem = "";
    constructor(changed) { this.changed = changed; }

    get visits() { return this.shards.reduce((sum, shard) => sum + shard.visits, 0); }
    get read() { return this.parts.reduce((sum, part) => sum + part.names.length, 0); }
    get hasBoxes() { return this.shards.some((shard) => shard.boxes); }

    async load() {
      await this.#tell(async () => {
        if (!window.DecompressionStream) {
          throw new Problem("This browser is too old for the page: it cannot unpack the index.");
        }
        const errors = await this.#load();
        return errors.some(isGone) ? this.#load() : errors;
      });
      this.done = true;
      this.changed();
    }

    /* What spheres are compared with; it is large, and few ask for it. */
    loadBoxes() {
      const boxes = () => forAll(this.parts, (part) => part.readBoxes());
      return this.#tell(async () => {
        const errors = await boxes();
        return errors.some(isGone) ? [...await this.#load(), ...await boxes()] : errors;
      });
    }

    async #load() {
      this.shards = await readManifest();
      const known = this.parts;
      const slots = this.shards.map(({ study, file }) => (
        known.find(({ shard }) => shard.study === study && shard.file === file)));
      const put = () => { this.parts = slots.filter(Boolean); this.changed(); };
      put();
      return forAll([...this.shards.entries()], async ([at, shard]) => {
        if (slots[at]) return;
        slots[at] = await read(shard.file, (content) => new Part(shard, content));
        put();
      });
    }

    async #tell(step) {
      const errors = await step().catch((error) => [error]);
      if (!errors.length) return;
      const others = errors.length > 1 ? ` So it is with ${errors.length - 1} more.` : "";
      this.problem = `The list is not complete: ${errors[0].message}${others} `
        + "Load the page again later, or tell who keeps this archive.";
    }
  };
})();
