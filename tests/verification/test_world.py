"""What a loop is handed in a case: each time the same, each time anew, and as torch's own classes have it."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mnist_loop.verification.binding.intentions import DEFAULT, checked
from mnist_loop.verification.binding.roles import ROLES
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import CLASSES, IMAGE_SHAPE, Case

SPLITS = ("train", "val", "test")
MADE_BY_THE_CONTRACT = {"args", "loaders", "sizes", "path"}

cases = st.builds(
    Case,
    model=st.sampled_from(sorted(world.MODELS)),
    optimizer=st.sampled_from(sorted(world.OPTIMIZERS)),
    schedule=st.sampled_from(sorted(world.SCHEDULES)),
    loss=st.sampled_from(sorted(world.LOSSES)),
    dtype=st.sampled_from(["float32", "float64"]),
    samples=st.integers(1, 12),
    held_out=st.integers(1, 8),
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 2**40),
)


@pytest.fixture(autouse=True)
def generators(no_leak):
    """A loader draws from torch's generator when a pass begins."""
    with torch.random.fork_rng():
        yield


def tensors(made):
    """Return all tensors of a world: weights, buffers and data."""
    found = {**dict(made.model.named_parameters()), **dict(made.model.named_buffers())}
    for split in SPLITS:
        found[f"{split} images"], found[f"{split} targets"] = made.values[f"{split}_set"].tensors
    return found


@settings(max_examples=15)
@given(case=cases)
def test_two_worlds_of_one_case_are_equal_and_apart(case):
    """The same bits, and no tensor in common: what one run changes the other does not see."""
    first, second = world.build(case, DEFAULT), world.build(case, DEFAULT)
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name])
        assert value.data_ptr() != other[name].data_ptr()


@given(seed=st.integers(0, 2**20))
def test_the_seed_decides_weights_and_data(seed):
    """Another seed, other weights, images and, but for chance, labels."""
    one, other = (tensors(world.build(Case(seed=n, held_out=30), DEFAULT)) for n in (seed, seed + 1))
    for name, value in one.items():
        assert not torch.equal(value, other[name]), name


@settings(max_examples=15)
@given(case=cases)
def test_building_draws_no_random_number(case):
    """The global generator is left as it was."""
    before = torch.get_rng_state()
    world.build(case, DEFAULT)
    assert torch.equal(torch.get_rng_state(), before)


def test_there_is_a_value_for_each_role():
    """But for those that the contract makes from the others."""
    assert set(world.build(Case(), DEFAULT).values) == {role.name for role in ROLES} - MADE_BY_THE_CONTRACT


@settings(max_examples=15)
@given(case=cases)
def test_no_two_images_are_equal(case):
    """Within a split or between them, in float32 too: a sample is known by its pixels."""
    rows = [row.float().numpy().tobytes() for split in SPLITS for row in world.make_data(case, DEFAULT, split)[0]]
    assert len(set(rows)) == len(rows) == case.samples + 2 * case.held_out


@settings(max_examples=15)
@given(case=cases)
def test_data_have_their_shapes_and_types(case):
    """Images as MNIST's in the case's dtype; labels of ten classes, or targets (N, 1) for the squared error."""
    for split in SPLITS:
        images, targets = world.make_data(case, DEFAULT, split)
        count = case.samples if split == "train" else case.held_out
        assert images.shape == (count, *IMAGE_SHAPE)
        assert images.dtype == getattr(torch, case.dtype)
        if case.loss == "mse":
            assert targets.shape == (count, 1)
            assert targets.dtype == images.dtype
        else:
            assert targets.shape == (count,)
            assert targets.dtype == torch.int64
            assert set(targets.tolist()) <= set(range(CLASSES))


def test_pixels_are_normal_with_the_scale_of_the_case():
    """Mean 0 and the standard deviation that is asked for, up to five standard errors of so many draws."""
    for scale in (1.0, 30.0):
        images = world.make_data(Case(samples=50, scale=scale), DEFAULT, "train")[0]
        error = scale / images.numel() ** 0.5
        assert abs(float(images.mean())) < 5 * error
        assert abs(float(images.std()) - scale) < 5 * error


@pytest.mark.parametrize("variant", ["poisoned", "relabelled"])
def test_variants_change_the_test_data_alone(variant):
    """Every test image, or every test label, and nothing else."""
    plain, other = (tensors(world.build(Case(variant=v), DEFAULT)) for v in ("", variant))
    changed = "test images" if variant == "poisoned" else "test targets"
    assert {name for name in plain if not torch.equal(plain[name], other[name])} == {changed}
    pairs = zip(plain[changed], other[changed], strict=True)
    assert not any(torch.equal(one, two) for one, two in pairs)
    assert set(other["test targets"].tolist()) <= set(range(CLASSES))


@pytest.mark.parametrize("split", SPLITS)
def test_loaders_are_data_loaders(split):
    """Of the split's data set, in the case's batches; the training data shuffled, the others in order."""
    made = world.build(Case(samples=23, held_out=23), DEFAULT)
    loader, data = made.values[f"{split}_loader"], made.values[f"{split}_set"]
    assert isinstance(loader, DataLoader)
    assert isinstance(data, Dataset)
    assert loader.dataset is data
    assert len(data) == 23
    assert loader.batch_size == 4
    assert torch.equal(data.data, data.tensors[0])
    assert torch.equal(data.targets, data.tensors[1])
    orders = [torch.cat([images for images, _ in loader]) for _ in range(2)]
    in_order = [torch.equal(order, data.data) for order in orders]
    assert in_order == [split != "train"] * 2
    assert torch.equal(orders[0], orders[1]) == (split != "train")


def test_the_listener_is_told_of_passes_and_samples():
    """Each pass when it begins, each sample when it is drawn, by a loader or by hand."""
    seen = []
    listener = world.Listener(lambda split: seen.append(split), lambda split, index: seen.append((split, index)))
    made = world.build(Case(held_out=3), DEFAULT, listener)
    assert seen == []
    list(made.values["val_loader"])
    assert seen == ["val", ("val", 0), ("val", 1), ("val", 2)]
    made.values["train_set"][7]
    assert seen[4:] == [("train", 7)]
    list(DataLoader(made.values["test_set"], batch_size=2))
    assert seen[5:] == [("test", 0), ("test", 1), ("test", 2)]


@pytest.mark.parametrize("name", sorted(world.MODELS))
def test_models_take_images_flattened_or_not(name):
    """The outputs are the same; logits, or log-probabilities for NLL."""
    for loss in ("cross-entropy", "nll", "mse"):
        model = world.make_model(Case(model=name, loss=loss), DEFAULT).eval()
        images = world.make_data(Case(), DEFAULT, "train")[0]
        outputs = model(images)
        assert outputs.shape == (10, 1 if loss == "mse" else CLASSES)
        assert torch.equal(outputs, model(images.flatten(1)))
        assert torch.allclose(outputs.exp().sum(dim=1), torch.ones(10).double()) == (loss == "nll")


@pytest.mark.parametrize(
    ("name", "alike"),
    [("plain", True), ("tied", True), ("frozen", True), ("probe", False), ("dropout", False), ("buffers", False)],
)
def test_modes_show_in_the_models_that_are_there_for_it(name, alike):
    """Outputs differ between train and eval mode, or the buffers move, where a mode bug is to be seen."""
    model = world.make_model(Case(model=name), DEFAULT)
    images = world.make_data(Case(), DEFAULT, "train")[0]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    with torch.random.fork_rng():
        trained = [model(images) for _ in range(2)][-1]
    moved = any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
    model.load_state_dict(before)
    model.eval()
    assert (torch.equal(trained, model(images)) and not moved) == alike
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_frozen_model_has_a_frozen_part_and_the_tied_one_shared_weights():
    """The optimizer holds what is trained alone; shared weights are one parameter."""
    frozen = world.build(Case(model="frozen"), DEFAULT)
    without = {name for name, parameter in frozen.model.named_parameters() if not parameter.requires_grad}
    assert without == {"hidden.0.weight", "hidden.0.bias"}
    held = {id(parameter) for group in frozen.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in frozen.model.parameters() if parameter.requires_grad}
    tied = world.make_model(Case(model="tied"), DEFAULT)
    assert tied.hidden[1].layer.weight is tied.hidden[1].again.weight


@pytest.mark.parametrize("name", sorted(world.SCHEDULES))
def test_a_schedule_halves_the_rate_each_time(name):
    """By the factor that the laws know: after each epoch, or after each second one."""
    made = world.build(Case(schedule=name, lr=0.8), DEFAULT)
    rates = []
    for _ in range(5):
        rates.append(made.optimizer.param_groups[0]["lr"])
        made.optimizer.step()
        made.scheduler.step()
    epochs = 2 if name == "every second epoch" else 1
    assert rates == pytest.approx([0.8 * world.GAMMA ** (epoch // epochs) for epoch in range(5)])


@pytest.mark.parametrize("name", sorted(world.OPTIMIZERS))
def test_an_optimizer_has_the_rate_of_the_case(name):
    """And each is a kind of its own: on the same gradients they end in different places."""
    made = world.build(Case(optimizer=name, lr=0.125), DEFAULT)
    assert [group["lr"] for group in made.optimizer.param_groups] == [0.125]


def test_what_the_loop_declares_of_its_model_is_heeded():
    """Its factory, the shape of its images and the number of its classes; weights by the seed, dtype by the case."""
    declared = checked(
        {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), "input_shape": [3, 4], "classes": 3}
    )
    made = world.build(Case(model="declared", dtype="float64", samples=60), declared)
    images, labels = made.values["train_set"].tensors
    assert images.shape == (60, 3, 4)
    assert set(labels.tolist()) == {0, 1, 2}
    assert made.model(images).dtype == torch.float64
    again = world.build(Case(model="declared", dtype="float64"), declared)
    assert torch.equal(made.model[1].weight, again.model[1].weight)
    small = world.make_model(Case(), checked({"input_shape": [3, 4], "classes": 3}))
    assert small(images).shape == (60, 3)


def test_what_is_handed_out_can_be_saved():
    """Model, states, loss, optimizer, data and loaders can be pickled, as loops and worker processes need it."""
    made = world.build(Case(model="probe"), DEFAULT)
    for name in ("model", "loss_fn", "optimizer", "train_set", "train_loader"):
        torch.save(made.values[name], io.BytesIO())
