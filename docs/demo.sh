# The main job on real images that come inside the wheels of pydicom and nibabel.
# Everything it makes lies in the folder demo/; make clean removes it.
set -eu

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

here=$PWD/demo
chmod -R u+w "$here" 2>/dev/null || true
rm -rf "$here"
mkdir -p "$here/incoming"
cd "$here"

# datalad-next runs git annex init in the repository around a new clone: let that not be the checkout
git init -q .
# git wants to know who commits; nothing of this leaves the folder
export GIT_AUTHOR_NAME="${GIT_AUTHOR_NAME:-Demo}" GIT_AUTHOR_EMAIL="${GIT_AUTHOR_EMAIL:-demo@localhost}"
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"
export DATALAD_UI_PROGRESSBAR=none DATALAD_LOG_LEVEL=warning

url=$(python -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).as_uri())' "$here/store")

say "1. A folder of DICOM, as a scanner might leave it"
python - <<'END'
import gzip
from pathlib import Path
import nibabel, pydicom

wheels = {
    "diffusion": sorted(Path(nibabel.__file__).parent.glob("nicom/tests/data/siemens_dwi_*.dcm.gz")),
    "dti": sorted(Path(nibabel.__file__).parent.glob("tests/data/?.dcm")),
    "small": [Path(pydicom.__file__).parent / f"data/test_files/{name}_small.dcm" for name in ("CT", "MR")],
}
for series, files in wheels.items():
    for file in files:
        to = Path("incoming", series, file.name.removesuffix(".gz"))
        to.parent.mkdir(exist_ok=True)
        data = file.read_bytes()
        to.write_bytes(gzip.decompress(data) if file.suffix == ".gz" else data)
END
find incoming -type f | sort

say "2. Archive, index and deposit it: one command"
run icf add demo-study P000123 incoming --store-dir store --store-url "$url"
run icf status --store-dir store
ls -l store/demo-study

say "3. Clone it as a lab member does, with DataLad alone"
run datalad clone "datalad-annex::?type=external&externaltype=uncurl&encryption=none&url=$url/demo-study/P000123_{{annex_key}}" clone
git -C clone config user.name "$GIT_AUTHOR_NAME"
git -C clone config user.email "$GIT_AUTHOR_EMAIL"
run datalad -C clone get demo-study_P000123/small/MR_small.dcm

say "4. Is it the image that went in?"
sum() { md5sum "$1" | cut -d' ' -f1; }
sent=$(sum incoming/small/MR_small.dcm)
got=$(sum clone/demo-study_P000123/small/MR_small.dcm)
if [ "$sent" != "$got" ]; then
    echo "no: sent MD5 $sent, got $got"
    exit 1
fi
echo "yes: MD5 $got"

say "5. Pages by which it is found, seen and got"
run icf derive demo-study P000123 --series 1 --store-dir store
run icf catalog demo-study --store-dir store --deposit-url "$url"

say "6. In Python, without a clone"
python - "$url" <<'END'
import sys
import icf_tools

visit = icf_tools.open_store(sys.argv[1]).study("demo-study").visit("P000123")
print(visit.series())
volume = visit.series(number=1)[0].volume()
print("series 1:", volume.array.shape, volume.array.dtype, *volume.affine.round(1).tolist(), sep="\n  ")
END

say "What to try next"
cat <<END
  . .venv/bin/activate && cd demo/clone
  datalad get .                                              every image
  git annex metadata demo-study_P000123/small/MR_small.dcm   what is known of one
  git annex view "protocolname?=*" "seriesnumber?=*"         folders by protocol and series
  git annex vpop                                             and back
  icf add STUDY VISIT YOUR_FOLDER --store-dir ../store --store-url $url
  python -m http.server -b 127.0.0.1 -d ../store             until Ctrl-C; the pages are at
                                                             http://127.0.0.1:8000/demo-study/catalog/search/
The documentation is in docs/, beginning with docs/quickstart.md.
END
