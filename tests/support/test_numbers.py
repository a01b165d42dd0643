"""Numbers as text: three digits and a unit, a value that can be read back, and none that breaks."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.support import numbers
from mnist_loop.support.numbers import Interval, Quantity, Unit


@pytest.mark.parametrize(
    ("write", "texts"),
    [
        (numbers.short, {0.5: "0.5", 987.0: "987", 999.4: "999", 999.6: "1k", 12_345.0: "12.3k", 7.891e6: "7.89M"}),
        (numbers.seconds, {1234.0: "1234 s", 12.34: "12.3 s", 0.99999: "1 s", 4.5e-3: "4.5 ms", 2e-6: "2 µs"}),
        (numbers.seconds, {7.89e-7: "789 ns", 1e-27: "0 s", -2e-6: "-2 µs"}),
        (numbers.share, {9e-5: "0.01%", 0.0056: "0.56%", 0.034: "3.4%", 0.126: "13%", 0.996: "100%", 2.5: "250%"}),
        (numbers.share, {100.0: "more than 10000%", math.inf: "more than 10000%"}),
        (numbers.given_share, {0.01: "1%", 0.025: "2.5%", 0.9969: "99.69%", 0.125: "12.5%"}),
        (
            numbers.change,
            {1.031: "+3.1%", 1.03: "+3.0%", 0.8: "-20%", 0.9998: "-0.02%", 2.31: "2.31 times", 0.25: "0.25 times"},
        ),
        (numbers.ratio, {1.0534: "1.053", 30.21: "30.2"}),
    ],
)
def test_numbers_have_few_digits_and_a_unit(write, texts):
    """One table of values and their texts."""
    for value, text in texts.items():
        assert write(value) == text, value


@given(value=st.floats(1e-30, 9e14))
def test_a_rate_can_be_read_back(value):
    """Within 1% of it, whatever its size."""
    digits, prefix = re.fullmatch(r"([0-9.e+-]+?)([kMGT]?)", numbers.short(value)).groups()
    assert float(digits) * 1000 ** numbers.PREFIXES.index(prefix) == pytest.approx(value, rel=0.01)


@given(value=st.floats(allow_nan=True, allow_infinity=True), unit=st.sampled_from(Unit))
def test_no_number_breaks_the_text(value, unit):
    """In every unit, alone and with an interval."""
    assert str(Quantity(value, unit, (value, value))).endswith(f"{Interval(value, value, unit)}")


def test_a_quantity_is_written_with_what_is_known_of_its_scatter():
    """Nothing, an interval, or the interquartile range."""
    assert str(Quantity(12_345.0, Unit.RATE)) == "12.3k"
    assert str(Quantity(1.05, Unit.RATIO, (1.04, 1.06))) == "1.050 [1.040, 1.060]"
    assert str(Quantity(12_345.0, Unit.RATE, spread=0.042)) == "12.3k [4%]"
    assert str(Quantity(150e9, Unit.FLOP_PER_SECOND)) == "150 GFLOP/s"
