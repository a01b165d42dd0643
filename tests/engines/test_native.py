"""The engine in C: on several threads, with any width, and what it does with what it cannot do."""

import copy
import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_loop.engines import contract, native, reference
from mnist_loop.engines.resident import ResidentLoader
from mnist_loop.model import MLP

# By which share of its norm a parameter may differ after a few steps in float64; as in tests/engines/test_engines.py.
SAME = 1e-12
# In float32 a sum of n terms in another order differs by about sqrt(n) roundings, here of up to 40 terms, in 8 steps.
SAME_IN_FLOAT32 = 2**6 * 2**-24


@pytest.fixture(autouse=True)
def state(no_leak):
    """The generator's and the number of threads, as they were."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def compiled_anew():
    """No library is kept of an earlier test, and none of this one."""
    native._library.cache_clear()
    yield
    native._library.cache_clear()


def model(pixels=6, hidden=4, classes=3, dtype=torch.float64):
    torch.manual_seed(0)
    return MLP(pixels, hidden, classes).to(dtype)


def batches(sizes, pixels=6, classes=3, dtype=torch.float64):
    torch.manual_seed(1)
    return [(torch.randn(size, pixels, dtype=dtype), torch.randint(classes, (size,))) for size in sizes]


def trained(engine, one, loader, lr=0.1, on_batch=None):
    optimizer = torch.optim.SGD(one.parameters(), lr=lr)
    return engine.train_one_epoch(one, loader, nn.CrossEntropyLoss(), optimizer, "cpu", on_batch)


def assert_same(one, other, tolerance):
    for found, expected in zip(one.parameters(), other.parameters(), strict=True):
        assert (found - expected).detach().norm() <= tolerance * expected.detach().norm()


@settings(max_examples=90)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    pixels=st.integers(1, 40),
    hidden=st.integers(1, 70),
    classes=st.integers(1, 12),
    threads=st.integers(1, 5),
    by_image=st.integers(1, 20),
    group=st.integers(1, 9),
)
def test_any_width_on_any_number_of_threads(sizes, pixels, hidden, classes, threads, by_image, group):
    """Tiles of all shapes, with more threads than blocks or images, train as the lesson's loop does."""
    one = model(pixels, hidden, classes)
    other = copy.deepcopy(one)
    loader = batches(sizes, pixels, classes)
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "BY_IMAGE", by_image)
        patch.setattr(native, "GROUP", group)
        mean = trained(native, one, loader)
    torch.set_num_threads(1)
    assert mean == pytest.approx(trained(reference, other, loader), rel=SAME, abs=SAME)  # 0 where there is one class
    assert_same(one, other, SAME)


@settings(max_examples=150)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    biases=st.lists(st.booleans(), min_size=5, max_size=5),
    momentum=st.sampled_from([0.0, 0.9]),
    decay=st.sampled_from([0.0, 0.01]),
    nesterov=st.booleans(),
    maximize=st.booleans(),
    threads=st.integers(1, 4),
    by_image=st.sampled_from([1, 99]),
)
def test_any_layers_with_any_update(sizes, widths, biases, momentum, decay, nesterov, maximize, threads, by_image):
    """Nets of one to five layers; the momenta too, in an epoch that begins and in one that goes on with them."""
    torch.manual_seed(0)
    sides = zip(widths, widths[1:], biases, strict=False)
    layers = [layer for i, o, bias in sides for layer in (nn.Linear(i, o, bias=bias), nn.ReLU())]
    one = nn.Sequential(*layers[:-1]).double()
    other = copy.deepcopy(one)
    loader = batches(sizes, widths[0], widths[-1])
    options = {
        "momentum": momentum,
        "weight_decay": decay,
        "nesterov": nesterov and momentum > 0,
        "maximize": maximize,
    }
    ends = []
    for engine, each, its_threads in ((native, one, threads), (reference, other, 1)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.02, **options)
        torch.set_num_threads(its_threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "BY_IMAGE", by_image)
            patch.setattr(native, "GROUP", 7)
            means = [engine.train_one_epoch(each, loader, nn.CrossEntropyLoss(), optimizer, "cpu") for _ in range(2)]
        ends.append((means, [optimizer.state[parameter].get("momentum_buffer") for parameter in each.parameters()]))
    (means, momenta), (expected, expected_momenta) = ends
    assert means == pytest.approx(expected, rel=SAME, abs=SAME)
    assert_same(one, other, SAME)
    for found, buffer in zip(momenta, expected_momenta, strict=True):
        assert (found is None) == (momentum == 0)
        assert found is None or (found - buffer).norm() <= SAME * max(buffer.norm(), 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [64, 1024])
@pytest.mark.parametrize("widths", [(784, 10), (784, 100, 50, 10), (784, 96, 64, 33, 10)])
def test_deep_nets_of_usual_widths(widths, size, threads):
    """With momentum and weight decay, in many steps, so that a thread that waits for too little is found out."""
    torch.manual_seed(0)
    layers = [layer for sides in itertools.pairwise(widths) for layer in (nn.Linear(*sides), nn.ReLU())]
    one = nn.Sequential(nn.Flatten(), *layers[:-1]).double()
    other = copy.deepcopy(one)
    loader = batches([size] * (2048 // size) + [size // 3 + 1], 784, 10)
    for engine, each, its_threads in ((native, one, threads), (reference, other, 1)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
        torch.set_num_threads(its_threads)
        engine.train_one_epoch(each, loader, nn.CrossEntropyLoss(), optimizer, "cpu")
    assert_same(one, other, SAME)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [native.BY_IMAGE - 1, native.BY_IMAGE, 1024, 4096])
def test_large_batches_are_worked_in_groups(size, threads):
    """Of the lesson's net; the last batch is partial, and so is each thread's last group."""
    one = model(784, 128, 10)
    other = copy.deepcopy(one)
    loader = batches([size, size, size // 3 + 1], 784, 10)
    torch.set_num_threads(threads)
    mean = trained(native, one, loader, lr=0.01)
    torch.set_num_threads(1)
    assert mean == pytest.approx(trained(reference, other, loader, lr=0.01), rel=SAME)
    assert_same(one, other, SAME)


@settings(max_examples=50)
@given(
    images=st.integers(1, 60),
    batch_size=st.integers(1, 30),
    shuffle=st.booleans(),
    threads=st.integers(1, 4),
    at_once=st.integers(1, 40),
    by_image=st.integers(1, 30),
)
def test_images_are_cut_from_the_bytes(images, batch_size, shuffle, threads, at_once, by_image):
    """In float32, in the loader's order, in pieces of any size; the images themselves to the bit."""
    torch.manual_seed(2)
    data = torch.randint(256, (images, 2, 20), dtype=torch.uint8), torch.randint(10, (images,))
    one = model(40, 24, 10, torch.float32)
    other = copy.deepcopy(one)
    means = []
    for engine, trained_one, its_threads in ((native, one, threads), (reference, other, 1)):
        loader = ResidentLoader(*data, batch_size, shuffle=shuffle, generator=torch.Generator().manual_seed(3))
        torch.set_num_threads(its_threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "IMAGES_AT_ONCE", at_once)
            patch.setattr(native, "BY_IMAGE", by_image)
            patch.setattr(native, "GROUP", 4)
            means += [trained(engine, trained_one, loader, lr=0.01)]
    assert means[0] == pytest.approx(means[1], rel=SAME_IN_FLOAT32)
    assert_same(one, other, SAME_IN_FLOAT32)


@pytest.mark.parametrize("by_image", [16, native.BY_IMAGE])
@pytest.mark.parametrize("widths", [(40, 10), (40, 128, 10), (40, 128, 96, 10)])
def test_a_thread_that_is_slow_is_waited_for(monkeypatch, widths, by_image):
    """Many steps with more threads than cores: whoever is interrupted finds all as it was left."""
    monkeypatch.setattr(native, "BY_IMAGE", by_image)
    data = torch.randint(256, (4000, 2, 20), dtype=torch.uint8), torch.randint(10, (4000,))
    torch.manual_seed(0)
    layers = [layer for sides in itertools.pairwise(widths) for layer in (nn.Linear(*sides), nn.ReLU())]
    one = nn.Sequential(nn.Flatten(), *layers[:-1])
    other = copy.deepcopy(one)
    for engine, trained_one, threads in ((native, one, 4), (reference, other, 1)):
        torch.set_num_threads(threads)
        for _ in range(5):
            trained(engine, trained_one, ResidentLoader(*data, 16, shuffle=False), lr=1e-3)
    steps = 5 * 4000 // 16
    assert_same(one, other, SAME_IN_FLOAT32 * steps / 8)


def test_two_runs_end_with_the_same_bits():
    """Each sum is taken in the same order, whichever thread is first."""
    data = torch.randint(256, (2000, 2, 20), dtype=torch.uint8), torch.randint(10, (2000,))
    for size in (16, native.BY_IMAGE):
        runs = [model(40, 128, 10, torch.float32) for _ in range(2)]
        for one in runs:
            torch.set_num_threads(4)
            trained(native, one, ResidentLoader(*data, size, shuffle=False))
        assert_same(*runs, 0.0)


def test_pixels_are_normalised_to_the_bit():
    """Of all 256 bytes, seen through weights that pass on one of them: the loss tells which number it was."""
    for byte in range(256):
        one = model(1, 1, 2, torch.float32)
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.zero_()
            one.fc1.bias.fill_(2.0)
        other = copy.deepcopy(one)
        data = torch.full((1, 1, 1), byte, dtype=torch.uint8), torch.tensor([1])
        with torch.no_grad():
            for each in (one, other):
                each.fc2.weight.copy_(torch.tensor([[1.0], [0.0]]))
        for engine, each in ((native, one), (reference, other)):
            trained(engine, each, ResidentLoader(*data, 1, shuffle=False), lr=1.0)
        expected = other.fc1.weight.item()
        assert one.fc1.weight.item() == pytest.approx(expected, rel=4 * 2**-24)  # a loss by another exp


def test_what_was_trained_before_an_interruption_is_kept():
    """The parameters are those of the steps that were reported."""
    one, other, loader = model(), model(), batches([4, 4, 4])

    def interrupt(batch, _):
        if batch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(native, one, loader, on_batch=interrupt)
    trained(reference, other, loader[:2])
    assert_same(one, other, SAME)


def test_a_report_sees_the_parameters_of_its_step():
    """Where batches come one by one."""
    seen = {native: [], reference: []}
    for engine, snapshots in seen.items():
        one = model()
        note = lambda *_, one=one, snapshots=snapshots: snapshots.append(copy.deepcopy(one))  # noqa: E731
        trained(engine, one, batches([4, 3]), on_batch=note)
    for found, expected in zip(*seen.values(), strict=True):
        assert_same(found, expected, SAME)


def test_what_is_no_number_stays_none():
    """Neither ReLU nor the largest score hides it."""
    for where in range(4):
        one, loader = model(), batches([4])
        with torch.no_grad():
            list(one.parameters())[where].view(-1)[0] = math.nan
        assert math.isnan(trained(native, one, loader)), where


@pytest.mark.parametrize(
    ("loader", "error", "says"),
    [
        ([(torch.zeros(2, 6, dtype=torch.float64), torch.tensor([0, 3]))], IndexError, "Target 3 is out of bounds"),
        ([(torch.zeros(2, 6, dtype=torch.float64), torch.tensor([-1, 0]))], IndexError, "Target -1 is out of bounds"),
        ([(torch.zeros(2, 6), torch.tensor([0, 1]))], RuntimeError, "images of torch.float32 found, expected"),
        ([(torch.zeros(2, 5, dtype=torch.float64), torch.tensor([0, 1]))], RuntimeError, "shape '.2, 6.' is invalid"),
        ([(torch.zeros(2, 6, dtype=torch.float64), torch.zeros(2))], RuntimeError, "labels .2,. of torch.float32"),
        (
            [(torch.zeros(2, 6, dtype=torch.float64), torch.tensor([0, 1, 2]))],
            ValueError,
            "2 images and 3 labels found, expected as many",
        ),
        ([], ValueError, "the loader yielded no batch"),
        (
            ResidentLoader(torch.zeros(2, 6, dtype=torch.uint8), torch.tensor([0, 1]), 1, shuffle=False),
            RuntimeError,
            "images of float32 found, expected torch.float64",
        ),
    ],
)
def test_what_c_does_not_check_is_checked_before(loader, error, says):
    """And nothing is trained."""
    one, before = model(), model()
    with pytest.raises(error, match=says):
        trained(native, one, loader)
    assert_same(one, before, 0.0)


def test_bytes_of_another_size_or_with_other_labels_are_told():
    """As of batches."""
    one = model(dtype=torch.float32)
    images = torch.zeros(2, 2, 2, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="is invalid for input of size 4"):
        trained(native, one, ResidentLoader(images, torch.tensor([0, 1]), 1, shuffle=False))
    with pytest.raises(ValueError, match="2 images and 3 labels found, expected as many"):
        trained(native, one, ResidentLoader(images, torch.tensor([0, 1, 2]), 1, shuffle=False))
    images = torch.zeros(2, 2, 3, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=r"resident images of torch.float32 found, expected torch.uint8"):
        trained(native, one, ResidentLoader(images.float(), torch.tensor([0, 1]), 1, shuffle=False))
    with pytest.raises(RuntimeError, match=r"images of \(2, 3\) found, expected \(6,\)"):
        trained(native, nn.Sequential(nn.Linear(6, 3)), ResidentLoader(images, torch.tensor([0, 1]), 1, shuffle=False))
    with pytest.raises(IndexError, match="Target 9 is out of bounds"):
        trained(native, one, ResidentLoader(images, torch.tensor([0, 9]), 1, shuffle=False))


def test_a_note_says_what_was_compiled(compiled_anew):
    """How wide a tile is on this CPU: two vectors."""
    one = model(dtype=torch.float32)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    note = native.prepare(one, batches([2]), nn.CrossEntropyLoss(), optimizer, "cpu")
    assert note.startswith(f"compiled for {native._library(torch.float32).width} hidden values at a time in ")
    assert native._library(torch.float32).width in (8, 16, 32)
    assert native._library(torch.float64).width == native._library(torch.float32).width / 2


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (None, r"there is no C compiler \(cc, gcc or clang\)"),
        ("no-such-compiler", r"the C compiler no-such-compiler does not start \(No such file or directory\)"),
        ("false", r"the C compiler false fails \(it says nothing\)"),
        ("cc -Dwidth=1+", r"the C compiler cc -Dwidth=1\+ fails \(.*error: .*\)"),
    ],
)
def test_a_machine_without_a_c_compiler_is_told_so(monkeypatch, compiled_anew, compiler, why):
    """One sentence, before anything is trained."""
    monkeypatch.delenv("CC", raising=False)
    if compiler is None:
        monkeypatch.setattr(native.shutil, "which", lambda _: None)
    else:
        monkeypatch.setenv("CC", compiler)
    one, before = model(), model()
    with pytest.raises(contract.Unsuitable, match=f"^engine native: {why}; the engines resident and reference"):
        trained(native, one, batches([2]))
    assert_same(one, before, 0.0)


@pytest.fixture
def compiler(tmp_path, monkeypatch, compiled_anew):
    """A C compiler that notes what it compiles, and a cache of its own."""
    script, log = tmp_path / "compiler", tmp_path / "log"
    script.write_text(f'#!/bin/sh\ncase "$*" in *native.c*) echo "$@" >> {log};; esac\nexec cc "$@"\n')
    script.chmod(0o700)
    log.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def start(cc=script):
        monkeypatch.setenv("CC", str(cc))
        native._library.cache_clear()
        one, other = model(), model()
        trained(native, one, batches([4]))
        trained(reference, other, batches([4]))
        assert_same(one, other, SAME)
        return len(log.read_text().splitlines())

    start.folder, start.script = tmp_path / "cache" / "mnist_loop", script
    return start


def test_what_was_compiled_is_kept(compiler):
    """For the same compiler and options; nothing else is left in the cache's folder."""
    assert [compiler(), compiler()] == [1, 1]
    assert [compiler(f"{compiler.script} -O1"), compiler()] == [2, 2]
    assert [file.suffix for file in compiler.folder.iterdir()] == [".so", ".so"]


def test_what_was_kept_and_is_damaged_is_compiled_again(compiler, tmp_path, monkeypatch):
    """It is replaced."""
    compiler()
    (kept,) = compiler.folder.iterdir()
    damaged = tmp_path / "other" / "mnist_loop" / kept.name  # elsewhere: a library in use stays as it was loaded
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no library")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert [compiler(), compiler()] == [2, 2]
    assert damaged.read_bytes() != b"no library"


def test_without_a_place_to_keep_it_it_is_compiled_each_time(compiler, monkeypatch):
    """As where the home folder cannot be written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert [compiler(), compiler()] == [1, 2]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda one: one.to(torch.bfloat16), "another dtype than float32 or float64"),
        (lambda one: one.fc2.double(), "another dtype than float32 or float64"),
    ],
)
def test_other_dtypes_are_refused(change, why):
    """One sentence."""
    one = model(dtype=torch.float32)
    change(one)
    with pytest.raises(contract.Unsuitable, match=why):
        trained(native, one, batches([2]))


def test_another_device_is_refused():
    """One sentence, wherever the model lies."""
    one = model()
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    with pytest.raises(contract.Unsuitable, match=r"^engine native: the device is cuda, expected the CPU; "):
        native.prepare(one, batches([2]), nn.CrossEntropyLoss(), optimizer, "cuda")
