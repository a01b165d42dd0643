"""One epoch of the lesson in other frameworks and in our engines, in turns. ``python -m benchmarks.peers --help``."""
