"""A comparison at work, with workers whose times are known: what is stored, when it stops, and what it refuses."""

import contextlib
import random
from collections import Counter

import pytest

from mnist_loop.compare import comparison as comparison_module
from mnist_loop.compare.arms import Arm
from mnist_loop.compare.comparison import (
    BUDGET,
    CERTAIN,
    FULL,
    LAST_GENERATION,
    MOST_STEPS,
    Comparison,
    LossesDiffer,
    spent,
)
from mnist_loop.compare.journal import Journal, blocks, read_journal, unused
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.request import continued_request
from mnist_loop.errors import UserError
from mnist_loop.statistics.pairing import rounds
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.wire import WorkerLost

TOLERANCE = 1e-6
START_S = 0.02  # seconds that a restart takes


class Clock:
    """Time that passes when a worker works, and not else."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


class FakeWorker:
    """A worker whose step takes a known time, give or take ``noise``, and twice as long in its first blocks."""

    def __init__(self, crew, arm):
        self.crew, self.arm, self.cold, self.steps = crew, arm, 3, 0

    def ask(self, do, **details):
        crew = self.crew
        crew.asked[do] += 1
        if do == "losses":
            return {
                "losses": [crew.loss[self.arm] / step for step in range(1, 11)],
                "tolerance": TOLERANCE,
                "tolerance_of_many": TOLERANCE,
            }
        if do == "expected":
            return {"expected": 1.0}
        if do == "ruler":
            return {"gemm": 1e11, "copy": 1e10, "dispatch": 1e-6}
        if do == "begin":
            self.steps = details["steps"]
            self.left = details["most"] - details["lead_in"]
            return {"ready": True}
        if do == "end":
            return {"found": crew.found}
        assert do == "go"
        self.left -= self.steps
        assert self.left >= 0, "more steps than there are to be"
        if crew.ends_at is not None and crew.asked["go"] > crew.ends_at:
            raise crew.error
        seconds = crew.step_s(self.arm) * self.steps * crew.random.lognormvariate(0, crew.noise)
        seconds *= 2 if self.cold > 0 else 1
        self.cold -= 1
        crew.clock.now += 1.1 * seconds
        return {"seconds": 1.1 * seconds, "undisturbed": seconds}


class FakeCrew:
    """The crew of `FakeWorker`s: what each of the arms takes for a step is given."""

    def __init__(self, clock, plan, *ratios, noise=0.002, apart=False):
        self.clock, self.plan, self.ratios, self.noise, self.apart = clock, plan, (1.0, *ratios, 1.0), noise, apart
        self.random, self.asked = random.Random(0), Counter()  # noqa: S311  # no secret
        self.loss, self.found = [2.3] * len(self.ratios), 1.0
        self.workers, self.orders, self.restarts = [], [], 0
        self.served, self.bias_sd, self.bias = [[]], 0.0, [1.0] * len(self.ratios)
        self.ends_at, self.error, self.most_steps, self.at_once = None, None, 4096, 1
        self.arms = [Arm(f"arm {index}", control=index == len(self.ratios) - 1) for index in range(len(self.ratios))]

    def step_s(self, arm):
        return 1e-3 * self.ratios[arm] * self.bias[arm]

    def settings(self, arm, batch_size):
        return {"batch_size": batch_size, **arm.settings}

    def generation(self, batch_size, order):
        self.orders.append(list(order))
        self.served[-1].append(batch_size)
        self.clock.now += START_S
        self.workers = [FakeWorker(self, arm) for arm in range(len(self.ratios))]
        at_once = [1] * (len(self.workers) - 1) + [self.at_once]
        return [{"first_step_s": 0.5, "most_steps": self.most_steps, "at_once": one} for one in at_once]

    def restart(self):
        self.restarts += 1
        self.served.append([])
        self.bias = [self.random.lognormvariate(0, self.bias_sd) for _ in self.ratios]
        self.clock.now += 20.0

    def dismiss(self):
        self.workers = []


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(comparison_module, "time", clock)
    return clock


@pytest.fixture
def compare(clock, tmp_path):
    """Make a comparison of arms that take these multiples of the first one's time."""
    journals = []

    def make(*ratios, path=tmp_path / "run.jsonl", found=(), already=0.0, noise=0.002, apart=False, **plan):
        plan = Plan(device="cpu", **plan)
        crew = FakeCrew(clock, plan, *ratios, noise=noise, apart=apart)
        head = {"plan": plan.as_stored(), "arms": [arm.label for arm in crew.arms]}
        for earlier in journals:  # a file has one writer at a time
            earlier.close()
        journal = Journal(path, None if path.exists() else head)
        journals.append(journal)
        return Comparison(crew.arms, plan, crew, journal, lambda *_: None, list(found), already)

    yield make
    for journal in journals:
        with contextlib.suppress(OSError):  # of the full disk
            journal.close()


def events(run):
    return read_journal(run.journal.path)[1]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.0, SpeedVerdict.SAME), (1.05, SpeedVerdict.SLOWER), (0.95, SpeedVerdict.FASTER), (1.004, SpeedVerdict.SAME)],
)
def test_the_verdict_is_that_of_the_times(compare, ratio, verdict):
    """It stops as soon as it is certain, long before the budget is spent."""
    run = compare(ratio)
    assert run.run() == CERTAIN
    (judged,) = run.judge()
    assert judged.verdict is verdict
    assert judged.ratio.low < ratio < judged.ratio.high
    assert run.spent < run.plan.budget_s / 2


def test_what_lies_at_the_margin_is_inconclusive(compare):
    """A difference of just the margin stays undecided; the budget is spent, and not much more than that."""
    run = compare(1.01, budget_s=20.0)
    assert run.run() == BUDGET
    assert run.judge()[0].verdict is SpeedVerdict.INCONCLUSIVE
    assert 0.8 * 20 < run.spent <= 20


def test_a_red_is_confirmed_by_a_second_run(compare):
    """Whose generations all come after those of the first."""
    run = compare(1.1)
    run.run()
    assert {block.run for block in run.blocks} == {1, 2}
    assert run.spent < 60
    assert max(block.generation for block in run.blocks if block.run == 1) < min(
        block.generation for block in run.blocks if block.run == 2
    )


def test_between_environments_each_generation_has_processes_of_its_own(compare):
    """No two of one batch size have the same, whose start no budget pays for; a sweep shares them among its cells."""
    run = compare(1.0, 1.05, batch_sizes=(16, 64, 256), budget_s=240.0, apart=True, ruler=False)
    before = run.crew.clock.now
    run.run()
    later = run.crew.served[1:]
    assert len(later) == run.crew.restarts >= 9
    assert all(len(set(sizes)) == len(sizes) for sizes in later)
    assert {16, 64, 256} == set(later[0])
    assert run.crew.clock.now - before > run.spent + 20.0 * run.crew.restarts


def test_settings_of_one_environment_are_forked_from_one_process(compare):
    """What that process has for life all its arms have, in the run that confirms as well."""
    run = compare(1.1)
    run.run()
    assert {block.run for block in run.blocks} == {1, 2}
    assert run.crew.restarts == 0


@pytest.mark.parametrize("seed", range(12))
def test_what_processes_differ_by_for_life_is_no_finding(compare, seed):
    """Identical code, in processes that differ by 1 % as long as they live, where 0.5 % would be one."""
    run = compare(1.0, margin=0.005, apart=True)
    run.crew.random.seed(seed)
    run.crew.bias_sd = 0.01
    run.crew.restart()
    run.run()
    (judged,) = run.judge()
    assert judged.verdict not in {SpeedVerdict.SLOWER, SpeedVerdict.FASTER}
    assert judged.ratio.low < 1 < judged.ratio.high


def test_a_red_that_does_not_come_again_is_not_called(compare, monkeypatch):
    """What was slow in the first run and is not in the second is no finding."""
    run = compare(1.1, budget_s=20.0)
    start = run.crew.generation

    def generation(*asked):
        if any(block.generation for block in run.blocks) and run.judge()[0].unconfirmed:
            run.crew.ratios = (1.0, 1.0, 1.0)
        return start(*asked)

    monkeypatch.setattr(run.crew, "generation", generation)
    assert run.run() == BUDGET
    (judged,) = run.judge()
    assert judged.verdict is SpeedVerdict.INCONCLUSIVE
    assert "not confirmed" in judged.reason


def test_a_sweep_judges_each_batch_size(compare):
    """Only what is undecided is measured on, and only what is red a second time."""
    run = compare(1.0, 1.05, batch_sizes=(16, 64), budget_s=120.0)
    assert run.run() == CERTAIN
    verdicts = {(one.batch_size, one.arm): one.verdict for one in run.judge()}
    assert verdicts == {
        (size, arm): (SpeedVerdict.SAME, SpeedVerdict.SLOWER)[arm - 1] for size in (16, 64) for arm in (1, 2)
    }
    assert {block.batch_size for block in run.blocks} == {16, 64}


def test_rounds_are_palindromes_in_random_order(compare):
    """Each arm appears twice, forwards and backwards; each order comes about as often as any other."""
    run = compare(1.01, budget_s=30.0)
    run.run()
    orders = Counter()
    for start in range(0, len(run.blocks), 6):
        arms = [block.arm for block in run.blocks[start : start + 6]]
        assert arms == arms[::-1]
        assert sorted(arms[:3]) == [0, 1, 2]
        orders[tuple(arms[:3])] += 1
    assert len(orders) == 6
    assert max(orders.values()) < 3 * min(orders.values())


def test_a_block_takes_as_long_as_it_should(compare):
    """About 5 ms, in the same steps in all arms that are about as fast, and in steps of its own in one that is not."""
    run = compare(1.02, 4.0)
    run.crew.step_s = lambda arm: 1e-4 * (1.0, 1.02, 4.0, 1.0)[arm]
    run.run()
    measured = [event for event in events(run) if event["event"] == "block"]
    steps = [{event["steps"] for event in measured if event["arm"] == arm} for arm in range(4)]
    assert all(len(of_arm) == 1 for of_arm in steps)
    (first,), (second,), (slow,), (control,) = steps
    assert 40 <= first <= 55
    assert 10 <= slow <= 14
    assert control == first
    assert abs(second - first) <= 2


def test_a_training_starts_anew_before_its_rounding_grows(compare):
    """However fast the steps are; a generation has as many trainings as fit into it."""
    run = compare(1.0)
    run.crew.step_s = lambda arm: 1e-5
    run.run()
    (cell,) = run.cells.values()
    assert cell.most(0) <= MOST_STEPS
    assert cell.trainings >= 1
    assert run.crew.asked["begin"] > run.crew.asked["end"] / 2 > 10


def test_generations_are_as_long_as_the_budget_allows(clock):
    """About 50 forks to a budget, or 10 new processes; between 0.2 or 0.5 and 3 seconds each; more in a sweep."""
    assert [Plan(budget_s=budget).generation_s(apart=False) for budget in (1, 10, 60, 600)] == [0.2, 0.2, 1.2, 3.0]
    assert [Plan(budget_s=budget).generation_s(apart=True) for budget in (1, 10, 60, 600)] == [0.5, 1.0, 3.0, 3.0]
    sweep = Plan(budget_s=60, batch_sizes=(16, 64, 256, 1024))
    assert (sweep.generation_s(apart=False), sweep.generation_s(apart=True)) == (1.2, 1.5)


def test_an_epoch_of_one_batch_cannot_take_turns(compare):
    """One sentence says so."""
    run = compare(1.0)
    run.crew.most_steps = 1
    with pytest.raises(UserError, match=r"^batch size 64: an epoch has one batch, expected two or more"):
        run.run()


@pytest.mark.parametrize("most", [2, 3, 5, 17])
def test_an_epoch_of_few_batches_is_enough(compare, most):
    """Blocks, rounds and lead-in are as many as fit into it."""
    run = compare(1.05)
    run.crew.most_steps = most
    assert run.run() == CERTAIN
    assert all(run.cells[64].most(arm) <= most for arm in range(3))


def test_blocks_hold_the_steps_that_an_engine_makes_at_once(compare):
    """A block of each arm has a multiple of them, after a lead-in of one step and one call."""
    run = compare(1.05)
    run.crew.at_once = 8
    assert run.run() == CERTAIN
    cell = run.cells[64]
    assert cell.lead_in == 9
    assert all(steps % 8 == 0 for steps in cell.steps)
    few = compare(1.05)
    few.crew.at_once, few.crew.most_steps = 8, 24
    with pytest.raises(UserError, match=r"^batch size 64: 24 steps are too few for an engine that makes 8 at once"):
        few.run()


def test_arms_that_compute_something_else_are_never_timed(compare):
    """The message names the arm, the step, and by how much; no block is measured."""
    run = compare(1.0)
    run.crew.loss[1] *= 1 + 5 * TOLERANCE
    with pytest.raises(LossesDiffer, match=r"^arm 1 does not compute what arm 0 does: after 1 steps the mean loss is"):
        run.run()
    assert run.blocks == []
    assert run.crew.asked["go"] == 0


def test_arms_may_differ_by_rounding(compare):
    """Each by its own tolerance."""
    run = compare(1.0)
    run.crew.loss[1] *= 1 + 1.9 * TOLERANCE
    assert run.run() == CERTAIN


def test_arms_with_a_batch_size_of_their_own_are_held_to_float64_alone(compare):
    """Their losses cannot agree, and their times are compared by image."""
    run = compare(1.0)
    run.arms = [run.arms[0], Arm("larger", settings={"batch_size": 128}), run.arms[2]]
    run.crew.loss[1] = 1.0
    run.crew.step_s = lambda arm: (1e-3, 2e-3, 1e-3)[arm]
    run.run()
    assert run.judge()[0].verdict is SpeedVerdict.SAME


def test_a_training_that_computes_something_else_does_not_count(compare):
    """However late it comes."""
    run = compare(1.0)
    run.crew.found = 1.0 + 3 * TOLERANCE
    with pytest.raises(LossesDiffer, match=r"computed 1\.000003, but should have computed 1\.0 to within 1\.0e-06"):
        run.run()
    assert run.blocks == []


@pytest.mark.parametrize("error", [WorkerLost("arm 1: its process ended"), KeyboardInterrupt()])
def test_what_was_measured_is_kept_and_gone_on_with(compare, error):
    """After a lost worker or Ctrl-C: the file has every block, and the next run adds to them, within the budget."""
    run = compare(1.01, budget_s=30.0)
    run.crew.ends_at, run.crew.error = 2000, error
    with pytest.raises(type(error)):
        run.run()
    kept = blocks(events(run))
    assert kept == run.blocks
    assert 500 < len(kept) < 2000
    assert len(kept) % 6 == 0

    again = compare(1.01, budget_s=30.0, found=kept, already=spent(events(run)))
    assert again.run() == BUDGET
    assert again.blocks[: len(kept)] == kept
    assert blocks(events(again)) == again.blocks
    assert again.spent <= 30
    generations = [block.generation for block in again.blocks]
    assert max(generations[: len(kept)]) < min(generations[len(kept) :])
    assert len(rounds(again.blocks, 3)) >= len(again.blocks) // 6 - 1
    starts = [block.start for block in again.blocks]
    assert starts == sorted(starts)


@pytest.mark.parametrize(("limit", "most"), [("MOST_RESTARTS", 20), ("LARGEST_FILE", LAST_GENERATION + 900_000)])
def test_a_file_that_can_hold_no_more_ends_the_run(compare, monkeypatch, limit, most):
    """It says so; every verdict is one from what is there, and the file is not gone on with."""
    monkeypatch.setattr(comparison_module, limit, most)
    run = compare(1.01, budget_s=600.0)
    assert run.run() == FULL
    assert 5 < len({block.generation for block in run.blocks}) <= 20
    run.journal.end(FULL, run.spent)
    assert [one.verdict for one in run.judged] == [SpeedVerdict.INCONCLUSIVE]
    lines = run.journal.path.read_bytes()
    with pytest.raises(UserError, match="holds as much as a comparison may; start a new one"):
        continued_request(run.journal.path)
    assert run.journal.path.read_bytes() == lines


def test_the_warm_up_has_a_line_that_can_be_read(compare, monkeypatch):
    """Where nothing becomes steady, it ends all the same."""
    monkeypatch.setattr(comparison_module, "steady_from", lambda _: None)
    monkeypatch.setattr(comparison_module, "MOST_WARM_UP_BLOCKS", 80)
    run = compare(1.0, budget_s=600.0)
    run.run()
    assert [len(event["blocks"]) for event in events(run) if event["event"] == "warm-up"] == [80] * 3


def test_a_full_disk_is_one_sentence(compare):
    """What was written before is kept."""
    run = compare(1.0)
    run.journal.file.close()
    run.journal.file = open("/dev/full", "w")  # noqa: PTH123, SIM115  # the journal closes it
    with pytest.raises(UserError, match=r"\(No space left on device\); what was measured before is kept"):
        run.run()


def test_no_file_is_overwritten(tmp_path):
    """Names hold the time, and a number where that is taken; a named file must be new."""
    first = unused(tmp_path, "compare_x")
    first.write_text("old")
    assert unused(tmp_path, "compare_x") != first
    with pytest.raises(UserError, match="is there already, expected the name of a new file"):
        Journal(first, {})
