"""`watch` and its hooks: nothing is kept alive, nothing stays in torch, and what fails is said and never felt."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.utils.data import DataLoader, TensorDataset

import mnist_loop
from mnist_loop.watching.hooks import installed
from mnist_loop.watching.judge import judge
from mnist_loop.watching.laws.registry import WATCHED
from mnist_loop.watching.summary import verdict_on
from mnist_loop.watching.watcher import Watcher

OPTIMIZERS = sys.modules["torch.optim.optimizer"]  # torch.optim takes the name away


def train(*, steps=4, clear=True, epochs=1):
    """Train a small model; return weak references to all that was made for it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 2))
        optimizer = torch.optim.Adam(model.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        data = TensorDataset(torch.randn(4 * steps, 3), torch.randint(0, 2, (4 * steps,)))
        loader = DataLoader(data, 4, shuffle=True)
        for _ in range(epochs):
            for inputs, labels in loader:
                if clear:
                    optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs), labels)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            scheduler.step()
    parts = [model, optimizer, scheduler, loader, data, inputs, labels, loss]
    return [weakref.ref(one) for one in (*parts, *model.parameters(), *(p.grad for p in model.parameters()))]


def replaced():
    """Everything in torch that a hook could have replaced, by its name."""
    owners = [
        torch,
        torch.autograd,
        torch.Tensor,
        torch.optim.Optimizer,
        torch.amp.GradScaler,
        torch.optim.swa_utils,
        nn.Module,
        nn.modules.batchnorm._NormBase,
        nn.functional,
        nn.utils,
        nn.utils.clip_grad,
        DataLoader,
        torch.utils.data.dataloader._BaseDataLoaderIter,
        *(one for one in vars(torch.optim.lr_scheduler).values() if isinstance(one, type)),
    ]
    found = {(str(owner), name): value for owner in owners for name, value in vars(owner).items()}
    hooks = {
        name: dict(value)
        for name, value in vars(module_hooks).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }
    optimizer_hooks = [
        dict(OPTIMIZERS._global_optimizer_pre_hooks),
        dict(OPTIMIZERS._global_optimizer_post_hooks),
    ]
    return found, hooks, optimizer_hooks


def assert_same(before, after):
    for (owner, name), value in before[0].items():
        assert after[0].get((owner, name)) is value, f"{owner}.{name} is another object than before"
    assert set(after[0]) == set(before[0])
    assert after[1:] == before[1:]


# -- nothing is kept ---------------------------------------------------------------------------------------------------


def test_nothing_is_kept_alive():
    """Model, optimizer, schedule, data, batches, losses and gradients die when the script lets go of them."""
    with mnist_loop.watch() as seen:
        refs = train(epochs=2)
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)
    assert seen.verdict.result == "clean"


def test_a_loss_that_is_not_finite_is_not_kept_alive():
    """What is looked for in its graph is let go of."""
    weight = torch.ones(3, requires_grad=True)
    with mnist_loop.watch():
        loss = torch.log(weight * 0).sum()
        ref = weakref.ref(loss)
        loss.backward()
        del loss
        gc.collect()
        assert ref() is None


def test_all_hooks_are_taken_out():
    """Each function of torch is the same object as before: after a block, after one that fails, and one in another."""
    before = replaced()
    with mnist_loop.watch():
        assert replaced()[0][str(torch.autograd), "backward"] is not before[0][str(torch.autograd), "backward"]
        train()
    assert_same(before, replaced())
    with suppress(ZeroDivisionError), mnist_loop.watch():
        train()
        raise ZeroDivisionError
    assert_same(before, replaced())
    with mnist_loop.watch(), mnist_loop.watch():
        train()
    assert_same(before, replaced())


def test_hooks_of_the_script_stay():
    """What a script registers while it is watched is not taken out with the hooks."""
    calls = []
    with mnist_loop.watch():
        handle = module_hooks.register_module_forward_hook(lambda *_: calls.append("forward"))
        train(steps=1)
    during = len(calls)
    train(steps=1)
    handle.remove()
    assert during > 0
    assert len(calls) == 2 * during


# -- twice -------------------------------------------------------------------------------------------------------------


def test_two_blocks_do_not_know_of_each_other():
    """A bug in the first is none of the second, and each verdict stays as it was."""
    with mnist_loop.watch("first") as first:
        train(clear=False)
    with mnist_loop.watch("second") as second:
        train()
    assert [found.id for found in first.verdict.bugs] == ["zero-grad-missing"]
    assert second.verdict.result == "clean"
    assert (first.verdict.name, second.verdict.name) == ("first", "second")


def test_a_block_in_a_block_sees_the_same():
    """Both see what happens in the inner one."""
    with mnist_loop.watch() as outer:
        with mnist_loop.watch() as inner:
            train(clear=False)
        train()
    for seen in (outer, inner):
        assert [found.id for found in seen.verdict.bugs] == ["zero-grad-missing"]
    assert "8 steps" in outer.verdict.watched
    assert "4 steps" in inner.verdict.watched


def test_another_thread_is_not_watched():
    """Its events would be mixed up with those of the thread that is."""
    with mnist_loop.watch() as seen:
        thread = threading.Thread(target=train, kwargs={"clear": False})
        thread.start()
        thread.join()
    assert not seen.verdict.bugs


# -- what fails --------------------------------------------------------------------------------------------------------


def test_a_hook_that_raises_is_taken_out_and_said():
    """It is called no more, the training goes on, and the verdict says what was not watched."""
    calls = []

    def broken():
        calls.append("before_backward")
        raise ZeroDivisionError("ours")

    watcher = Watcher()
    watcher.ledger.before_backward = broken
    with installed(watcher):
        train()
    assert len(calls) == 1
    assert watcher.broken == {"backward": "ZeroDivisionError: ours"}
    assert watcher.log.steps == 4
    verdict = verdict_on(watcher, "broken")
    assert "backward not watched: ZeroDivisionError: ours" in verdict.watched
    assert not verdict.bugs


def test_a_law_that_raises_takes_no_other_with_it(monkeypatch):
    """It is not run, with the reason, and the others decide as before."""

    def broken(log):
        raise ZeroDivisionError("ours")
        yield

    watcher = Watcher()
    with installed(watcher):
        train(clear=False)
    whole = judge(watcher.log)
    monkeypatch.setitem(WATCHED, "zero-grad-missing", broken)
    rest = judge(watcher.log)
    assert [found.id for found in whole.findings] == ["zero-grad-missing"]
    assert rest.findings == []
    assert rest.held == whole.held
    assert rest.not_run["zero-grad-missing"] == "it cannot be decided here: ZeroDivisionError: ours"


def test_an_error_of_the_script_is_its_own():
    """It comes out of the block as it was, without a frame of ours between, and there is a verdict."""
    weight = torch.ones(2, 2)
    raised = None
    try:
        with mnist_loop.watch() as seen:
            train()
            nn.functional.linear(torch.ones(1, 3), weight)
    except RuntimeError as error:
        raised = error
    assert "mat1 and mat2" in str(raised)
    assert raised.__cause__ is None
    assert raised.__context__ is None
    assert seen.verdict.judgements


def test_stop_iteration_passes_through():
    """The end of a loader is the end of its iterator, also for one that asks with next()."""
    with torch.random.fork_rng(), mnist_loop.watch():
        iterator = iter(DataLoader(TensorDataset(torch.ones(2, 1)), 1))
        assert len([next(iterator), next(iterator)]) == 2
        assert next(iterator, "the end") == "the end"
        assert next(iterator, "the end") == "the end"


def test_warnings_name_the_line_of_the_script():
    """A warning of torch about a caller's line names that line, and not one of the hooks."""
    line = sys._getframe().f_lineno + 2
    with mnist_loop.watch(), pytest.warns(UserWarning, match="target size") as caught:
        nn.functional.mse_loss(torch.ones(2, 1, requires_grad=True), torch.ones(2))
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]
