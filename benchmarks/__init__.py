"""How fast icf_tools is, each time beside what one would do without it.

measure     run commands in turn; wall time and peak memory of each
images      folders of DICOM files with the headers of a scanner
records     metadata files of a visit, without images
startup, archive, index, dataset, addurls
            one part each: `rows(quick)` measures, `python -m benchmarks.<part>` prints
pydicom_way, addurls_way
            the peers that are programs of their own
"""
