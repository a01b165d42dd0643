"""Plots for people who look before they read: their titles say the finding. Matplotlib is loaded when one is drawn."""

from __future__ import annotations

from mnist_loop.report.plots.draw import Plot, figures, save

__all__ = ["Plot", "figures", "save"]
