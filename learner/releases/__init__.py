"""Releases: built, judged, signed, kept, announced, pinned."""
