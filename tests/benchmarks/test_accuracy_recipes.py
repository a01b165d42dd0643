"""Time to accuracy of the recipes: what they are, that the test set is looked at once, what is stored and shown."""

import copy
import json
import os
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import trainings
from benchmarks.accuracy.accuracy_table import accuracy_markdown, t_interval
from benchmarks.accuracy.recipes import RECIPES, Recipe
from benchmarks.accuracy.trainings import AccuracyBenchmark, Training, held_out, read_trainings
from mnist_loop.engines import resident
from mnist_loop.engines.contract import Unsuitable
from mnist_loop.errors import UserError
from mnist_loop.loop import shape_input
from mnist_loop.model import MLP

PLAIN = Recipe(
    50, "MLP 784-16-10", lambda: MLP(hidden_size=16), 20, (0.05, 0.05, 0.01), "resident", options={"momentum": 0.5}
)
HEAD = {
    "mnist_loop_accuracy": 1,
    "data": "MNIST",
    "validation": False,
    "threads": 1,
    "engine": None,
    "recipes": [PLAIN.facts()],
    "machine": {"cpu": "A CPU", "logical_cores": 2},
    "software": {"torch": "2.15.0", "python": "3.13.0"},
}


@pytest.fixture(autouse=True)
def same_generator():
    """Torch's own is left as it was."""
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def few(digits):
    """The first images of the stand-in, as a data set."""
    return replace(digits, train=part(digits.train, 640), test=part(digits.test, 60))


def part(split, images):
    found = copy.copy(split)
    found.data, found.targets = split.data[:images], split.targets[:images]
    return found


@pytest.fixture
def trained(monkeypatch):
    """Let each training say what it is told to, and list those that were asked for."""
    asked = []

    def tell(answers):
        says = iter(answers)

        def train(recipe, seed, engine, data, *, first=False):
            asked.append((recipe.target, seed))
            answer = next(says)
            if isinstance(answer, BaseException):
                raise answer
            return made_up(target=recipe.target, seed=seed, engine=engine, accuracy=answer, first=first)

        monkeypatch.setattr(trainings, "train_recipe", train)
        return asked

    return tell


@pytest.fixture
def call(few, monkeypatch, capsys):
    """Run the command on the few images; return its exit code, and what it printed."""
    monkeypatch.setattr(command, "load_data", lambda where: few)

    def call(*options):
        try:
            code = command.main(list(map(str, options)))
        except SystemExit as stop:  # as argparse ends
            code = stop.code
        return code, *capsys.readouterr()

    return call


def made_up(**changes):
    plain = {"target": 50, "seed": 0, "engine": "resident", "epochs": 3, "accuracy": 0.5, "first": False}
    return Training(**{**plain, "train_s": 2.0, "prepare_s": 0.0, "evaluate_s": 0.25, **changes})


def spy(monkeypatch):
    """Let the resident engine note what it is asked to do."""
    done = []

    def prepare(model, loader, loss_fn, optimizer, device):
        done.append(("prepare", optimizer.param_groups[0]["lr"]))
        return ""

    def train_one_epoch(model, loader, loss_fn, optimizer, device):
        done.append(("train", optimizer.param_groups[0]["lr"]))
        return resident.train_one_epoch(model, loader, loss_fn, optimizer, device)

    engine = SimpleNamespace(
        make_loaders=resident.make_loaders, prepare=prepare, train_one_epoch=train_one_epoch, evaluate=resident.evaluate
    )
    monkeypatch.setattr(trainings.engines, "load", lambda name: engine)
    return done


# The recipes


@pytest.mark.parametrize("target", RECIPES)
def test_a_recipe_trains(few, target):
    """Images of the lesson's shape give ten logits each; over three epochs the loss falls to less than half."""
    recipe = RECIPES[target]
    torch.manual_seed(0)
    model = recipe.model()
    optimizer = recipe.optimizer(model.parameters(), lr=recipe.rates[0], **recipe.options)
    loader, _ = resident.make_loaders(few, recipe.batch_size)
    losses = [resident.train_one_epoch(model, loader, nn.CrossEntropyLoss(), optimizer, "cpu") for _ in range(4)]
    assert losses[-1] < losses[0] / 2
    model.eval()
    images = next(iter(loader))[0]
    logits = model(shape_input(images, model))
    assert logits.shape == (len(images), 10)
    assert torch.equal(model(shape_input(images.flatten(1), model)), logits)


# Training


def test_no_test_image_is_looked_at_before_the_last_epoch(few, monkeypatch):
    """Neither image nor label; and then once."""
    done, looked = spy(monkeypatch), []

    class Closed:
        """A test split that may be read when all epochs are done."""

        def __getattr__(self, name):
            assert [what for what, _ in done].count("train") == len(PLAIN.rates), f"{name} was read too early"
            looked.append(name)
            return getattr(few.test, name)

    result = trainings.train_recipe(PLAIN, 0, "resident", replace(few, test=Closed()))
    assert looked == ["data", "targets"]
    assert 0.2 < result.accuracy < 1


def test_choosing_leaves_the_test_set_alone(few, monkeypatch, tmp_path):
    """With --validation it is never read."""
    monkeypatch.setattr(trainings, "held_out", lambda data: held_out(data, 40))

    class Closed:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was read")

    closed = replace(few, test=Closed())
    AccuracyBenchmark([PLAIN], 1, closed, "resident", validation=True).run(tmp_path / "results", lambda _: None)
    _, (result,) = read_trainings(tmp_path / "results")
    assert 0 < result.accuracy < 1


def test_what_is_held_out_is_not_trained_on(few):
    """The last images are, all others are trained on, and each keeps its label."""
    split = part(few.train, 100)
    split.data = torch.arange(100, dtype=torch.uint8).reshape(100, 1, 1).expand(100, 28, 28)
    split.targets = torch.arange(100)
    found = held_out(replace(few, train=split), 30)
    assert found.train.targets.tolist() == list(range(70))
    assert found.test.targets.tolist() == list(range(70, 100))
    for one in (found.train, found.test):
        assert torch.equal(one.data[:, 5, 5].long(), one.targets)
    assert len(split.targets) == 100
    with pytest.raises(UserError, match="100 training images found, expected more than the 100 held out"):
        held_out(replace(few, train=split), 100)


def test_each_rate_is_prepared_before_training_and_used_in_its_epoch(few, monkeypatch):
    """Each once; so that nothing is compiled while the clock of the training runs."""
    done = spy(monkeypatch)
    trainings.train_recipe(PLAIN, 0, "resident", few)
    assert done == [("prepare", 0.05), ("prepare", 0.01), ("train", 0.05), ("train", 0.05), ("train", 0.01)]


def test_a_seed_decides_the_result(few):
    """The same seed, the same accuracy; another one, another; and the caller's generator goes on as it was."""
    state = torch.get_rng_state()
    accuracies = [trainings.train_recipe(PLAIN, seed, "resident", few).accuracy for seed in (0, 0, 1, 2, 3)]
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies)) > 1
    assert torch.equal(torch.get_rng_state(), state)


def test_the_clocks_run_apart(few, monkeypatch):
    """Preparing, training and evaluating: each has its own seconds."""
    now = iter([10.0, 13.0, 20.0, 20.5])
    monkeypatch.setattr(trainings.time, "perf_counter", lambda: next(now))
    result = trainings.train_recipe(PLAIN, 0, "resident", few)
    assert (result.prepare_s, result.train_s, result.evaluate_s) == (3.0, 7.0, 0.5)


def test_what_an_engine_cannot_train_another_does(few, monkeypatch, tmp_path):
    """One sentence, for all seeds together, and the lines name the engine that trained."""
    tried = []

    def refuse(*_):
        tried.append(None)
        raise Unsuitable("engine compiled: no compiler; the engines resident and reference train it")

    monkeypatch.setattr("mnist_loop.engines.compiled.prepare", refuse)
    said = []
    AccuracyBenchmark([PLAIN], 2, few, "compiled").run(tmp_path / "results", said.append)
    told = "50 %: engine compiled: no compiler; the engines resident and reference train it; going on with resident"
    assert said.count(told) == 1
    assert len(tried) == 1
    _, results = read_trainings(tmp_path / "results")
    assert [(result.engine, result.first) for result in results] == [("resident", True), ("resident", False)]


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_compiler_starts_from_nothing(monkeypatch, before):
    """In an empty folder, which goes; the caller's is used again afterwards."""
    monkeypatch.delenv(trainings.CACHE, raising=False)
    if before is not None:
        monkeypatch.setenv(trainings.CACHE, before)
    with trainings.nothing_compiled_yet():
        folder = os.environ[trainings.CACHE]
        assert os.listdir(folder) == []  # noqa: PTH208  # the variable is a string
    assert os.environ.get(trainings.CACHE) == before
    assert not os.path.exists(folder)  # noqa: PTH110


# What is stored


def test_each_training_is_a_line(few, tmp_path, trained):
    """After the machine's facts; seed by seed, each target in turn."""
    asked = trained([0.5, 0.6, 0.7, 0.8])
    other = replace(PLAIN, target=60)
    AccuracyBenchmark([PLAIN, other], 2, few).run(tmp_path / "folder" / "results", lambda _: None)
    assert asked == [(50, 0), (60, 0), (50, 1), (60, 1)]
    head, *lines = map(json.loads, (tmp_path / "folder" / "results").read_text().splitlines())
    assert head["machine"]["hash"]
    assert head["software"]["torch"] == torch.__version__
    assert [line["accuracy"] for line in lines] == [0.5, 0.6, 0.7, 0.8]
    assert [line["first"] for line in lines] == [True, True, False, False]
    assert head["recipes"] == [PLAIN.facts(), other.facts()]


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(tmp_path, trained, call):
    """Exit code 130, the table of what there is; then the missing seeds alone are trained."""
    path = tmp_path / "results"
    asked = trained([0.98, 0.99, KeyboardInterrupt(), 0.97])
    code, out, _ = call("--targets", "97", "--seeds", "3", "-o", path, "--threads", "1")
    assert code == 130
    assert len(path.read_text().splitlines()) == 3
    assert "| 97 % |" in out
    path.write_text(path.read_text() + '{"target": 97, "se')  # as a kill leaves it
    code, out, _ = call("--targets", "97", "--seeds", "3", "-o", path, "--threads", "1")
    assert code == 0
    assert asked == [(97, 0), (97, 1), (97, 2), (97, 2)]
    assert [result.accuracy for result in read_trainings(path)[1]] == [0.98, 0.99, 0.97]
    assert "yes; 3 of 3 seeds" in out


def test_results_of_different_runs_do_not_mix(few, tmp_path, trained):
    """What differs is named, and the file stays as it is."""
    path = tmp_path / "results"
    trained([0.5] * 9)
    AccuracyBenchmark([PLAIN], 1, few).run(path, lambda _: None)
    before = path.read_bytes()
    for change, name in (
        ({"validation": True}, "validation"),
        ({"recipes": [replace(PLAIN, rates=(0.2,))]}, "recipes"),
        ({"engine": "reference"}, "engine"),
    ):
        with pytest.raises(UserError, match=f"holds results of other {name}; go on as they were made, or name another"):
            replace(AccuracyBenchmark([PLAIN], 2, few), **change).run(path, lambda _: None)
    assert path.read_bytes() == before


# What is shown


def test_the_interval_is_students():
    """97.0, 97.2 and 97.4: mean 97.2, standard deviation 0.2, t = 4.3027 at two degrees of freedom."""
    low, high = t_interval([97.0, 97.2, 97.4])
    assert low == pytest.approx(97.2 - 4.302653 * 0.2 / 3**0.5, abs=1e-6)
    assert high == pytest.approx(97.2 + 4.302653 * 0.2 / 3**0.5, abs=1e-6)
    assert t_interval([3.0, 3.0]) == (3.0, 3.0)
    assert t_interval([3.0]) is None


def test_the_table_says_what_the_lines_say():
    """Mean and interval, seeds that reach it, compiling at first and later; where it was measured."""
    results = [
        made_up(seed=0, accuracy=0.498, engine="compiled", prepare_s=60.0, train_s=2.0, first=True),
        made_up(seed=1, accuracy=0.502, engine="compiled", prepare_s=3.0, train_s=2.1),
        made_up(seed=2, accuracy=0.506, engine="compiled", prepare_s=4.0, train_s=2.2),
    ]
    table = accuracy_markdown(HEAD, results).splitlines()
    assert table[0].startswith("| target | model | epochs | engine | seeds | accuracy |")
    assert table[2] == (
        "| 50 % | MLP 784-16-10 | 3 | compiled | 3 | 50.20 % [49.21, 51.19] | yes; 2 of 3 seeds "
        "| 2.1 s [1.85, 2.35] | 60 s, 3.5 s | 250 ms |"
    )
    assert table[-1].startswith("*A CPU, 2 logical cores; CPU threads: 1; torch 2.15.0, Python 3.13.0; data: MNIST;")
    assert "test set, looked at once" in table[-1]
    held = accuracy_markdown({**HEAD, "validation": True}, results)
    assert "the last 10000 training images" in held
    assert "test set" not in held


@pytest.mark.parametrize(
    ("accuracies", "said"), [([0.49], "no; 0 of 1"), ([0.45, 0.54], "no; 1 of 2"), ([0.5], "yes; 1")]
)
def test_a_target_is_reached_where_the_mean_is_no_less(accuracies, said):
    """Whatever single seeds say."""
    results = [made_up(seed=seed, accuracy=accuracy) for seed, accuracy in enumerate(accuracies)]
    assert f"| {said}" in accuracy_markdown(HEAD, results)


def test_the_command_shows_what_is_stored(tmp_path, call, trained):
    """--show trains nothing."""
    asked = trained([])
    path = tmp_path / "results"
    path.write_text("".join(json.dumps(line) + "\n" for line in (HEAD, asdict(made_up()))))
    code, out, _ = call("--show", path)
    assert (code, asked) == (0, [])
    assert out == accuracy_markdown(HEAD, [made_up()])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--targets", "96"], "'96' found, expected some of 97,98,99"),
        (["--targets", ""], "'' found, expected some of 97,98,99"),
        (["--seeds", "0"], "'0' found, expected a whole number of at least 1"),
        (["--threads", "none"], "'none' found, expected a whole number"),
        (["--engine", "steam"], "'steam' found, expected reference, resident"),
        (["--show", "nowhere"], "nowhere: cannot be read (No such file or directory), expected what"),
        (["--show", "pyproject.toml"], "pyproject.toml: damaged ("),
        (["--show", "README.md/x"], "cannot be read (Not a directory)"),
    ],
)
def test_misuse_is_one_sentence(call, options, says):
    """And exit code 2."""
    code, out, err = call(*options)
    assert (code, out) == (2, "")
    assert err.startswith("python -m benchmarks.accuracy: ")
    assert err.count("\n") == 1
    assert says in err
