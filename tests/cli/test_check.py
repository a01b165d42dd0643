"""``mnist-loop check``: a program runs as its author runs it, whatever it does, and the verdict comes at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.programs import running

HERE = Path(__file__).parents[2]
STYLES = HERE / "tests" / "watching" / "styles"
CHECK = ("-m", "mnist_loop", "check")
OURS = ("mnist-loop: ", "A file that defines")

TRAINING = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def steps(count, clear=True):
    for step in range(count):
        if clear:
            optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).pow(2).mean()
        loss.backward()
        optimizer.step()
        print("step", step, loss.item(), flush=True)
"""


def python(*arguments, cwd, **options):
    """Run Python in a folder, with this package in its path."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300, env=environment, **options
    )


def both(folder, *arguments, **options):
    """Run a program by itself and under check; return both."""
    return python(*arguments, cwd=folder, **options), python(*CHECK, *arguments, cwd=folder, **options)


def theirs(text):
    """What of an output the program has written."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(OURS))


def write(folder, text, name="train.py"):
    """Write a program."""
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return name


# -- programs that do not train: torch is not even imported ------------------------------------------------------------

PROGRAMS = {
    "reads stdin": "import sys; print(sys.stdin.read().upper(), input.__name__)",
    "has arguments": "import sys; print(sys.argv[1:], __name__, __file__.rpartition('/')[2])",
    "leaves with a number": "import sys; print('a'); sys.exit(7)",
    "leaves with a text": "print('a'); exit('that was all')",
    "leaves at once": "import os; print('a', flush=True); os._exit(9)",
    "changes folder": "import os; os.chdir('/'); print(os.getcwd())",
    "imports a sibling": "import sibling; print(sibling.VALUE)",
    "imports itself": "import __main__; print(__main__.__name__, __main__.__file__ == __file__)",
    "has an error": "def inner():\n    return 1 / 0\n\nprint('a')\ninner()\n",
    "has an error with a cause": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error\n",
    "has no syntax": "print('a')\ndef (:\n",
    "is empty": "",
    "has an encoding": "# -*- coding: latin-1 -*-\nprint('\xe9')",
    "replaces stdout": "import io, sys; sys.stdout = io.StringIO(); print('unseen'); sys.stderr = None",
    "closes stdout": "import sys; print('a'); sys.stdout.close()",
    "has an excepthook": "import sys; sys.excepthook = lambda *a: print('hook', a[0].__name__); 1 / 0",
    "registers an ending": "import atexit; atexit.register(print, 'at the end'); print('a')",
    "pickles itself": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))).__module__)",
    "forks": "import os\npid = os.fork()\nos._exit(3) if pid == 0 else print(os.waitpid(pid, 0)[1] >> 8)",
    "starts another": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(1)'], text=True,"
    " capture_output=True).stdout)",
}


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_runs_as_by_python(tmp_path, text):
    """The same output, the same traceback, the same exit code; where nothing went wrong and nothing trained, 1."""
    write(tmp_path, "VALUE = 42", "sibling.py")
    (tmp_path / "my train").write_bytes(text.encode("latin-1" if "latin" in text else "utf-8"))
    alone, checked = both(tmp_path, "my train", "--stop-after", "3", "-m", "x", input="typed")
    assert checked.stdout == alone.stdout
    assert theirs(checked.stderr) == alone.stderr
    assert checked.returncode == (alone.returncode or 1)


def test_what_trains_nothing_is_told_so(tmp_path):
    """In one sentence, with the command that may have been meant."""
    checked = python(*CHECK, write(tmp_path, "print('a')"), cwd=tmp_path)
    assert checked.stdout == "a\n"
    assert checked.stderr.startswith("mnist-loop: train.py did not import torch: nothing was watched.")
    assert "mnist-loop verify FILE.py:NAME" in checked.stderr


NO_PROGRAMS = {
    "gone.py": "gone.py: no such file, expected a script: mnist-loop check train.py",
    "folder": "folder: a folder without __main__.py found, expected a script: name the file",
    "broken.ipynb": "broken.ipynb: what it holds is not JSON, expected a notebook: open it in Jupyter and save it",
    "old.ipynb": "old.ipynb: it has no cells of the format 4, expected a notebook: open it in Jupyter and save it",
}


@pytest.mark.parametrize(("name", "sentence"), NO_PROGRAMS.items(), ids=NO_PROGRAMS)
def test_what_is_no_program_is_refused_in_a_sentence(tmp_path, name, sentence):
    """Exit code 2, no traceback."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "old.ipynb").write_text('{"worksheets": []}')
    checked = python(*CHECK, name, cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert checked.stderr == f"mnist-loop: {sentence}\n"


def test_a_folder_and_a_module_run_as_by_python(tmp_path):
    """A folder with a __main__.py, a module, a package, and a module that is not there."""
    (tmp_path / "pkg").mkdir()
    write(tmp_path / "pkg", "from pkg.part import A\nimport sys\nprint(A, __package__, sys.argv[1:])", "__main__.py")
    write(tmp_path / "pkg", "A = 1\nif __name__ == '__main__': print(__spec__.name)", "part.py")
    write(tmp_path / "pkg", "", "__init__.py")
    write(tmp_path / "pkg", "import part; print(part.A, sys.path[0] == '') if False else print(part.A)", "alone.py")
    for arguments in (("-m", "pkg", "-x", "1"), ("-m", "pkg.part"), ("pkg/alone.py",)):
        alone, checked = both(tmp_path, *arguments)
        assert (checked.stdout, alone.returncode, checked.returncode) == (alone.stdout, 0, 1), arguments
    gone = python(*CHECK, "-m", "pkg.gone", cwd=tmp_path)
    assert gone.returncode == 2
    assert gone.stderr.startswith("mnist-loop: -m pkg.gone: no such module")


# -- programs that train -----------------------------------------------------------------------------------------------


def test_a_script_that_does_everything_at_once(tmp_path):
    """It imports torch late, sets threads before, changes folder and stdout, patches torch, and leaves with 3."""
    write(tmp_path, "def scale(loss): return loss * 2", "sibling.py")
    write(
        tmp_path,
        """
        import os, sys
        os.environ["OMP_NUM_THREADS"] = "1"
        import sibling
        assert "torch" not in sys.modules
        import torch
        print(torch.get_num_threads())
        os.chdir("/")
        own, step = sys.stdout, torch.optim.SGD.step
        torch.optim.SGD.step = lambda self, closure=None: print("patched") or step(self, closure)
        class Twice:
            def write(self, text): return own.write(text) and own.write("")
            def flush(self): own.flush()
        sys.stdout = Twice()
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(4):
            loss = sibling.scale(model(torch.ones(2, 3)).mean())
            loss.backward()
            optimizer.step()
            print(loss.item())
        torch.nn.functional.mse_loss(torch.ones(2, 1), torch.ones(2))
        exit(3)
        """,
    )
    checked = python(*CHECK, "train.py", cwd=tmp_path)
    assert checked.stdout.startswith("1\npatched\n")
    assert checked.stdout.count("patched") == 4
    assert checked.returncode == 3
    lines = (tmp_path / "train.py").read_text().splitlines()
    at = 1 + next(number for number, line in enumerate(lines) if "mse_loss" in line)
    assert checked.stderr.startswith(f"{tmp_path / 'train.py'}:{at}: UserWarning: Using a target size")
    assert "zero-grad-missing: " in checked.stderr
    assert f"  train.py:{1 + lines.index('    loss.backward()')}:     loss.backward()" in checked.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_a_training_that_is_stopped_has_a_verdict(tmp_path, number, code):
    """On what was seen so far."""
    write(tmp_path, TRAINING + "steps(5, clear=False)\nprint('now', flush=True)\nimport time\ntime.sleep(300)\n")
    with running(
        [sys.executable, *CHECK, "train.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE)}
    ) as process:
        while process.stdout.readline() != "now\n":
            assert process.poll() is None
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == code
    assert "zero-grad-missing: " in stderr
    assert "watched: 5 steps of SGD" in stderr
    assert ("KeyboardInterrupt" in stderr) == (number == signal.SIGINT)


# -- slow: each imports torch ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inline.py", "gan.py", "compiled.py", "workers.py", "scripted.py", "resume.py"])
def test_a_style_runs_as_by_python(name):
    """The same lines on stdout, the same on stderr but for the verdict, and exit code 0."""
    alone, checked = both(STYLES, name)
    assert checked.stdout == alone.stdout
    assert checked.stderr.startswith(alone.stderr)
    assert (checked.returncode, alone.returncode) == (0, 0), checked.stderr


@pytest.mark.slow
def test_a_notebook_is_checked():
    """Its cells are run in order, and its lines told by cell."""
    checked = python(*CHECK, "notebook.ipynb", cwd=STYLES)
    assert checked.returncode == 0, checked.stderr
    assert "watched: 16 steps of SGD" in checked.stderr


@pytest.mark.slow
def test_a_training_is_ended_after_some_steps(tmp_path):
    """--stop-after: exit code 0, no line more."""
    write(tmp_path, TRAINING + "steps(9)\nprint('never')\n")
    checked = python(*CHECK, "--stop-after", "4", "train.py", cwd=tmp_path)
    assert [line.split()[1] for line in checked.stdout.splitlines()] == ["0", "1", "2"]
    assert "watched: 4 steps" in checked.stderr
    assert checked.returncode == 0


@pytest.mark.slow
def test_a_training_is_ended_at_the_first_bug(tmp_path):
    """--fail-fast: exit code 1; an except clause of the script does not hold it up."""
    write(tmp_path, TRAINING + "try:\n    steps(90, clear=False)\nexcept Exception:\n    pass\nprint('never')\n")
    checked = python(*CHECK, "--fail-fast", "train.py", cwd=tmp_path)
    assert len(checked.stdout.splitlines()) < 10
    assert "never" not in checked.stdout
    assert "zero-grad-missing: " in checked.stderr
    assert checked.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["import os; os._exit(0)", "import os; os._exit(5)"])
def test_a_training_that_leaves_at_once_has_a_verdict(tmp_path, ending):
    """os._exit is not asked twice: the verdict comes before it."""
    alone, checked = both(tmp_path, write(tmp_path, TRAINING + "steps(5, clear=False)\n" + ending))
    assert checked.stdout == alone.stdout
    assert "zero-grad-missing: " in checked.stderr
    assert checked.returncode == alone.returncode


SPAWNED = """
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
def work(rank, model, clear):
    torch.manual_seed(rank)
    if dist.is_available() and model is None:
        dist.init_process_group("gloo", init_method="file://STORE", rank=rank, world_size=2)
        model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        if clear:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,)))
        loss.backward()
        optimizer.step()
    if dist.is_initialized():
        dist.destroy_process_group()
if __name__ == "__main__":
    MAIN
    print("done")
"""
HOGWILD = "model = nn.Linear(4, 2); model.share_memory(); mp.spawn(work, (model, CLEAR), 2)"
DDP = "mp.spawn(work, (None, CLEAR), 2)"


@pytest.mark.slow
@pytest.mark.parametrize("main", [HOGWILD, DDP], ids=["hogwild", "DDP"])
@pytest.mark.parametrize("clear", [True, False])
def test_processes_that_train_are_watched(tmp_path, main, clear):
    """Hogwild and DDP on two processes: no alarm where there is no bug, and the bug where there is one."""
    text = SPAWNED.replace("MAIN", main).replace("CLEAR", str(clear)).replace("STORE", str(tmp_path / "store"))
    write(tmp_path, text)
    checked = python(*CHECK, "train.py", cwd=tmp_path)
    assert checked.stdout == "done\n"
    assert "in 2 processes, 6 steps of SGD" in checked.stderr, checked.stderr
    assert ("zero-grad-missing: " in checked.stderr) == (not clear), checked.stderr
    assert checked.returncode == (0 if clear else 1), checked.stderr


@pytest.mark.slow
def test_torchrun_starts_check_in_each_process(tmp_path):
    """The verdict is told once, by the process of rank 0."""
    text = SPAWNED.replace('"gloo", init_method="file://STORE", rank=rank, world_size=2', '"gloo"')
    write(tmp_path, text.replace("MAIN", 'import os; work(int(os.environ["RANK"]), None, True)'))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    checked = python(*torchrun, *CHECK, "train.py", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count("done\n") == 2
    assert checked.stderr.count("watched: 6 steps of SGD") == 1, checked.stderr


@pytest.mark.slow
def test_a_machine_reads_the_verdict(tmp_path):
    """--format json on what a script has: the id, the line."""
    write(tmp_path, TRAINING + "steps(5, clear=False)\n")
    checked = python(*CHECK, "--format", "json", "train.py", cwd=tmp_path)
    assert "zero-grad-missing" in checked.stderr
    assert json.loads(checked.stderr[checked.stderr.index("{") :])
