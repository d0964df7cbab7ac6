"""Conformance of a board's firmware, judged by the octets that it answers: cases as data, run on one open port."""
