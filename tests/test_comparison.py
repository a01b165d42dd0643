"""A comparison at work, with workers whose times are known: what is stored, when it stops, and what it refuses."""

import contextlib
import json
import random
from collections import Counter

import pytest

from mnist_loop.errors import UserError
from mnist_loop.measure.paired import comparison as comparison_module
from mnist_loop.measure.paired.arms import Arm
from mnist_loop.measure.paired.comparison import BUDGET, CERTAIN, Comparison, LossesDiffer, spent
from mnist_loop.measure.paired.journal import Journal, blocks, stored, unused
from mnist_loop.measure.paired.plan import LOOKS, Plan
from mnist_loop.measure.paired.processes import WorkerLost
from mnist_loop.statistics.pairing import rounds
from mnist_loop.statistics.verdict import Verdict

TOLERANCE = 1e-6
MOST_STEPS = 4096
START_S = 0.02  # seconds that a restart takes


class Clock:
    """Time that passes when a worker works, and not else."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now


class FakeWorker:
    """A worker whose step takes ``step_s`` seconds, give or take ``noise``, twice as long while it is cold."""

    def __init__(self, crew, arm):
        self.crew, self.arm, self.cold = crew, arm, 3

    def ask(self, do, **details):
        crew = self.crew
        crew.asked[do] += 1
        if do == "losses":
            return {"losses": [crew.loss[self.arm] / step for step in range(1, 11)], "tolerance": TOLERANCE}
        if do == "expected":
            return {"expected": 1.0}
        if do == "ruler":
            return {"gemm": 1e11, "copy": 1e10, "dispatch": 1e-6}
        assert do == "block"
        if crew.ends_at is not None and crew.asked["block"] > crew.ends_at:
            raise crew.error
        seconds = crew.step_s(self.arm) * details["steps"] * crew.random.lognormvariate(0, crew.noise)
        seconds *= 2 if self.cold > 0 else 1
        self.cold -= 1
        crew.clock.now += seconds
        return {"seconds": seconds, "found": crew.found}


class FakeCrew:
    """The crew of `FakeWorker`s: what each of the arms takes for a step is given."""

    def __init__(self, clock, plan, *ratios, noise=0.002, apart=True):
        self.clock, self.plan, self.ratios, self.noise, self.apart = clock, plan, (1.0, *ratios, 1.0), noise, apart
        self.random, self.asked = random.Random(0), Counter()  # noqa: S311  # no secret
        self.loss, self.found = [2.3] * len(self.ratios), 1.0
        self.workers, self.orders, self.restarts = [], [], 0
        self.ends_at, self.error = None, None
        self.arms = [Arm(f"arm {index}", control=index == len(self.ratios) - 1) for index in range(len(self.ratios))]

    def step_s(self, arm):
        return 1e-3 * self.ratios[arm]

    def settings(self, arm, batch_size):
        return {"batch_size": batch_size, **arm.settings}

    def generation(self, batch_size, order):
        self.orders.append(list(order))
        self.clock.now += START_S
        self.workers = [FakeWorker(self, arm) for arm in range(len(self.ratios))]
        return [{"first_step_s": 0.5, "most_steps": MOST_STEPS} for _ in self.workers]

    def restart(self):
        self.restarts += 1
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

    def make(*ratios, path=tmp_path / "run.jsonl", found=(), already=0.0, noise=0.002, apart=True, **plan):
        plan = Plan(device="cpu", **plan)
        crew = FakeCrew(clock, plan, *ratios, noise=noise, apart=apart)
        head = {"plan": plan.as_stored(), "arms": [arm.label for arm in crew.arms]}
        journal = Journal(path, None if path.exists() else head)
        journals.append(journal)
        return Comparison(crew.arms, plan, crew, journal, lambda *_: None, list(found), already)

    yield make
    for journal in journals:
        with contextlib.suppress(OSError):  # of the full disk
            journal.close()


def events(run):
    return stored(run.journal.path)[1]


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Verdict.SAME), (1.05, Verdict.SLOWER), (0.95, Verdict.FASTER), (1.004, Verdict.SAME)]
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
    assert run.judge()[0].verdict is Verdict.INCONCLUSIVE
    assert 0.8 * 20 < run.spent <= 20


def test_a_red_is_confirmed_by_a_second_run(compare):
    """With new processes where the arms have environments of their own, whose start no budget pays for."""
    run = compare(1.1)
    run.run()
    assert {block.run for block in run.blocks} == {1, 2}
    assert run.crew.restarts == 1
    assert run.spent < 20
    assert max(block.generation for block in run.blocks if block.run == 1) < min(
        block.generation for block in run.blocks if block.run == 2
    )
    same_environment = compare(1.1, path=run.journal.path.with_name("other.jsonl"), apart=False)
    same_environment.run()
    assert {block.run for block in same_environment.blocks} == {1, 2}
    assert same_environment.crew.restarts == 0


def test_a_red_that_does_not_come_again_is_not_called(compare, monkeypatch):
    """What was slow in the first run and is not in the second is no finding."""
    run = compare(1.1, budget_s=20.0)
    monkeypatch.setattr(run.crew, "restart", lambda: setattr(run.crew, "ratios", (1.0, 1.0, 1.0)))
    assert run.run() == BUDGET
    (judged,) = run.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "not confirmed" in judged.reason


def test_identical_code_that_differs_spoils_the_run(compare):
    """Where the control is slower than what it is a copy of, nothing is called."""
    run = compare(1.1, budget_s=20.0)
    run.crew.ratios = (1.0, 1.1, 1.1)
    assert run.run() == BUDGET
    (judged,) = run.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason.startswith("identical code differed by ")


def test_a_sweep_judges_each_batch_size(compare):
    """Only what is undecided is measured on, and only what is red a second time."""
    run = compare(1.0, 1.05, batch_sizes=(16, 64), budget_s=120.0)
    assert run.run() == CERTAIN
    verdicts = {(one.batch_size, one.arm): one.verdict for one in run.judge()}
    assert verdicts == {(size, arm): (Verdict.SAME, Verdict.SLOWER)[arm - 1] for size in (16, 64) for arm in (1, 2)}
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
    """25 ms for a short budget, up to 100 ms for a long one; the same steps in all arms that are about as fast."""
    for budget_s, block_s in ((10.0, 0.025), (60.0, 0.05), (600.0, 0.1)):
        plan = Plan(budget_s=budget_s)
        assert plan.block_s == pytest.approx(block_s)
        assert len(plan.looks) == LOOKS
        assert plan.looks[-1] == budget_s
        assert plan.looks == sorted(plan.looks)
    run = compare(1.02, 4.0)
    run.run()
    measured = [event for event in events(run) if event["event"] == "block"]
    steps = [{event["steps"] for event in measured if event["arm"] == arm} for arm in (0, 1, 2)]
    assert len(steps[0]) == len(steps[2]) == 1
    assert 40 <= max(steps[0]) <= 55
    assert 10 <= max(steps[2]) <= 14, "an arm that is four times as slow has blocks of a quarter of the steps"


def test_arms_that_compute_something_else_are_never_timed(compare):
    """The message names the arm, the step, and by how much; no block is measured."""
    run = compare(1.0)
    run.crew.loss[1] *= 1 + 5 * TOLERANCE
    with pytest.raises(LossesDiffer, match=r"^arm 1 does not compute what arm 0 does: after 1 steps the mean loss is"):
        run.run()
    assert run.blocks == []
    assert run.crew.asked["block"] == 0


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
    assert run.judge()[0].verdict is Verdict.SAME


def test_a_block_that_computes_something_else_does_not_count(compare):
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
    run.crew.ends_at, run.crew.error = 200, error
    with pytest.raises(type(error)):
        run.run()
    kept = blocks(events(run))
    assert kept == run.blocks
    assert 60 < len(kept) < 200

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


def test_a_line_that_was_cut_short_is_dropped(compare):
    """A kill in the middle of a write; what follows begins on a line of its own."""
    run = compare(1.0)
    run.run()
    path, kept = run.journal.path, events(run)
    with path.open("a") as file:
        file.write('{"event": "block", "arm"')
    assert events(run) == kept
    again = Journal(path)
    again.write({"event": "continued", "at": 1.0})
    again.close()
    assert events(run) == [*kept, {"event": "continued", "at": 1.0}]


@pytest.mark.parametrize("text", ["", "{}\n", "[]\n", "not JSON\n", '{"mnist_loop_comparison": 9}\n'])
def test_what_is_no_comparison_is_not_gone_on_with(tmp_path, text):
    """One sentence says what was expected."""
    path = tmp_path / "file.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=r"file\.jsonl: .*, expected a comparison that mnist-loop compare stored$"):
        stored(path)
    with pytest.raises(UserError, match=r"nowhere: cannot be read \(No such file or directory\), expected"):
        stored(tmp_path / "nowhere")


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
    first.touch()
    assert unused(tmp_path, "compare_x") != first
    with pytest.raises(UserError, match=r"cannot be written \(File exists\)"):
        Journal(first, {})


def test_every_line_is_json_of_its_own(compare):
    """The head first, and an event with its name in each other line."""
    run = compare(1.0)
    run.run()
    run.journal.end(CERTAIN, run.spent)
    lines = [json.loads(line) for line in run.journal.path.read_text().splitlines()]
    assert lines[0]["mnist_loop_comparison"] == 1
    assert {line["event"] for line in lines[1:]} == {"losses", "prepared", "ruler", "warm-up", "block", "spent", "end"}
    assert Plan.of({**lines[0]["plan"], "data": None}) == run.plan
