"""Finding a loop by a text: files, modules and packages are imported as a script would be; what fails is a sentence."""

import sys
from pathlib import Path

import pytest

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import resolve as resolving
from mnist_loop.verification.binding.bind import bind, find_loop
from mnist_loop.verification.binding.resolve import search_path

LOOP = "def train(model, loader):\n    return 'trained'\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file in an empty folder, which is the present one; the imports are undone."""
    monkeypatch.chdir(tmp_path)
    before, path = dict(sys.modules), list(sys.path)
    monkeypatch.setattr(resolving, "_folders", {})

    def do(name, source):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
        return file

    yield do
    assert sys.path == path
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for name, module in before.items():
        assert sys.modules.get(name) is module or sys.modules.setdefault(name, module) is module


def refusal(spec):
    """Return the sentence with which ``spec`` is refused."""
    with pytest.raises(UserError) as refused:
        find_loop(spec)
    return str(refused.value)


@pytest.mark.parametrize("spec", ["my_train.py:train", "./my_train.py:train", "my_train:train", "my_train.py::train"])
def test_a_file_or_a_module_here(write, spec):
    """By its path, by its name, and as pytest writes it."""
    write("my_train.py", LOOP)
    assert find_loop(spec)(1, 2) == "trained"


def test_a_path_from_elsewhere(write, tmp_path):
    """Absolute, and in a folder whose siblings it imports, at once and later."""
    write("deep/er/helper_of_theirs.py", "VALUE = 5")
    write("deep/er/later_helper.py", "VALUE = 6")
    source = (
        "from helper_of_theirs import VALUE\n"
        "def train(model, loader):\n"
        "    import later_helper\n"
        "    return VALUE, later_helper.VALUE\n"
    )
    file = write("deep/er/a_train.py", source)
    for spec in (f"{file}:train", "deep/er/a_train.py:train"):
        assert bind(spec).begin({"model": 1, "train_loader": 2}).train({"model": 1, "train_loader": 2}) == (5, 6)


def test_a_file_may_import_from_the_present_folder(write):
    """Where the command is typed, as with python -m."""
    write("lib_of_theirs.py", "VALUE = 5")
    write("scripts/a_train.py", "import lib_of_theirs\ndef train(): return lib_of_theirs.VALUE")
    assert find_loop("scripts/a_train.py:train")() == 5


def test_a_file_in_a_package_has_its_relative_imports(write):
    """It is imported by its full name, from the folder above the package."""
    write("src/their_pkg/__init__.py", "")
    write("src/their_pkg/sub/__init__.py", "")
    write("src/their_pkg/utils.py", "VALUE = 5")
    write("src/their_pkg/sub/training.py", "from ..utils import VALUE\ndef train(): return VALUE, __name__")
    assert find_loop("src/their_pkg/sub/training.py:train")() == (5, "their_pkg.sub.training")
    assert find_loop("src/their_pkg/__init__.py:sub.training.train")()[0] == 5


def test_dotted_names(write):
    """A method of a class, an attribute of an object."""
    write("my_train.py", "class A:\n    class B:\n        def fit(self, model, loader): pass\nb = A.B()")
    assert find_loop("my_train.py:A.B.fit").__qualname__ == "A.B.fit"
    assert find_loop("my_train:b.fit").__self__ is sys.modules["my_train"].b


def test_a_changed_file_is_read_anew(write):
    """As one edits it in a notebook's session."""
    write("my_train.py", "def train(): return 1")
    assert find_loop("my_train.py:train")() == 1
    write("my_train.py", "def train(): return 22")
    assert find_loop("my_train.py:train")() == 22


def test_a_file_with_a_taken_name_hides_no_other(write):
    """`random.py` and `my-train.py` are imported under names of their own."""
    import random

    write("random.py", "def train(): return __name__")
    write("my-train.py", "def train(): return 1")
    assert find_loop("random.py:train")() == "my_random"
    assert sys.modules["random"] is random
    assert "turtledemo" not in sys.modules
    write("turtledemo.py", "def train(): return __name__")
    assert find_loop("turtledemo.py:train")() == "my_turtledemo"
    assert find_loop("my-train.py:train")() == 1


def test_siblings_of_another_file_are_not_taken(write):
    """Two folders with a `their_utils.py` each: each file gets its own."""
    for folder in "ab":
        write(f"{folder}/their_utils.py", f"VALUE = '{folder}'")
        write(f"{folder}/{folder}_train.py", "from their_utils import VALUE\ndef train(): return VALUE")
    assert [find_loop(f"{folder}/{folder}_train.py:train")() for folder in "ab"] == ["a", "b"]


def test_the_search_path_is_put_back(write, tmp_path):
    """After an import and after a failed one; during it the folder comes first."""
    before = list(sys.path)
    write("my_train.py", f"import sys\nassert sys.path[0] == {str(tmp_path)!r}\n{LOOP}")
    find_loop("my_train.py:train")
    assert sys.path == before
    with search_path("/nowhere"):
        assert sys.path == ["/nowhere", *before]
    with search_path(before[-1]):
        assert sys.path == before


def test_a_module_sees_no_arguments_of_ours(write, capsys, monkeypatch):
    """A module that reads the command line at import, and one that prints: stdout is for results."""
    source = "import argparse\nprint('hello')\nargs = argparse.ArgumentParser().parse_args()\ndef train(): pass"
    write("my_train.py", source)
    monkeypatch.setattr(sys, "argv", ["pytest", "--loop"])
    find_loop("my_train.py:train")
    assert sys.argv == ["pytest", "--loop"]
    assert capsys.readouterr() == ("", "hello\n")


# --- the only loop -------------------------------------------------------------------------------------------------


def test_the_only_loop_of_a_file_needs_no_name(write):
    """What evaluates, what helps, what is imported or private and what cannot be bound is passed over."""
    source = (
        "from mnist_loop.loop import fit\n"
        "from torch import nn\n"
        "class Net(nn.Module): pass\n"
        "def train_it(model, loader, optimizer): pass\n"
        "def test(loader, model): pass\n"
        "def accuracy(model, loader): pass\n"
        "def _train(model, loader, optimizer): pass\n"
        "def main(): pass\n"
    )
    write("my_train.py", source)
    assert find_loop("my_train.py").__name__ == find_loop("my_train").__name__ == "train_it"
    write("plainer.py", "def train(model, loader): pass\ndef test(model, loader): pass")
    assert find_loop("plainer.py").__name__ == "train"


def test_several_loops_or_none_need_one(write):
    """The candidates are listed."""
    write("two.py", "def a(model, loader): pass\ndef b(model, loader): pass")
    assert "two.py:a, two.py:b" in refusal("two.py")
    write("none.py", "def main(): pass")
    assert "none.py:main" in refusal("none.py")
    write("empty.py", "")
    assert "empty.py" in refusal("empty.py")


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("my_trian.py:train", "did you mean my_train.py?"),
        ("nowhere/at/all.py:train", "nowhere/at/all.py"),
        ("my_trian:train", "did you mean my_train?"),
        ("my_train.train", "write my_train:train"),
        ("zzz.yyy:train", "zzz.yyy"),
        ("my_train.py:trian", "did you mean train?"),
        ("my_train.py:zzzzzz", "it has train"),
        ("my_train.py:train.fit", "my_train.py:train has no 'fit'"),
        ("my_train.py:NUMBER", "my_train.py:NUMBER is 3"),
        ("folder", "a folder"),
        ("notes.txt:train", ".py"),
        ("not a name:train", "not a name"),
        ("", "expected file.py:name"),
        (":train", "expected file.py:name"),
    ],
)
def test_what_cannot_be_found_is_told(write, spec, told):
    """One sentence: what was found, what was expected, what was probably meant."""
    write("my_train.py", f"NUMBER = 3\n{LOOP}")
    write("folder/other.py", "")
    write("notes.txt", "")
    assert told in refusal(spec)


@pytest.mark.parametrize("spec", ["my_train.py:train", "my_train:train"])
def test_a_module_that_fails_is_told_by_its_own_lines(write, spec):
    """The exception, and where in the user's files: no line of ours or of Python's."""
    write("my_train.py", "from helping_hand import x")
    write("helping_hand.py", "import torch.nothing_of_this_name")
    told = refusal(spec)
    assert "fails at import with ModuleNotFoundError: No module named 'torch.nothing_of_this_name'" in told
    assert (
        "(my_train.py, line 1: from helping_hand import x; helping_hand.py, line 1: import torch.nothing_of_this_name)"
        in told
    )
    assert "my_train" not in sys.modules
    write("my_train.py", "def train(:")
    assert "fails at import with SyntaxError" in refusal(spec)
    assert "my_train.py, line 1" in refusal(spec)


@pytest.mark.parametrize(
    "call",
    ["import sys; sys.exit(3)", "exit()", "raise SystemExit", "import argparse; argparse.ArgumentParser().error('x')"],
)
def test_of_a_module_that_exits_the_definitions_are_taken(write, call):
    """It was written as a script."""
    write("my_train.py", f"{call}\n{LOOP}")
    assert "the whole file fails with SystemExit" in bind("my_train.py:train").notes[0]


def test_no_line_of_ours_is_told(write, monkeypatch):
    """Not even where this package lies in the present folder."""
    file = write("my_train.py", "import nothing_of_this_name")
    monkeypatch.chdir(Path(resolving.__file__).parent)
    assert "resolve.py" not in refusal(f"{file}:train")


def test_ctrl_c_at_import_is_ctrl_c(write):
    """It is the user's wish to stop, not an error of the module."""
    write("my_train.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        find_loop("my_train.py:train")
    assert "my_train" not in sys.modules
