"""What a report leaves in a file, so that a later one knows it and may take its place."""

from __future__ import annotations

import json

from mnist_loop.report.exports import is_export
from mnist_loop.report.tables.tidy import COLUMNS

SIGNATURE = "written by mnist-loop report"
SIGNED = {"markdown": f"\n<!-- {SIGNATURE} -->\n", "terminal": f"\n{SIGNATURE}\n"}  # formats that have no other mark
PAGE = '<p class="brand">mnist-loop report</p>'
TABLE = ",".join(COLUMNS[:9])  # later versions may add columns


def signed(text: str, kind: str) -> str:
    """Return the text of a report of some format as it is written to a file."""
    return text + SIGNED.get(kind, "")


def is_report(content: bytes) -> bool:
    """Tell whether a file with this content is a report, in any format."""
    text = content.decode(errors="replace")
    if text.endswith(tuple(SIGNED.values())) or text.startswith(TABLE) or PAGE in text:
        return True
    try:
        return is_export(json.loads(text))
    except (ValueError, RecursionError):
        return False
