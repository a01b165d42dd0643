from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torchvision

from mnist_loop.bugs import BUGS
from tests.corpus.__main__ import main
from tests.corpus.manifest import scripts
from tests.corpus.stand_in import MAKERS, make

RIGHT = """
import torch
torch.manual_seed(1)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 2)).square().mean()
    loss.backward()
    optimizer.step()
    print(loss.item())
"""
MANIFEST = """
[[repository]]
name = "someone/scripts"
commit = "{commit}"
[[repository.script]]
path = "right.py"
[[repository.script]]
path = "wrong.py"
{readings}
[[repository.script]]
path = "other.py"
packages = ["no-such-package"]
[[repository]]
name = "nobody/gone"
commit = "{commit}"
[[repository.script]]
path = "train.py"
"""


def test_the_manifest_lists_scripts_of_many_repositories_with_what_they_need():
    listed = scripts()
    assert len(listed) >= 60
    assert len({one.repository for one in listed}) >= 30
    for one in listed:
        assert not Path(one.path).is_absolute(), one.name
        assert one.commit.strip("0"), one.name
        assert all(asked.split()[0] in MAKERS for asked in one.data.values()), one.name
        assert set(one.readings) <= set(BUGS), one.name


@pytest.mark.parametrize(
    ("entry", "message"),
    [("pth = 'x'", "pth"), ("path = 'a'\n[[repository.script]]\npath = 'a'", "listed twice: a/b/a")],
)
def test_a_manifest_with_a_mistake_is_refused(entry, message, tmp_path):
    file = tmp_path / "manifest.toml"
    file.write_text(f"[[repository]]\nname = 'a/b'\ncommit = '{'1' * 40}'\n[[repository.script]]\n{entry}\n")
    with pytest.raises(ValueError, match=message):
        scripts(file)


def test_the_stand_in_data_is_what_torchvision_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.utils, "check_integrity", lambda file, md5=None: Path(file).is_file())
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda file, md5=None: Path(file).is_file())
    for asked in ("mnist 60 20", "cifar10 60 20", "cifar100 60 20"):
        make(asked, tmp_path)
    for kind in (torchvision.datasets.MNIST, torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100):
        for train, size in ((True, 60), (False, 20)):
            dataset = kind(tmp_path, train=train)
            labels = [label for _, label in dataset]
            assert len(labels) == size, kind
            assert len(set(labels)) >= 10, kind
    make("images 3 4 32", tmp_path / "folder")
    assert np.bincount(torchvision.datasets.ImageFolder(tmp_path / "folder").targets).tolist() == [4, 4, 4]


def test_the_stand_in_graph_has_words_a_label_and_edges_for_each_paper(tmp_path):
    make("cora 70 21", tmp_path)
    papers = [line.split("\t") for line in (tmp_path / "cora.content").read_text().splitlines()]
    edges = {int(one) for line in (tmp_path / "cora.cites").read_text().splitlines() for one in line.split("\t")}
    assert [len(paper) for paper in papers] == [1 + 21 + 1] * 70
    assert len({paper[-1] for paper in papers}) == 7
    assert edges == set(range(70))


def test_stand_in_data_that_is_there_is_left_alone(tmp_path):
    make("text 3", tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("the script's own")
    make("text 3", tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_text() == "the script's own"


@pytest.fixture
def corpus(tmp_path):
    checkout = tmp_path / "someone+scripts"
    checkout.mkdir()
    (checkout / "right.py").write_text(RIGHT)
    (checkout / "other.py").write_text("import no_such_package")
    (checkout / "wrong.py").write_text(RIGHT.replace("    optimizer.zero_grad()\n", ""))
    return tmp_path


def run(corpus, readings=""):
    manifest, page = corpus / "manifest.toml", corpus / "reach.md"
    manifest.write_text(MANIFEST.format(commit="1" * 40, readings=readings))
    code = main([str(corpus), "--manifest", str(manifest), "--page", str(page)])
    return code, page.read_text()


@pytest.mark.slow  # each starts eight programs
def test_scripts_are_run_with_and_without_check_and_what_is_missing_is_said(corpus, capsys):
    code, page = run(corpus)
    told = capsys.readouterr().err
    assert code == 1, "a bug that nobody has read"
    assert "missing: nobody/gone: git clone https://github.com/nobody/gone" in told
    assert "missing: packages that some scripts need: pip install no-such-package" in told
    assert "wrong.py: zero-grad-missing was found and not read: wrong.py:8: loss.backward()" in told
    right, wrong = json.loads((corpus / "outcomes.json").read_text())
    for outcome in (right, wrong):
        assert outcome["steps"] == 3
        assert outcome["same"]
        assert outcome["printed_same"]
        assert outcome["overhead"] > 0
    assert right["codes"] == [0, 0]
    assert wrong["codes"] == [1, 0]
    assert "2 of 4 scripts of 1 repositories were run, and 2 reached a verdict" in page


@pytest.mark.slow
def test_a_bug_that_was_read_and_is_right_is_told_with_its_line(corpus):
    reading = "[repository.script.readings.zero-grad-missing]\nline = 'wrong.py:8'\nright = true\nwhy = 'So it is.'"
    code, page = run(corpus, reading)
    assert code == 0
    assert "Right (wrong.py:8): So it is." in page
