"""Tiny DICOM files, each with what a test needs it to have."""

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.10.1338"


def image(series: int = 1, instance: int = 1, **elements: Any) -> Dataset:
    """An MR image of 4 x 4 pixels; an element given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    given = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": f"{ROOT}.{series}.{instance}",
        "SeriesInstanceUID": f"{ROOT}.{series}",
        "StudyInstanceUID": ROOT,
        "FrameOfReferenceUID": f"{ROOT}.0",
        "StudyDate": "20240229",
        "StudyTime": "101112.345",
        "Modality": "MR",
        "Manufacturer": "Example",
        "SeriesDescription": f"t1 mprage {series}",
        "ProtocolName": f"protocol {series}",
        "MRAcquisitionType": "3D",
        "SeriesNumber": series,
        "InstanceNumber": instance,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "EchoTime": "2.5",
        "PatientName": "Mustermann^Erika",
        "PatientID": "ID4711",
        "PatientBirthDate": "19640812",
        "Rows": 4,
        "Columns": 4,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": bytes([series % 256, instance % 256] * 16),
    } | elements
    for keyword, value in given.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write(path: Path, dataset: Dataset) -> Path:
    """Save it as a DICOM file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def visit(folder: Path, series: int = 2, images: int = 3) -> Path:
    """A folder with some series of some images."""
    for number in range(1, series + 1):
        for instance in range(1, images + 1):
            name = f"series_{number}/im{instance:03}.dcm"
            write(folder / name, image(number, instance))
    return folder
