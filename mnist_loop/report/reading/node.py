"""A place in a stored document: what is there, with its type and bounds checked, or a sentence about what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.report.reading.text import clean

# What a measured quantity, in seconds, images, FLOP/s or bytes/s, can be. Quotients and products of a few of them
# are far from the ends of a float.
SMALLEST, LARGEST = 1e-15, 1e24
MOST_IMAGES = 10**12  # in a batch or a block
MOST_ENTRIES = 100_000  # of a list; the longest of ours, the rounds of a benchmark, has 40


class InvalidResult(UserError):
    """What is stored is not a result, or not one that can be read; the message does not name the file."""


@dataclass(frozen=True)
class Node:
    """A value in a document.

    Attributes:
        value: None where there is nothing.
        where: the way to it, for people: "benchmarks[3].extra_info".
    """

    value: Any
    where: str = ""

    def __getitem__(self, key: str) -> Node:
        """Return what is stored under ``key``; a node without value where nothing is.

        Raises:
            Misfit: this is no object.
        """
        if not isinstance(self.value, dict):
            raise self.misfit("an object with names")
        return Node(self.value.get(key), f"{self.where}.{key}" if self.where else key)

    def __iter__(self) -> Iterator[Node]:
        """Yield the entries of a list.

        Raises:
            Misfit: this is no list, or a longer one than any of ours.
        """
        if not isinstance(self.value, list):
            raise self.misfit("a list")
        if len(self.value) > MOST_ENTRIES:
            raise InvalidResult(f"{self.where} has {len(self.value)} entries, expected at most {MOST_ENTRIES}")
        return (Node(entry, f"{self.where}[{index}]") for index, entry in enumerate(self.value))

    @property
    def missing(self) -> bool:
        """Whether nothing is there."""
        return self.value is None

    def misfit(self, expected: str) -> InvalidResult:
        """Return the error that says what is here and what was expected."""
        found = "missing" if self.missing else f"{_shown(self.value)}"
        return InvalidResult(f"{self.where or 'the document'} is {found}, expected {expected}")

    def positive(self) -> float:
        """Return a quantity: a finite number above zero."""
        number = self._number("a positive number")
        if not SMALLEST <= number <= LARGEST:
            raise self.misfit(f"a positive number from {SMALLEST:g} to {LARGEST:g}")
        return number

    def positives(self, key: str) -> list[float]:
        """Return the quantities that the entries of a list have under ``key``: as `positive`, but quick."""
        entries = list(self)
        found: list[Any] = [entry.value.get(key) if type(entry.value) is dict else None for entry in entries]
        if all(type(number) is float and SMALLEST <= number <= LARGEST for number in found):
            return found
        return [entry[key].positive() for entry in entries]

    def positive_or_none(self) -> float | None:
        """Return a quantity, or None where it was not measured: a time too short for the clock is 0."""
        zero = self.value == 0 and not isinstance(self.value, bool)
        return None if self.missing or zero else self.positive()

    def not_negative(self) -> float:
        """Return a finite number that may be zero: a moment, say."""
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
        """Return true or false; what is not said is false."""
        if not self.missing and not isinstance(self.value, bool):
            raise self.misfit("true or false")
        return bool(self.value)

    def text(self) -> str:
        """Return a text that is not empty, made harmless."""
        text = clean(self.value) if isinstance(self.value, str) else ""
        if not text:
            raise self.misfit("a text")
        return text

    def text_or_none(self) -> str | None:
        """Return a text, None where there is none that can be shown."""
        return (clean(self.value) or None) if isinstance(self.value, str) else None

    def count_or_none(self) -> int | None:
        """Return a whole number above zero, or None where there is nothing."""
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
    """Name a value of unknown size in a few characters."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a number of {value.bit_length()} bits"
    return clean(repr(value[:100] if isinstance(value, str) else value), 40)
