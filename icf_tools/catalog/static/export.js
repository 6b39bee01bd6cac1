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
  const HEADER = ["study", "visit", "date", "series_number", ...VALUES.map(([name]) => name),
    "images", "derivatives"];

  /* A spreadsheet would run text that begins like a formula. */
  function cell(value) {
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const joined = (values) => (values.length === 1 ? values[0] : values.join("; "));

  icf.toCsv = (hits) => {
    const lines = [HEADER];
    for (const hit of hits) {
      const { part, visit } = hit;
      const date = icf.dates(hit).map(icf.isoDate).join("; ");
      for (const s of icf.series(hit)) {
        const profile = part.profiles[part.profile[s]];
        lines.push([part.shard.study, part.names[visit], date, part.number[s],
          ...VALUES.map(([, keyword]) => joined(icf.list(profile[keyword]))),
          part.images[s], part.status[s]]);
      }
    }
    return lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
  };

  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const comment = (text) => `# ${text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, " ")}`;

  const GET = {
    "": ["Clones the visits.", ":"],
    images: ["Clones the visits and gets the images of the series.", '[ $# -eq 0 ] || git -C "$folder" annex get "$@"'],
    nifti: ["Clones the visits and gets their NIfTI files.", 'datalad -C "$folder" get nifti'],
    all: ["Clones the visits and gets everything.", 'datalad -C "$folder" get .'],
  };

  /* Matching options of git-annex; those of one number suffice for series that share it. */
  const options = ({ part }, chosen) => (
    [...new Set(chosen.map((s) => part.number[s]))]
      .map((number) => `--metadata ${quote(`seriesnumber=${number}`)}`).join(" --or "));

  icf.toScript = (hits, get, { site, from }) => {
    const [purpose, command] = GET[get];
    const urls = hits.map(({ part, visit }) => part.urls[part.url[visit]]);
    const lacking = urls.filter((url) => !url).length;
    const lines = ["#!/usr/bin/env bash", comment(purpose), comment(`Number of visits: ${hits.length}. Chosen by ${from}`),
      "# Needs datalad with datalad-next, and git-annex. Run it in the folder that they shall lie in.",
      "# Run again, it goes on where it failed."];
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
      const chosen = icf.series(hit);
      const wanted = get === "images" && chosen.length ? ` ${options(hit, chosen)}` : "";
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
