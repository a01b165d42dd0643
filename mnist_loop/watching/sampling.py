"""Which steps are watched closely: the first ones, those at the start of each pass over the data, and some between."""

from __future__ import annotations

FIRST_STEPS, FIRST_BATCHES = 24, 64
AT_A_PASS = 4  # batches
BETWEEN = 64  # steps; after so many without a close look, there is one
LOOK = 3  # steps of such a look
LONGEST = 512  # batches or backward passes: where no step comes, as in an evaluation, a look ends all the same


class Sampling:
    """Counts down what is left to be watched closely."""

    def __init__(self) -> None:
        self.steps, self.batches = FIRST_STEPS, FIRST_BATCHES
        self.since = 0  # steps since the last look
        self.events = 0  # in this look

    @property
    def closely(self) -> bool:
        """Whether to look closely now."""
        return (self.steps > 0 or self.batches > 0) and self.events < LONGEST

    def look(self, steps: int = 0, batches: int = 0) -> None:
        """Begin a look, or make the present one longer."""
        self.steps, self.batches = max(self.steps, steps), max(self.batches, batches)
        self.since = self.events = 0

    def on_step(self) -> None:
        """Count a step."""
        self.steps -= self.steps > 0
        self.since += 1
        self.events = 0
        if self.since >= BETWEEN:
            self.look(steps=LOOK)

    def on_batch(self, in_training: bool) -> None:
        """Count a batch; in a training without loaders each backward pass is one."""
        self.batches -= self.batches > 0
        self.events += not in_training
