"""The model of data-parallel training: its terms, its fit, and the processes that it is fitted to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling.cost import NETWORKS, Network, StepCost
from benchmarks.scaling.tables import fitted, scaling_markdown

COST = StepCost(dispatch=2e-4, rate=2e5, size=4e5)
NETWORK = Network("made up", latency=5e-5, bandwidth=1e9)
ASKED = {"shares": [32, 256, 1024], "waits": [0.0, 0.05], "sizes": [4, 2**16, 2**22], "steps": [2], "rounds": [1]}
ROUNDING = 1e-9  # of some sums of float64, and of the optimizer that fits


def made_up(off=1.0):
    """Return a result that the model computes; steps of two workers take ``off`` times as long."""
    times = {f"1 {share} 0.0": COST.seconds(share, 1, NETWORK) for share in ASKED["shares"]}
    for share in ASKED["shares"]:
        for wait in ASKED["waits"]:
            times[f"2 {share} {wait}"] = off * COST.seconds(2 * share, 2, NETWORK, wait)
    times |= {f"all-reduce {size}": NETWORK.exchange(2, size) for size in ASKED["sizes"]}
    seconds = {arm: [[second] * 2] for arm, second in times.items()}
    facts = {"machine": "made-up", "torch": "2.15.0", "gradient_bytes": COST.size}
    return {**facts, "asked": ASKED, "seconds": seconds}


@given(workers=st.integers(2, 40), size=st.integers(1, 10**7))
def test_an_exchange_is_that_of_a_ring(workers, size):
    """Each worker gets a part from its neighbour, adds it, and passes it on, until all have all sums."""
    have = [[{worker} for _ in range(workers)] for worker in range(workers)]
    seconds = 0.0
    for message in range(2 * workers):
        if all(len(of) == workers for parts in have for of in parts):
            break
        sent = [(worker, (worker - message) % workers) for worker in range(workers)]
        got = [((worker + 1) % workers, part, have[worker][part]) for worker, part in sent]
        for to, part, of in got:
            have[to][part] = have[to][part] | of
        seconds += NETWORK.latency + size / workers / NETWORK.bandwidth
    assert NETWORK.exchange(workers, size) == pytest.approx(seconds, rel=ROUNDING)


def test_the_model_is_found_again_in_what_it_computes():
    """All four of its numbers."""
    found = fitted(made_up())
    numbers = found.cost.dispatch, found.cost.rate, found.loopback.latency, found.loopback.bandwidth
    assert numbers == pytest.approx((COST.dispatch, COST.rate, NETWORK.latency, NETWORK.bandwidth), rel=1e-6)


@pytest.mark.parametrize(("off", "said"), [(1.0, "+0%"), (1.25, "-20%"), (0.8, "+25%")])
def test_the_table_says_by_how_much_the_model_is_off(off, said):
    """In steps of two workers, which do not change the fit."""
    rows = scaling_markdown(made_up(off)).split("\n\n")[1].splitlines()[2:]
    assert len(rows) == 6
    assert all(f"| {said} |" in row for row in rows)
    assert fitted(made_up(off)) == fitted(made_up())


@given(workers=st.integers(2, 1024), efficiency=st.floats(0.1, 0.99), network=st.sampled_from(NETWORKS))
def test_the_images_for_an_efficiency_reach_it(workers, efficiency, network):
    """They are none where the dispatch alone is so much longer than the exchange."""
    share = COST.share_for(efficiency, workers, network)
    reached = COST.efficiency(share, workers, network)
    assert reached == pytest.approx(efficiency, rel=ROUNDING) if share else reached >= efficiency - ROUNDING


@pytest.mark.slow
def test_two_processes_are_measured():
    """Their parameters are compared with one process's; no step with a wait takes less than the wait."""
    seconds = scaling.measured(ASKED)["seconds"]
    assert set(seconds) == set(made_up()["seconds"])
    assert all(second >= 0.05 for share in ASKED["shares"] for second in seconds[f"2 {share} 0.05"][0])


def test_a_stored_result_is_shown(tmp_path, capsys):
    """Or one sentence says that it is none: here steps of one worker all take the same time."""
    file = tmp_path / "found.json"
    file.write_text(json.dumps(made_up()))
    assert scaling.main(["--show", str(file)]) == 0
    assert capsys.readouterr().out == scaling_markdown(made_up())
    odd = made_up()
    odd["seconds"] |= {f"1 {share} 0.0": [[1 / share]] for share in ASKED["shares"]}
    file.write_text(json.dumps(odd))
    assert scaling.main(["--show", str(file)]) == 2
    assert "steps of one worker take no longer with more images; measure again" in capsys.readouterr().err
