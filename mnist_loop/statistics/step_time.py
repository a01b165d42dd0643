"""The fit T(b) = t0 + b / r of the seconds of a step by batch size b."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

FEWEST_BATCH_SIZES = 3  # two points always lie on a line
CONFIDENCE = 0.95
# The floor of a log-time's standard error: the clock is read in about a microsecond at either end of a 25 ms block.
# Without a floor, a point whose rounds happen to agree would decide the fit.
LEAST_ERROR = 1e-4


@dataclass(frozen=True)
class StepTimeFit:
    """Dispatch and arithmetic of a step.

    Attributes:
        dispatch_s: t0, seconds of a step however small its batch.
        rate: r, images per second that a large batch approaches.
        dispatch_s_interval: 95% interval of t0.
        rate_interval: 95% interval of r; its upper end is infinite where the batches are too small to tell.
        misfit: largest relative difference between a measured time and the fit.
    """

    dispatch_s: float
    rate: float
    dispatch_s_interval: tuple[float, float]
    rate_interval: tuple[float, float]
    misfit: float

    @property
    def half_batch(self) -> float:
        """n_half = t0 r: the batch size at which half of r is reached."""
        return self.dispatch_s * self.rate

    def seconds(self, batch_size: float) -> float:
        """Return T(b), seconds a step."""
        return self.dispatch_s + batch_size / self.rate


def fit_step_time(batch_sizes: Sequence[int], seconds: Sequence[float], errors: Sequence[float]) -> StepTimeFit | None:
    """Fit by relative errors: a step of 50 us counts as much as one of 50 ms.

    The intervals are those of the linearised model, from the known errors or from the residuals, whichever are wider.

    Args:
        batch_sizes: at least three different ones.
        seconds: of a step, for each batch size.
        errors: standard error of the logarithm of each time; not finite where it is not known.

    Returns:
        None where there are fewer than three batch sizes with a time, or no line with a positive rate fits.

    Raises:
        ValueError: the three are not of one length.
    """
    points = [(b, s, e) for b, s, e in zip(batch_sizes, seconds, errors, strict=True) if _positive(b) and _positive(s)]
    if len({b for b, _, _ in points}) < FEWEST_BATCH_SIZES:
        return None
    b, measured, error = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    known = error[np.isfinite(error)]
    error = np.where(np.isfinite(error), error, known.max() if known.size else 0.0)
    error = np.maximum(error, LEAST_ERROR)

    # Both unknowns are scaled to about 1 for the optimizer.
    unit = np.array([measured.min(), np.median(measured / b)])
    design = np.stack([np.ones_like(b), b], axis=1) * unit

    def misfit(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        residual: npt.NDArray[np.float64] = (np.log(design @ x) - np.log(measured)) / error
        return residual

    def slope(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        jacobian: npt.NDArray[np.float64] = design / (design @ x)[:, None] / error[:, None]
        return jacobian

    found = optimize.least_squares(misfit, [0.5, 0.5], slope, bounds=(0.0, np.inf), xtol=1e-12, ftol=1e-12)
    arithmetic = design[:, 1] * found.x[1] / (design @ found.x)
    if not found.success or arithmetic.max() < LEAST_ERROR:
        return None
    half = _half_widths(slope(found.x), 2 * found.cost, len(points) - 2)
    (dispatch, per_image), (dispatch_half, per_image_half) = found.x * unit, half * unit
    fastest = per_image - per_image_half
    return StepTimeFit(
        float(dispatch),
        float(1 / per_image),
        (float(max(dispatch - dispatch_half, 0.0)), float(dispatch + dispatch_half)),
        (float(1 / (per_image + per_image_half)), float(1 / fastest) if fastest > 0 else math.inf),
        float(np.abs(measured / (design @ found.x) - 1).max()),
    )


def _half_widths(jacobian: npt.NDArray[np.float64], chi_squared: float, freedom: int) -> npt.NDArray[np.float64]:
    """Return half the width of the interval of each unknown.

    Known errors use the normal quantile; the error estimated from the residuals uses Student's.
    """
    variance = np.diag(np.linalg.inv(jacobian.T @ jacobian))
    tail = (1 + CONFIDENCE) / 2
    by_scatter = math.sqrt(chi_squared / freedom) * special.stdtrit(freedom, tail)
    half: npt.NDArray[np.float64] = np.sqrt(variance) * max(special.ndtri(tail), by_scatter)
    return half


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
