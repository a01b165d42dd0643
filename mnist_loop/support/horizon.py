"""When a learning-rate schedule ends."""

from __future__ import annotations

# The attribute of a schedule that says after how many of its steps it ends. Others go on, or have no end.
HORIZONS = {
    "OneCycleLR": "total_steps",
    "CosineAnnealingLR": "T_max",
    "PolynomialLR": "total_iters",
    "LinearLR": "total_iters",
}


def horizon_of(schedule: object) -> int | None:
    """Return the number of its steps after which a schedule ends; None if it has no end.

    A linear one that rises is a warm-up, whose end is not that of the training.
    """
    if type(schedule).__name__ == "LinearLR" and getattr(schedule, "end_factor", 1) >= getattr(
        schedule, "start_factor", 1
    ):
        return None
    horizon = getattr(schedule, HORIZONS.get(type(schedule).__name__, ""), None)
    return int(horizon) if isinstance(horizon, int | float) else None
