"""The cases that a loop is tried in: a fixed battery, the smallest case first, and random cases."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from hypothesis import strategies as st

from mnist_loop.verification.binding.contract import Description
from mnist_loop.verification.cases import staged
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.cases.world import OPTIMIZERS

# The laws that an error of the loop can break.
RAISING = (
    *("loop-raises", "graph-detached", "loop-exhausts-memory", "scaler-update-missing", "last-gradient-dropped"),
    "scheduler-horizon",
)
LAST_OF_ONE = "its last batch is of one sample, which BatchNorm cannot normalise: build the loader with drop_last=True"
MIXED = "mixed precision may need a GPU"
TEST_ROLES = {"test_loader", "test_set"}


@dataclass(frozen=True)
class Experiment:
    """A case, and the other runs of it that laws compare with.

    Attributes:
        case: the case.
        runs: names of the other runs.
        optional: why a loop may raise in it; "" if it may not.
        laws: ids of the laws that it is for; empty for all.
    """

    case: Case
    runs: tuple[str, ...] = ()
    optional: str = ""
    laws: tuple[str, ...] = ()

    def variants(self) -> dict[str, Case]:
        """Return the case of each run."""
        changes: dict[str, dict[str, object]] = {
            "again": {},
            "poisoned": {"variant": "poisoned"},
            "relabelled": {"variant": "relabelled"},
            "resumed": {"resume": True},
        }
        return {run: self.case.but(**changes[run]) for run in self.runs}


def all_runs(of: Description) -> tuple[str, ...]:
    """Return the names of the other runs of a case that the loop can be compared with."""
    tested = of.roles & TEST_ROLES or of.evaluate_roles is not None
    resumes = of.saves and not of.whole_fit
    return ("again", *(("poisoned", "relabelled") if tested else ()), *(("resumed",) if resumes else ()))


@dataclass
class _Plan:
    of: Description
    dtype: str
    experiments: list[Experiment] = field(default_factory=list)

    def add(self, *runs: str, optional: str = "", laws: tuple[str, ...] = (), **case: object) -> None:
        base = basis(self.of, self.dtype)
        if base.model == "declared":
            case["model"] = "declared"
        experiment = Experiment(longer(base.but(**case), self.of.least_batches), runs, optional, laws)
        for number, other in enumerate(self.experiments):
            if other.case == experiment.case:
                more = tuple(run for run in runs if run not in other.runs)
                self.experiments[number] = dataclasses.replace(other, runs=other.runs + more)
                return
        self.experiments.append(experiment)


def longer(case: Case, batches: int) -> Case:
    """Return a case with more batches of each split; its last batches are as before."""
    more = batches * case.batch_size
    return case.but(samples=case.samples + more, held_out=case.held_out + more)


def basis(of: Description, dtype: str = "float64") -> Case:
    """Return the plainest case for the loop."""
    declared = of.declared
    case = Case(dtype=dtype, accumulate=declared.accumulate, clip=declared.clip)
    if of.own_model:
        case = case.but(model="declared")
    if "loss_fn" not in of.roles and declared.expects == "log_probs":
        case = case.but(loss="nll")
    if declared.expects == "bce":
        case = case.but(loss="bce")
    if declared.clip is not None:
        case = case.but(scale=30.0 * max(1.0, declared.clip))
    if declared.accumulate > 1:
        case = case.but(samples=2 * declared.accumulate * case.batch_size)
    return case


def battery(of: Description, dtype: str = "float64") -> list[Experiment]:
    """Return the fixed battery for a loop, the plainest case first."""
    plan = _Plan(of, dtype)
    base = basis(of, dtype)
    size = base.batch_size
    compared = [run for run in all_runs(of) if run != "resumed"]
    plan.add(*compared)
    plan.add("again", model="probe")
    plan.add("again", model="probe", optimizer="SGD with momentum", epochs=3)
    if of.declared.accumulate > 1:
        count = of.declared.accumulate
        plan.add(samples=size * (2 * count - 1), epochs=3)
        plan.add(samples=size * (2 * count - 1) + 2)
        plan.add(samples=size * (2 * count - 1), model="probe", optimizer="SGD with momentum")
    for model in ("dropout", "tied", "frozen", "buffers"):
        plan.add(model=model)
    for optimizer in OPTIMIZERS:
        plan.add(model="probe", optimizer=optimizer)
    plan.add(samples=12, model="probe", seed=1)  # no partial batch
    plan.add(samples=3, batch_size=8, held_out=3)  # smaller than one batch
    plan.add(samples=14, batch_size=2, held_out=5, seed=2, optimizer="SGD with momentum")
    # Epochs, batches and their size are different numbers, an accuracy has many values, and the last batch is of one
    # sample, which a BatchNorm of the loop's own model could not normalise.
    plan.add(samples=20 if of.own_model else 19, batch_size=3, held_out=32, epochs=5, seed=5, lr=0.3)
    if of.builds_its_loader:
        plan.add(model="probe", samples=2 * size * of.declared.accumulate + 1, optional=LAST_OF_ONE)
    plan.add(model="probe", watch="graphs", optional="its saved tensors were watched, which torch.func does not allow")
    plan.add(watch="reads", optional="its reads of tensors were watched, which compilers do not allow")
    plan.add(schedule="ExponentialLR", epochs=3)
    plan.add(model="probe", begins_in_eval=True, laws=("train-mode-assumed",))
    for mixed in (True, False) if of.mixes and dtype == "float64" else ():
        for model in ("plain", "probe"):
            plan.add(mixed=mixed, model=model, watch="reads", optional=MIXED)  # what is rounded is seen there
    # Sums that overflow in float16 and not in float32; at this scale no other law can be decided.
    if "optimizer" in of.roles and not of.declared.own_optimizer:
        plan.add(dtype="float32", scale=1000.0, lr=1e-9, laws=("half-precision-overflow", *RAISING))
    if "loss_fn" in of.roles and not (of.own_model or of.classifies or of.own_targets or base.loss == "bce"):
        plan.add(loss="mse", optional="its targets are numbers of shape (N, 1)")
    if of.declared.keeps_best or of.roles & TEST_ROLES:
        for seed in range(4):
            plan.add(*compared[2:], epochs=4, lr=2.0, seed=seed, held_out=9)
    if of.saves and not of.whole_fit:
        plan.add("resumed", model="probe", optimizer="SGD with momentum")
        plan.add("resumed", model="probe", optimizer="Adam")
        # The count of epochs decides when the rate falls, and which state is the best may be known before the stop.
        plan.add("resumed", epochs=3, schedule="every second epoch", laws=("resume-incomplete", *RAISING))
        for seed in range(4 if of.declared.keeps_best else 0):
            plan.add("resumed", epochs=4, lr=2.0, seed=seed, held_out=9)
    if of.patience is not None and of.whole_fit and not of.own_model and of.declared.output is None:
        epochs = len(staged.plan(of.patience))
        plan.add(patience=of.patience, epochs=epochs, lr=0.01, held_out=40, laws=("patience-wrong", *RAISING))
    # Last, as a loop may end its process there.
    skips: dict[str, object] = {"corrupt": True, "batch_size": 2, "samples": 8 * max(2, of.declared.accumulate)}
    plan.add(optional="an image has a pixel that is nan", laws=("zero-grad-after-skip",), epochs=4, **skips)
    return plan.experiments


@st.composite
def experiments(draw: st.DrawFn, of: Description, dtype: str = "float64") -> Experiment:
    """Draw a case in which every law that applies to the loop can be decided."""
    base = basis(of, dtype)
    accumulate = of.declared.accumulate
    model = draw(st.sampled_from(["plain", "probe", "dropout", "tied", "frozen", "buffers"]))
    # No batch has a single sample, whose variance BatchNorm could not normalise by.
    batch_size = draw(st.integers(2, 6))
    full = draw(st.integers(2, 4)) if accumulate == 1 else draw(st.integers(accumulate, 3 * accumulate))
    rest = draw(st.sampled_from([0, *range(2, batch_size)])) if accumulate == 1 else 0
    case = base.but(
        model=base.model if of.own_model else model,
        batch_size=batch_size,
        samples=full * batch_size + rest,
        held_out=batch_size + draw(st.sampled_from([0, *range(2, batch_size)])),
        epochs=draw(st.integers(2, 3)),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        lr=draw(st.sampled_from([0.1, 0.05, 0.01, 0.005])),
        seed=draw(st.integers(0, 2**20)),
    )
    return Experiment(longer(case, of.least_batches), ("again",))
