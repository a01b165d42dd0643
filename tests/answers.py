"""docs/answers.md: requests that people made of PyTorch, each as a small script with what ``check`` says of it.

Make it anew: ``python -m tests.answers > docs/answers.md``.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
from dataclasses import dataclass
from textwrap import dedent

import torch

from mnist_loop import watch
from mnist_loop.verdict.verdict import Verdict

INTRODUCTION = """\
# Answers to requests

People ask PyTorch to warn about mistakes in training loops. PyTorch declines for good reasons: a library cannot know
what a loop is meant to do, a check costs time in every training, and silence would be read as approval. A tool that is
run on purpose can warn: it watches one training, costs nothing in the others, and says what it has watched. Each
request is shown with a small script and with what `mnist-loop check` says of it.

*This page is generated: `python -m tests.answers > docs/answers.md`.*
"""


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        issue: its number in pytorch/pytorch.
        asks: what is asked for, in a sentence.
        file: the script's name.
        code: the script.
        bug: the id that `check` names first.
        severity: of what it names.
    """

    issue: int
    asks: str
    file: str
    code: str
    bug: str
    severity: str = "bug"


REQUESTS = (
    Request(
        47175,
        "A warning where `backward()` adds to gradients that a step has applied already.",
        "zero_grad.py",
        """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(10):
            images, labels = torch.randn(32, 8), torch.randint(0, 3, (32,))
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        """,
        "zero-grad-missing",
    ),
    Request(
        76383,
        "A warning where a model with Dropout or BatchNorm evaluates in train mode.",
        "eval.py",
        """
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset

        train = DataLoader(TensorDataset(torch.randn(64, 8), torch.randint(0, 3, (64,))), 16, shuffle=True)
        test = DataLoader(TensorDataset(torch.randn(32, 8), torch.randint(0, 3, (32,))), 16)
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        with torch.no_grad():
            correct = sum((model(images).argmax(dim=1) == labels).sum() for images, labels in test)
        """,
        "evaluates-in-train-mode",
    ),
    Request(
        55902,
        "A warning where `CrossEntropyLoss` is given the output of a softmax.",
        "softmax.py",
        """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss_fn = nn.CrossEntropyLoss()
        for _ in range(10):
            images, labels = torch.randn(32, 8), torch.randint(0, 3, (32,))
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
        """,
        "softmax-before-cross-entropy",
    ),
    Request(
        14467,
        "A warning where the parameters of a model are replaced after its optimizer was built.",
        "optimizer.py",
        """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model[2] = nn.Linear(16, 5)
        for _ in range(10):
            images, labels = torch.randn(32, 8), torch.randint(0, 5, (32,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        """,
        "optimizer-misses-parameters",
    ),
    Request(
        160016,
        "The first tensor that is not finite, at the step at which it shows.",
        "not_finite.py",
        """
        import torch
        from torch import nn

        model = nn.Linear(8, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(10):
            images, labels = torch.randn(32, 8), torch.randint(0, 3, (32,))
            if step == 6:
                images = images * 1000  # one batch that was not normalised
            optimizer.zero_grad()
            probabilities = model(images).softmax(dim=1)
            loss = -probabilities.log().gather(1, labels[:, None]).mean()
            loss.backward()
            optimizer.step()
        """,
        "loss-not-finite",
    ),
)


def verdict_on(request: Request) -> Verdict:
    """Run a script, watched; what it prints is dropped, and random numbers go on as if nothing had been drawn."""
    code = dedent(request.code).lstrip()
    linecache.cache[request.file] = (len(code), None, code.splitlines(keepends=True), request.file)
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()), watch(request.file) as seen:
        torch.manual_seed(0)
        exec(compile(code, request.file, "exec"), {"__name__": "__main__"})  # noqa: S102  # a script of this file
    return seen.verdict


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for request in REQUESTS:
        parts.append(
            f"## {request.asks}\n\n"
            f"[pytorch#{request.issue}](https://github.com/pytorch/pytorch/issues/{request.issue}), as "
            f"`{request.file}`:\n\n"
            f"```python\n{dedent(request.code).strip()}\n```\n\n"
            f"    mnist-loop check {request.file}\n\n"
            f"```\n{verdict_on(request)}\n```\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(render())
