"""Options: what is in range is read as it stands, all else is refused in a sentence that says what was expected."""

import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.engines import options as engine_options
from mnist_loop.support import options

WHOLE = {
    options.positive_int: (1, 2**31 - 1),
    options.thread_count: (1, 1024),
    options.worker_count: (0, 1024),
    options.seed: (0, 2**64 - 1),
}
kinds = st.sampled_from(sorted(WHOLE, key=lambda kind: kind.__name__))


def refusal(kind, text):
    """Return the sentence with which ``kind`` refuses ``text``."""
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        kind(text)
    return str(refused.value)


@given(kind=kinds, data=st.data())
def test_whole_numbers_in_range_are_read(kind, data):
    """Each number of the range, its ends too, is read as itself."""
    first, last = WHOLE[kind]
    value = data.draw(st.integers(first, last) | st.sampled_from([first, last]))
    assert kind(str(value)) == value


@given(kind=kinds, data=st.data())
def test_whole_numbers_out_of_range_are_refused(kind, data):
    """The sentence names what was found and the bound that it is beyond."""
    first, last = WHOLE[kind]
    below = data.draw(st.integers(max_value=first - 1))
    above = data.draw(st.integers(min_value=last + 1, max_value=2**100))
    assert refusal(kind, str(below)) == f"'{below}' found, expected a whole number of at least {first}"
    assert refusal(kind, str(above)) == f"'{above}' found, expected a whole number of at most {last}"


@pytest.mark.parametrize("text", ["", "abc", "1.5", "1e3", "nan", "0x10", "--", "9" * 5000])
@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_what_is_no_whole_number_is_refused(kind, text):
    """A word, a fraction, nothing at all, more digits than Python reads."""
    assert "expected a whole number" in refusal(kind, text)


@given(value=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_positive_numbers_are_read(value):
    """Each finite number above 0 is read as itself."""
    assert options.positive_float(repr(value)) == value


@given(text=st.floats(max_value=0).map(repr) | st.sampled_from(["nan", "inf", "-inf", "", "abc", "1,5"]))
def test_other_numbers_are_refused(text):
    """0, what is below it, infinity, NaN and words."""
    assert refusal(options.positive_float, text) == f"'{text}' found, expected a number above 0"


@given(value=st.floats(0, 1))
def test_shares_are_read(value):
    """Each number from 0 to 1, both ends too, is read as itself."""
    assert options.fraction(repr(value)) == value


@given(value=st.floats().filter(lambda value: not 0 <= value <= 1))
def test_other_shares_are_refused(value):
    """What is below 0, above 1 or not a number."""
    text = repr(value)
    assert refusal(options.fraction, text).startswith(f"'{text}' found, expected a number from 0 to 1")


@pytest.mark.parametrize(("text", "meant"), [("92", "0.92"), ("92%", "0.92"), ("100", "1.0"), ("2", "0.02")])
def test_percent_is_told_as_a_share(text, meant):
    """Who writes percent reads what to write."""
    assert refusal(options.fraction, text).endswith(f"percent is {meant}")
    assert options.fraction(meant) == pytest.approx(float(text.rstrip("%")) / 100)


@given(sizes=st.lists(st.integers(1, 5000), min_size=1))
def test_batch_sizes_are_sorted_and_unique(sizes):
    """Commas part them; whatever their order, they come in rising order and each once."""
    read = options.batch_sizes(",".join(map(str, sizes)))
    assert read == sorted(set(sizes))


@pytest.mark.parametrize("text", ["", "1,", ",1", "1,,2", "1;2", "0,1", "1,-2", "x"])
def test_broken_batch_sizes_are_refused(text):
    """Each part must be a whole number of at least 1."""
    assert "expected a whole number of at least 1" in refusal(options.batch_sizes, text)


def test_engines_are_those_of_one_process():
    """Each once, in the order in which they were named."""
    assert engine_options.engines("compiled,resident,compiled") == ["compiled", "resident"]
    for text in ("", "warp", "distributed", "resident,"):
        assert "expected reference, resident, handwritten, native, compiled" in refusal(engine_options.engines, text)


def test_a_seed_is_one_that_torch_takes():
    """The bound is torch's own."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    generator.manual_seed(options.LAST_SEED)
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        generator.manual_seed(options.LAST_SEED + 1)
    assert math.log2(options.LAST_SEED + 1) == 64
