"""A value in a stored document: its type and bounds are checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.report.reading.text import clean

# Bounds of a measured quantity in seconds, images, FLOP/s or bytes/s: products of a few neither overflow nor underflow.
SMALLEST, LARGEST = 1e-15, 1e24
MOST_IMAGES = 10**12  # in a batch or a block
MOST_ENTRIES = 100_000  # of a list; the rounds of a benchmark are 40


class InvalidResult(UserError):
    """A file holds no result that can be read; the message does not name the file."""


@dataclass(frozen=True)
class Node:
    """A value in a document.

    Attributes:
        value: None where it is missing.
        where: its path, for messages: "benchmarks[3].extra_info".
    """

    value: Any
    where: str = ""

    def __getitem__(self, key: str) -> Node:
        """Return the node under ``key``; its value is None where it is missing.

        Raises:
            InvalidResult: this is no object.
        """
        if not isinstance(self.value, dict):
            raise self.misfit("an object with names")
        return Node(self.value.get(key), f"{self.where}.{key}" if self.where else key)

    def __iter__(self) -> Iterator[Node]:
        """Yield the entries of a list.

        Raises:
            InvalidResult: this is no list, or too long.
        """
        if not isinstance(self.value, list):
            raise self.misfit("a list")
        if len(self.value) > MOST_ENTRIES:
            raise InvalidResult(f"{self.where} has {len(self.value)} entries, expected at most {MOST_ENTRIES}")
        return (Node(entry, f"{self.where}[{index}]") for index, entry in enumerate(self.value))

    @property
    def missing(self) -> bool:
        """Whether there is no value."""
        return self.value is None

    def misfit(self, expected: str) -> InvalidResult:
        """Return the error that names the value and what was expected."""
        found = "missing" if self.missing else f"{_shown(self.value)}"
        return InvalidResult(f"{self.where or 'the document'} is {found}, expected {expected}")

    def positive(self) -> float:
        """Return a quantity: a finite number above zero."""
        number = self._number("a positive number")
        if not SMALLEST <= number <= LARGEST:
            raise self.misfit(f"a positive number from {SMALLEST:g} to {LARGEST:g}")
        return number

    def positives(self, key: str) -> list[float]:
        """Return the quantities under ``key`` of all entries of a list; faster than `positive` for each."""
        entries = list(self)
        found: list[Any] = [entry.value.get(key) if type(entry.value) is dict else None for entry in entries]
        if all(type(number) is float and SMALLEST <= number <= LARGEST for number in found):
            return found
        return [entry[key].positive() for entry in entries]

    def positive_or_none(self) -> float | None:
        """Return a quantity, or None where it is missing or 0: a time too short for the clock."""
        zero = self.value == 0 and not isinstance(self.value, bool)
        return None if self.missing or zero else self.positive()

    def not_negative(self) -> float:
        """Return a finite number of at least 0."""
        number = self._number("a number not below 0")
        if not 0.0 <= number <= LARGEST:
            raise self.misfit(f"a number from 0 to {LARGEST:g}")
        return number

    def between(self, low: float, high: float) -> float:
        """Return a number strictly between two others."""
        number = self._number(f"a number between {low:g} and {high:g}")
        if not low < number < high:
            raise self.misfit(f"a number between {low:g} and {high:g}")
        return number

    def count(self, least: int = 1, most: int = MOST_IMAGES) -> int:
        """Return a whole number within bounds."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not least <= self.value <= most:
            raise self.misfit(f"a whole number from {least} to {most}")
        return self.value

    def flag(self) -> bool:
        """Return a Boolean; a missing one is false."""
        if not self.missing and not isinstance(self.value, bool):
            raise self.misfit("true or false")
        return bool(self.value)

    def text(self) -> str:
        """Return a text that is not empty, without unprintable characters."""
        text = clean(self.value) if isinstance(self.value, str) else ""
        if not text:
            raise self.misfit("a text")
        return text

    def text_or_none(self) -> str | None:
        """Return a text, or None where there is none."""
        return (clean(self.value) or None) if isinstance(self.value, str) else None

    def count_or_none(self) -> int | None:
        """Return a whole number above zero, or None where it is missing."""
        return None if self.missing else self.count()

    def moment(self) -> str:
        """Return a time in ISO 8601; one without a time zone, as pytest-benchmark writes it, is in UTC."""
        text = self.value if isinstance(self.value, str) else ""
        try:
            # Python 3.10 does not read the Z yet.
            moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        except ValueError:
            raise self.misfit("a time as in 2026-11-23T08:44:15+00:00") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).isoformat()

    def _number(self, expected: str) -> float:
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.misfit(expected)
        try:
            return float(self.value)
        except OverflowError:
            raise self.misfit(expected) from None


def _shown(value: Any) -> str:
    """Describe a value in a few characters."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a number of {value.bit_length()} bits"
    return clean(repr(value[:100] if isinstance(value, str) else value), 40)
