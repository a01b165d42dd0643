"""Engines: each the same training as the lesson's loop, or one sentence that says why not."""

import copy
import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch._dynamo.utils
import torch._inductor.config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_loop.data import make_loaders
from mnist_loop.engines import compiled, contract, graphed, handwritten, native, reference, resident
from mnist_loop.engines.program import Steps, compile_for, state_of
from mnist_loop.errors import UserError
from mnist_loop.loop import fit
from mnist_loop.model import MLP, ProbeNet

# By which share of its norm a parameter may differ after a few steps in float64, as the engines promise. A step adds
# some units of 1.1e-16 for each of the sums that are taken in another order.
SAME = 1e-12

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


class ConvNet(nn.Module):
    """A small convolutional network, with a parameter that no loss depends on and one that is frozen.

    The convolution has no bias: before BatchNorm its gradient would be rounding alone, which Adam enlarges.
    """

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.25), nn.Flatten()
        )
        self.head = nn.Linear(4 * 13 * 13, 10)
        self.unused = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.full((10,), 0.5), requires_grad=False)

    def forward(self, images):
        return self.head(self.body(images)) * self.scale


MODELS = {"MLP": lambda: MLP(hidden_size=16), "ProbeNet": ProbeNet, "ConvNet": ConvNet}
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "decay": lambda parameters: torch.optim.SGD(parameters, lr=0.01, weight_decay=1e-3, maximize=True),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, eps=1e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, eps=1e-3, amsgrad=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3, eps=1e-3, momentum=0.5),
}


class In64:
    """The batches of a loader in float64."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return ((images.double(), labels) for images, labels in self.loader)

    def __len__(self):
        return len(self.loader)


@pytest.fixture(autouse=True)
def generators(no_leak):
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def few(digits):
    """The first images of the stand-in, as a data set of any size."""

    def take(train, test=10):
        splits = []
        for split, count in ((digits.train, train), (digits.test, test)):
            part = copy.copy(split)
            part.data, part.targets = split.data[:count], split.targets[:count]
            splits.append(part)
        return replace(digits, train=splits[0], test=splits[1])

    return take


@pytest.fixture
def uncompiled(monkeypatch):
    """Run the recorded steps as they were recorded: torch's compiler takes seconds, and is tried where it matters."""
    monkeypatch.setattr(compiled, "native_is_faster", lambda *_: False)
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, *_, **__: graph)


def train(engine, data, batch_size=8, model="MLP", optimizer="SGD", epochs=2, dtype=torch.float64, **options):
    """Train from the seed; return the model, the optimizer and the history."""
    torch.manual_seed(0)
    made = MODELS[model]().to(dtype)
    its_optimizer, loss_fn = OPTIMIZERS[optimizer](made.parameters()), nn.CrossEntropyLoss()
    loaders = engine.make_loaders(data, batch_size)
    if dtype == torch.float64:
        loaders = tuple(In64(loader) for loader in loaders)
    engine.prepare(made, loaders[0], loss_fn, its_optimizer, "cpu")
    chosen = {"train_one_epoch": engine.train_one_epoch, "evaluate": engine.evaluate, **options}
    return made, its_optimizer, fit(made, *loaders, loss_fn, its_optimizer, "cpu", epochs, **chosen)


def norm(values):
    return float(values.double().norm())


def assert_same(found, expected, tolerance):
    """Parameters, buffers and the optimizer's state, by the norm; and the history.

    The state is measured by the norm of its kind in all parameters: where a gradient is zero but for rounding, as of a
    bias before BatchNorm, so is its own norm.
    """
    model, optimizer = (state.state_dict() for state in found[:2])
    expected_model, expected_optimizer = (state.state_dict() for state in expected[:2])
    triples = [(model[name], value, norm(value)) for name, value in expected_model.items()]
    kinds = defaultdict(list)
    for index, of_one in expected_optimizer["state"].items():
        for kind, value in of_one.items():
            if value is not None:
                kinds[kind].append((optimizer["state"][index][kind], value))
    for pairs in kinds.values():
        whole = math.hypot(*(norm(value) for _, value in pairs))
        triples += [(one, other, whole) for one, other in pairs]
    for one, other, size in triples:
        assert norm(one.double() - other.double()) <= tolerance * size
    for one, other in zip(found[2], expected[2], strict=True):
        assert one.test_accuracy == other.test_accuracy
        assert abs(one.train_loss - other.train_loss) <= tolerance * other.train_loss
        assert abs(one.test_loss - other.test_loss) <= tolerance * other.test_loss


@settings(max_examples=40)
@given(
    images=st.integers(1, 70),
    batch_size=st.integers(1, 80),
    own_generator=st.booleans(),
    epochs=st.integers(1, 2),
    at_once=st.integers(1, 64),
)
def test_resident_batches_are_those_of_the_dataloader(few, images, batch_size, own_generator, epochs, at_once):
    """Bitwise, in the same order, epoch after epoch; and what they draw leaves the generator where it would be."""
    data, drawn = few(images), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident, "IMAGES_AT_ONCE", at_once)
        for make in (make_loaders, resident.make_loaders):
            torch.manual_seed(3)
            generator = torch.Generator().manual_seed(4) if own_generator else None
            train_loader, test_loader = make(data, batch_size, generator=generator)
            batches = [batch for _ in range(epochs) for loader in (train_loader, test_loader) for batch in loader]
            drawn.append((batches, torch.get_rng_state(), len(train_loader), len(test_loader)))
    (lesson, lesson_state, *lengths), (mine, state, *my_lengths) = drawn
    assert my_lengths == lengths
    assert torch.equal(state, lesson_state)
    for (images_, labels), (expected_images, expected_labels) in zip(mine, lesson, strict=True):
        assert torch.equal(images_, expected_images)
        assert torch.equal(labels, expected_labels)
        assert labels.dtype == expected_labels.dtype


@given(images=st.integers(1, 70), batch_size=st.integers(1, 9), batches=st.integers(1, 9), lead=st.integers(0, 3))
def test_chunks_are_the_batches_in_larger_pieces(few, images, batch_size, batches, lead):
    """A lead, then whole chunks, then what is left; of the training split in the epoch's order."""
    for loader in resident.make_loaders(few(images, images), batch_size):
        torch.manual_seed(0)
        chunks = list(loader.chunks(batches, lead))
        torch.manual_seed(0)
        labels = torch.cat([labels for _, labels in loader])
        assert torch.equal(torch.cat([labels for _, labels in chunks]), labels)
        sizes = [len(labels) for _, labels in chunks]
        assert sum(sizes) == images
        assert all(sizes)
        first = min(lead * batch_size, images)
        assert sizes[: lead > 0] == [first] * (lead > 0)
        assert all(size == batches * batch_size for size in sizes[lead > 0 : -1])


def test_resident_data_on_the_cpu_are_not_copied(few):
    """Both splits lie where the data set has them."""
    data = few(30)
    for loader, split in zip(resident.make_loaders(data), (data.train, data.test), strict=True):
        assert loader.images.data_ptr() == split.data.data_ptr()


def test_all_of_mnist_costs_under_60_mib(few):
    """Images and labels of both splits, on a device where they are a copy, with the order of an epoch."""
    data = few(1)
    for split, count in ((data.train, 60_000), (data.test, 10_000)):
        split.data, split.targets = torch.zeros(count, 28, 28, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    loaders = resident.make_loaders(data)
    held = [loaders[0].draw(), *(tensor for loader in loaders for tensor in (loader.images, loader.labels))]
    assert sum(tensor.nbytes for tensor in held) < 60 * 2**20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_resident_trains_to_the_same_bits(few, model, optimizer, dtype):
    """Parameters, buffers, the optimizer's state, the history and the generator, with a partial last batch."""
    data = few(45)
    found = train(resident, data, model=model, optimizer=optimizer, dtype=dtype)
    state = torch.get_rng_state()
    assert_same(found, train(reference, data, model=model, optimizer=optimizer, dtype=dtype), 0.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_resident_asks_of_the_optimizer_is_taken_back(few):
    """Also where training is interrupted."""
    model, optimizer, _ = train(resident, few(20))
    assert [group["fused"] for group in optimizer.param_groups] == [None]

    def interrupt(*_):
        assert [group["fused"] for group in optimizer.param_groups] == [True]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resident.train_one_epoch(
            model, In64(resident.make_loaders(few(20))[0]), nn.CrossEntropyLoss(), optimizer, "cpu", interrupt
        )
    assert [group["fused"] for group in optimizer.param_groups] == [None]


@pytest.mark.parametrize("engine", [handwritten, native])
@settings(max_examples=20)
@given(images=st.integers(1, 60), batch_size=st.integers(1, 20), epochs=st.integers(1, 3))
def test_the_chain_rule_by_hand_trains_the_same(few, engine, images, batch_size, epochs):
    """To 1e-12 in float64, with batches of any size and a partial last one."""
    data = few(images)
    found = train(engine, data, batch_size, epochs=epochs)
    assert_same(found, train(reference, data, batch_size, epochs=epochs), SAME)
    assert all(parameter.grad is None for parameter in found[0].parameters())


def test_what_is_reported_of_a_batch_is_its_loss(few, uncompiled, monkeypatch):
    """By every engine: the same numbers of the batches, and the same losses."""
    monkeypatch.setattr(compiled, "STEPS", range(2, 4))
    monkeypatch.setattr(compiled, "AT_ONCE", 2)
    reports = []
    for engine in (reference, resident, handwritten, native, compiled):
        seen = []
        torch.manual_seed(0)
        model = MLP(hidden_size=16).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        loader = In64(engine.make_loaders(few(20 * 8 + 3), 8)[0])
        mean = engine.train_one_epoch(
            model,
            loader,
            nn.CrossEntropyLoss(),
            optimizer,
            "cpu",
            lambda batch, loss, seen=seen: seen.append((batch, loss.item())),
        )
        sizes = [8] * 20 + [3]
        assert mean == pytest.approx(
            sum(n * loss for n, (_, loss) in zip(sizes, seen, strict=True)) / sum(sizes), rel=SAME
        )
        reports.append(seen)
    for report in reports[1:]:
        assert [batch for batch, _ in report] == list(range(21))
        assert [loss for _, loss in report] == pytest.approx([loss for _, loss in reports[0]], rel=SAME)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_recorded_steps_train_the_same(few, uncompiled, monkeypatch, model, optimizer):
    """To 1e-12 in float64, Dropout's masks and running statistics included; a later epoch records nothing."""
    assert_compiled_once_and_same(few, monkeypatch, model, optimizer)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param(model, optimizer, marks=() if (model, optimizer) == ("MLP", "momentum") else pytest.mark.slow)
        for model in MODELS
        for optimizer in OPTIMIZERS
    ],
)
def test_compiled_steps_train_the_same(few, monkeypatch, model, optimizer):
    """The same, with what torch's compiler makes of the recorded steps."""
    assert_compiled_once_and_same(few, monkeypatch, model, optimizer)


def assert_compiled_once_and_same(few, monkeypatch, model, optimizer):
    compilations = []
    compile_ = compiled._compile
    monkeypatch.setattr(compiled, "_compile", lambda *given: compilations.append(given) or compile_(*given))
    monkeypatch.setattr(compiled, "STEPS", range(2, 4))
    monkeypatch.setattr(compiled, "AT_ONCE", 2)
    data = few(8 * 8 + 5)
    try:
        found = train(compiled, data, model=model, optimizer=optimizer, epochs=3)
    except contract.Unsuitable as refused:
        if TORCH >= (2, 11):
            raise
        pytest.skip(f"torch {torch.__version__}, whose compiler draws Dropout's mask too late: {refused}")
    state = torch.get_rng_state()
    assert_same(found, train(reference, data, model=model, optimizer=optimizer, epochs=3), SAME)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(compilations) == 1


def test_compiled_steps_cut_the_data_themselves(few, uncompiled, monkeypatch):
    """From the bytes of the file, in float32; prepared before training, which then compiles nothing."""
    monkeypatch.setattr(compiled, "STEPS", range(3, 5))
    monkeypatch.setattr(compiled, "AT_ONCE", 3)
    data = few(8 * 8 + 5)
    torch.manual_seed(0)
    model = MLP(hidden_size=16)
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.05), nn.CrossEntropyLoss()
    loader, _ = compiled.make_loaders(data, 8)
    before = copy.deepcopy(model.state_dict()), torch.get_rng_state(), torch.get_num_threads()
    note = compiled.prepare(model, loader, loss_fn, optimizer, "cpu")
    assert note.startswith("compiled 3 steps as one function in ")
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == before[2]
    assert not optimizer.state

    monkeypatch.setattr(compiled, "_compile", None)
    compiled.train_one_epoch(model, loader, loss_fn, optimizer, "cpu")
    expected, _, _ = train(reference, data, epochs=1, dtype=torch.float32)
    unit = torch.finfo(torch.float32).eps / 2
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert (one - other).detach().norm() <= compiled.ROUNDINGS * unit * other.detach().norm()


@pytest.mark.parametrize(("optimizer", "products"), [("SGD", 4), ("momentum", 0), ("Adam", 0)])
def test_a_weight_is_updated_by_the_product_that_is_its_gradient(uncompiled, optimizer, products):
    """Two steps of two linear layers: where the update is the gradient times a number, and nowhere else."""
    torch.manual_seed(0)
    model, other = MLP(hidden_size=4).double(), MLP(hidden_size=4).double()
    other.load_state_dict(model.state_dict())
    images, labels = torch.rand(6, 784, dtype=torch.float64), torch.arange(6)
    made = [OPTIMIZERS[optimizer](one.parameters()) for one in (model, other)]
    for one, its_optimizer in zip((model, other), made, strict=True):
        reference.train_one_epoch(one, [(images, labels)], nn.CrossEntropyLoss(), its_optimizer, "cpu")
    with state_of(model, made[0]) as state, torch.no_grad():
        recorded = Steps(model, nn.CrossEntropyLoss(), made[0], 2).record(state, images, labels)
        graph = compile_for(1, recorded, state, images, labels)
        assert sum(node.target is torch.ops.mnist_loop.addmm_.default for node in graph.graph.nodes) == products
        losses = graph(state, images, labels)
    batches = list(zip(images.chunk(2), labels.chunk(2), strict=True))
    mean = reference.train_one_epoch(other, batches, nn.CrossEntropyLoss(), made[1], "cpu")
    assert float(losses.mean()) == pytest.approx(mean, rel=SAME)
    for one, expected in zip(model.parameters(), other.parameters(), strict=True):
        assert (one - expected).detach().norm() <= SAME * expected.detach().norm()


@pytest.mark.parametrize("optimizer", ["SGD", "decay", "momentum"])
@pytest.mark.parametrize("widths", [(784, 16, 10), (784, 33, 20, 10)])
def test_where_the_kernels_of_native_are_faster_they_train_the_same(few, monkeypatch, widths, optimizer):
    """Resident data in float32, the optimizer's state included; a partial last batch; a later epoch."""
    monkeypatch.setattr(compiled, "native_is_faster", lambda *_: True)
    monkeypatch.setattr(compiled, "_compile", None)
    ends = []
    for engine in (compiled, reference):
        torch.manual_seed(0)
        layers = [layer for sides in pairwise(widths) for layer in (nn.Linear(*sides), nn.ReLU())]
        model, loss_fn = nn.Sequential(nn.Flatten(), *layers[:-1]), nn.CrossEntropyLoss()
        its_optimizer = OPTIMIZERS[optimizer](model.parameters())
        loaders = engine.make_loaders(few(8 * 8 + 5), 8)
        note = engine.prepare(model, loaders[0], loss_fn, its_optimizer, "cpu")
        assert note.startswith("the kernels of native are faster: compiled for ") == (engine is compiled)
        its_epoch = engine.train_one_epoch
        ends.append(
            (model, its_optimizer, fit(model, *loaders, loss_fn, its_optimizer, "cpu", 3, train_one_epoch=its_epoch))
        )
    assert_same(*ends, compiled.ROUNDINGS * torch.finfo(torch.float32).eps / 2)


@pytest.mark.parametrize(
    ("model", "optimizer", "loss_fn", "compiler"),
    [
        (ProbeNet, torch.optim.SGD, nn.CrossEntropyLoss(), "cc"),
        (MLP, torch.optim.Adam, nn.CrossEntropyLoss(), "cc"),
        (MLP, torch.optim.SGD, nn.CrossEntropyLoss(label_smoothing=0.1), "cc"),
        (MLP, torch.optim.SGD, nn.CrossEntropyLoss(), "no-such-compiler"),
    ],
)
def test_what_native_cannot_train_is_compiled(few, uncompiled, monkeypatch, model, optimizer, loss_fn, compiler):
    """Whatever the trial would say."""
    monkeypatch.setattr(compiled, "native_is_faster", lambda *_: True)
    monkeypatch.setenv("CC", compiler)
    native._library.cache_clear()
    monkeypatch.setattr(compiled, "STEPS", range(2, 3))
    made = model()
    loader, _ = compiled.make_loaders(few(40), 8)
    note = compiled.prepare(made, loader, loss_fn, optimizer(made.parameters(), lr=0.1), "cpu")
    native._library.cache_clear()
    assert note.startswith("compiled 2 steps as one function")


def test_another_learning_rate_is_another_function(few, uncompiled, monkeypatch):
    """What was compiled for one is not used for the other."""
    monkeypatch.setattr(compiled, "STEPS", range(2, 3))
    monkeypatch.setattr(compiled, "AT_ONCE", 2)
    ends = []
    for engine in (reference, compiled):
        torch.manual_seed(0)
        model = MLP(hidden_size=4).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for lr in (0.05, 0.5, 0.05):
            optimizer.param_groups[0]["lr"] = lr
            loader = In64(engine.make_loaders(few(40), 8)[0])
            engine.train_one_epoch(model, loader, nn.CrossEntropyLoss(), optimizer, "cpu")
        ends.append([parameter.detach() for parameter in model.parameters()])
    for one, other in zip(*ends, strict=True):
        assert (one - other).detach().norm() <= SAME * other.detach().norm()


def test_what_was_compiled_once_is_served_from_the_cache(few, monkeypatch):
    """Torch's own, on the disk, so that the next process waits for seconds and not for the compiler."""
    if not torch._inductor.config.fx_graph_cache:
        pytest.skip(f"torch {torch.__version__} has its cache of graphs switched off")
    monkeypatch.setattr(compiled, "STEPS", range(2, 4))
    monkeypatch.setattr(compiled, "AT_ONCE", 2)
    results, hits = [], []
    for _ in range(2):
        torch._dynamo.utils.counters.clear()
        # as in the test of compiled steps: the first of the two may be served as well
        results.append(train(compiled, few(8 * 8 + 5), optimizer="momentum")[2])
        hits.append(torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"])
    assert hits[1] == 1
    assert results[0] == results[1]


def test_what_was_compiled_for_a_loss_is_not_used_for_another(few, uncompiled, monkeypatch):
    """Though it lies where the first one lay, so that it has its id."""
    monkeypatch.setattr(compiled, "STEPS", range(2, 3))
    torch.manual_seed(0)
    model = MLP(hidden_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader, _ = compiled.make_loaders(few(40), 8)
    ids = set()
    for _ in range(3):
        loss_fn = nn.CrossEntropyLoss()
        ids.add(id(loss_fn))
        compiled.prepare(model, loader, loss_fn, optimizer, "cpu")
        del loss_fn
    assert len(ids) == 3


@pytest.mark.parametrize("batches", [1, 2, 7, 8, 57, 936, 3749])
def test_few_batches_are_left_over(batches):
    """Of the numbers of steps that a call may have, the one that leaves the fewest; the smallest of these."""
    steps = compiled._best_steps(batches)
    if batches < 8:
        assert steps == (batches if batches > 1 else 0)
    else:
        assert batches % steps == min(batches % one for one in range(8, 17))


@pytest.fixture
def replayed(monkeypatch):
    """A stand-in for CUDA graphs on the CPU: what was captured is run when it is started; return the captures."""
    captures = []
    monkeypatch.setattr(graphed, "DEVICE", "cpu")
    monkeypatch.setattr(graphed, "capture", lambda work: captures.append(work) or work)
    return captures


@pytest.mark.parametrize("optimizer", ["SGD", "decay", "momentum"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("resident_data", [True, False])
def test_captured_steps_train_the_same(few, replayed, model, optimizer, resident_data):
    """On the CPU to the bit, with one capture for all epochs, of all whole batches but the first or of a step."""
    data = few(8 * 8 + 5)
    dtype = torch.float32 if resident_data else torch.float64
    found = train(graphed, data, model=model, optimizer=optimizer, epochs=3, dtype=dtype)
    assert_same(found, train(reference, data, model=model, optimizer=optimizer, epochs=3, dtype=dtype), 0.0)
    assert len(replayed) == 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=st.integers(1, 60), batch_size=st.integers(1, 20), epochs=st.integers(1, 3))
def test_captured_steps_of_any_number_train_the_same(few, replayed, images, batch_size, epochs):
    """Also where an epoch has no more batches than come before a capture; each loss is reported once, in order."""
    ends = []
    for engine in (graphed, reference):
        seen = []
        found = train(
            engine,
            few(images),
            batch_size,
            epochs=epochs,
            dtype=torch.float32,
            on_batch=lambda epoch, batch, loss, seen=seen: seen.append((epoch, batch, loss.item())),
        )
        ends.append((found, seen))
    (found, seen), (expected, expected_seen) = ends
    assert_same(found, expected, 0.0)
    assert seen == expected_seen


@pytest.mark.parametrize(
    ("device", "optimizer", "hook", "why"),
    [
        ("cpu", torch.optim.SGD, False, "the device is cpu, expected cuda"),
        ("cuda", torch.optim.SGD, True, "the module fc1 has hooks"),
        (
            "cuda",
            torch.optim.Adam,
            False,
            r"Adam reads its state from the device, expected Adam\(..., capturable=True\)",
        ),
    ],
)
def test_what_cannot_be_captured_is_refused(device, optimizer, hook, why):
    """One sentence, before anything is moved to a device."""
    model = MLP(hidden_size=4)
    if hook:
        model.fc1.register_forward_hook(lambda *_: None)
    made = optimizer(model.parameters(), lr=0.1)
    with pytest.raises(contract.Unsuitable, match=f"^engine graphed: {why}.*; the engines resident"):
        graphed.prepare(model, [], nn.CrossEntropyLoss(), made, device)


def test_steps_are_counted_exactly(few):
    """Lent in float64, where what is computed from them is; written back even if training is interrupted."""
    model, optimizer, _ = train(reference, few(20), optimizer="Adam")
    steps = [state["step"] for state in optimizer.state.values()]

    def interrupted():
        with state_of(model, optimizer) as lent:
            counts = [tensor for tensor in lent if tensor.dtype == torch.float64 and tensor.dim() == 0]
            assert len(counts) == len(steps)
            for count in counts:
                count.add_(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [float(step) for step in steps] == [7.0] * len(steps)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"model": ProbeNet()},
            "the model is ProbeNet, expected (the lesson's MLP|linear layers with ReLU)",
        ),
        ({"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.1)}, "the loss is another one"),
        ({"loss_fn": nn.CrossEntropyLoss(weight=torch.ones(10))}, "the loss is another one"),
        ({"loss_fn": nn.functional.mse_loss}, "the loss is another one"),
        (
            {"optimizer": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.5)},
            "the optimizer is another",
        ),
        ({"optimizer": lambda ps: torch.optim.Adam(ps)}, "the optimizer is another one"),
        ({"optimizer": lambda ps: torch.optim.SGD(list(ps)[:2], lr=0.1)}, "the optimizer holds other parameters"),
        ({"frozen": True}, "some parameters are frozen"),
        ({"hook": "module"}, "the module fc1 has hooks"),
        ({"hook": "parameter"}, "the parameter fc1.weight has hooks"),
        ({"hook": "optimizer"}, "the optimizer has hooks"),
    ],
)
@pytest.mark.parametrize("engine", [handwritten, native])
def test_what_is_not_the_lesson_is_not_trained_by_hand(few, engine, change, why):
    """One sentence, before any parameter has changed."""
    model = change.get("model", MLP(hidden_size=4))
    if change.get("frozen"):
        model.fc2.bias.requires_grad_(False)
    optimizer = change.get("optimizer", lambda ps: torch.optim.SGD(ps, lr=0.1))(model.parameters())
    hooks = {
        "module": lambda: model.fc1.register_forward_hook(lambda *_: None),
        "parameter": lambda: model.fc1.weight.register_hook(lambda grad: grad),
        "optimizer": lambda: optimizer.register_step_post_hook(lambda *_: None),
    }
    if "hook" in change:
        hooks[change["hook"]]()
    loss_fn = change.get("loss_fn", nn.CrossEntropyLoss())
    loader, _ = engine.make_loaders(few(20), 8)
    before = copy.deepcopy(model.state_dict())
    for call in (engine.prepare, engine.train_one_epoch):
        with pytest.raises(contract.Unsuitable, match=f"^engine (handwritten|native): {why}.*; the engines resident"):
            call(model, loader, loss_fn, optimizer, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_chain_rule_by_hand_is_that_of_a_plain_update(few):
    """Momentum is refused."""
    model = MLP(hidden_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(contract.Unsuitable, match=r"^engine handwritten: the optimizer is another one"):
        handwritten.prepare(model, [], nn.CrossEntropyLoss(), optimizer, "cpu")


class Moody(nn.Module):
    """Branches on its values, which nothing compiled can follow."""

    def __init__(self):
        super().__init__()
        self.input_shape = (784,)
        self.fc = nn.Linear(784, 10)

    def forward(self, images):
        outputs = self.fc(images)
        return outputs if outputs.sum() > 0 else 2 * outputs


class Counting(nn.Module):
    """Depends on how often it was called, which what was compiled does not know."""

    def __init__(self):
        super().__init__()
        self.input_shape = (784,)
        self.fc, self.calls = nn.Linear(784, 10), 0

    def forward(self, images):
        self.calls += 1
        return self.fc(images) * self.calls


@pytest.mark.parametrize(
    ("model", "optimizer", "why"),
    [
        (Moody, torch.optim.SGD, "torch's compiler fails here"),
        (Counting, torch.optim.SGD, "what was compiled does not compute what the loop does"),
        (MLP, lambda ps, lr: torch.optim.SGD(ps, lr=torch.tensor(lr)), "the learning rate is a tensor"),
        (MLP, lambda ps, lr: torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr), "the optimizer holds other"),
    ],
)
def test_what_cannot_be_compiled_is_refused(few, uncompiled, monkeypatch, model, optimizer, why):
    """One sentence, before any parameter has changed."""
    monkeypatch.setattr(compiled, "STEPS", range(2, 3))
    monkeypatch.setattr(compiled, "AT_ONCE", 2)
    made = model()
    loader, _ = compiled.make_loaders(few(40), 8)
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(contract.Unsuitable, match=f"^engine compiled: ({why}).*; the engines resident"):
        compiled.prepare(made, loader, nn.CrossEntropyLoss(), optimizer(made.parameters(), lr=0.1), "cpu")
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


class Pooled(nn.Module):
    """Max-pooling over pixels of which many are equal but for rounding; ``wrong`` as in `Counting`."""

    def __init__(self, wrong=False):
        super().__init__()
        self.input_shape, self.wrong, self.calls = (1, 28, 28), wrong, 0
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 5 * 5, 10),
        ).to(memory_format=torch.channels_last)

    def forward(self, images):
        self.calls += self.wrong
        return self.body(images) * (1 + self.calls)


@pytest.mark.parametrize("wrong", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_model_that_jumps_is_held_to_how_far_it_jumps_by_itself(few, monkeypatch, wrong):
    """Two numbers that are equal but for rounding change places: no error; what is computed wrongly still is one."""
    monkeypatch.setattr(compiled, "STEPS", range(2, 3))
    torch.manual_seed(0)
    model = Pooled(wrong)
    loader, _ = compiled.make_loaders(few(64 * 8), 64)
    optimizer, moves = torch.optim.SGD(model.parameters(), lr=0.05), []
    move = compiled._move
    monkeypatch.setattr(compiled, "_move", lambda model: moves.append(move(model)))
    if wrong:
        monkeypatch.setattr(torch._inductor, "compile", lambda graph, *_, **__: graph)  # is as wrong, and takes no time
        with pytest.raises(contract.Unsuitable, match="does not compute what the loop does"):
            compiled.prepare(model, loader, nn.CrossEntropyLoss(), optimizer, "cpu")
        assert len(moves) == compiled.MOVES
    else:
        assert compiled.prepare(model, loader, nn.CrossEntropyLoss(), optimizer, "cpu").startswith("compiled 2 steps")
        assert len(moves) > 0


def test_a_machine_without_a_compiler_is_told_so(few, monkeypatch):
    """Where torch.compile cannot work, in its own words."""

    def broken(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nin a longer story")

    monkeypatch.setattr(torch._inductor, "compile", broken)
    monkeypatch.setattr(compiled, "native_is_faster", lambda *_: False)
    model = MLP(hidden_size=4)
    loader, _ = compiled.make_loaders(few(80), 8)
    with pytest.raises(
        contract.Unsuitable,
        match=r"torch's compiler fails here \(RuntimeError: InvalidCxxCompiler: No working C\+\+ compiler found\); the",
    ):
        compiled.prepare(model, loader, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), "cpu")


def test_an_epoch_of_few_batches_is_not_compiled(few, uncompiled):
    """Two batches: one is the lead, the other is alone."""
    model = MLP(hidden_size=4)
    loader, _ = compiled.make_loaders(few(16), 8)
    note = compiled.prepare(model, loader, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), "cpu")
    assert note.startswith("an epoch has too few batches to compile for")


def test_engines_are_known_by_name():
    """Each is a module with the functions of the contract."""
    for name in contract.NAMES:
        engine = contract.load(name)
        for function in ("make_loaders", "prepare", "train_one_epoch", "evaluate"):
            assert callable(getattr(engine, function))
    with pytest.raises(UserError, match=r"^engine 'warp': not known, expected reference, resident, "):
        contract.load("warp")
