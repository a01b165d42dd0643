"""One epoch of the lesson in other frameworks and in our engines, by turns. ``python -m benchmarks.peers --help``."""
