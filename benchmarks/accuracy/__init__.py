"""Time to 97, 98 and 99 % test accuracy on a CPU. ``python -m benchmarks.accuracy --help``."""
