"""Versioned imaging datasets out of DICOM tarballs.

The flow, and the package in its order:

errors, model     refusals; visits, keys, names, the list of recorded DICOM elements
store             whole-or-nothing files, locks, what a visit has
dicom             the header of a DICOM file, read fast
archive           a folder of DICOM -> <visit>_dicom.tar
index             the tarball -> records in two JSON files
settings          site.yaml and study.yaml
dataset           the records -> a DataLad dataset deposited as two files
derive            images -> files that lab members work with, each proved
pipeline          all of it in order
cli               one thin file per step

A module imports from what stands above it, never from below.
"""

__version__ = "0.1.0"
