/* Texts to take along: a table of series, a script that clones their visits.

   in: Hits of query.js    out: CSV (RFC 4180), bash */

"use strict";
window.icf ??= {};

(() => {
  const VALUES = [
    ["description", "SeriesDescription"], ["protocol", "ProtocolName"], ["modality", "Modality"],
    ["scanner", "ManufacturerModelName"], ["tr_ms", "RepetitionTime"], ["te_ms", "EchoTime"],
    ["flip_angle_deg", "FlipAngle"], ["field_strength_t", "MagneticFieldStrength"],
  ];
  const HEADER = ["study", "visit", "date", "series_number", "series", ...VALUES.map(([name]) => name),
    "images", "conversion"];

  /* A spreadsheet would run text that begins like a formula. */
  function cell(value) {
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const joined = (values) => (values.length === 1 ? values[0] : values.join("; "));

  /* What the page of the visit calls each series: its number, of a second that has it with -2. */
  function anchors(part, visit) {
    const found = new Map();
    const seen = {};
    for (let s = part.start[visit]; s < part.start[visit + 1]; s++) {
      const number = part.number[s];
      const times = seen[number] = (seen[number] ?? 0) + 1;
      found.set(s, times === 1 ? number : `${number}-${times}`);
    }
    return found;
  }

  icf.toCsv = (hits) => {
    const lines = [HEADER];
    for (const hit of hits) {
      const { part, visit } = hit;
      const date = icf.dates(hit).map(icf.isoDate).join("; ");
      const anchor = anchors(part, visit);
      for (const s of icf.series(hit)) {
        const profile = part.profiles[part.profile[s]];
        lines.push([part.shard.study, part.names[visit], date, part.number[s], anchor.get(s),
          ...VALUES.map(([, keyword]) => joined(icf.list(profile[keyword]))),
          part.images[s], part.status[s]]);
      }
    }
    return lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
  };

  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const comment = (text) => `# ${text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, " ")}`;

  const IMAGES = `local unclear=$1 series code=0
  shift
  [ $# -eq 0 ] || git -C "$folder" annex get "$@" || code=1
  for series in $unclear; do
    echo "$folder: series $series cannot be told apart from another one; get it by its path" >&2
    code=1
  done
  return $code`;
  const GET = {
    "": ["Clones the visits.", ":"],
    images: ["Clones the visits and gets the images of the series.", IMAGES],
    nifti: ["Clones the visits and gets their NIfTI files.", 'datalad -C "$folder" get nifti'],
    all: ["Clones the visits and gets everything.", 'datalad -C "$folder" get .'],
  };

  /* Fields of the metadata in a clone, which tell series of one number apart. */
  const FIELDS = ["SeriesDescription", "ProtocolName", "Modality", "MRAcquisitionType", "PulseSequenceName",
    "EchoTime", "ImageType"];
  const MOST = 64; // values of a series that the index has

  /* A condition of git-annex, whose values are globs. Within brackets a character is but itself;
     quotes and < > have a meaning elsewhere, as git-annex puts a backslash before them. */
  const condition = (keyword, value) => (
    `--metadata ${quote(`${keyword.toLowerCase()}=${String(value).replace(/[*?[<>"'`]/g, "[$&]")}`)}`);

  /* Whether the series has one value, which git-annex finds and which no image of the other one has. */
  function differs(one, other, keyword) {
    const [value, ...more] = icf.list(one[keyword]);
    const others = icf.list(other[keyword]);
    if (value === undefined || more.length || others.length >= MOST) return false;
    if (/[\x00-\x1f\x7f-\x9f]/.test(value)) return false;
    if (typeof value === "number" && String(value).includes("e")) return false; // Python writes 1e-07
    return !others.some((each) => icf.fold(each) === icf.fold(value));
  }

  /* Conditions that find the images of a series and none of the others; null without any. */
  function telling(part, s, others) {
    const profile = (each) => part.profiles[part.profile[each]];
    const found = new Set();
    for (const other of others) {
      const keyword = FIELDS.find((each) => differs(profile(s), profile(other), each));
      if (!keyword) return null;
      found.add(keyword);
    }
    return [...found].map((keyword) => condition(keyword, icf.list(profile(s)[keyword])[0]));
  }

  /* Anchors of series that git-annex cannot tell apart from such as are not chosen, and its
     matching options for the other ones. */
  function imagesOf({ part, visit }, chosen) {
    const anchor = anchors(part, visit);
    const rest = [...anchor.keys()].filter((s) => !chosen.includes(s));
    const unclear = [];
    const options = new Set();
    for (const s of chosen) {
      const number = part.number[s]; // 0 where there is none, of which a clone knows nothing
      const more = number ? telling(part, s, rest.filter((each) => part.number[each] === number)) : null;
      if (!more) {
        unclear.push(anchor.get(s));
        continue;
      }
      const all = [condition("SeriesNumber", number), ...more].join(" --and ");
      options.add(more.length ? `'-(' ${all} '-)'` : all);
    }
    return `${quote(unclear.join(" "))} ${[...options].join(" --or ")}`.trimEnd();
  }

  icf.toScript = (hits, get, { site, from }) => {
    const [purpose, command] = GET[get];
    const urls = hits.map(({ part, visit }) => part.urls[part.url[visit]]);
    const lacking = urls.filter((url) => !url).length;
    const lines = ["#!/usr/bin/env bash", comment(purpose), comment(`Number of visits: ${hits.length}. Chosen by ${from}`),
      "# Needs datalad with datalad-next, and git-annex. Run it in the folder that they shall lie in.",
      "# Run again, it goes on where it failed."];
    if (get === "images") {
      lines.push("# Of series with one number in a visit, of which not all are chosen, it gets those that the",
        "# metadata of git-annex tells apart. It names the others, and those without a number, and fails.");
    }
    if (lacking) {
      lines.push(comment(lacking === hits.length
        ? "Nothing can be cloned by this: no deposit URL is known to the catalog."
        : `${lacking} of them cannot be cloned: no deposit URL of theirs is known to the catalog.`));
    }
    lines.push(`
set -u
failed=()

get() { # a folder, where to clone it from, what to get
  local folder=$1 url=$2
  shift 2
  if [ ! -e "$folder" ]; then
    if [ -z "$url" ]; then
      echo "$folder: no URL to clone it from is known" >&2
      return 1
    fi
    datalad clone "$url" "$folder" || return
  fi
  ${command}
}

visit() { get "$@" || failed+=("$1"); }
`);
    hits.forEach((hit, i) => {
      const name = hit.part.names[hit.visit];
      const folder = site ? `${hit.part.shard.study}/${name}` : name;
      const url = urls[i]?.replaceAll("{visit}", () => name) ?? "";
      const wanted = get === "images" ? ` ${imagesOf(hit, icf.series(hit))}` : "";
      lines.push(`visit ${quote(folder)} ${quote(url)}${wanted}`);
    });
    lines.push(`
if [ "\${#failed[@]}" -gt 0 ]; then
  echo "Failed, \${#failed[@]} of ${hits.length}:" >&2
  printf '  %s\\n' "\${failed[@]}" >&2
  exit 1
fi
`);
    return lines.join("\n");
  };
})();
