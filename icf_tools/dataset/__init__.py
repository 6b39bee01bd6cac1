"""Records in, a lightweight DataLad dataset out, deposited as two files."""
