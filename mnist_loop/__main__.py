"""``python -m mnist_loop`` is ``mnist-loop``."""

import sys

from mnist_loop.cli import main

if __name__ == "__main__":
    sys.exit(main())
