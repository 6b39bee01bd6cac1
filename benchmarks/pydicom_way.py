"""An index as one would write it with tarfile, pydicom and hashlib: a peer of `icf index`.

in: a tarball    out: one JSON object per image, on standard output
"""

import hashlib
import json
import sys
import tarfile
from io import BytesIO

from pydicom import dcmread

from icf_tools.model.dicom import RECORDED


def main() -> None:
    whole = hashlib.md5(usedforsecurity=False)
    with open(sys.argv[1], "rb") as file:
        while piece := file.read(1 << 20):
            whole.update(piece)
    with tarfile.open(sys.argv[1]) as tarball:
        for member in tarball:
            content = tarball.extractfile(member)
            if content is None:
                continue
            data = content.read()
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            dataset = dcmread(BytesIO(data), stop_before_pixels=True)
            tags = {tag.keyword: str(dataset.get(tag.keyword, "")) for tag in RECORDED}
            record = {"path": member.name, "md5": digest, "size": member.size, **tags}
            print(json.dumps(record))
    print(json.dumps({"md5": whole.hexdigest()}))


if __name__ == "__main__":
    main()
