"""The pytest plugin: a loop's laws as test items, what each reports, and silence where no loop is named."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import mnist_loop.verification.verify as verifying
from mnist_loop.bugs import decided_by
from mnist_loop.pytest_plugin import items, loop_under_test, summary
from mnist_loop.verdict.diagnosis import Diagnosis
from mnist_loop.verdict.finding import Finding, Judgement
from mnist_loop.verdict.outcomes import outcomes
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.cases.battery import battery
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify
from tests.verdicts import SHORT

JUDGED = decided_by("verify")

GOOD = """
def train(model, loader, loss_fn, optimizer, device, epochs):
    model.train()
    for epoch in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss_fn(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
"""
BROKEN = GOOD.replace("            optimizer.zero_grad()\n", "")
ROOT = "mnist_loop::my_train:train"


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder with a training loop and no test. Verifying ends after the first experiments."""
    monkeypatch.setattr(verifying, "battery", lambda *given: battery(*given)[:SHORT])
    pytester.makepyfile(my_train=GOOD)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    return pytester


@pytest.fixture
def verdicts(monkeypatch):
    """Have the next verdict be one on these findings and laws; return how often it was asked for, and with what."""
    asked = []

    def verdict_of(*findings, held=None, not_run=(), ended=False, output=""):
        broken = {finding.id for finding in findings}
        kept = [] if ended else [id_ for id_ in LAWS if id_ not in broken and id_ not in not_run]
        judgement = Judgement(Case(), list(findings), kept if held is None else held, dict(not_run))

        def fake(loop, evaluate, options, **declared):
            asked.append((loop, evaluate, options, declared))
            return Verdict(
                "my_train.py:train",
                asked=Asked("my_train:train", declared=declared),
                judgements=[judgement],
                output=output,
            )

        monkeypatch.setattr(loop_under_test, "verify", fake)
        return asked

    return verdict_of


def finding(id_, text="it shows", cause=None):
    """Return a finding in the plainest case."""
    return Finding(id_, 1, text, Case(), cause)


def run(project, *arguments):
    """Run pytest on the loop, in this process."""
    return project.runpytest_inprocess("--loop", "my_train:train", *arguments)


def laws_in(result):
    """Return what is printed of each law with -v, from id to word."""
    lines = (line.split() for line in result.outlines if line.startswith(f"{ROOT}::"))
    return {words[0].rpartition("::")[2]: words[1] for words in lines}


# -- without a loop ----------------------------------------------------------------------------------------------------


def test_without_a_loop_nothing_is_loaded(tmp_path):
    """A run in a project that has nothing to do with loops loads the plugin's one module, and not torch."""
    code = (
        "import json, sys, pytest\n"
        "code = pytest.main(['--co', '-q', '-p', 'no:cacheprovider'])\n"
        "loaded = [name for name in sys.modules if name.split('.')[0] in ('mnist_loop', 'torch')]\n"
        "print(json.dumps([code, sorted(loaded)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [5, ["mnist_loop", "mnist_loop.pytest_plugin"]]


def test_without_a_loop_nothing_is_said(pytester):
    """No header, no summary, no item; a test that asks for the verdict says what it needs."""
    pytester.makepyfile("def test_own(): pass\ndef test_verdict(verdict): pass")
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*: needs a training loop: name one with --loop"])
    result.stdout.no_fnmatch_line("loop: *")
    result.stdout.no_fnmatch_line("*laws: *")


# -- which items there are ---------------------------------------------------------------------------------------------


def test_each_law_is_an_item(project, verdicts):
    """In a folder without tests too, in the order of the catalogue; to collect them verifies nothing."""
    asked = verdicts()
    result = run(project, "--co", "-q")
    assert [line for line in result.outlines if "::" in line] == [f"{ROOT}::{id_}" for id_ in JUDGED]
    assert result.ret == 0
    assert not asked


def test_own_tests_run_beside_the_laws(project, verdicts):
    """Both run; the verdict is that of the items, from one verification."""
    asked = verdicts(finding("zero-grad-missing"))
    project.makepyfile(test_own="def test_own(verdict): assert verdict.primary == 'zero-grad-missing'")
    result = run(project, "test_own.py")
    decided = len(JUDGED) - len([bug for bug in JUDGED.values() if bug.undecided])
    result.assert_outcomes(passed=decided, failed=1, skipped=len(JUDGED) - decided)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["-k", "loss-sum and mnist_loop"], {"loss-sum"}),
        (["-k", "loss-sum and not mnist_loop"], set()),
        (["-k", "step-missing or loss-sum", "--deselect", f"{ROOT}::loss-sum"], {"step-missing"}),
        (["-k", "step-missing", "--import-mode=importlib", "-W", "error"], {"step-missing"}),
        (["-k", "step-missing", "-p", "mnist_loop.bench.suite", "--strict-markers"], {"step-missing"}),
    ],
)
def test_laws_are_chosen_as_tests_are(project, verdicts, arguments, ran):
    """-k, --deselect and what else people run pytest with."""
    verdicts()
    assert set(laws_in(run(project, "-v", *arguments))) == ran


# -- what an item reports ----------------------------------------------------------------------------------------------


def test_each_outcome_has_its_word(project, verdicts):
    """Held passes; a bug fails; its consequence and what was not run are skipped; a cost passes."""
    verdicts(
        finding("zero-grad-missing"),
        finding("gradient-differs", cause="zero-grad-missing"),
        finding("sync-every-step"),
        not_run={"clip-missing": "declare it"},
    )
    result = run(project, "-v", "-rs")
    found = laws_in(result)
    assert found["zero-grad-missing"] == "FAILED"
    assert found["gradient-differs"] == found["clip-missing"] == "SKIPPED"
    assert found["sync-every-step"] == found["step-missing"] == found["loop-hangs"] == "PASSED"
    undecided = [bug for bug in JUDGED.values() if bug.undecided]
    result.assert_outcomes(passed=len(JUDGED) - 3 - len(undecided), failed=1, skipped=2 + len(undecided))
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*: a consequence of zero-grad-missing",
            "SKIPPED*: not run: declare it",
            f"laws: {len(JUDGED) - 4 - len(undecided)} held, * not run, 1 broken, 1 broken in consequence, 1 cost",
        ]
    )


def test_a_failure_is_the_diagnosis(project, verdicts):
    """What is wrong, the evidence, the fix, the case, the code that shows it again; no traceback through the plugin."""
    verdicts(finding("zero-grad-missing", "step 1: g = grad(2) + grad(1)"))
    result = run(project, "--loop-declare", "clip=1.0")
    bug = JUDGED["zero-grad-missing"]
    result.stdout.fnmatch_lines(
        [
            "*_ zero-grad-missing _*",
            f"zero-grad-missing: {bug.title}",
            "*step 1: g = grad(2) + grad(1)",
            f"*{bug.hint}.",
            "*Case()*",
            "*verify(*my_train:train*, *clip=1.0)",
            "*= loop: my_train:train =*",
            "*laws: *1 broken",
            f"FAILED {ROOT}::zero-grad-missing*",
        ]
    )
    assert result.outlines.count(f"zero-grad-missing: {bug.title}") == 1
    assert run(project, "--tb=no").outlines.count(f"zero-grad-missing: {bug.title}") == 1
    result.stdout.no_fnmatch_line("*runtest*")
    result.stdout.no_fnmatch_line(summary.REMINDER)


def test_a_cost_is_told_and_fails_nothing(project, verdicts):
    """It is in the summary, since a test that passed tells nothing; warnings that are errors change nothing."""
    verdicts(finding("sync-every-step", "item() in each step"))
    result = run(project, "-W", "error")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*= loop: *", "sync-every-step: *", "*item() in each step", "*laws: *0 broken, 1 cost"]
    )
    result.stdout.fnmatch_lines([summary.REMINDER])


@pytest.mark.parametrize(
    ("diagnoses", "state"),
    [
        ([Diagnosis(finding("zero-grad-missing"), 1, (finding("loss-sum"),))], "consequence"),
        ([Diagnosis(finding("sync-every-step"), 1, (finding("loss-sum"),))], "consequence"),
        ([], "broken"),
    ],
)
def test_no_bug_is_hidden(monkeypatch, diagnoses, state):
    """A broken law that no diagnosis names fails itself; one that is a consequence fails as `verify` does."""
    monkeypatch.setattr(Verdict, "diagnoses", diagnoses)
    broken = [finding("loss-sum"), *(diagnosis.finding for diagnosis in diagnoses)]
    verdict = Verdict("my_train.py:train", judgements=[Judgement(Case(), broken)])
    assert outcomes(verdict)["loss-sum"].state == state


def test_a_loop_that_does_not_come_back_is_one_failure(project, verdicts):
    """What else could not be decided is skipped, and says because of what; the loop's last words are shown."""
    verdicts(finding("loop-exits", "it called exit(3)"), ended=True, output="no GPU, giving up")
    result = run(project, "-rs")
    assert result.parseoutcomes()["failed"] == 1
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["*it called exit(3)", "*output of the loop*", "no GPU, giving up"])
    result.stdout.fnmatch_lines(["SKIPPED*: not run: loop-exits came first"])


def test_nothing_decided_is_a_failure(project, verdicts):
    """One item says so; the others point to it."""
    verdicts(ended=True)
    first, *others = JUDGED
    result = run(project, "-rs")
    result.assert_outcomes(failed=1, skipped=len(others))
    result.stdout.fnmatch_lines(
        [
            f"*_ {first} _*",
            "my_train:train found, *no law could be decided*",
            "*= loop: my_train:train =*",
            f"nothing was run: none of {len(JUDGED)} laws could be decided, see the failure",
            f"SKIPPED*: not verified: see {ROOT}::{first}",
        ]
    )


def test_a_project_and_its_source_silence(project):
    """By a comment behind the def, and by the settings, which also declare and expect; each item says where."""
    source = BROKEN.replace("epochs):", "epochs):  # mnist-loop: ignore[zero-grad-missing]")
    project.makepyfile(my_train=source)
    chosen = ("-rs", "-k", "zero-grad-missing or gradient-differs or clip-missing")
    settings = '[tool.mnist_loop]\ndeclare = {clip = 1e-6}\nexpected-failures = {clip-missing = "soon"}\n'
    (project.path / "pyproject.toml").write_text(settings)
    result = run(project, *chosen)
    result.assert_outcomes(skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*laws: *1 ignored*", "SKIPPED*: ignored: my_train.py:1"])
    settings = '[tool.mnist_loop]\nignore = ["zero-grad-missing"]\n'
    (project.path / "pyproject.toml").write_text(settings)
    project.makepyfile(my_train=BROKEN)
    result = run(project, *chosen)
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED*: ignored: pyproject.toml"])
    (project.path / "pyproject.toml").write_text("[tool.mnist_loop]\nignore = 3\n")
    result = run(project, *chosen)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --loop: pyproject.toml: tool.mnist_loop.ignore=3 found, *"])


def test_junit_has_each_law(project, verdicts):
    """A test case a law, with its state as a property."""
    verdicts(finding("zero-grad-missing"))
    run(project, "--junitxml=report.xml")
    cases = ElementTree.parse(project.path / "report.xml").iter("testcase")  # noqa: S314  # written by pytest above
    states = {
        (case.get("classname"), case.get("name")): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in cases
    }
    assert len(states) == len(JUDGED)
    assert states["mnist_loop.my_train:train", "zero-grad-missing"][items.STATE] == "broken"
    assert states["mnist_loop.my_train:train", "step-missing"][items.TEXT] == "held in 1 case"


# -- expected failures -------------------------------------------------------------------------------------------------


def test_an_expected_failure_is_no_failure(project, verdicts):
    """A bug, a consequence and a cost may be expected; each is told with its reason."""
    broken = {"zero-grad-missing": None, "gradient-differs": "zero-grad-missing", "sync-every-step": None}
    verdicts(*(finding(id_, cause=cause) for id_, cause in broken.items()))
    project.path.joinpath("known.txt").write_text("".join(f"{id_}: it is the lesson\n" for id_ in broken))
    result = run(project, "--loop-expect-failures", "known.txt", "-v")
    assert result.ret == 0
    assert {id_ for id_, word in laws_in(result).items() if word == "XFAIL"} == set(broken)
    result.stdout.fnmatch_lines(["zero-grad-missing, as expected: it is the lesson", "laws: *, 3 broken as expected"])
    assert run(project, "--loop-expect-failures", "known.txt", "--runxfail").parseoutcomes()["failed"] == 1


@pytest.mark.parametrize(
    ("not_run", "says"),
    [
        ({}, "*XPASS(strict)*soon*"),
        ({"clip-missing": "declare it"}, "*clip-missing: expected to fail, but was not run*"),
    ],
)
def test_an_expectation_is_strict(project, verdicts, not_run, says):
    """A law that holds although it is expected to be broken fails, and so does one that was not run."""
    verdicts(not_run=not_run)
    project.path.joinpath("known.txt").write_text("clip-missing: soon\n")
    result = run(project, "--loop-expect-failures", "known.txt")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines([says])


# -- options -----------------------------------------------------------------------------------------------------------


def test_a_loop_of_the_ini_file_is_named_as_it_stands_there(project):
    """Nobody typed --loop."""
    project.path.joinpath("pytest.ini").write_text("[pytest]\nloop = my_trian:train\n")
    result = project.runpytest_inprocess("-c", "pytest.ini")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: loop in pytest.ini: no such module as my_trian, *"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--loop", "my_trian:train"], "ERROR: --loop: no such module as my_trian, *did you mean my_train*"),
        (["--loop", "my_train:tain"], "ERROR: --loop: *did you mean train*"),
        (["--loop", "no_loop.py:nothing"], "ERROR: --loop: *nothing*"),
        (["--loop", "raises.py"], "ERROR: --loop: raises.py fails at import with ZeroDivisionError*"),
        (["--loop", "my_train:train", "--loop-evaluate", "my_train:tset"], "ERROR: --loop: *has no 'tset'*"),
        (["--loop", "my_train:train", "--loop-declare", "clip=x"], "ERROR: --loop-declare: *clip*a number above 0*"),
        (["--loop", "my_train:train", "--loop-device", "gpu"], "ERROR: --loop-device: device 'gpu'*"),
        (
            ["--loop", "my_train:train", "--loop-expect-failures", "none"],
            "ERROR: --loop-expect-failures: none: cannot*",
        ),
        (
            ["--loop", "my_train:train", "--loop-expect-failures", "bad.txt"],
            "ERROR: --loop-expect-failures: bad.txt, line*",
        ),
        (["--loop", "my_train:train", "--loop-cases", "-1"], "*expected a whole number of at least 0"),
        (["--loop", "my_train:train", "--loop-timeout", "0"], "*expected a number above 0"),
    ],
)
def test_a_bad_option_is_one_error(project, arguments, says):
    """Exit code 4 before anything is collected, one error and no traceback."""
    project.makepyfile(no_loop="nothing = 3", raises="1 / 0")
    project.path.joinpath("bad.txt").write_text("zero-grad-misng: it is the lesson\n")
    project.makepyfile(test_own="def test_own(): pass")
    result = project.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
    assert "Traceback" not in result.stderr.str()
    assert "collected" not in result.stdout.str()


def test_options_reach_the_verification(project, verdicts):
    """Each option is handed on; what is not given stays as it is by default, and what is not declared undeclared."""
    asked = verdicts()
    project.makepyfile(my_eval="def check(model, loader): pass")
    run(project)
    declared = ["--loop-declare", "clip=1.5", "--loop-declare", "keeps-best"]
    others = ["--loop-evaluate", "my_eval:check", "--loop-cases", "0", "--loop-timeout", "7"]
    result = run(project, *declared, *others)
    (plain, full) = asked
    assert plain == ("my_train:train", None, Options(), {})
    options = Options(random_cases=0, timeout=7.0)
    assert full == ("my_train:train", "my_eval:check", options, {"clip": 1.5, "keeps_best": True})
    result.stdout.fnmatch_lines(["loop: my_train:train · evaluation: my_eval.py:check (declared) · torch * · cpu"])


def test_the_ini_file_may_name_the_loop(project, verdicts):
    """It holds for the whole suite, from any folder of it; not where pytest is given a path, nor against --loop."""
    asked = verdicts()
    project.makeini("[pytest]\nloop = my_train:train\naddopts = -p no:cacheprovider")
    below = project.mkdir("below")
    project.makepyfile(**{"below/test_own": "def test_own(): pass", "other": GOOD})
    assert project.runpytest_inprocess("-k", "step-missing").parseoutcomes()["passed"] == 1
    assert project.runpytest_inprocess("below").parseoutcomes() == {"passed": 1}
    assert project.runpytest_inprocess("--loop", "").parseoutcomes() == {"passed": 1}
    project.runpytest_inprocess("--loop", "other.py:train", "-k", "step-missing")
    project._monkeypatch.chdir(below)
    assert project.runpytest_inprocess("-k", "step-missing").parseoutcomes()["passed"] == 1
    assert [loop for loop, *_ in asked] == ["my_train:train", "other.py:train", "my_train:train"]


def test_a_test_that_changes_the_folder_changes_nothing(project, verdicts, monkeypatch):
    """The loop is looked for where pytest was started, and the folder is left as it was found."""
    verdicts()
    fake, folders = loop_under_test.verify, []

    def from_where(*args, **declared):
        folders.append(Path.cwd())
        return fake(*args, **declared)

    monkeypatch.setattr(loop_under_test, "verify", from_where)
    project.makepyfile(
        test_own="""
        import os

        def test_own(tmp_path, monkeypatch, verdict_folder):
            pass
        """,
        conftest="""
        import os, pytest

        @pytest.fixture
        def verdict_folder(tmp_path, monkeypatch, request):
            monkeypatch.chdir(tmp_path)
            request.getfixturevalue("verdict")
            assert os.getcwd() == str(tmp_path)
        """,
    )
    run(project, "-k", "test_own").assert_outcomes(passed=1, deselected=len(JUDGED))
    assert folders == [project.path]


# -- a real loop -------------------------------------------------------------------------------------------------------


def test_a_broken_loop_fails_by_name(project):
    """The whole way: the loop is verified in a process of its own, and the one item of its bug fails."""
    project.makepyfile(my_train=BROKEN)
    result = run(project, "--loop-cases", "0", "-k", "zero-grad-missing or step-missing", "-W", "error")
    result.assert_outcomes(passed=1, failed=1, deselected=len(JUDGED) - 2)
    result.stdout.fnmatch_lines([f"zero-grad-missing: {JUDGED['zero-grad-missing'].title}", "*step 1: *"])


def test_warnings_do_not_decide(project, monkeypatch):
    """A loop that warns is no loop that raises, whatever pytest makes of warnings."""
    project.makepyfile(
        my_train=GOOD.replace("    model.train()", "    import warnings; warnings.warn('old')\n    model.train()")
    )
    monkeypatch.setattr(loop_under_test, "verify", lambda *a, **k: verify(a[0], options=Options(cases=(Case(),))))
    assert laws_in(run(project, "-v", "-W", "error"))["loop-raises"] == "PASSED"


@pytest.mark.slow
def test_laws_run_in_the_processes_of_xdist(project):
    """Where pytest-xdist is installed: the ini-file's loop reaches the workers, and their reports make the summary."""
    pytest.importorskip("xdist")
    project.makeini("[pytest]\nloop = my_train:train")
    project.makepyfile(my_train=BROKEN)
    project._monkeypatch.chdir(project.mkdir("below"))
    project.path.joinpath("known.txt").write_text("zero-grad-missing: it is the lesson\n")
    chosen = ["-k", "zero-grad-missing or step-missing", "--loop-cases", "0", "--loop-expect-failures", "known.txt"]
    result = project.runpytest_subprocess("-n", "2", "--dist", "loadgroup", *chosen)
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "loop: my_train:train *",
            "zero-grad-missing, as expected: it is the lesson",
            "laws: 1 held, 0 not run, 0 broken, 1 broken as expected",
        ]
    )
