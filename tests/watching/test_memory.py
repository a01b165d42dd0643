"""The peak of memory of a process whose training is watched: at most 2 % above that of the same one unwatched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 1.02
ROOT = Path(__file__).parents[2]
MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
model.extend([nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(6):
    inputs, labels = torch.randn(64, 3, 48, 48), torch.randint(0, 10, (64,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
print(loss.item())
"""


def peak(*command):
    """Run Python; return what it printed, and its peak of resident memory, in the system's unit."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = [sys.executable, "-c", MEASURE, *map(str, command)]
    told = subprocess.run(ran, capture_output=True, text=True, check=True, timeout=300, env=environment)
    code, printed, most = json.loads(told.stdout)
    assert code == 0, printed
    return printed, most


@pytest.mark.slow  # four programs, 20 s
def test_the_peak_of_memory_is_that_of_the_training(tmp_path):
    """Nothing of a training is kept for longer: its activations are most of the memory here."""
    pytest.importorskip("resource", reason="the peak of a process is read by resource, which Windows lacks")
    file = tmp_path / "train.py"
    file.write_text(SCRIPT, encoding="utf-8")
    runs = [(peak(file), peak("-m", "mnist_loop", "check", file)) for _ in range(2)]
    assert {printed for pair in runs for printed, _ in pair} == {runs[0][0][0]}
    alone, watched = (min(most for _, most in column) for column in zip(*runs, strict=True))
    assert watched <= MOST * alone, (alone, watched)
