"""The contract: any loop's parameters are bound by their names, and what cannot be bound is told with an adapter."""

import asyncio
import functools
import inspect
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mnist_loop.loop
from mnist_loop.errors import UserError
from mnist_loop.verification.binding import intentions, roles
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.intentions import Intentions, declare

DOCS = Path(__file__).parents[2] / "docs" / "contract.md"

# What a run is handed: of each role its own name, so that a loop can say what arrived where.
VALUES = {role.name: role.name for role in roles.ROLES if role.name not in ("args", "loaders", "sizes")}


def module_of(source, name="their_train"):
    """Make a module of the source, as if it had been imported."""
    module = types.ModuleType(name)
    module.__file__ = f"/nowhere/{name}.py"
    exec(compile(source, module.__file__, "exec"), vars(module))  # noqa: S102  # it is written here
    return module


@pytest.fixture
def imported(monkeypatch):
    """Return a function that imports a source."""

    def do(source, name="their_train"):
        module = module_of(source, name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return do


def refusal(loop, *args, **declared):
    """Return the sentence with which ``loop`` is refused."""
    with pytest.raises(UserError) as refused:
        bind(loop, *args, **declared)
    return str(refused.value)


def result(loop, **values):
    """Bind and train once."""
    return bind(loop).begin({**VALUES, **values}).train({**VALUES, **values})


# --- names ---------------------------------------------------------------------------------------------------------

NAMED = [
    (name, role.name)
    for role in roles.ROLES
    for name in role.names
    if role.name not in ("path", "loaders", "args", "sizes")
]


def test_no_name_means_two_roles():
    """Each spelling stands in the table once, or one of the two would never be heard of."""
    seen = {}
    for role in roles.ROLES:
        for name in {roles._key(name) for name in role.names}:
            assert seen.setdefault(name, role.name) == role.name
    assert not {roles._key(name) for name in roles.OPEN} & set(seen)


@given(data=st.data())
def test_any_known_names_in_any_order_are_bound(data):
    """Each parameter gets the value of its role: any subset, order, spelling, case, and kind of parameter."""
    chosen = data.draw(st.lists(st.sampled_from(NAMED), unique_by=lambda pair: pair[1], max_size=12))
    chosen = [pair for pair in chosen if pair[1] not in ("model", "train_loader", "train_set", "args", "optimizer")]
    chosen += [("model", "model"), ("trainloader", "train_loader")]
    chosen = data.draw(st.permutations(chosen))
    spell = st.sampled_from([str, str.upper, str.title, lambda name: name.replace("_", ""), lambda name: f"_{name}"])
    spelled = [(data.draw(spell)(name), role) for name, role in chosen]
    first_keyword = data.draw(st.integers(0, len(spelled)))
    names = [name for name, _ in spelled]
    listed = [*names[:first_keyword], *(["*"] if first_keyword < len(names) else []), *names[first_keyword:]]
    if data.draw(st.booleans()) and first_keyword:
        listed.insert(first_keyword, "/")
    source = f"def train({', '.join(listed)}): return [{', '.join(names)}]"
    assert result(module_of(source).train) == [role for _, role in spelled]


def test_each_name_of_the_table_is_bound():
    """Each spelling that the table lists means its role; a name that could mean anything means none."""
    for name, role in NAMED:
        assert role in roles.meanings(name, "train"), name
    for name in ("x", "y", "inputs", "images", "train", "generator", "metric", "logger", "batch", "n"):
        assert roles.meanings(name, "train") == (), name


def test_a_loader_that_does_not_say_of_what():
    """It is the training data for what trains, the test data for what evaluates."""
    for name in ("loader", "dataloader", "data_loader", "dl", "data", "iterator"):
        source = f"def train(model, {name}): return {name}\ndef evaluate(model, {name}): return {name}"
        module = module_of(source)
        run = bind(module.train, evaluate=module.evaluate).begin(VALUES)
        assert (run.train(VALUES), run.evaluate(VALUES)) == ("train_loader", "test_loader")


def test_data_is_a_set_where_a_batch_size_is_taken():
    """Who takes a batch size builds the loaders; an annotation decides before that."""

    def sized(model, train_data, val_data, batch_size):
        return train_data, val_data

    def annotated(model, train_data: torch.utils.data.DataLoader, batch_size):
        return train_data

    def plain(model, train_data, val_data):
        return train_data, val_data

    def as_text(model, data: "torch.utils.data.Dataset"):  # as with from __future__ import annotations
        return data

    assert result(sized) == ("train_set", "val_set")
    assert result(annotated) == "train_loader"
    assert result(plain) == ("train_loader", "val_loader")
    assert result(as_text) == "train_set"


def test_opt_is_the_settings_where_the_optimizer_is_another():
    """Older code calls the parsed options so."""
    assert result(lambda opt, net, loader: opt) == "optimizer"
    assert result(lambda opt, net, loader, optimizer: opt.lr) == "lr"


# --- real signatures -----------------------------------------------------------------------------------------------


def test_the_official_example(imported):
    """`train(args, model, device, train_loader, optimizer, epoch)`, and `test` is found beside it."""
    module = imported(
        "def train(args, model, device, train_loader, optimizer, epoch):\n"
        "    return args.log_interval, args.dry_run, args.lr, epoch\n"
        "def test(model, device, test_loader): return test_loader\n"
    )
    contract = bind(module.train)
    assert contract.roles == {"args", "model", "device", "train_loader", "optimizer", "epoch"}
    assert contract.evaluate_roles == {"model", "device", "test_loader"}
    assert (contract.whole_fit, contract.found_evaluate_by) == (False, "beside")
    run = contract.begin(VALUES)
    assert run.train(VALUES) == (10, False, "lr", "epoch")
    assert run.evaluate(VALUES) == "test_loader"


def test_the_quickstart(imported):
    """`train(dataloader, model, loss_fn, optimizer)` and `test(dataloader, model, loss_fn)`."""
    module = imported(
        "def train(dataloader, model, loss_fn, optimizer): return dataloader\n"
        "def test(dataloader, model, loss_fn): return dataloader\n"
    )
    run = bind(module.train).begin(VALUES)
    assert (run.train(VALUES), run.evaluate(VALUES)) == ("train_loader", "test_loader")


def test_the_torchvision_references():
    """Classification, whose last two have defaults, and detection, which wants a print_freq."""

    def classification(model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None, scaler=None):
        return data_loader, args.clip_grad_norm, args.print_freq, model_ema, scaler

    def detection(model, optimizer, data_loader, device, epoch, print_freq, scaler=None):
        return print_freq

    assert result(classification, scaler=None) == ("train_loader", "clip", 10, None, None)
    assert result(detection) == 10
    assert bind(detection).roles == {"model", "optimizer", "train_loader", "device", "epoch", "scaler"}


def test_the_transfer_learning_tutorial(imported):
    """Its loaders are globals."""
    module = imported(
        "def train_model(model, criterion, optimizer, scheduler, num_epochs=25):\n"
        "    return dataloaders['train'], dataloaders['val'], num_epochs\n",
        "transfer",
    )
    assert bind(module.train_model).whole_fit is True
    assert result(module.train_model) == ("train_loader", "val_loader", "epochs")


def test_the_fine_tuning_tutorial():
    """`train_model(model, dataloaders, criterion, optimizer, num_epochs=25)` takes a dict with train and val."""

    def train_model(model, dataloaders, criterion, optimizer, num_epochs=25, is_inception=False):
        return list(dataloaders.items()), dataloaders["valid"], dataloaders["test"]

    pairs = [("train", "train_loader"), ("val", "val_loader")]
    assert result(train_model) == (pairs, "val_loader", "test_loader")
    assert {"train_loader", "val_loader"} <= bind(train_model).roles


def test_mingpt():
    """A Trainer of settings, model and data set, whose run() runs it all."""

    class Trainer:
        def __init__(self, config, model, train_dataset):
            self.config, self.ds = config, train_dataset

        def add_callback(self, onevent, callback): ...

        def run(self):
            return self.config.learning_rate, self.config["batch_size"], self.ds

    contract = bind(Trainer)
    assert (contract.roles, contract.whole_fit) == ({"args", "model", "train_set"}, True)
    assert contract.begin(VALUES).train(VALUES) == ("lr", "batch_size", "train_set")


def test_the_reference():
    """The loop of this package is bound as it stands."""
    contract = bind(mnist_loop.loop.train_one_epoch)
    assert contract.roles == {"model", "train_loader", "loss_fn", "optimizer", "device"}
    assert contract.evaluate_roles == {"model", "test_loader", "loss_fn", "device"}
    assert contract.name == "loop.py:train_one_epoch"
    assert bind(mnist_loop.loop.fit).whole_fit is True


@pytest.mark.parametrize(
    ("signature", "whole"),
    [
        ("train(model, loader)", False),
        ("train(model, loader, epochs)", True),
        ("train(model, loader, epoch)", False),
        ("train(model, loader, epoch, n_epochs)", False),
        ("train_one_epoch(model, loader, epochs)", False),
        ("train(model, train_set, batch_size)", True),
        ("train(model, loader, train_set)", False),
    ],
)
def test_one_epoch_or_all(signature, whole):
    """A call trains all epochs where it takes how many and not which one, or builds its own loaders."""
    module = module_of(f"def {signature}: pass")
    assert bind(vars(module)[signature.split("(")[0]]).whole_fit is whole


def test_a_number_of_epochs_from_elsewhere():
    """A function that reads how many epochs from its settings, a global or a variable trains them all."""

    def by_settings(args, model, loader):
        for _ in range(args.n_epochs):
            pass

    def by_variable(model, loader):
        num_epochs = 3
        for _ in range(num_epochs):
            pass

    def fit(model, loader): ...

    assert not bind(fit).whole_fit
    assert bind(Trainer.static).whole_fit is False
    assert bind(type("Fitter", (), {"fit": lambda self, model, loader: None})).whole_fit
    assert bind(by_settings).whole_fit
    assert bind(by_variable).whole_fit


# --- kinds of callables --------------------------------------------------------------------------------------------


class Trainer:
    """A loop as many write it."""

    def __init__(self, model, optimizer, train_dl, val_dl, criterion, unknown=None):
        self.model, self.train_dl, self.val_dl, self.unknown = model, train_dl, val_dl, unknown
        self.calls = 0

    def fit(self, epochs):
        self.calls += 1
        return self.model, epochs, self.calls

    def train_epoch(self):
        return "one epoch"

    def validate(self):
        return self.val_dl

    def store(self, path):
        return "stored", path

    @staticmethod
    def static(net, loader):
        return net, loader

    @classmethod
    def made(cls, net, loader):
        return cls.__name__, loader


class Estimator:
    """A loop that is an object."""

    def __init__(self):
        self.seen = []

    def fit(self, model, loader, epochs=3):
        self.seen.append(epochs)
        return list(self.seen)

    def score(self, model, loader):
        return loader


def test_a_class_is_made_for_each_run():
    """Its constructor is bound as its fit is; two runs share nothing, and the evaluation is of the same instance."""
    contract = bind(Trainer)
    assert contract.name == "test_contract.py:Trainer.fit"
    assert contract.roles == {"model", "optimizer", "train_loader", "val_loader", "loss_fn", "epochs"}
    assert contract.whole_fit
    first, second = contract.begin(VALUES), contract.begin(VALUES)
    assert [first.train(VALUES), first.train(VALUES)] == [("model", "epochs", 1), ("model", "epochs", 2)]
    assert second.train(VALUES) == ("model", "epochs", 1)
    assert second.evaluate(VALUES) == "val_loader"
    assert contract.evaluate_roles == contract.roles - {"epochs"}


def test_a_method_is_named():
    """`Trainer.train_epoch` is that method of an instance that is made; static and class methods are functions."""
    contract = bind(Trainer.train_epoch)
    assert contract.begin(VALUES).train(VALUES) == "one epoch"
    assert not contract.whole_fit
    assert result(Trainer.static) == ("model", "train_loader")
    assert result(Trainer.made) == ("Trainer", "train_loader")
    assert bind(functools.partial(Trainer, unknown=7)).begin(VALUES).instance.unknown == 7


def test_an_object_is_copied_for_each_run():
    """What one run leaves in the object is not there in the next, nor in the author's own."""
    estimator = Estimator()
    for loop in (estimator, estimator.fit):
        contract = bind(loop, evaluate=estimator.score)
        run = contract.begin(VALUES)
        assert [run.train(VALUES), run.train(VALUES)] == [["epochs"], ["epochs"] * 2]
        assert contract.begin(VALUES).train(VALUES) == ["epochs"]
        assert run.evaluate(VALUES) == "test_loader"
    assert estimator.seen == []


def test_an_object_that_cannot_be_copied_is_used_as_it_is():
    """Such as one that holds a generator."""

    class Holder(Estimator):
        def __init__(self):
            super().__init__()
            self.generator = (number for number in range(3))

    holder = Holder()
    assert bind(holder).begin(VALUES).instance is holder


def test_callable_objects_lambdas_closures_and_partials():
    """All are called as what they are; what a partial has set stays."""

    class Loop:
        def __call__(self, model, loader):
            return loader

    def closure():
        secret = 4

        def train(model, loader):
            return secret

        return train

    def needs(model, loader, lr, other):
        return lr, other

    assert result(Loop()) == "train_loader"
    assert result(Loop) == "train_loader"
    assert result(closure()) == 4
    assert result(lambda net, dl: dl) == "train_loader"
    assert result(functools.partial(needs, lr=0.5, other=1)) == (0.5, 1)


def test_decorated_functions():
    """With functools.wraps the signature is the inner one, whatever the wrapper takes; without, the closure tells."""

    def wrapped(model, loader, lr=3):
        return model, loader, lr

    @functools.wraps(wrapped)
    def positional(*args):
        return wrapped(*args)

    @functools.wraps(wrapped)
    def by_keyword(**kwargs):
        return wrapped(**kwargs)

    def bare(*args, **kwargs):
        return wrapped(*args, **kwargs)

    for loop in (positional, by_keyword, bare, torch.no_grad()(wrapped)):
        assert result(loop) == ("model", "train_loader", "lr")


def test_variadic_parameters_are_left_out_unless_there_is_nothing_else():
    """`**kwargs` beside names gets nothing; alone it gets the usual things, by the names of their roles."""

    def beside(model, loader, *args, **kwargs):
        return args, kwargs

    assert result(beside) == ((), {})
    assert set(result(lambda **kwargs: kwargs)) == set(bind(lambda **kwargs: kwargs).roles)
    assert "nothing else" not in refusal(lambda *args: args)


def test_defaults():
    """A known name gets its value, but where that is None; an unknown name with a default keeps it."""

    def train(model, loader, clip=5.0, scheduler="none", colour="red", save_path=None):
        return clip, scheduler, colour, save_path

    assert result(train, clip=None) == (5.0, "scheduler", "red", None)
    del VALUES["clip"]
    try:
        assert result(train) == (5.0, "scheduler", "red", None)
    finally:
        VALUES["clip"] = "clip"


def test_positional_only_defaults_are_passed_on():
    """One that lies before a known name goes by position too."""

    def train(model, colour="red", loader="none", /):
        return model, colour, loader

    assert result(train) == ("model", "red", "train_loader")


def test_generators_are_exhausted():
    """The result is what they return, or else what they yielded last; all that they yielded is kept."""

    def yields(model, loader):
        yield 1
        yield 2

    def returns(model, loader):
        yield 1
        return 9

    run = bind(yields).begin(VALUES)
    assert (run.train(VALUES), run.train(VALUES), run.yielded) == (2, 2, [1, 2, 1, 2])
    assert result(returns) == 9


def test_async_is_refused():
    """At binding, and where only the call shows it: an async function behind a plain one."""

    async def train(model, loader): ...

    async def yields(model, loader):
        yield 1

    class Loop:
        async def fit(self, model, loader): ...

    for loop in (train, yields, Loop, Loop(), functools.partial(train)):
        assert "which is async" in refusal(loop)
    with pytest.raises(UserError, match="which is async"):
        result(lambda model, loader: train(model, loader))
    assert result(lambda model, loader: asyncio.run(train(model, loader))) is None


def test_bind_never_runs_the_loop():
    """Neither the function nor the constructor."""

    class Loop:
        def __init__(self, model):
            raise AssertionError

        def fit(self, loader):
            raise AssertionError

        def validate(self, loader):
            raise AssertionError

    bind(Loop)
    assert "whose class cannot be found" in refusal(Loop.fit)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "what"),
    [
        (torch.nn.Linear(2, 2), "a model or a loss"),
        (torch.nn.Linear, "a model or a loss"),
        (torch.optim.SGD([torch.zeros(1)]), "an optimizer"),
        (torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1))), "a loader"),
        (torch.zeros(2), "a tensor"),
        (torch, "a module"),
        (3, "of type int"),
        (type("Nothing", (), {}), "no method that trains"),
    ],
    ids=lambda thing: type(thing).__name__ if not isinstance(thing, str) else "",
)
def test_what_is_no_loop_is_told_by_what_it_is(thing, what):
    """One sentence."""
    told = refusal(thing)
    assert what in told
    assert "\n" not in told


def test_what_cannot_be_bound_is_told_with_an_adapter(imported):
    """The signature, the parameter at fault, what was probably meant, the names known, and an adapter that binds."""
    module = imported("def train(cfg2, modle, loader, *, foo): return modle, loader")
    told = refusal(module.train)
    assert "train(cfg2, modle, loader, *, foo) found: nothing is known of cfg2" in told
    assert "modle (did you mean model?) and foo" in told
    assert all(role.name in told for role in roles.ROLES)
    adapter = inspect.cleandoc(told.split("\n\n")[1])
    assert len(adapter.splitlines()) == 3
    assert result(module_of(adapter, "pasted").adapter) == ("model", "train_loader")


def test_the_adapter_of_a_class(imported):
    """It makes the instance and calls its method."""
    module = imported(
        "class Loop:\n"
        "    def __init__(self, net, colour): self.net = net\n"
        "    def fit(self, loader, n_epochs): return self.net, loader, n_epochs\n"
    )
    adapter = inspect.cleandoc(refusal(module.Loop).split("\n\n")[1])
    assert "colour=..." in adapter


def test_an_ambiguous_pair_is_refused():
    """Two parameters without defaults that mean the same; one with a default stays as it is."""
    assert "net and model both mean the model" in refusal(lambda net, model, loader: 0)
    assert result(lambda net, loader, model="own": (net, model)) == ("model", "own")
    assert result(lambda m=0, *, model, loader, train_batch_size, test_batch_size: test_batch_size) == "batch_size"


def test_a_loop_needs_a_model_and_data():
    """A model of its own can be declared; data cannot."""
    assert "it takes no data" in refusal(lambda model: 0)
    assert "it takes no model" in refusal(lambda loader: 0)
    assert "  " not in refusal(lambda loader: 0).splitlines()[0]
    assert "it takes no model and no data" in refusal(lambda: 0)
    assert bind(lambda loader: 0, model=lambda: None).roles == {"train_loader"}


# --- evaluation ----------------------------------------------------------------------------------------------------


def test_what_evaluates_is_looked_for_beside(imported):
    """The counterpart by name comes first; what cannot be bound, has no data or comes from elsewhere is passed over."""
    module = imported(
        "from mnist_loop.loop import evaluate\n"
        "def train_loop(model, loader): pass\n"
        "def validate(model): pass\n"
        "def test(client, database): pass\n"
        "def test_model(model, loader): return 'model'\n"
        "def test_loop(model, loader): return 'loop'\n"
    )
    contract = bind(module.train_loop)
    assert contract.begin(VALUES).evaluate(VALUES) == "loop"
    del module.test_loop
    assert bind(module.train_loop).begin(VALUES).evaluate(VALUES) == "model"
    del module.test_model
    contract = bind(module.train_loop)
    assert (contract.evaluation, contract.evaluate_roles, contract.found_evaluate_by) == (None, None, None)


def test_tests_of_pytest_are_not_taken_for_evaluation(imported):
    """Neither in a file of tests, nor where a parameter is a fixture, nor where it is marked."""
    source = "def train_model(model, loader): pass\ndef test_model(model, loader): pass\n"
    assert bind(imported(source, "test_theirs").train_model).evaluation is None
    fixture = "import pytest\n@pytest.fixture\ndef loader(): pass\n"
    assert bind(imported(fixture + source).train_model).evaluation is None
    assert bind(imported(f"{source}test_model.pytestmark = []").train_model).evaluation is None
    assert bind(imported(source).train_model).evaluation is not None


def test_a_closure_has_no_neighbours():
    """A loop made inside a function is not evaluated by what happens to stand in the file."""
    assert bind(lambda model, loader: 0).evaluation is None


def evaluate(model, loader):
    """Stand beside the loops of this file, for the test above and below."""
    return "beside"


def test_what_is_declared_comes_first(imported):
    """By the argument, then by the loop's declaration: a function, a text, a method."""

    @declare(evaluate=lambda model, loader: "declared")
    def train(model, loader): ...

    def other(model, loader):
        return "other"

    assert bind(train).begin(VALUES).evaluate(VALUES) == "declared"
    assert bind(train).found_evaluate_by == "declared"
    assert bind(train, evaluate=other).begin(VALUES).evaluate(VALUES) == "other"
    assert bind(train, evaluate="evaluate").begin(VALUES).evaluate(VALUES) == "beside"
    assert bind(train, evaluate="mnist_loop.loop:evaluate").evaluate_roles == {
        "model",
        "test_loader",
        "loss_fn",
        "device",
    }
    assert bind(Estimator, evaluate="score").begin(VALUES).evaluate(VALUES) == "test_loader"
    assert bind(Estimator, evaluate=Estimator.score).evaluation.owner is not None
    assert "nothing is known of what" in refusal(train, lambda model, what: 0)
    assert "it takes no data" in refusal(train, lambda model: 0)
    assert "a class of its own" in refusal(train, Estimator)


def test_checkpoints_are_bound_by_the_same_names():
    """What writes and reads them takes a path, which a loop with a default for it does not get."""

    def save(model, optimizer, path="x.pt"):
        return path

    contract = bind(lambda model, loader: 0, save=save, load=lambda checkpoint, net: (checkpoint, net))
    run = contract.begin(VALUES)
    assert (run.save(VALUES), run.load(VALUES)) == ("path", ("path", "model"))
    assert bind(Trainer, save="store").begin(VALUES).save(VALUES) == ("stored", "path")
    assert "it takes no path" in refusal(lambda model, loader: 0, save=lambda model: 0)
    with pytest.raises(UserError, match="has no function for this"):
        bind(lambda model, loader: 0).begin(VALUES).save(VALUES)


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_answer_to_any_spelling():
    """As attributes and as keys; what is not there is missing as it is in any namespace."""
    settings = roles.LoopArgs(**roles.SETTINGS, **VALUES)
    assert settings.learning_rate == settings["lr"] == settings.get("base_lr") == "lr"
    assert settings.num_epochs == "epochs"
    assert settings.log_interval == 10
    assert getattr(settings, "warp", 7) == settings.get("warp", 7) == 7
    assert "warp" not in settings
    assert "lr" in settings
    assert dict(**settings)["lr"] == dict(settings.items())["lr"] == vars(settings)["lr"]
    assert len(settings) == len(list(settings)) == len(vars(settings))
    with pytest.raises(AttributeError, match="warp"):
        _ = settings.warp
    with pytest.raises(KeyError):
        _ = settings["warp"]


def test_settings_last_for_a_run():
    """What a loop writes there is there at its next call, and not in the next run."""

    def train(args, model, loader):
        args.best = getattr(args, "best", 0) + 1
        args["other"] = 1
        return args.best

    contract = bind(train)
    run = contract.begin(VALUES)
    assert [run.train(VALUES), run.train(VALUES), contract.begin(VALUES).train(VALUES)] == [1, 2, 1]


# --- intentions ----------------------------------------------------------------------------------------------------


def test_locations_are_those_of_the_source():
    """File, first line with decorators, last line."""

    @declare(clip=1.0)
    def train(model, loader):
        for _ in loader:
            pass

    lines, first = inspect.getsourcelines(train)
    where = bind(train).location
    assert (where.file, where.line, where.end) == (__file__, first, first + len(lines) - 1)

    def outer(model, loader):
        def inner():
            return 1

    assert bind(outer).location.end == inspect.getsourcelines(outer)[1] + 2
    assert bind(Trainer).location.line == inspect.getsourcelines(Trainer.fit)[1]


def test_declared_intentions_are_read_where_they_are():
    """On a function, in a partial, on a class, and by keyword, which comes on top."""

    @declare(clip=1.0, accumulate=2)
    def train(model, loader): ...

    @declare(clip=2.0)
    class Loop:
        def fit(self, model, loader): ...

    assert bind(train).intentions == Intentions(clip=1.0, accumulate=2)
    assert bind(functools.partial(train)).intentions.clip == 1.0
    assert bind(train, clip=3.0).intentions == Intentions(clip=3.0, accumulate=2)
    assert {bind(loop).intentions.clip for loop in (Loop, Loop(), Loop().fit)} == {2.0}
    assert intentions.declared_by(len) == Intentions()


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"clipp": 1.0}, "did you mean clip?"),
        ({"zzz": 1.0}, "known are expects, accumulate"),
        ({"clip": 0}, "clip=0 found, expected a number above 0"),
        ({"clip": True}, "expected a number above 0"),
        ({"clip": float("nan")}, "expected a number above 0"),
        ({"clip": "1"}, "expected a number above 0"),
        ({"accumulate": 0}, "expected a whole number of batches"),
        ({"accumulate": None}, "expected a whole number of batches"),
        ({"accumulate": 2.0}, "expected a whole number of batches"),
        ({"average": 1.0}, "expected a decay"),
        ({"schedule": "daily"}, "expected 'per-epoch' or 'per-batch'"),
        ({"schedule": []}, "expected 'per-epoch' or 'per-batch'"),
        ({"frozen": 3}, "expected names of submodules"),
        ({"frozen": [""]}, "expected names of submodules"),
        ({"keeps_best": 1}, "expected True or False"),
        ({"classes": 1}, "2 to 100000"),
        ({"input_shape": ()}, "the shape of one image"),
        ({"input_shape": (0,)}, "the shape of one image"),
        ({"evaluate": 3}, "expected a function"),
        ({"precision": "float8"}, "expected 'float32'"),
    ],
)
def test_intentions_that_mean_nothing_are_refused(declared, told):
    """One sentence that says what is expected."""
    with pytest.raises(UserError) as refused:
        intentions.checked(declared)
    assert told in str(refused.value)
    with pytest.raises(UserError):
        declare(**declared)


def test_each_intention_is_checked():
    """And the default of each is one that it takes."""
    assert set(intentions.CHECKS) == set(intentions.NAMES)
    assert intentions.checked({name: getattr(Intentions(), name) for name in intentions.NAMES}) == Intentions()


def test_declarations_of_a_command_line():
    """Numbers, names, shapes, switches with and without a value, functions as texts."""
    first = ["clip=1", "frozen=hidden, head", "accumulate=4", "keeps-best", "shuffles_itself=no"]
    rest = ["input_shape=1,28,28", "model=my.py:make", "expects=none", "schedule=per-batch", "average=0.9"]
    assert intentions.read_declarations([*first, *rest]) == {
        "clip": 1.0,
        "frozen": ("hidden", "head"),
        "accumulate": 4,
        "keeps_best": True,
        "shuffles_itself": False,
        "input_shape": (1, 28, 28),
        "model": "my.py:make",
        "expects": None,
        "schedule": "per-batch",
        "average": 0.9,
    }


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["clip"], "clip found without a value"),
        (["clip=x"], "clip='x' found, expected a number above 0"),
        (["accumulate=1.5"], "expected a whole number"),
        (["keeps_best=maybe"], "expected True or False"),
        (["clip=1", "clip=2"], "clip found twice"),
        (["clap=1"], "did you mean clip?"),
        (["clap"], "did you mean clip?"),
        (["input_shape=a,b"], "the shape of one image"),
        (["frozen="], "expected names"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(texts, told):
    """One sentence that says what is expected."""
    with pytest.raises(UserError) as refused:
        intentions.read_declarations(texts)
    assert told in str(refused.value)


def test_what_takes_no_attribute_cannot_be_declared_on():
    """A built-in function, a bound method."""
    with pytest.raises(UserError, match="takes no attribute"):
        declare(clip=1.0)(len)


# --- the docs ------------------------------------------------------------------------------------------------------


def names_table():
    """Return the table of names as the docs have it."""
    phases = dict(roles.PHASES)
    lines = ["| role | is handed | names |", "|---|---|---|"]
    for role in roles.ROLES:
        phase, _, kind = role.name.partition("_")
        if phase in phases and kind in ("loader", "set"):
            things = roles.LOADER if kind == "loader" else roles.SET
            words = [", ".join(f"`{word}`" for word in text.split()) for text in (phases[phase], things)]
            names = f"one of {words[0]} with one of {words[1]}, in either order"
        else:
            names = ", ".join(f"`{name}`" for name in role.names)
        lines.append(f"| `{role.name}` | {role.meaning} | {names} |")
    return "\n".join(lines)


def intentions_table():
    """Return the table of what can be declared as the docs have it."""
    lines = ["| intention | value | default |", "|---|---|---|"]
    for name in intentions.NAMES:
        lines.append(f"| `{name}` | {intentions.CHECKS[name][0]} | `{getattr(Intentions(), name)!r}` |")
    return "\n".join(lines)


def test_the_docs_have_the_tables_of_the_code():
    """The names, the intentions and the settings: the failure shows the table to paste."""
    text = DOCS.read_text(encoding="utf-8")
    for table in (names_table(), intentions_table()):
        assert table in text, f"docs/contract.md should hold\n\n{table}"
    for name, value in roles.SETTINGS.items():
        assert f"`{name}={value}`" in text
