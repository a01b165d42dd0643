"""Reported bugs as scripts: each loop of a folder with cases.json is called from a script, which is watched.

``python -m tests.reported FOLDER`` prints a table: what `check` names of each broken loop, and of its repaired twin.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import linecache
import os
import sys
import tempfile
import warnings
from pathlib import Path

from mnist_loop import watch
from mnist_loop.verdict.verdict import Verdict

HEAD = """\
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, {folder!r})
from {module} import *
import {module} as given

torch.manual_seed(0)
train_set = TensorDataset(torch.randn(42, 1, 6, 6), torch.randint(0, 5, (42,)))
test_set = TensorDataset(torch.randn(22, 1, 6, 6), torch.randint(0, 5, (22,)))
train_loader = DataLoader(train_set, batch_size=4, shuffle=True)
test_loader = DataLoader(test_set, batch_size=4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(36, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        return self.head(self.hidden(images.flatten(1)))


model = Net()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
"""
VALUES = {
    "model": "model", "net": "model", "train_loader": "train_loader", "loader": "train_loader",
    "train_dataloader": "train_loader", "val_loader": "test_loader", "test_loader": "test_loader",
    "criterion": "loss_fn", "loss_fn": "loss_fn", "optimizer": "optimizer", "device": "torch.device('cpu')",
    "epochs": "3", "num_epochs": "3", "lr": "0.05", "seed": "0", "test_set": "test_set", "batch_size": "4",
    "accum_steps": "2", "accumulate": "2", "grad_accumulation_steps": "2", "patience": "2",
    "scheduler": "torch.optim.lr_scheduler.StepLR(optimizer, 1)",
    "lr_scheduler": "torch.optim.lr_scheduler.StepLR(optimizer, 1)",
    "epoch": "epoch", "scaler": "torch.amp.GradScaler('cpu')",
}  # fmt: skip
EVALUATIONS = ("validate", "test", "evaluate", "eval_one_epoch")
EPOCHS = ("epochs", "num_epochs")


def script(file: Path, loop: str) -> str:
    """Return a script that trains three epochs with a loop of a file, and evaluates where the file says how."""
    tree = ast.parse(file.read_text())
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    node = defined[loop]
    lines = [HEAD.format(folder=str(file.parent), module=f"_{file.stem}")]
    if isinstance(node, ast.ClassDef):
        methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
        lines.append(f"trainer = {loop}({_arguments(methods['__init__'])})")
        train = next(name for name in ("fit", "train_epoch") if name in methods)
        call, takes_epochs = f"trainer.{train}({_arguments(methods[train])})", _takes_epochs(methods[train])
        evaluation = next((f"trainer.{name}()" for name in ("accuracy", "val_loss") if name in methods), "")
    else:
        names = [argument.arg for argument in node.args.args]
        lines += [f"{name} = {VALUES[name]}" for name in names if "schedul" in name or name == "scaler"]
        call, takes_epochs = f"{loop}({_arguments(node, made=True)})", _takes_epochs(node)
        name = next((name for name in EVALUATIONS if name in defined), "")
        evaluates = defined.get(name)
        evaluation = f"{name}({_arguments(evaluates)})" if isinstance(evaluates, ast.FunctionDef) else ""
    body = [call, *([evaluation] if evaluation and not takes_epochs else [])]
    lines += body if takes_epochs else ["for epoch in range(3):", *(f"    {line}" for line in body)]
    return "\n".join(lines) + "\n"


def _arguments(function: ast.FunctionDef, *, made: bool = False) -> str:
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    values = [name if made and ("schedul" in name or name == "scaler") else VALUES[name] for name in names]
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def _takes_epochs(function: ast.FunctionDef) -> bool:
    return any(argument.arg in EPOCHS for argument in function.args.args)


def verdict_on(file: Path, loop: str) -> tuple[Verdict, str]:
    """Run the script for a loop, watched; return the verdict, and the error that ended it."""
    source, name = script(file, loop), str(file.with_name(f"script_of_{file.stem}.py"))
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module = type(sys)(f"_{file.stem}")
    error = ""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), watch(file.name) as seen:
        warnings.simplefilter("ignore")
        try:
            exec(compile(file.read_text(), str(file), "exec"), module.__dict__)  # noqa: S102  # the loop
            sys.modules[module.__name__] = module
            exec(compile(source, name, "exec"), {"__name__": "__main__"})  # noqa: S102  # its script
        except Exception as found:  # noqa: BLE001  # a loop may raise: that is a row of the table
            error = f"{type(found).__name__}: {found}"
    return seen.verdict, error


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    os.chdir(tempfile.mkdtemp())
    print("| case | right | `check` names | of the repaired twin |\n|---|---|---|---|")  # noqa: T201  # the table
    for case in json.loads((folder / "cases.json").read_text()):
        cells = []
        for kind in ("", "_fixed"):
            verdict, error = verdict_on(folder / f"{case['name']}{kind}.py", case.get("loop", "train"))
            found = [f"{one.id} ({one.severity})" for one in verdict.diagnoses]
            cells.append(", ".join(found) + (f" raises {error[:60]}" if error else ""))
        print(f"| {case['name']} | {', '.join(case['ids'])} | {' | '.join(cells)} |", flush=True)  # noqa: T201  # a row


if __name__ == "__main__":
    main()
