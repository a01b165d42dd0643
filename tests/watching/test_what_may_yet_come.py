"""What a training has not done yet is no bug: another line, a longer training, a data set of its own may do it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mnist_loop import watch
from tests import global_state

BEGIN = """
import random
import torch
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0)
class Data(Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, index):
        return torch.full((3,), float(index)), torch.tensor(index % 2)
class Pairs(Data):
    def __getitem__(self, index):
        return super().__getitem__(random.randrange(16) if random.random() < 2 else index)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
loader = DataLoader(DATA(), 4, shuffle=SHUFFLE)
def train():
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
def evaluate(data):
    model.eval()
    with torch.no_grad():
        for inputs, _ in data:
            model(inputs)
for epoch in range(3):
    train()
"""


# As ignite's LRScheduler has it.
ASKED = """    scheduler.last_epoch += 1
    scheduler._get_lr_called_within_step = True
    optimizer.param_groups[0]["lr"] = scheduler.get_lr()[0]
"""


def found(tmp_path, text, data="Data", shuffle="True"):
    """The severity of each finding, by its id."""
    file = tmp_path / "train.py"
    file.write_text((BEGIN + text).replace("DATA", data).replace("SHUFFLE", shuffle))
    before = global_state.snapshot()
    try:
        with suppress(KeyboardInterrupt), watch() as seen:
            exec(compile(file.read_text(), str(file), "exec"), {"__name__": "train"})  # noqa: S102  # a script
    finally:
        global_state.restore(before)
    return {one.id: one.severity for one in seen.verdict.diagnoses}


@pytest.mark.parametrize(
    ("then", "severity"),
    [
        ("", "bug"),
        ("    if epoch >= 10:\n        scheduler.step()\n", "info"),
        (ASKED, "info"),
    ],
    ids=["never", "after a warm-up", "by a library, without a step"],
)
def test_a_schedule_that_is_stepped_later_is_no_bug(then, severity, tmp_path):
    assert found(tmp_path, then) == {"scheduler-not-stepped": severity}


@pytest.mark.parametrize(
    ("end", "expected"), [("", True), ("raise KeyboardInterrupt\n", False)], ids=["end", "stopped"]
)
def test_other_data_may_be_evaluated_after_a_training_that_was_stopped(end, expected, tmp_path):
    told = found(tmp_path, "    scheduler.step()\n    evaluate(DataLoader(loader.dataset, 4))\n" + end)
    assert ("validates-on-train" in told) == expected


def test_other_data_that_are_evaluated_with_gradients_on_are_evaluated(tmp_path):
    then = """    scheduler.step()
    evaluate(DataLoader(loader.dataset, 4))
for inputs, _ in DataLoader(DATA(), 4):
    model(inputs)
"""
    assert "validates-on-train" not in found(tmp_path, then)


@pytest.mark.parametrize(("data", "expected"), [("Data", True), ("Pairs", False)])
def test_a_data_set_that_draws_by_itself_is_shuffled_by_itself(data, expected, tmp_path):
    told = found(tmp_path, "    scheduler.step()\n", data, shuffle="False")
    assert ("not-shuffled" in told) == expected
