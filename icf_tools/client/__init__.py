"""What runs where datasets are used: git-annex-remote-icf, clones, whole series at once."""
