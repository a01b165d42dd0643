"""The report as one self-contained HTML file: it loads nothing."""

from __future__ import annotations

from mnist_loop.report.page.html import to_html

__all__ = ["to_html"]
