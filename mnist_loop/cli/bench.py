"""``mnist-loop bench``: the benchmark suite, run or shown from a stored result."""
from __future__ import annotations
import argparse
def add_parser(commands): pass
