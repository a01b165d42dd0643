"""A correct MNIST training loop, a verifier for training loops, and benchmarks. All public names are here.

They are loaded at first use, so that ``mnist-loop --help`` does not import torch. PYTEST_DONT_REWRITE: this file has no
asserts, and pytest would warn that the plugin imports it before it can be rewritten.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_loop.data import load_data, make_loaders
    from mnist_loop.data.digits import Digits
    from mnist_loop.errors import UserError
    from mnist_loop.loop import evaluate, fit, train_one_epoch
    from mnist_loop.model import MLP, ProbeNet
    from mnist_loop.verdict.verdict import Verdict
    from mnist_loop.verification.binding.intentions import declare
    from mnist_loop.verification.cases.case import Case
    from mnist_loop.verification.options import Options
    from mnist_loop.verification.verify import verify
    from mnist_loop.watching.watch import watch

__version__ = "0.2.0"

_HOME = {
    "MLP": "model",
    "ProbeNet": "model",
    "train_one_epoch": "loop",
    "evaluate": "loop",
    "fit": "loop",
    "load_data": "data",
    "make_loaders": "data",
    "Digits": "data.digits",
    "UserError": "errors",
    "Case": "verification.cases.case",
    "declare": "verification.binding.intentions",
    "Options": "verification.options",
    "Verdict": "verdict.verdict",
    "verify": "verification.verify",
    "watch": "watching.watch",
}

__all__ = [
    "MLP",
    "Case",
    "Digits",
    "Options",
    "ProbeNet",
    "UserError",
    "Verdict",
    "__version__",
    "declare",
    "evaluate",
    "fit",
    "load_data",
    "make_loaders",
    "train_one_epoch",
    "verify",
    "watch",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
