"""The battery: which cases a loop is tried in, whatever it takes and declares."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_loop.verification.binding.contract import Description
from mnist_loop.verification.binding.intentions import checked
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.battery import basis, battery, experiments
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify

COMMON = ("model", "optimizer", "train_loader", "device")
OPTIONAL = ("loss_fn", "test_loader", "test_set", "val_loader", "scheduler", "scaler", "epochs", "accumulate", "clip")
RUNS = {"again", "poisoned", "relabelled", "resumed"}

declared = st.fixed_dictionaries(
    {},
    optional={
        "expects": st.sampled_from(["logits", "log_probs", "bce"]),
        "accumulate": st.integers(1, 5),
        "clip": st.sampled_from([0.1, 1.0, 10.0]),
        "schedule": st.sampled_from(["per-epoch", "per-batch"]),
        "keeps_best": st.booleans(),
        "precision": st.sampled_from(["float32", "bfloat16"]),
        "steps_per_epoch": st.integers(1, 3),
        "average": st.sampled_from([0.5, 0.9]),
    },
).map(checked)


@st.composite
def descriptions(draw, own_models=(False, True)):
    """Draw what a battery has to know of a loop: any roles with any intentions."""
    roles = frozenset(COMMON) | draw(st.frozensets(st.sampled_from(OPTIONAL)))
    evaluate_roles = draw(st.none() | st.just(frozenset({"model", "test_loader"})))
    return Description(
        "loop.py:train",
        None,
        None,
        roles,
        evaluate_roles,
        whole_fit=draw(st.booleans()),
        declared=draw(declared),
        own_model=draw(st.sampled_from(own_models)),
        saves=draw(st.booleans()),
    )


dtypes = st.sampled_from(["float64", "float32"])


@pytest.fixture(autouse=True)
def generators(no_leak):
    """A loader draws from torch's generator when a pass begins."""
    with torch.random.fork_rng():
        yield


def plain(*roles, saves=False, **intentions):
    return Description("train", None, None, frozenset(COMMON + roles), None, False, checked(intentions), saves=saves)


def factory():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def made(case, of):
    """Build the world of a case; the intentions have the factory, where the model is the loop's own."""
    return world.build(case, dataclasses.replace(of.declared, model=factory if of.own_model else None))


@given(of=descriptions(), dtype=dtypes)
def test_no_case_is_tried_twice(of, dtype):
    """Each experiment has a case of its own."""
    cases = [experiment.case for experiment in battery(of, dtype)]
    assert len(set(cases)) == len(cases)


@given(of=descriptions(), dtype=dtypes)
def test_the_first_case_is_the_plainest(of, dtype):
    """It is the basis: a plain model, SGD, nothing declared that the loop does not declare."""
    first, *others = battery(of, dtype)
    assert first.case == basis(of, dtype)
    assert first.case.model == ("declared" if of.own_model else "plain")
    assert first.case.optimizer == Case().optimizer
    assert (first.case.watch, first.case.variant, first.case.resume) == ("", "", False)
    assert "again" in first.runs
    assert others


@settings(max_examples=10)
@given(of=descriptions(), dtype=dtypes)
def test_everything_in_a_battery_can_be_built(of, dtype):
    """Each case, and each other run of it, makes a world whose data fit its model and whose loss fits its labels."""
    for experiment in battery(of, dtype):
        assert set(experiment.runs) <= RUNS
        for case in (experiment.case, *experiment.variants().values()):
            made_of_it = made(case, of)
            model, loss_fn = made_of_it.model.eval(), made_of_it.loss_fn
            for split in ("train", "val", "test"):
                images, labels = next(iter(made_of_it.values[f"{split}_loader"]))
                assert images.dtype == getattr(torch, case.dtype)
                if not of.own_model or case.loss == "cross-entropy":
                    assert loss_fn(model(images), labels).dim() == 0


@given(of=descriptions(), dtype=dtypes)
def test_cases_are_of_the_dtype_that_is_asked_for(of, dtype):
    """All but those that are there for one law; a loop that cannot do float64 is never handed it."""
    for experiment in battery(of, dtype):
        assert experiment.case.dtype == dtype or (experiment.case.dtype == "float32" and experiment.laws)


@given(of=descriptions())
def test_what_is_declared_is_in_each_case(of):
    """What the loop accumulates and clips by, it is handed; and images large enough that the gradient is clipped."""
    for experiment in battery(of):
        assert experiment.case.accumulate == of.declared.accumulate
        assert experiment.case.clip == of.declared.clip


def test_clipping_takes_place_in_the_plainest_case():
    """At the scale of the pixels the gradient is longer than the declared norm."""
    for clip in (0.1, 1.0, 100.0):
        case = basis(plain("loss_fn", clip=clip))
        made_of_it = world.build(case, checked({}))
        images, labels = next(iter(made_of_it.values["train_loader"]))
        made_of_it.loss_fn(made_of_it.model(images), labels).backward()
        length = torch.nn.utils.clip_grad_norm_(made_of_it.model.parameters(), clip)
        assert length > clip


@given(of=descriptions())
def test_batch_norm_has_something_to_normalise(of):
    """No case of a model with BatchNorm has a training batch of one sample."""
    for experiment in battery(of):
        case = experiment.case
        assert case.model != "probe" or (case.samples % case.batch_size != 1 and case.batch_size > 1)


@pytest.mark.parametrize("own_model", [False, True])
def test_every_model_and_optimizer_is_tried(own_model):
    """Where the model is the loop's own, it alone is."""
    of = dataclasses.replace(plain("loss_fn"), own_model=own_model)
    cases = [experiment.case for experiment in battery(of)]
    assert {case.optimizer for case in cases} == set(world.OPTIMIZERS)
    assert {case.model for case in cases} == ({"declared"} if own_model else set(world.MODELS))


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (plain(), {"again"}),
        (plain("test_loader"), {"again", "poisoned", "relabelled"}),
        (plain("test_set"), {"again", "poisoned", "relabelled"}),
        (dataclasses.replace(plain(), evaluate_roles=frozenset({"model"})), {"again", "poisoned", "relabelled"}),
        (plain(saves=True), {"again", "resumed"}),
        (dataclasses.replace(plain(saves=True), whole_fit=True), {"again"}),
    ],
    ids=["plain", "test loader", "test set", "evaluates", "saves", "a whole fit that saves"],
)
def test_the_other_runs_are_those_that_can_tell_something(of, expected):
    """Other test data for loops that see them, and a second half for loops that save one epoch at a time."""
    assert {run for experiment in battery(of) for run in experiment.runs} == expected


def test_the_other_runs_differ_from_the_case_by_what_they_are_for():
    """Nothing, the test images, the test labels, or that it is resumed."""
    of = dataclasses.replace(plain("test_loader", saves=True))
    seen = set()
    for experiment in battery(of):
        for run, case in experiment.variants().items():
            seen.add(run)
            changes = {"again": {}, "resumed": {"resume": True}}.get(run, {"variant": run})
            assert case == experiment.case.but(**changes)
    assert seen == RUNS


def test_a_loop_that_is_handed_no_loss_is_given_what_it_expects():
    """Log-probabilities where its own loss is NLL; and no other loss is tried."""
    assert {e.case.loss for e in battery(plain(expects="log_probs"))} == {"nll"}
    assert {e.case.loss for e in battery(plain(expects="logits"))} == {"cross-entropy"}
    assert {e.case.loss for e in battery(plain("loss_fn"))} == {"cross-entropy", "mse"}


def test_accumulation_is_tried_with_and_without_a_rest():
    """Epochs that are whole windows, that end in an open window, and in one with a partial batch."""
    for count in (2, 3, 4):
        rests = set()
        for experiment in battery(plain("loss_fn", accumulate=count)):
            case = experiment.case
            rests.add((case.batches % count != 0, case.samples % case.batch_size != 0))
        assert rests >= {(False, False), (True, False), (True, True)}


# -- random cases ------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(data=st.data(), of=descriptions(), dtype=dtypes)
def test_random_cases_can_be_built_and_decided(data, of, dtype):
    """No batch of one, several epochs, several batches, whole windows, and all that is declared."""
    experiment = data.draw(experiments(of, dtype))
    case = experiment.case
    assert case.dtype == dtype
    assert case.model == "declared" if of.own_model else case.model in world.MODELS
    for size in (case.samples, case.held_out):
        assert size % case.batch_size != 1
        assert size >= case.batch_size >= 2
    assert case.batches >= 2
    assert case.epochs >= 2
    assert of.declared.accumulate == 1 or case.samples >= of.declared.accumulate * case.batch_size
    assert (case.accumulate, case.clip) == (of.declared.accumulate, of.declared.clip)
    assert experiment.runs == ("again",)
    assert (case.watch, case.variant, case.resume) == ("", "", False)


@settings(max_examples=10)
@given(data=st.data())
def test_batch_norm_works_in_random_cases(data):
    """Each batch of a case, of each split, goes through the model in train mode."""
    of = data.draw(descriptions(own_models=(False,)))
    experiment = data.draw(experiments(of))
    made_of_it = world.build(experiment.case.but(model="probe"), checked({}))
    for split in ("train", "val", "test"):
        for images, _ in made_of_it.values[f"{split}_loader"]:
            made_of_it.model.train()(images)


# -- cases -------------------------------------------------------------------------------------------------------------


@given(data=st.data(), of=descriptions())
def test_a_case_is_code_to_paste(data, of):
    """Its text evaluates to the case, and tells what differs from the plainest alone."""
    for experiment in (data.draw(experiments(of)), *battery(of)):
        for case in (experiment.case, *experiment.variants().values()):
            text = repr(case)
            assert eval(text, {"Case": Case}) == case  # noqa: S307  # our own text
            for field in dataclasses.fields(Case):
                assert (f"{field.name}=" in text) == (getattr(case, field.name) != field.default)


def test_the_plainest_case_has_no_text_but_its_name():
    """`Case()` is the default."""
    assert repr(Case()) == "Case()"


def test_a_case_can_be_changed_and_counted():
    """`but` leaves the case as it was; batches count the partial one."""
    case = Case()
    assert case.but(samples=12).samples == 12
    assert case.samples == 10
    assert [case.but(samples=n, batch_size=4).batches for n in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    with pytest.raises(TypeError):
        case.but(sample=12)


def test_cases_are_values():
    """Equal cases are one key: a verdict looks them up."""
    assert len({Case(), Case(seed=0), Case().but(seed=1).but(seed=0)}) == 1
    assert len(set(itertools.starmap(Case, [("plain",), ("probe",)]))) == 2


def of_sets(model, train_set, batch_size, loss_fn, optimizer, *, drop_last):
    """Train on batches of a loader that the loop builds."""
    drop_last = drop_last and len(train_set) > batch_size
    loader = torch.utils.data.DataLoader(train_set, batch_size, shuffle=True, drop_last=drop_last)
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def keeps_the_last(model, train_set, batch_size, loss_fn, optimizer):
    of_sets(model, train_set, batch_size, loss_fn, optimizer, drop_last=False)


def drops_the_last(model, train_set, batch_size, loss_fn, optimizer):
    of_sets(model, train_set, batch_size, loss_fn, optimizer, drop_last=True)


def test_a_last_batch_of_one_is_named():
    """A loop that builds its loader is told that a BatchNorm cannot do with it, unless it drops that batch."""
    kept, dropped = (verify(loop, options=Options(random_cases=0)) for loop in (keeps_the_last, drops_the_last))
    assert any("last batch is of one sample" in why for why in kept.skipped.values())
    assert not any("last batch is of one sample" in why for why in dropped.skipped.values())
    assert not kept.bugs
    assert not dropped.bugs
