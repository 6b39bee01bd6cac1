"""Metadata files of a visit of any size, without images."""

import hashlib

from icf_tools.index.records import dicoms_json, tarball_json
from icf_tools.index.scan import Record, Scan
from icf_tools.model.dicom import Value
from icf_tools.model.visit import StorePath

_PER_SERIES = 192  # images
_SIZE = 200_000  # bytes of an image
_ROOT = "1.3.12.2.1107.5.2.43.67027.2018091"


def write(store: StorePath, count: int, per_series: int = _PER_SERIES) -> None:
    """Write both files, as `icf index` would."""
    scan = Scan(timestamp=1_537_232_354)
    for number in range(count):
        series, instance = divmod(number, per_series)
        path = f"{store.visit.prefix}/mr_{series + 1:04}/epi_pe_ap-{instance + 1:05}.dcm"
        offset = 512 + number * (_SIZE + -_SIZE % 512 + 512)
        digest = hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()
        scan.records.append(Record(path, _SIZE, offset, digest, tags=_tags(series, instance)))
    scan.size = count * (_SIZE + -_SIZE % 512 + 512) + 1024
    scan.md5 = hashlib.md5(str(count).encode(), usedforsecurity=False).hexdigest()
    store.study.mkdir(parents=True, exist_ok=True)
    with store.dicoms_json.open("wb") as out:
        out.writelines(dicoms_json(scan))
    store.tarball_json.write_bytes(tarball_json(scan, store))


def _tags(series: int, instance: int) -> dict[str, Value]:
    return {
        "SeriesDescription": f"EPI PE=AP {series + 1}",
        "SeriesNumber": series + 1,
        "Modality": "MR",
        "MRAcquisitionType": "2D",
        "ProtocolName": f"EPI PE=AP {series + 1}",
        "SeriesInstanceUID": f"{_ROOT}.{series + 1}",
        "SOPInstanceUID": f"{_ROOT}.{series + 1}.{instance + 1}",
        "InstanceNumber": instance + 1,
        "AcquisitionNumber": instance + 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "MB", "ND", "MOSAIC"],
        "EchoTime": 30.0,
        "EchoNumbers": 1,
        "RepetitionTime": 2000.0,
        "FlipAngle": 90.0,
        "ImagePositionPatient": [-1016.0, -1048.2, 56.4 + instance],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 0.99, -0.13],
        "PixelSpacing": [3.0, 3.0],
        "SliceThickness": 3.6,
        "Rows": 384,
        "Columns": 384,
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Skyra",
        "MagneticFieldStrength": 3.0,
        "StudyInstanceUID": _ROOT,
        "FrameOfReferenceUID": f"{_ROOT}.0",
        "StudyDate": "20180918",
        "StudyTime": "120928.218000",
        "AcquisitionTime": f"{121_208 + instance % 50}.152500",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
    }
