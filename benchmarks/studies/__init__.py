"""Studies of the comparison itself: how often it errs, and what it can see. ``python -m benchmarks.studies --help``."""
