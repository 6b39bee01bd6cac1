// Draws volumes with NiiVue.
// in: a canvas, URLs of NIfTI-1 files    out: pictures, and what is under the crosshair
// Errors say why, and in `todo` what to do. Coordinates are mm; NIfTI has RAS, DICOM LPS.

const SLICES = { axial: 0, coronal: 1, sagittal: 2, multiplanar: 3, render: 4 };
const ENDS = [["L", "R"], ["P", "A"], ["I", "S"]]; // of the axes, RAS
const FAR = 1e6; // mm; what is farther is nowhere
const MOST = 1 << 29; // bytes of a file that are held; what is more is left out by volumes
const HEADER = 352; // bytes of NIfTI-1: nifti1.h, and four that tell of extensions

export class Viewer {
  // sides: an element above the canvas, for letters
  static async make(canvas, sides, library, events) {
    const { Niivue, NVImage } = await loaded(library);
    const niivue = new Niivue({
      isRadiologicalConvention: true, // as in the pictures of the page
      sagittalNoseLeft: true,
      isForceMouseClickToVoxelCenters: true,
      dragAndDropEnabled: false,
      scrollRequiresFocus: true,
      multiplanarShowRender: 0, // in software, the render alone takes seconds
      multiplanarPadPixels: 4,
      show3Dcrosshair: true,
      isOrientationTextVisible: false, // what is drawn into the picture is lost where that is bright
      crosshairColor: [0.36, 0.68, 1, 0.9],
      crosshairWidth: 0.5, // a thinner one is lost between pixels
      crosshairWidthUnit: "percent",
      backColor: [0, 0, 0, 1],
      loadingText: "",
      logLevel: "silent",
    });
    await niivue.attachToCanvas(canvas);
    return new Viewer(niivue, NVImage, canvas, sides, events);
  }

  constructor(niivue, NVImage, canvas, sides, events) {
    this.niivue = niivue;
    this.NVImage = NVImage;
    this.canvas = canvas;
    this.sides = sides;
    this.events = events;
    this.stopping = new AbortController();
    this.window = [0, 1];
    this.lettered = ""; // what letter() has set
    const draw = niivue.drawScene.bind(niivue);
    niivue.drawScene = () => {
      draw();
      this.letter();
    };
    niivue.onLocationChange = () => this.tell();
    niivue.onIntensityChange = (volume) => {
      if (volume === niivue.volumes[0]) events.windowed(volume.cal_min, volume.cal_max);
    };
    canvas.addEventListener("webglcontextlost", () => events.lost());
    // NiiVue's own keys act wherever the mouse is, and one of them opens an alert
    for (const type of ["keydown", "keyup"]) {
      canvas.addEventListener(type, (event) => this.key(event), { capture: true });
    }
  }

  get isReady() {
    return this.niivue.volumes.length > 0;
  }

  // Stop reading what is not wanted any more.
  stop() {
    this.stopping.abort();
    this.stopping = new AbortController();
  }

  async load(source, progress) {
    this.clear();
    const { image, state } = await this.image(source, progress, "gray", 1);
    if (!image) return null;
    this.niivue.addVolume(image);
    const [low, high] = source.window ?? [image.cal_min, image.cal_max];
    this.window = low < high ? [low, high] : [low, low + 1];
    this.moveTo(pointOf(image, state.shape.map((side) => Math.floor(side / 2))));
    return state;
  }

  async cover(source, opacity) {
    const { image } = await this.image(source, () => {}, "hot", opacity);
    if (!image) return;
    this.niivue.addVolume(image);
    this.niivue.createOnLocationChange();
  }

  // Also what is still on its way.
  uncover() {
    this.stop();
    while (this.niivue.volumes.length > 1) this.niivue.removeVolume(this.niivue.volumes.at(-1));
    if (this.isReady) this.niivue.createOnLocationChange();
  }

  clear() {
    this.stop();
    while (this.isReady) this.niivue.removeVolume(this.niivue.volumes.at(-1));
  }

  async image(source, progress, colormap, opacity) {
    const { signal } = this.stopping;
    const { content, state } = await read(source, progress, signal);
    const largest = this.niivue.uiData.max3D;
    if (Math.max(...state.shape) > largest) {
      throw obstacle(`The graphics card takes volumes of up to ${largest} voxels along a side`);
    }
    const [low, high] = source.window ?? [NaN, NaN];
    const image = await this.NVImage.loadFromUrl({
      url: "volume.nii",
      name: "volume.nii",
      buffer: content.buffer,
      colormap,
      opacity,
      cal_min: low,
      cal_max: high,
    }).catch(() => null);
    if (signal.aborted) return { image: null, state };
    if (!image?.img) throw obstacle("The viewer cannot read this kind of NIfTI file");
    return { image, state };
  }

  slice(name) {
    this.niivue.setSliceType(SLICES[name]);
  }

  // Values that are black and white as long as nobody says otherwise.
  natural() {
    return this.window;
  }

  setWindow(low, high) {
    const [volume] = this.niivue.volumes;
    [volume.cal_min, volume.cal_max] = [low, high];
    this.niivue.updateGLVolume();
  }

  range() {
    const [volume] = this.niivue.volumes;
    return [volume.cal_min, volume.cal_max];
  }

  setVolume(place) {
    this.niivue.setFrame4D(this.niivue.volumes[0].id, place);
  }

  setOpacity(opacity) {
    if (this.niivue.volumes.length > 1) this.niivue.setOpacity(1, opacity);
  }

  // LPS, mm; the nearest point between the middles of the outermost voxels
  goTo([x, y, z]) {
    const [volume] = this.niivue.volumes;
    const ras = [-x, -y, z].map((mm) => Math.min(FAR, Math.max(-FAR, mm)));
    const inside = placeIn(volume, ras).map((place, axis) =>
      Math.min(volume.hdr.dims[axis + 1] - 1, Math.max(0, place)),
    );
    this.moveTo(pointOf(volume, inside));
  }

  moveTo(ras) {
    this.niivue.scene.crosshairPos = Array.from(this.niivue.mm2frac(ras, 0, true));
    this.niivue.createOnLocationChange();
    this.niivue.drawScene();
  }

  // The patient's sides, at the edges of each slice as NiiVue has just drawn it.
  letter() {
    const { screenSlices, uiData } = this.niivue;
    const slices = this.isReady ? screenSlices.filter((each) => each.axCorSag <= SLICES.sagittal) : [];
    const letters = slices.flatMap(({ axCorSag, leftTopWidthHeight, fovMM }) => {
      const [x, y, width, height] = leftTopWidthHeight.map((pixels) => pixels / uiData.dpr);
      const across = ENDS[axCorSag === SLICES.sagittal ? 1 : 0];
      const up = ENDS[axCorSag === SLICES.axial ? 1 : 2];
      // a field of view that is negative runs to the lower end of its axis
      const [left, right] = fovMM[0] > 0 ? across : across.toReversed();
      const [bottom, top] = fovMM[1] > 0 ? up : up.toReversed();
      return [
        ["left", left, x, y + height / 2],
        ["right", right, x + width, y + height / 2],
        ["top", top, x + width / 2, y],
        ["bottom", bottom, x + width / 2, y + height],
      ];
    });
    const state = JSON.stringify(letters);
    if (this.lettered === state) return;
    this.lettered = state;
    this.sides.replaceChildren(
      ...letters.map(([edge, text, x, y]) => {
        const letter = document.createElement("span");
        letter.className = edge;
        letter.textContent = text;
        Object.assign(letter.style, { left: `${x}px`, top: `${y}px` });
        return letter;
      }),
    );
  }

  ras() {
    return Array.from(this.niivue.frac2mm(this.niivue.scene.crosshairPos, 0, true)).slice(0, 3);
  }

  at() {
    return this.isReady ? lps(this.ras()) : null;
  }

  tell() {
    if (!this.isReady) return;
    const ras = this.ras();
    const [first] = this.niivue.volumes;
    this.events.moved({
      ras,
      lps: lps(ras),
      voxel: voxelAt(first, ras),
      values: this.niivue.volumes.map((volume) => valueAt(volume, ras)),
    });
  }

  // Up is towards the head or the front, and the patient's right is on the left.
  key(event) {
    event.stopImmediatePropagation();
    if (event.type !== "keydown" || !this.isReady || event.ctrlKey || event.altKey || event.metaKey) return;
    const slice = this.niivue.opts.sliceType;
    const [across, up, deep] = { 1: [0, 2, 1], 2: [1, 2, 0] }[slice] ?? [0, 1, 2];
    const moves = {
      ArrowLeft: [across, 1],
      ArrowRight: [across, -1],
      ArrowUp: [up, 1],
      ArrowDown: [up, -1],
      PageUp: [deep, 1],
      PageDown: [deep, -1],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const [axis, step] = move;
    if (slice === SLICES.render) {
      const { renderAzimuth, renderElevation } = this.niivue.scene;
      const turns = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
      const [around, over] = turns[event.key] ?? [0, 0];
      this.niivue.setRenderAzimuthElevation(renderAzimuth + around, renderElevation + over);
      return;
    }
    const by = [0, 0, 0];
    by[axis] = step;
    this.niivue.moveCrosshairInVox(...by);
  }
}

let library = null;

// The bundle is a classic script that leaves a global behind.
function loaded(url) {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.niivue);
    script.onerror = () => {
      library = null;
      script.remove();
      reject(obstacle("NiiVue, which draws volumes, is not in this catalog"));
    };
    document.head.append(script);
  });
  return library;
}

async function read({ url, size }, progress, signal) {
  let answer;
  try {
    answer = await fetch(url, { signal });
  } catch (error) {
    throw obstacle("The server does not answer", "try again in a while", error);
  }
  if (!answer.ok) throw refusal(answer.status);
  try {
    return await unpack(answer.body, (count) => progress(Math.min(1, count / size)));
  } catch (error) {
    if (error.todo) throw error;
    throw obstacle("The file is damaged, or did not arrive as a whole", "try again, or get it with datalad, which checks it", error);
  }
}

function refusal(status) {
  if (status === 401 || status === 403) {
    return obstacle(`You may not read this file (${status})`, "ask who runs the server for access, or log in and load the page again");
  }
  if (status === 404 || status === 410) {
    return obstacle(`This file is not on the server (${status})`, "the catalog and the store differ, and who runs them should make the catalog again");
  }
  return obstacle(`The server cannot give out this file (${status})`, "try again in a while");
}

function obstacle(why, todo = "", cause = undefined) {
  return Object.assign(new Error(why, { cause }), { todo });
}

// A server may have unpacked the file on the way, so what it begins with decides.
async function unpack(body, progress) {
  let count = 0;
  const counted = new TransformStream({
    transform(piece, controller) {
      progress((count += piece.length));
      controller.enqueue(piece);
    },
  });
  let pieces = body.pipeThrough(counted);
  const [ahead, whole] = pieces.tee();
  const reader = ahead.getReader();
  const { value: first } = await reader.read();
  reader.cancel();
  const isPacked = first[0] === 0x1f && first[1] === 0x8b;
  pieces = isPacked ? whole.pipeThrough(new DecompressionStream("gzip")) : whole;
  return collect(pieces.getReader());
}

async function collect(reader) {
  const early = [];
  let got = 0;
  while (got < HEADER) {
    const { value, done } = await reader.read();
    if (done) throw new Error("no header");
    early.push(value);
    got += value.length;
  }
  const begin = new Uint8Array(await new Blob(early).arrayBuffer());
  const { total, state } = header(begin);
  const content = new Uint8Array(total);
  content.set(begin.subarray(0, total));
  while (got < total) {
    const { value, done } = await reader.read();
    if (done) throw new Error("it ends early");
    content.set(value.subarray(0, total - got), got);
    got += value.length;
  }
  reader.cancel().catch(() => {});
  keep(content, state.volumes);
  return { content, state };
}

// NIfTI-1, nifti1.h: dim at byte 40, bitpix at 72, pixdim at 76, vox_offset at 108.
function header(bytes) {
  const view = new DataView(bytes.buffer);
  const little = view.getInt32(0, true) === 348;
  const is = (size) => view.getInt32(0, true) === size || view.getInt32(0, false) === size;
  if (is(540)) throw obstacle("This is NIfTI-2, which this viewer does not read", "download the file, or get it with datalad");
  if (!is(348)) throw new Error("no NIfTI-1");
  const dim = Array.from({ length: 8 }, (_, place) => view.getInt16(40 + 2 * place, little));
  const side = (place) => (place <= dim[0] ? Math.max(1, dim[place]) : 1);
  const shape = [side(1), side(2), side(3)];
  const all = side(4) * side(5) * side(6) * side(7);
  const offset = view.getFloat32(108, little);
  const each = (shape[0] * shape[1] * shape[2] * view.getInt16(72, little)) / 8;
  const volumes = Math.min(all, Math.max(1, Math.floor((MOST - offset) / each)));
  const spacing = [80, 84, 88].map((place) => Math.abs(view.getFloat32(place, little)));
  return { total: offset + volumes * each, state: { shape, spacing, volumes, left: all - volumes } };
}

// Let the header tell of as many volumes as were read.
function keep(content, volumes) {
  const view = new DataView(content.buffer);
  const little = view.getInt32(0, true) === 348;
  view.setInt16(40, volumes > 1 ? 4 : 3, little);
  [volumes, 1, 1, 1].forEach((count, place) => view.setInt16(48 + 2 * place, count, little));
}

function lps([x, y, z]) {
  return [-x, -y, z];
}

function valueAt(volume, ras) {
  const voxel = voxelAt(volume, ras);
  if (voxel.some((place, axis) => place < 0 || place >= volume.hdr.dims[axis + 1])) return NaN;
  return volume.getValue(...volume.mm2vox(pointOf(volume, voxel)), volume.frame4D);
}

// The middle of a voxel.
function pointOf(volume, [i, j, k]) {
  return volume.hdr.affine.slice(0, 3).map(([a, b, c, d]) => a * i + b * j + c * k + d);
}

// As the file counts, from 0.
function voxelAt(volume, ras) {
  return placeIn(volume, ras).map((place) => Math.round(place) + 0); // no -0
}

// The same, between the middles of voxels; NiiVue's own voxels are turned towards RAS.
function placeIn(volume, [x, y, z]) {
  const [[a, b, c, p], [d, e, f, q], [g, h, i, r]] = volume.hdr.affine;
  const [u, v, w] = [x - p, y - q, z - r];
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    ((e * i - f * h) * u + (c * h - b * i) * v + (b * f - c * e) * w) / det,
    ((f * g - d * i) * u + (a * i - c * g) * v + (c * d - a * f) * w) / det,
    ((d * h - e * g) * u + (b * g - a * h) * v + (a * e - b * d) * w) / det,
  ];
}
