"""Global state that a loop may change: each part is read, told where it changed, and put back."""

import builtins
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as module_hooks

from mnist_loop.verification.binding.foreign import foreign_code
from mnist_loop.verification.recording import global_state as state_of_process
from tests import global_state

FOREIGN = Path(os.sep)


def replace_print():
    """As a loop does, in whose place code of others runs."""
    with foreign_code:
        builtins.print = None


# One change for each part of `state_of_process.PARTS`, as a loop makes it.
CHANGES = {
    "gradients enabled": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "matmul precision": lambda: torch.set_float32_matmul_precision("high"),
    "global module hooks": lambda: module_hooks.register_module_forward_hook(lambda *_: None),
    "patched functions": lambda: setattr(functional, "cross_entropy", lambda *_, **__: None),
    "built-in functions": replace_print,
    "working folder": lambda: os.chdir(FOREIGN),
}


def test_each_part_has_a_change_here():
    """No part is without a test."""
    assert set(CHANGES) == set(state_of_process.PARTS)


@pytest.mark.parametrize("part", sorted(CHANGES))
@pytest.mark.filterwarnings("ignore")  # anomaly detection warns that it is slow
def test_what_changed_is_told_and_put_back(part):
    """Its name alone is returned, and afterwards everything is as it was."""
    own, before = global_state.snapshot(), state_of_process.snapshot()
    CHANGES[part]()
    assert state_of_process.restore(before) == (part,)
    assert state_of_process.restore(before) == ()
    assert global_state.restore(own) == []


def test_where_nothing_changed_nothing_is_told():
    """An empty tuple; nothing is set."""
    assert state_of_process.restore(state_of_process.snapshot()) == ()


def test_several_changes_are_told_in_one_order():
    """That of `state_of_process.PARTS`, whatever the order in which the loop made them."""
    before = state_of_process.snapshot()
    for part in ("working folder", "default dtype", "gradients enabled"):
        CHANGES[part]()
    assert state_of_process.restore(before) == ("gradients enabled", "default dtype", "working folder")


@pytest.mark.parametrize(
    ("owner", "name"), state_of_process.PATCHABLE, ids=lambda part: part if isinstance(part, str) else part.__name__
)
def test_a_patch_is_put_back_by_identity(owner, name):
    """A wrapper around the function itself is told, and the function is there again."""
    before, own = state_of_process.snapshot(), getattr(owner, name)
    try:
        setattr(owner, name, lambda *args, **kwargs: own(*args, **kwargs))
        assert state_of_process.restore(before) == ("patched functions",)
        assert getattr(owner, name) is own
    finally:
        setattr(owner, name, own)


def test_hooks_that_were_there_stay():
    """The caller's own global hooks are none of the loop's."""
    seen = []
    with module_hooks.register_module_forward_hook(lambda *_: seen.append(1)):
        before = state_of_process.snapshot()
        CHANGES["global module hooks"]()
        assert state_of_process.restore(before) == ("global module hooks",)
        nn.Identity()(1)
        assert seen == [1]


def draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]  # noqa: S311


def test_a_seed_decides_all_generators():
    """Equal seeds give equal numbers of torch, NumPy and Python, other seeds other ones, and large ones are taken."""
    with state_of_process.generators_restored():
        found = []
        for seed in (0, 0, 1, 2**63 + 5):
            state_of_process.seed_everything(seed)
            found.append(draw())
    assert found[0] == found[1]
    for part in range(3):
        assert len({str(numbers[part]) for numbers in found}) == 3


def test_generators_are_put_back():
    """The numbers to come are those that would have come, also where something raised."""
    with state_of_process.generators_restored():
        expected = draw()

    def draws_and_raises():
        with state_of_process.generators_restored():
            state_of_process.seed_everything(3)
            draw()
            raise KeyError

    with pytest.raises(KeyError):
        draws_and_raises()
    with state_of_process.generators_restored():
        assert draw() == expected


def test_threads_are_those_that_are_alive():
    """One more while it runs, and one less when it has ended."""
    before, end = state_of_process.live_threads(), threading.Event()
    thread = threading.Thread(target=end.wait, daemon=True)
    thread.start()
    assert state_of_process.live_threads() - before == {thread}
    end.set()
    thread.join()
    assert state_of_process.live_threads() == before
