"""A table as CSV: values to the last digit, not their text. Text that a spreadsheet would run has an apostrophe."""

from __future__ import annotations

import csv
import unicodedata
from io import StringIO

from mnist_loop.report.tables.table import Table, Value, number_of

FORMULA_STARTS = "=+-@|%"


def to_csv(table: Table) -> str:
    """Return the table with a line of headings; a value that is missing is empty."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.heading for column in table.columns])
    writer.writerows([[_field(value) for value in row] for row in table.rows])
    return text.getvalue()


def _field(value: Value) -> str | float:
    number = number_of(value)
    if number is not None:
        return number
    text = "" if value is None else str(value)
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])  # whatever width it is written in
    return f"'{text}" if first and first[0] in FORMULA_STARTS else text
