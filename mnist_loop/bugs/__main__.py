"""``python -m mnist_loop.bugs`` writes docs/bugs.md to stdout."""

import sys

from mnist_loop.bugs.page import render

if __name__ == "__main__":
    sys.stdout.write(render())
