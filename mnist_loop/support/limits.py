"""What the file of a comparison may hold: `compare` measures no more than that, and `report` reads all of it."""

from __future__ import annotations

FEWEST_ARMS, MOST_ARMS = 3, 20  # the control among them
MOST_BATCH_SIZES = 32
SMALLEST_MARGIN, LARGEST_MARGIN = 0.0, 1.0  # both excluded
SHORTEST_BUDGET_S, LONGEST_BUDGET_S = 1e-3, 3600.0  # blocks of 5 ms for an hour are 112 MiB
MOST_RESTARTS = 2_000  # the resampling takes 32 kB for each, and some copies of that
MIB = 2**20
LARGEST_FILE = 128 * MIB  # to read one takes 400 MB and some 20 s
LONGEST_LINE = MIB
MOST_WARM_UP_BLOCKS = 20_000  # in one line, 13 bytes each
