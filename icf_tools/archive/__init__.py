"""A folder of DICOM in, one reproducible tarball out."""
