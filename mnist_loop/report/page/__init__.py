"""The report as one page of HTML that needs nothing else: no network, no script, no font, no picture beside it."""

from __future__ import annotations

from mnist_loop.report.page.html import to_html

__all__ = ["to_html"]
