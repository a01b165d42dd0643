"""Paired measurement: several environments or settings, block by block in turn, in one run."""
