"""Plots for people who look before they read: their titles say the finding. Matplotlib is loaded when one is drawn."""

from __future__ import annotations

from mnist_loop.report.plots.catalogue import figures, save
from mnist_loop.report.plots.plot import Plot

__all__ = ["Plot", "figures", "save"]
