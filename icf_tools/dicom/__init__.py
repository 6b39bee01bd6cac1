"""The header of a DICOM file, read fast: chosen elements as JSON has them."""
