"""Loops as people publish them: unknown parameters, settings, globals, and files that train when they run."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import roles
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.cuda_written_out import is_written_out
from mnist_loop.verification.binding.given import TakesEveryCall, read_given
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.cases.world import Net
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify

VALUES = {role.name: role.name for role in roles.ROLES if role.name not in ("args", "loaders", "sizes")}
SHORT = Options(fixed_cases=3, random_cases=0)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file of Python into the working folder, and forgets it as a module."""
    monkeypatch.chdir(tmp_path)

    def do(source, name="their_train.py"):
        if "/" in name:
            (tmp_path / name).parent.mkdir()
            ((tmp_path / name).parent / "__init__.py").touch()
        (tmp_path / name).write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
        return f"{name}:train"

    return do


def refusal(spec, given=None):
    """Return the sentence with which a loop is refused."""
    with pytest.raises(UserError) as refused:
        bind(spec, None, given)
    return str(refused.value)


def result(spec, given=None, **values):
    """Bind and train once."""
    values = {**VALUES, **values}
    return bind(spec, None, given).begin(values).train(values)


# --- parameters of no known name -----------------------------------------------------------------------------------


def test_what_is_given_is_read_as_a_literal():
    """Anything else is a text; a value of the settings has a dotted name."""
    given = read_given(["gpu_id=0", "args.warm=False", "mode = fast", "betas=(0.9, 0.99)"])
    assert given == {"gpu_id": 0, "args.warm": False, "mode": "fast", "betas": (0.9, 0.99)}


@pytest.mark.parametrize("texts", [["gpu_id"], ["a b=1"], ["a.b.c=1"], ["a=1", "a=2"]])
def test_what_is_given_in_another_form_is_refused(texts):
    """With the form."""
    with pytest.raises(UserError, match="expected"):
        read_given(texts)


def test_the_refusal_shows_the_command_that_hands_the_rest_over(write):
    """All unknown parameters at once; with values for them it works."""
    spec = write("def train(model, loader, save_every, gpu_id, metric): return save_every, gpu_id, metric\n")
    told = refusal(spec, {"metric": None})
    command = "mnist-loop verify their_train.py:train --give metric=None --give save_every=VALUE --give gpu_id=VALUE"
    assert command in told
    assert result(spec, {"metric": None, "save_every": 2, "gpu_id": 0}) == (2, 0, None)


def test_the_command_of_a_refusal_keeps_what_was_typed(write):
    """With what was given and declared before, in the form of a command line."""
    spec = write("def train(model, loader, save_every, mode): return save_every, mode\n")
    with pytest.raises(UserError) as caught:
        bind(spec, "none", {"mode": "as is"}, clip=1.0, keeps_best=True, frozen=("hidden", "head"))
    typed = "--give 'mode=as is' --declare clip=1.0 --declare keeps_best --declare frozen=hidden,head"
    told = f"mnist-loop verify their_train.py:train {typed} --declare evaluate=none --give save_every=VALUE"
    assert told in str(caught.value)


def test_what_is_given_comes_before_a_role_and_a_default(write):
    """The user knows better."""
    spec = write("def train(model, loader, lr, warm=True): return lr, warm\n")
    assert result(spec, {"lr": 3.0, "warm": False}) == (3.0, False)


def test_each_run_gets_what_is_given_anew(write):
    """A loop may change a list."""
    contract = bind(write("def train(model, loader, log): log.append(1); return log\n"), None, {"log": []})
    assert [contract.begin(VALUES).train(VALUES) for _ in range(2)] == [[1], [1]]


@pytest.mark.parametrize("given", ["warp", "args.warp"])
def test_what_nothing_takes_is_refused(write, given):
    """A typo is no value that is silently lost."""
    assert f"--give {given} found" in refusal(write("def train(model, loader): pass\n"), {given: 1})


def test_a_writer_takes_each_call(write):
    """So do loggers and progress bars; a default is kept."""
    spec = write(
        "def train(model, loader, tb_writer, logger, writer=None):\n"
        "    with logger.section('x') as section: section.log(tb_writer.add_scalar('loss', 1.0, step=2))\n"
        "    return tb_writer, writer\n"
    )
    writer, other = result(spec)
    assert isinstance(writer, TakesEveryCall)
    assert other is None


def test_what_is_only_written_to_takes_each_call(write):
    """A file for a log by any name; what is read from is none."""
    spec = write("def train(model, loader, trainF):\n    trainF.write('x'); trainF.flush()\n    return trainF\n")
    assert isinstance(result(spec), TakesEveryCall)
    assert "--give source=" in refusal(write("def train(model, loader, source): return source.read()\n"))


def test_a_bar_holds_no_data(write):
    """What is iterated over would train on nothing: that is an error, and no silence."""
    with pytest.raises(TypeError):
        result(write("def train(model, loader, pbar):\n    for x in pbar(loader): pass\n"))


def test_a_number_is_never_taken_for_a_loader(write):
    """`eval_iter` is reckoned with; where it is iterated over it is a loader."""
    number = write("def train(model, loader, eval_iter):\n    for i, x in enumerate(loader):\n        i % eval_iter\n")
    assert "--give eval_iter=VALUE" in refusal(number)
    loader = write("def train(model, train_iter, eval_iter):\n    for x in eval_iter: return eval_iter\n", "other.py")
    assert result(loader, val_loader=["val"]) == ["val"]


def test_what_is_cleared_and_stepped_is_an_optimizer(write):
    """`trainer` in the books that build on MXNet; what has parameters and is called is a model."""
    spec = write(
        "def train(rnn, loader, trainer):\n"
        "    def inner():\n"
        "        rnn.train()\n"
        "        rnn(1)\n"
        "        trainer.zero_grad()\n"
        "        trainer.step()\n"
        "    return rnn, trainer\n"
    )
    assert result(spec) == ("model", "optimizer")


def test_what_goes_backward_is_made_by_a_loss(write):
    """By any name."""
    body = "    for x, y in loader:\n        value = judge(x, y)\n        value.backward()\n    return judge\n"
    assert result(write(f"def train(model, loader, judge):\n{body}"), train_loader=[]) == "loss_fn"


def test_what_has_attributes_and_nothing_else_is_the_settings(write):
    """By any name; what it lacks is told with the command."""
    spec = write(
        "def train(model, loader, p):\n    p.seen = p.cuda or p.epochs\n    return p.seen, p.get('lr'), p.nothing\n"
    )
    assert result(spec, {"p.nothing": []}) == ("epochs", "lr", [])
    assert "nothing is known of source" in refusal(write("def train(model, loader, source): source.read()\n", "b.py"))


def test_counters_begin_at_zero_and_there_are_no_metrics(write):
    """A loop goes on with the first, and iterates over the others."""
    spec = write("def train(model, loader, global_step, metrics): return global_step + 1, [m(1) for m in metrics]\n")
    assert result(spec) == (1, [])
    assert "metrics" in refusal(write("def train(model, loader, metrics): metrics.reset(1)\n", "other.py"))


def test_classes_are_those_of_the_data(write):
    """Their number, and their names; `classes` is the one that it is used as."""
    spec = write("def train(model, loader, num_classes, classes): return num_classes, classes\n")
    assert result(spec) == ("classes", "class_names")
    assert result(write("def train(model, loader, classes): return [*range(classes)]\n", "b.py"), classes=2) == [0, 1]
    data = "        assert num_classes == len(classes) == 10 > labels.max()\n"
    loop = LOOP.replace("criterion):\n", "criterion, num_classes, classes):\n")
    spec = write(loop.replace("        optimizer.zero", f"{data}        optimizer.zero"), "c.py")
    assert verify(spec, options=SHORT).result == "clean"


def test_a_name_that_means_what_another_does_can_be_given(write):
    """A number that is handed on has no use that tells."""
    spec = write("def train(model, loader, val_loader, eval_iter): return print(val_loader, n=eval_iter)\n")
    told = refusal(spec)
    assert "val_loader and eval_iter both mean the val_loader" in told
    assert "--give eval_iter=VALUE" in told


def test_two_models_are_told_and_not_guessed(write):
    """Which of them is meant cannot be told."""
    spec = write("def train(model, critic, loader):\n    critic.train()\n    critic(model(1))\n")
    assert "both mean the model" in refusal(spec)


def test_no_clipping_is_an_infinite_norm(write):
    """A loop without a default for it can clip to that, which changes nothing."""
    spec = write("def train(model, loader, args, max_norm): return max_norm, args.clip, args.grad_clip > 0\n")
    assert result(spec, clip=None) == (math.inf, math.inf, True)
    assert result(spec, clip=2.0) == (2.0, 2.0, True)


# --- settings ------------------------------------------------------------------------------------------------------

PARSED = """

def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=7.0)
    parser.add_argument("--warm-up", "-w", default="5", type=int)
    parser.add_argument("--mix", action="store_true")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--log-interval", default=33)
    parser.add_argument("--no-cuda", action="store_true")
    parser.add_argument("--name", required=True)
    parser.add_argument("--threads", default=2 * FOUR)
    return parser.parse_args()

FOUR = 4

def train(args, model, loader):
    return args.lr, args.warm_up, args.mix, args.optimizer, args.log_interval, args.no_cuda, args["threads"]
"""


def test_settings_have_the_defaults_of_the_parser_in_the_file(write):
    """Numbers of the case and the machine come first, then the parser, then the table."""
    assert result(write(PARSED)) == ("lr", 5, False, "sgd", 33, True, 8)
    assert result(write(PARSED), {"args.lr": 3, "args.mix": True})[:3] == (3, 5, True)


def test_the_epoch_of_a_parser_is_the_number_of_epochs(write):
    """Such a loop trains all of them."""
    parser = "import argparse\nargparse.ArgumentParser().add_argument('--epoch', type=int, default=100)\n"
    contract = bind(write(f"{parser}def train(args, model, loader): return args.epoch\n"))
    assert contract.whole_fit
    assert contract.begin(VALUES).train(VALUES) == "epochs"


def test_a_folder_to_write_in_is_made(write, tmp_path):
    """In the scratch folder: whoever runs the loop has made it."""
    saves = "    torch.save(1, 'no/such/file.pt'); torch.load('no/such/file.pt'); open('nor/this.txt', 'w').close()\n"
    assert verify(write(f"import torch\n{LOOP}{saves}"), options=SHORT).result == "clean"
    assert not (tmp_path / "no").exists()


def test_a_loop_whose_file_is_missing_was_not_tried(write):
    """Also where it reads in some cases alone: a file that is not there is no bug."""
    spec = write(f"import torch\n{LOOP}    if len(train_loader) == 2: torch.load('no/such/folder.pt')\n")
    with pytest.raises(UserError, match="expected its files and folders to be there"):
        verify(spec, options=Options(cases=(Case(), Case(samples=8))))


def test_a_setting_that_is_missing_is_told_with_the_command(write):
    """In the error of the loop that was not tried."""
    spec = write(
        "def train(args, model, loader, optimizer, loss_fn):\n"
        "    for x, y in loader:\n"
        "        if args.warm > 1: optimizer.param_groups[0]['lr'] = args.warmest\n"
        "        optimizer.zero_grad(); loss_fn(model(x), y).backward(); optimizer.step()\n"
    )
    with pytest.raises(UserError, match=r"mnist-loop verify their_train.py:train --give args.warm=VALUE"):
        verify(spec, options=SHORT)
    verdict = verify(spec, options=Options(fixed_cases=3, random_cases=0, give={"args.warm": 0}))
    assert verdict.result == "clean"


SWITCHES = """
def train(cfg, model, loader, optimizer, loss_fn):
    for x, y in loader:
        if cfg.mixed and not cfg["deep"]:
            x = x.no_such_thing()
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        {step}
"""


def test_a_setting_of_which_is_asked_whether_it_is_on_is_off(write):
    """Said in one line; not where it is used in another way, or decides whether there is a step."""
    spec = write(SWITCHES.format(step="optimizer.step()"))
    verdict = verify(spec, options=SHORT)
    assert verdict.result == "clean"
    assert "taken as off: mixed, deep; hand over another value with --give args.mixed=VALUE" in verdict.notes
    with pytest.raises(UserError, match="no_such_thing"):
        verify(spec, options=Options(fixed_cases=3, random_cases=0, give={"args.mixed": True}))
    for step in ("if cfg.moves: optimizer.step()", "optimizer.step(cfg.moves)"):
        with pytest.raises(UserError, match=r"--give args\.moves=VALUE"):
            verify(write(SWITCHES.format(step=step)), options=SHORT)


def test_a_loop_that_reads_every_gradient_is_tried_with_no_frozen_part(write):
    """A parameter that is not trained has none."""
    reads = "        norms = [parameter.grad.norm() for parameter in model.parameters()]\n"
    spec = write(LOOP.replace("        optimizer.step()\n", f"{reads}        optimizer.step()\n"))
    options = Options(cases=(Case(), Case(model="frozen")))
    verdict = verify(spec, options=options)
    assert verdict.result == "clean"
    assert "it reads the gradient of a parameter that is not trained" in verdict.skipped[Case(model="frozen")]
    write(LOOP.replace("optimizer.step()", "optimizer.step(); [one.grad.gone for one in model.parameters()]"))
    assert "loop-raises" in verify(spec, options=options).failed


def test_a_loop_that_reports_some_times_in_an_epoch_gets_so_many_batches(write):
    """It divides by zero where there are few."""
    report = "        if len(images) % (len(train_loader) // 4) == 0: print(labels)\n"
    for zero, result in (("        optimizer.zero_grad()\n", "clean"), ("", "bugs")):
        verdict = verify(write(LOOP.replace("        optimizer.zero_grad()\n", f"{zero}{report}")), options=SHORT)
        assert verdict.result == result
        assert "tried with 5 batches more than usual: with few the loop divides by zero" in verdict.notes
    assert verdict.primary == "zero-grad-missing"


# --- globals -------------------------------------------------------------------------------------------------------

GLOBALS = """
from torch import nn

device = torch.device("cpu")
criterion = nn.NLLLoss()
learning_rate = 9.0
best = []

def adjust(epoch):
    return learning_rate, args.epochs

def train(epoch):
    best.append(epoch)
    return net, train_loader, optimizer, criterion, device, adjust(epoch), loss(1), list(best)

def test(epoch):
    return net, test_loader

def loss(x):
    return "own"
"""


def test_globals_are_handed_like_parameters(write):
    """Those of the functions that it calls, too; a function and what has no known name stay the module's own."""
    contract = bind(write(GLOBALS))
    assert {"model", "train_loader", "optimizer", "loss_fn", "device", "args", "lr", "epoch"} == contract.roles
    assert contract.evaluate_roles == {"model", "test_loader"} | (contract.evaluate_roles & {"epoch"})
    run = contract.begin(VALUES)
    expected = ("model", "train_loader", "optimizer", "loss_fn", "device", ("lr", "epochs"), "own", ["epoch"])
    assert run.train(VALUES) == expected
    assert run.evaluate(VALUES) == ("model", "test_loader")


def test_a_global_that_the_loop_changes_stays_changed(write):
    """In the same run; the next one gets it anew."""
    source = "def train(epoch, model, loader):\n    global lr\n    lr = lr * 0.5\n    return lr\n"
    contract = bind(write(f"lr = 1.0\n{source}"))
    run = contract.begin(VALUES)
    assert [run.train(VALUES), run.train(VALUES)] == [0.5, 0.25]


def test_a_global_writer_that_is_missing_takes_each_call(write):
    """One that is there is the module's own."""
    spec = write("logger = 3\ndef train(model, loader): return writer.add_scalar('x', 1), logger\n")
    writer, logger = result(spec)
    assert isinstance(writer, TakesEveryCall)
    assert logger == 3


def test_a_schedule_of_a_warm_up_and_a_sampler_take_each_call(write):
    """Globals that are not there; a loop needs them in no case of ours."""
    spec = write(
        "def train(model, loader, scheduler):\n"
        "    warmup_scheduler.step()\n"
        "    the_sampler.set_epoch(1)\n"
        "    return scheduler\n"
    )
    assert result(spec) == "scheduler"


def test_two_globals_for_one_role_are_not_guessed(write):
    """Which of them is meant cannot be told, so that neither is handed."""
    assert "model" not in bind(write("def train(loader, model): return net, network\n")).training.read.values()


# --- CUDA that is written out --------------------------------------------------------------------------------------


def test_cuda_that_is_written_out_means_the_case_s_device(write):
    """Where there is no CUDA: said in the header; torch is as before."""
    spec = write(
        "import torch\n"
        "def train(model, loader, optimizer, criterion):\n"
        "    model.cuda()\n"
        "    for x, y in loader:\n"
        "        x, y = x.cuda(non_blocking=True), y.to('cuda')\n"
        "        optimizer.zero_grad()\n"
        "        criterion(model.to(torch.device('cuda:0'))(x), y).backward()\n"
        "        optimizer.step()\n"
    )
    own = {name: vars(place).get(name) for place in (torch.Tensor, nn.Module) for name in ("cuda", "to")}
    verdict = verify(spec, options=Options(fixed_cases=3, random_cases=0, in_process=True))
    assert verdict.result == "clean"
    assert ".cuda() means the CPU here" in verdict.notes[0]
    assert own == {name: vars(place).get(name) for place in (torch.Tensor, nn.Module) for name in ("cuda", "to")}
    assert not verify(write("def train(model, loader): pass\n"), options=SHORT).remarks


def asks_first(x):
    return x.to("cuda" if torch.cuda.is_available() else "cpu")


def compares(x, device):
    return x.to(device, non_blocking=device.type == "cuda"), torch.cuda.device_count()


def indexed(x, rank):
    return x.to(f"cuda:{rank}")


def in_a_function_within(x):
    return [part.cuda() for part in x]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is for machines without CUDA")
@pytest.mark.parametrize(
    ("function", "written"),
    [(asks_first, False), (compares, False), (indexed, True), (in_a_function_within, True)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_asks_for_cuda_or_compares_with_it_does_not_write_it_out(function, written):
    """The reference does both, and its header must not say so."""
    assert is_written_out([function]) is written


def test_cuda_in_a_file_beside_means_it_too(write):
    """What the loop calls is looked at, too."""
    write("def moved(x):\n    return x.cuda()\n", "moving.py")
    source = LOOP.replace("model(images)", "model(moved(images))")
    verdict = verify(write(f"from moving import moved\n{source}"), options=SHORT)
    assert verdict.result == "clean"
    assert ".cuda() means the CPU here" in verdict.notes[0]


def test_the_command_hands_over_nothing_that_no_literal_can_be(write):
    """What is called or iterated over is written into an adapter."""
    told = refusal(write("def train(model, loader, rounds, more):\n    for x in more: pass\n"))
    assert "--give" not in told
    assert "def adapter(" in told


# --- notebooks -----------------------------------------------------------------------------------------------------


def test_a_loop_of_a_notebook(write, tmp_path):
    """The definitions of its cells are taken; magics, training and what fails are not run."""
    cells = ["%matplotlib inline\nimport torch\n!pip install x", LOOP, "raise SystemExit", "def test(model): pass"]
    document = {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
    write(json.dumps(document), "lesson.ipynb")
    verdict = verify("lesson.ipynb:train", options=SHORT)
    assert (verdict.name, verdict.result) == ("lesson.ipynb:train", "clean")
    assert verdict.notes[0].endswith("to run and watch its cells, mnist-loop check lesson.ipynb")
    write("{}", "broken.ipynb")
    assert refusal("broken.ipynb:train").startswith("broken.ipynb found, which is no notebook")


# --- forwards ------------------------------------------------------------------------------------------------------

BELOW_CALL = """
def train(model, loader, optimizer, criterion):
    model.train()
    for x, y in loader:
        {zero}
        criterion(model.forward(x), y).backward()
        optimizer.step()
"""


def test_forwards_below_call_are_seen(write):
    """`model.forward(x)` is judged like `model(x)`, and the class is as before."""
    own = vars(Net)["forward"]
    assert verify(write(BELOW_CALL.format(zero="optimizer.zero_grad()")), options=SHORT).result == "clean"
    found = verify(write(BELOW_CALL.format(zero="pass")), options=Options(fixed_cases=3, in_process=True))
    assert found.primary == "zero-grad-missing"
    assert vars(Net)["forward"] is own


def test_a_loop_whose_forwards_are_not_seen_was_not_tried(write):
    """It is no clean loop with all laws not run."""
    spec = write(
        "def train(model, loader, optimizer, criterion):\n"
        "    for x, y in loader:\n"
        "        optimizer.zero_grad()\n"
        "        criterion(model.head(model.hidden(x.flatten(1))), y).backward()\n"
        "        optimizer.step()\n"
    )
    with pytest.raises(UserError, match="no forward of the model that it is handed was seen"):
        verify(spec, options=SHORT)


def test_what_is_made_of_the_outputs_is_no_graph_that_is_kept(write):
    """The largest output has a node of its own, which the backward pass does not free."""
    spec = write(
        "def train(model, loader, optimizer, criterion):\n"
        "    for x, y in loader:\n"
        "        optimizer.zero_grad()\n"
        "        outputs = model(x)\n"
        "        best, predicted = outputs.max(1)\n"
        "        {backward}\n"
        "        optimizer.step()\n"
    )
    source = Path("their_train.py").read_text(encoding="utf-8")
    options = Options(cases=(Case(model="probe", watch="graphs"),))
    keeps = "criterion(outputs, y).backward(retain_graph=True); kept = outputs"
    for backward, found in (("criterion(outputs, y).backward()", False), (keeps, True)):
        write(source.format(backward=backward))
        assert ("retain-graph" in verify(spec, options=options).failed) is found


def test_a_loop_that_writes_a_checkpoint_has_a_path(write):
    """In a folder of its own, which is removed."""
    spec = write(f"import torch\n{LOOP.replace('criterion):', 'criterion, save_path):')}    torch.save(1, save_path)\n")
    assert verify(spec, options=SHORT).result == "clean"


# --- batches and outputs of other forms ----------------------------------------------------------------------------

DICTS = """
def train(model, loader, optimizer, criterion):
    for batch in loader:
        {zero}
        criterion(model(batch["pixels"]), batch["target"]).backward()
        optimizer.step()
"""
PAIRS = """
def train(model, loader, optimizer, criterion):
    for x, y in loader:
        {zero}
        other, outputs = model(x)
        criterion(outputs, y).backward()
        optimizer.step()
"""
LOSSES = """
def train(model, loader, optimizer, criterion):
    for x, y in loader:
        {zero}
        parts, loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("source", "told", "declared"),
    [
        (
            DICTS,
            "verify their_train.py:train --declare batch=pixels,target",
            {"batch": ("pixels", "target")},
        ),
        (PAIRS, "verify their_train.py:train --declare output=0", {"output": 1}),
        (LOSSES, "verify their_train.py:train --declare loss_output=0", {"loss_output": 1}),
    ],
)
def test_a_batch_that_is_a_dict_and_outputs_beside_others_are_declared(write, source, told, declared):
    """The refusal says how; declared, the loop is judged like another."""
    spec = write(source.format(zero="optimizer.zero_grad()"))
    with pytest.raises(UserError, match=told):
        verify(spec, options=SHORT)
    assert verify(spec, options=SHORT, **declared).result == "clean"
    write(source.format(zero="pass"))
    assert verify(spec, options=SHORT, **declared).primary == "zero-grad-missing"


def test_mixed_targets_are_an_objective_of_the_loop_s_own(write):
    """Mixup weighs the losses of two targets: the laws of the loss are not run."""
    spec = write(
        "import torch\n"
        "def train(model, loader, optimizer, criterion):\n"
        "    for x, y in loader:\n"
        "        order = torch.randperm(len(x))\n"
        "        outputs = model(0.7 * x + 0.3 * x[order])\n"
        "        optimizer.zero_grad()\n"
        "        (0.7 * criterion(outputs, y) + 0.3 * criterion(outputs, y[order])).backward()\n"
        "        optimizer.step()\n"
    )
    verdict = verify(spec, options=SHORT)
    assert verdict.result == "clean"
    assert "loss-differs" in verdict.not_run


def test_sizes_by_name_are_those_of_the_data(write):
    """`dataset_sizes[phase]` of the transfer learning tutorial, and a loader behind the name of its data."""
    spec = write("def train(model):\n    return dataset_sizes['train'], dataset_sizes['test'], cifar_training_loader\n")
    train, test = (type("Loader", (), {"dataset": range(count)}) for count in (4, 7))
    given = {"train_loader": train, "val_loader": train, "test_loader": test}
    assert result(spec, **given) == (4, 7, train)


def test_loaders_by_name_are_those_of_two_domains_too(write):
    """The source is trained on, the target is the test data."""
    spec = write("def train(model, dataloaders): return dataloaders['src'], dataloaders['tar'], dataloaders['val']\n")
    assert result(spec) == ("train_loader", "test_loader", "val_loader")


PART = """
def test(model, loader):
    return sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)

def train(model, loader, test_loader, optimizer, criterion):
    model.train()
    for step, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()
        if step % 1000 == 999:
            {mode}
            print(test(model, test_loader))
            model.train()
"""


def test_a_part_of_a_loop_that_sets_the_mode_itself_is_no_evaluation(write):
    """Called alone it would run in train mode; where nobody sets the mode that is a bug."""
    assert verify(write(PART.format(mode="model.eval()")), options=SHORT).result == "clean"
    assert verify(write(PART.format(mode="pass")), options=SHORT).primary == "evaluates-in-train-mode"


def test_an_evaluation_that_does_not_fit_is_left_out(write):
    """It was found by its name alone; a loop that is tried without it is tried. Declared, it has to fit."""
    source = "LOOP_HERE\ndef test(model, loader):\n    for image, label in loader:\n        open(model(image).name)\n"
    spec = write(source.replace("LOOP_HERE", LOOP))
    verdict = verify(spec, options=SHORT)
    assert verdict.result == "clean"
    assert "without its evaluation: test was found beside the loop, and evaluation raised" in verdict.notes[0]
    with pytest.raises(UserError, match=r"name another with --evaluate SPEC, or --evaluate none"):
        verify(spec, "test", SHORT)


# --- files that train when they run --------------------------------------------------------------------------------

LOOP = """
def train(model, train_loader, optimizer, criterion):
    for images, labels in train_loader:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()
"""
TRAINS = f"""
from torch import nn
{LOOP}
SCALE = 2 * 3
marks = []
layer = nn.Flatten()
for epoch in range(10 ** 9):
    marks.append(train(layer, [], None, None))
"""
FAILS = f"""
{LOOP}
images = open("no/such/file").read()
"""


def test_a_file_of_a_package_that_fails_is_taken_for_its_definitions(tmp_path, write):
    """Its relative imports work."""
    write(f"from .beside import NUMBER\n{FAILS}", "pkg_that_fails/their_train.py")
    (tmp_path / "pkg_that_fails" / "beside.py").write_text("NUMBER = 3\n", encoding="utf-8")
    contract = bind("pkg_that_fails/their_train.py:train")
    assert contract.training.function.__globals__["NUMBER"] == 3
    assert "fails with FileNotFoundError" in contract.notes[0]


@pytest.mark.parametrize(("source", "why"), [(TRAINS, "trains"), (FAILS, "fails with FileNotFoundError")])
def test_a_file_that_trains_or_fails_is_taken_for_its_definitions(write, source, why):
    """Said in one line, with check for the whole."""
    verdict = verify(write(source), options=SHORT)
    assert verdict.result == "clean"
    note = verdict.notes[0]
    assert f"the whole file {why} when it is imported" in note
    assert note.endswith("mnist-loop check their_train.py")


def test_definitions_are_imports_functions_classes_and_constants(write):
    """What is made of what is not there is left out, and so are data and training."""
    source = f"{TRAINS}\ndata = open('x').read()\nmore = data + 'x'\ndef late(x=data): pass\nclass Late(data): pass\n"
    contract = bind(write(source))
    namespace = contract.training.function.__globals__
    assert namespace["SCALE"] == 6
    assert not {"data", "more", "late", "Late"} & namespace.keys()
    assert isinstance(namespace["layer"], nn.Flatten)
    assert "late (name 'data' is not defined), Late" in contract.notes[1]


SCRIPT = f"""
import argparse
{LOOP.replace("criterion):", "criterion, args):")}    return warm, marks, args.out, args.twice, args.lr, gone

def gone():
    pass

{{head}}parser = argparse.ArgumentParser()
{{indent}}parser.add_argument("--warm", type=int, default=3)
{{indent}}parser.add_argument("--lr", type=float, default=7.0)
{{indent}}args = parser.parse_args()
{{indent}}args.twice = 2 * args.warm
{{indent}}args.out = "results"
{{indent}}warm = args.warm > 2
{{indent}}marks = {{{{k: v for k, v in vars(args).items() if k == "warm"}}}}
{{indent}}gone = 5
{{indent}}data = open("no/such/file")
{{main}}
"""


@pytest.mark.parametrize("head", ["", "if __name__ == '__main__':\n    "])
def test_constants_of_a_script_are_there(write, head):
    """At its top and under ``if __name__``, those that follow from its parser too; what is there is kept."""
    indent = " " * 4 if head else ""
    source = SCRIPT.format(head=head, indent=indent, main="    import no_such_package" if head else "")
    warm, marks, *rest, gone = result(write(source), train_loader=[])
    assert (warm, marks, *rest) == (True, {"warm": 3}, "results", 6, "lr")
    assert callable(gone) is bool(head)


def test_a_name_that_is_missing_is_no_bug(write):
    """What the file makes as it runs is told, though the loop has another bug; given, that is found."""
    source = f"{LOOP}    state['epoch'] = 1\n".replace("        optimizer.zero_grad()\n", "")
    spec = write(source)
    with pytest.raises(UserError, match=r"verify their_train\.py:train --give state=VALUE"):
        verify(spec, options=SHORT)
    given = Options(fixed_cases=3, random_cases=0, give={"state": {}})
    assert verify(spec, options=given).primary == "zero-grad-missing"


@pytest.mark.parametrize("place", ["my-repo/train.py", "pkg/their-own-train.py"])
def test_a_file_of_a_package_whose_name_is_no_identifier(write, tmp_path, place):
    """Nobody can import it by that name: it is executed as a file."""
    file = tmp_path / place
    file.parent.mkdir()
    (file.parent / "__init__.py").touch()
    file.write_text(LOOP, encoding="utf-8")
    assert "model" in bind(f"{place}:train").roles


def test_stdin_is_a_terminal_at_its_end(write):
    """Programs ask it for its size."""
    asked = "import os, sys\n_, width = os.popen('stty size').read().split()\nassert sys.stdin.read() == ''\n"
    assert verify(write(f"{asked}{LOOP}"), options=SHORT).notes == []


MISSING = f"""
import wandb
from no_such_metrics import accuracy, Base
from no_such_bars.lines import Line
try:
    import no_such_speed as speed
except ImportError:
    speed = None
class Meter(Base):
    pass
{LOOP}"""


def test_a_package_that_is_missing_is_told_where_the_loop_does_not_use_it(write):
    """What only logs takes each call; another one raises where it is used."""
    spec = write(f"{MISSING}    wandb.log({{'epoch': 1}})\n    assert speed is None\n")
    verdict = verify(spec, options=SHORT)
    assert verdict.result == "clean"
    assert "it only logs, and what is called of it does nothing: wandb" in verdict.notes
    assert "not installed: no_such_bars, no_such_metrics; a loop that uses it cannot be tried" in verdict.notes
    assert not {"no_such_metrics", "wandb"} & sys.modules.keys()


@pytest.mark.parametrize("use", ["accuracy(1)", "Meter()", "list(Line)"])
def test_a_loop_that_uses_a_package_that_is_missing_was_not_tried(write, use):
    """It is no bug of the loop."""
    with pytest.raises(UserError, match=r"no_such_.* is not installed.*expected its packages to be installed"):
        verify(write(f"{MISSING}    {use}\n"), options=SHORT)


def test_a_module_of_a_folder_above_is_found(tmp_path, monkeypatch):
    """Scripts in folders of a repository are run from its root."""
    (tmp_path / "shared_parts").mkdir()
    (tmp_path / "shared_parts" / "numbers.py").write_text("SCALE = 3\n", encoding="utf-8")
    file = tmp_path / "tools" / "deep" / "their_train.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"from shared_parts.numbers import SCALE\n{LOOP}", encoding="utf-8")
    monkeypatch.chdir(file.parent)
    assert bind("their_train.py:train").training.function.__globals__["SCALE"] == 3
