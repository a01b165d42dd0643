"""Products of the compiled engine: by which library, and with how many threads."""

import time

import pytest
import torch
from torch import nn

from mnist_loop.engines import compiled, products, reference
from mnist_loop.engines.program import Steps, compile_for, state_of
from mnist_loop.model import MLP

HAS_ONEDNN = torch.backends.mkldnn.is_available()
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch was built without oneDNN")


@pytest.fixture(autouse=True)
def forget(no_leak):
    """What was measured before, and what is measured and drawn here."""
    products._onednn_is_faster.cache_clear()
    with torch.random.fork_rng():
        yield
    products._onednn_is_faster.cache_clear()


@pytest.fixture
def clock(monkeypatch):
    """Let BLAS take a second, and oneDNN as many as are set."""
    seconds = {"onednn": 1.0}

    def take(work):
        work()
        return 1.0 if work.func is torch.mm else seconds["onednn"]

    monkeypatch.setattr(products.trials, "seconds", take)
    return seconds


def layouts(dtype=torch.float32, columns=5):
    return [products._Layout.of(torch.ones(size, dtype=dtype)) for size in ((3, 4), (4, columns))]


@needs_onednn
@pytest.mark.parametrize(("seconds", "faster"), [(0.89, True), (0.91, False), (2.0, False)])
def test_the_faster_library_is_taken(clock, seconds, faster):
    """By a tenth at least, which is what a sum of its own costs."""
    clock["onednn"] = seconds
    assert products._onednn_is_faster(*layouts(), 1) is faster


@needs_onednn
def test_each_shape_and_number_of_threads_is_measured_once(clock, monkeypatch):
    """Another shape may be another answer, and so may another number of threads."""
    assert not products._onednn_is_faster(*layouts(), 1)
    clock["onednn"] = 0.1
    assert not products._onednn_is_faster(*layouts(), 1)
    assert products._onednn_is_faster(*layouts(), 2)
    assert products._onednn_is_faster(*layouts(columns=6), 1)


def test_only_float32_has_two_libraries(clock):
    """OneDNN knows no float64."""
    clock["onednn"] = 0.1
    assert not products._onednn_is_faster(*layouts(torch.float64), 1)


def test_a_torch_without_onednn_has_one_library(clock, monkeypatch):
    """What fails when it is tried is not taken."""
    clock["onednn"] = 0.1

    def fail(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.ops.mnist_loop.onednn_mm, "default", fail)
    assert not products._onednn_is_faster(*layouts(), 1)


@needs_onednn
@pytest.mark.parametrize("by_onednn", [True, False])
def test_products_of_both_libraries_train_the_same(monkeypatch, by_onednn):
    """Two steps: forward products with a bias and without, and those that are gradients."""
    monkeypatch.setattr(products, "_onednn_is_faster", lambda *_: by_onednn)
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, *_, **__: graph)
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10, bias=False)) for _ in range(2))
    other.load_state_dict(model.state_dict())
    made = [torch.optim.SGD(one.parameters(), lr=0.05) for one in (model, other)]
    images, labels, loss_fn = torch.rand(16, 784), torch.arange(16) % 10, nn.CrossEntropyLoss()
    with state_of(model, made[0]) as state, torch.no_grad():
        recorded = Steps(model, loss_fn, made[0], 2).record(state, images, labels)
        function = compile_for(1, recorded, state, images, labels)
        targets = [node.target for node in function.graph.nodes]
        losses = function(state, images, labels)
    assert targets.count(torch.ops.mnist_loop.onednn_mm.default) == (10 if by_onednn else 0)
    assert targets.count(torch.ops.mnist_loop.addmm_.default) == (0 if by_onednn else 4)
    batches = list(zip(images.chunk(2), labels.chunk(2), strict=True))
    mean = reference.train_one_epoch(other, batches, loss_fn, made[1], "cpu")
    unit = torch.finfo(torch.float32).eps / 2
    assert float(losses.mean()) == pytest.approx(mean, rel=compiled.ROUNDINGS * unit)
    for one, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert (one - expected).detach().norm() <= compiled.ROUNDINGS * unit * expected.detach().norm()


@needs_onednn
def test_the_compiler_calls_onednn(monkeypatch):
    """The compiled function itself, not its record alone."""
    monkeypatch.setattr(products, "_onednn_is_faster", lambda *_: True)
    torch.manual_seed(0)
    model = MLP(hidden_size=16)
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.05), nn.CrossEntropyLoss()
    images, labels = torch.rand(16, 784), torch.arange(16) % 10
    with state_of(model, optimizer) as state, torch.no_grad():
        recorded = Steps(model, loss_fn, optimizer, 2).record(state, images, labels)
        function = compile_for(1, recorded, state, images, labels)
        called = []
        product = torch.ops.mkldnn._linear_pointwise
        monkeypatch.setattr(
            torch.ops.mkldnn, "_linear_pointwise", lambda *given: called.append(given) or product(*given)
        )
        function(state, images, labels)
    assert len(called) == 10


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_fastest_number_of_threads_is_found(monkeypatch, best):
    """By running the steps with each, on copies; torch's own number stays."""
    now = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: now.__setitem__(0, number))
    state = [torch.zeros(1)]

    def steps(given, images, labels):
        given[0].add_(1)
        time.sleep(0.001 if now[0] == best else 0.004)

    assert compiled._fastest_threads(steps, state, torch.zeros(1), torch.zeros(1)) == best
    assert now == [4]
    assert float(state[0]) == 0
