"""A tarball in, its records out: path, MD5, size, offset, chosen DICOM elements."""
