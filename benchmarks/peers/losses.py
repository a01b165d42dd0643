"""Whether two entries train the same model the same way, by their losses, epoch by epoch.

All start with the same weights and differ in the order of the images alone. Standard deviation between orders of the
lesson's loss on MNIST, in per cent of it, from one set of initial weights (engine handwritten, 4 to 60 seeds of the
order each, the largest of the first 12 epochs, 6 with * and 30 with **):

| images | batch size 16 | 64 | 256 |
|---|---|---|---|
| 60,000 | 0.88* | 0.27*, 0.39** | |
| 6,400 | | 0.25 | 0.11 |
| 1,000 | 0.77 | 0.20 | |
| 200 | | 0.53 | |

The difference of two orders has 1.4 times that. `TOLERANCE` is at least 5 such standard deviations everywhere in the
table, and 7 in the first dozen epochs at batch size 64: of 18 entries in 11 epochs none is called other by chance. On
the other side, with 6,400 and with 60,000 images, a learning rate that is off by 10 % changes the loss of the first or
the second epoch by 4.0 to 6.2 %, a momentum of 0.1 by 4.5 to 6.8 %, a batch size of 72 by 5.4 to 7.5 %, pixels from 0
to 1 by 60 to 70 %. A learning rate that is off by 5 % passes with 60,000 images: 2.1 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

TOLERANCE = 0.03
BATCH_SIZE, IMAGES = 64, 1000  # the smallest for which it holds; below them an order matters more


def tolerance(batch_size: int, images: int) -> float:
    """Return by which share of the reference's loss another loss of the same epoch may differ from it."""
    return TOLERANCE * max(1.0, BATCH_SIZE / batch_size) * max(1.0, math.sqrt(IMAGES / images))


def first_apart(found: Mapping[int, float], expected: Mapping[int, float], limit: float) -> int | None:
    """Return the first round in which the losses are further apart than ``limit`` allows; None where there is none.

    Rounds that only one of the two has are left out. NaN differs from every loss.
    """
    for number in sorted(found.keys() & expected.keys()):
        if not abs(found[number] / expected[number] - 1) <= limit:
            return number
    return None
