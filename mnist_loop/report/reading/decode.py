"""Decodes JSON, and refuses in one sentence what is not valid or not unambiguous."""

from __future__ import annotations

import json
import re
from typing import Any

from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.text import clean

HALF_A_VALUE = re.compile(r"[\w.+-]{0,30}")  # as "tru" or what is left of "0.5"


def decode(content: bytes) -> Any:
    """Return the decoded content.

    NaN and Infinity, which JSON lacks, are decoded; `Node` refuses them where a number is needed.

    Raises:
        InvalidResult: it is not UTF-8, not JSON, cut short, nested too deeply, or names one thing twice.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidResult("not a text in UTF-8: expected a result that mnist-loop stored") from None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InvalidResult("empty: expected a result that mnist-loop stored") from None
        if error.msg.startswith("Unterminated") or (error.pos and HALF_A_VALUE.fullmatch(text[error.pos :].rstrip())):
            raise InvalidResult("cut short: it ends in the middle of a value; measure again, or copy it anew") from None
        raise InvalidResult(
            f"not JSON ({error.msg}, line {error.lineno}): expected a result that mnist-loop stored"
        ) from None
    except RecursionError:
        raise InvalidResult("nested too deeply: expected a result that mnist-loop stored") from None
    except ValueError:  # a number of thousands of digits, which Python does not read
        raise InvalidResult("has a number with thousands of digits: expected a result that mnist-loop stored") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidResult(f"says twice, in one object, what {clean(twice, 40)!r} is: which one is meant is not known")
    return content
