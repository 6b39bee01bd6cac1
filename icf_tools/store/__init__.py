"""Bytes at rest: whole-or-nothing files, locks, and what a visit has."""
