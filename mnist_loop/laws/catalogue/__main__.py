"""``python -m mnist_loop.laws.catalogue`` writes docs/bugs.md to stdout."""

import sys

from mnist_loop.laws.catalogue.page import render

if __name__ == "__main__":
    sys.stdout.write(render())
