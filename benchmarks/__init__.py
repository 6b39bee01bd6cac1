"""How fast icf_tools is, each time beside what one would do without it.

measure     run commands in turn; wall time and peak memory of each
images      folders of DICOM files with the headers of a scanner
records     metadata files of a visit, without images
link        a slow network
startup, archive, index, dataset, derive, catalog, remote, addurls
            one part each: `rows(quick)` measures, `python -m benchmarks.<part>` prints
pydicom_way, addurls_way, catalog_way
            the peers that are programs of their own
"""
