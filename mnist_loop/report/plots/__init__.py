"""Plots whose titles state the finding. Matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from mnist_loop.report.plots.catalogue import figures, save
from mnist_loop.report.plots.plot import Plot

__all__ = ["Plot", "figures", "save"]
