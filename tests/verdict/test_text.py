"""What is said of a verdict, as text and as JSON: made-up verdicts, each with what is to be seen of it."""

import dataclasses
import io
import json
import math
import re

import pytest

from mnist_loop.bugs import SUBJECTS, decided_by
from mnist_loop.support.console import plain_text, text_for
from mnist_loop.verdict import text
from mnist_loop.verdict.document import SCHEMA, as_json, document
from mnist_loop.verdict.explain import explanation, listing
from mnist_loop.verdict.finding import WITHOUT_LAW, Judgement
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verification.cases.case import Case
from tests.verdict.made import CASE, DIFFERS, MISSING, finding, verdict

LAWS = decided_by("verify")


def shown(made, **options):
    """Return the text of a verdict, as lines."""
    return plain_text(text.page(made, **options)).splitlines()


def told(made):
    """Return status and detail of each law that has a line where each has one, by id."""
    lines = shown(made, every_law=True)
    rows = (re.match(r"  (held|broken|not run) +([\w-]+)(?: +(.*))?$", line) for line in lines)
    return {row[2]: (row[1], row[3]) for row in rows if row}


# Text


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({}, ["loop: my_train.py:train", "evaluation: none", "cpu", "1 case", "2.4 s"]),
        ({"found_evaluate_by": "beside", "evaluate_name": "test"}, ["evaluation: test (found beside it)"]),
        ({"found_evaluate_by": "declared"}, ["evaluation: as declared"]),
        (
            {"found_evaluate_by": "declared", "asked": Asked("a:b", evaluate="my_train.py:test")},
            ["evaluation: my_train.py:test"],
        ),
        (
            {"judgements": [Judgement(CASE)] * 3, "random_cases": 2, "seed": 7},
            ["3 cases (1 fixed, 2 random from seed 7)"],
        ),
    ],
)
def test_the_header_says_what_was_judged_and_how(attributes, says):
    """The loop, its evaluation and how it was found, the device, fixed and random cases, the time: on one line."""
    assert set(says) <= set(shown(verdict(**attributes))[0].split(" · "))


def test_each_law_has_a_line_under_its_subject():
    """Held in how many cases, broken and of what it is a consequence, not run and why."""
    made = verdict(MISSING, DIFFERS)
    laws = told(made)
    assert set(laws) == set(LAWS)
    lines = shown(made, every_law=True)
    assert [line for line in lines if line in SUBJECTS] == list(SUBJECTS)
    assert lines[: len(shown(made))] == shown(made)  # the rest goes first
    for id_, status, detail in (
        ("zero-grad-missing", "broken", "1 case"),
        ("gradient-differs", "broken", "consequence of zero-grad-missing"),
        ("graph-leak", "held", "1 case"),
        ("loop-hangs", "held", "1 case"),
        ("clip-missing", "not run", "declare clip=C"),
        ("loss-sum", "not run", "no case"),
    ):
        assert laws[id_][0] == status
        assert detail in laws[id_][1]


def test_the_laws_are_listed_where_they_are_asked_for():
    """By an option, by choosing some, and where none could be decided: else only what is broken is told."""
    assert not set(SUBJECTS) & set(shown(verdict(MISSING)))
    for made in (verdict(held=()), verdict(only=("graph-leak",))):
        assert set(SUBJECTS) & set(shown(made))


def test_a_training_that_was_watched_has_no_loop_and_no_cases():
    """What was watched stands before the count."""
    seen = Judgement(None, [finding("zero-grad-missing", case=None)], ["graph-leak"])
    lines = shown(verdict(judgements=[seen], tool="check", watched="3 steps of SGD on MLP"))
    assert lines[0].startswith("zero-grad-missing: ")
    assert "watched: 3 steps of SGD on MLP" in lines


def test_a_diagnosis_has_all_that_is_known(tmp_path, monkeypatch):
    """Title, evidence, fix, line, consequences, case, the code that shows it again, more: in this order."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my_train.py"
    file.write_text("def train(model, loader):\n    loss.backward()\n", encoding="utf-8")
    made = verdict(MISSING, DIFFERS, file=str(file), lines=(1, 2))
    bug = LAWS["zero-grad-missing"]
    parts = [
        f"\n{bug.id}: {bug.title}\n",
        f"\n  {MISSING.text}\n",
        f"{bug.hint}.\n",
        "\n  my_train.py:2:     loss.backward()\n",
        "gradient-differs\n",
        repr(CASE),
        *(f"      {line}".rstrip() + "\n" for line in made.snippet(made.diagnoses[0]).splitlines()),
        f"mnist-loop verify --explain {bug.id}\n",
        "\n1 bug, ",
    ]
    content, place = str(made), 0
    for part in parts:
        place = content.index(part, place) + len(part) - 1
    assert document(made)["diagnoses"][0]["location"] == {
        "file": str(file),
        "line": 2,
        "text": "    loss.backward()",
    }


def test_a_finding_without_a_case_has_no_code():
    """As of a training that was watched as it is."""
    made = verdict(finding("zero-grad-missing", case=None))
    assert "Case" not in str(made)
    (diagnosis,) = document(made)["diagnoses"]
    assert (diagnosis["case"], diagnosis["snippet"]) == (None, "")


def test_str_is_what_the_command_shows_and_repr_is_short():
    """Name, result and bugs on one line."""
    made = verdict(MISSING, DIFFERS)
    assert f"{made}\n" == plain_text(text.page(made))
    assert repr(made) == "Verdict(name='my_train.py:train', result='bugs', bugs=['zero-grad-missing'])"


def test_a_notebook_is_not_flooded():
    """What it shows of a verdict's parts fits some lines, whatever was found in however many cases."""
    made = verdict(judgements=[Judgement(CASE, [MISSING, DIFFERS], ["graph-leak"] * 80)] * 30)
    broken = "['zero-grad-missing', 'gradient-differs']"
    assert repr(made.judgements[0]) == f"Judgement({CASE!r}, broken={broken}, held=80, not_run=0)"
    (found,) = made.diagnoses
    assert repr(found) == f"Diagnosis(zero-grad-missing: {MISSING.text}; in 30 cases, consequences: gradient-differs)"


@pytest.mark.parametrize(
    ("findings", "expected", "code", "last"),
    [
        ((), (), 0, "no bug"),
        ((MISSING,), (), 1, "1 bug"),
        ((MISSING, finding("loss-sum")), (), 1, "2 bugs"),
        ((finding("retain-graph"),), (), 0, "no bug, 1 cost"),
        ((finding("test-shuffled"),), (), 0, "no bug, 1 info"),
        ((MISSING,), ("zero-grad-missing",), 0, "no bug, 1 expected failure"),
        ((MISSING,), ("loss-sum",), 1, "1 bug, 1 expected but not found"),
        ((), ("step-missing",), 1, "no bug, 1 expected but not found"),
        ((MISSING, DIFFERS), ("zero-grad-missing", "gradient-differs"), 0, "no bug, 1 expected failure"),
    ],
)
def test_the_last_line_and_the_exit_code(findings, expected, code, last):
    """1 with a bug that is not expected, or with one that is and does not occur; costs and infos fail nothing."""
    made = verdict(*findings, expected=expected)
    held = 2 + len(WITHOUT_LAW)  # the loop came back in each of these ways
    assert text.summary(made) == f"{last}, {held} laws hold, {len(LAWS) - held - len(made.failed)} not run"
    assert made.exit_code == code
    assert shown(made)[-2:] == [text.summary(made), text.REMINDER]
    assert made.result == ("bugs" if "1 bug" in last or "2 bugs" in last else "clean")


def test_nothing_run_is_a_failure():
    """No case, or none that decides a law: exit code 1, and it says so."""
    for made in (verdict(judgements=[]), verdict(held=())):
        assert made.exit_code == 1
        assert made.result == "nothing-run"
        assert text.summary(made).startswith("nothing was run")
    assert verdict(held=(), only=("loop-hangs",)).exit_code == 0


def test_a_loop_that_never_came_back_holds_no_law():
    """Of a single case that hangs there is the hang, and nothing that held; its last output is shown."""
    made = verdict(finding("loop-hangs"), held=(), output="\n".join(f"line {n}\x1b[2J" for n in range(9)))
    laws = told(made)
    assert {status for status, _ in laws.values()} == {"broken", "not run"}
    assert "loop-hangs" in laws["loss-sum"][1]
    assert [line for line in shown(made) if "line " in line] == [f"  line {n}\\x1b[2J" for n in range(4, 9)]
    assert shown(made)[-2] == f"1 bug, 0 laws hold, {len(LAWS) - 1} not run"


def test_in_this_process_nothing_is_known_of_how_a_loop_ends():
    """There is nothing that would have noticed; the text says why it ran here."""
    made = verdict(not_isolated="asked for")
    assert "asked for" in shown(made)[1]
    assert told(made)["loop-exits"][0] == "not run"


def test_what_was_left_out_is_said():
    """A case that the loop need not be able to do."""
    assert any(repr(CASE) in line and "it may" in line for line in shown(verdict(skipped={CASE: "it may"})))


def test_laws_that_were_not_asked_for_have_no_line():
    """With --only; they count as not run, and none is expected to fail."""
    made = verdict(held=("graph-leak",), not_run={}, only=("graph-leak",), expected=["step-missing"])
    assert set(told(made)) == {"graph-leak"}
    assert made.exit_code == 0
    assert f"no bug, 1 law holds, 0 not run, {len(LAWS) - 1} not asked for" in shown(made)


def test_expected_failures_are_marked_with_their_reason():
    """Beside the title; one that did not occur names its place in the file, and whether it held or did not run."""
    lines = shown(verdict(MISSING, expected=["zero-grad-missing", "step-missing", "clip-missing"]))
    assert any(line.startswith("zero-grad-missing: ") and "it is known" in line for line in lines)
    (held,) = (line for line in lines if line.startswith("known.txt, line 2: step-missing"))
    assert "held" in held
    (not_run,) = (line for line in lines if line.startswith("known.txt, line 3: clip-missing"))
    assert "declare clip=C" in not_run


@pytest.mark.parametrize("bug", ["retain-graph", "test-shuffled"])
def test_what_is_no_bug_says_what_it_is(bug):
    """A cost or an info, beside its title and on its line."""
    made = verdict(finding(bug))
    assert f"{bug}: {LAWS[bug].title} ({LAWS[bug].severity})" in shown(made)
    assert f"({LAWS[bug].severity})" in told(made)[bug][1]


# The snippet


def test_the_snippet_asks_as_was_asked():
    """With the evaluation, the declarations and the options that were given; not with the random cases."""
    options = {"timeout": 5.0, "random_cases": 3, "seed": 4, "device": "cuda", "in_process": True}
    declared = {"clip": 1.0, "frozen": ("head",), "save": finding}
    made = verdict(MISSING, asked=Asked('a "b".py:train', "none", declared, ("loss-sum",), options))
    code = made.snippet(made.diagnoses[0])
    names = {"Case": Case, "Options": dict, "finding": finding}
    asked = []

    def verify(*args, **kwargs):
        asked.append((args, kwargs))
        return made

    exec(code.replace("from mnist_loop import", "#"), {**names, "verify": verify})  # noqa: S102  # our own text
    told = {"cases": (CASE,), "timeout": 5.0, "device": "cuda", "in_process": True}
    assert asked == [(('a "b".py:train', "none"), {"options": told, **declared})]


def test_a_loop_that_was_handed_over_is_called_by_its_name():
    """As in a notebook."""
    made = verdict(MISSING, asked=Asked())
    assert "verify(train, options=" in made.snippet(made.diagnoses[0])


# JSON


def test_the_document_has_the_keys_that_are_promised():
    """None goes and none changes its meaning without a new schema."""
    found = json.loads(as_json(verdict(MISSING, DIFFERS, expected=["loss-sum"])))
    assert found["schema"] == SCHEMA == 1
    assert set(found) == {
        *("schema", "tool", "loop", "file", "evaluation", "verdict", "exit_code", "watched", "primary", "diagnoses"),
        *("laws", "expected", "notes", "skipped", "not_isolated", "output", "environment"),
    }
    assert (found["loop"], found["verdict"], found["primary"]) == ("my_train.py:train", "bugs", "zero-grad-missing")
    assert found["evaluation"] == {"found": None, "name": None}
    assert set(found["environment"]) == {"torch", "python", "device", "seed", "cases", "random_cases", "seconds"}
    (diagnosis,) = found["diagnoses"]
    assert diagnosis == {
        "id": "zero-grad-missing",
        "severity": "bug",
        "title": LAWS["zero-grad-missing"].title,
        "text": MISSING.text,
        "hint": LAWS["zero-grad-missing"].hint,
        "case": dataclasses.asdict(CASE),
        "snippet": diagnosis["snippet"],
        "count": 1,
        "consequences": [{"id": "gradient-differs", "text": DIFFERS.text}],
        "location": None,
        "expected": False,
        "ignored": None,
    }
    assert found["expected"] == [
        {"id": "loss-sum", "reason": "it is known", "file": "known.txt", "line": 1, "occurred": False}
    ]
    laws = {law["id"]: law for law in found["laws"]}
    assert list(laws) == list(LAWS)
    assert laws["graph-leak"] == {"id": "graph-leak", "status": "held", "cases": 1, "reason": None}
    assert laws["zero-grad-missing"] == {"id": "zero-grad-missing", "status": "broken", "cases": 1, "reason": None}
    assert laws["clip-missing"] == {"id": "clip-missing", "status": "not-run", "cases": 0, "reason": "declare clip=C"}


@pytest.mark.parametrize(("number", "written"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_numbers_that_json_lacks_are_texts(number, written):
    """Strict JSON: no NaN, no Infinity, and no bytes beyond ASCII."""
    made = verdict(finding("loss-sum", case=CASE.but(lr=number), shows="é\ud800\x1b"), skipped={CASE: "why"})
    made.seconds = number

    def refuse(constant):
        raise AssertionError(constant)

    content = as_json(made)
    found = json.loads(content, parse_constant=refuse)
    assert found["diagnoses"][0]["case"]["lr"] == written
    assert found["environment"]["seconds"] == written
    assert found["diagnoses"][0]["text"] == "é\ud800\x1b"
    assert found["skipped"] == [{"case": dataclasses.asdict(CASE), "reason": "why"}]
    assert content.isascii()


# A terminal


def test_a_terminal_gets_colour_within_its_width(monkeypatch):
    """Code alone is not broken: it is to be pasted."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    stream.isatty = lambda: True
    made = verdict(MISSING, DIFFERS)
    content = text_for(text.page(made), stream)
    assert "\x1b[" in content
    lines = re.sub(r"\x1b\[[\d;]*m", "", content).splitlines()
    code = {f"      {line}".rstrip() for line in made.snippet(made.diagnoses[0]).splitlines()}
    assert code <= {line.rstrip() for line in lines}
    assert all(len(line) <= 60 for line in lines if line.rstrip() not in code)
    words = " ".join(" ".join(lines).split())
    assert text.summary(made) in words
    assert text.REMINDER in words


# The list and the explanations


def test_the_list_has_each_bug_under_its_subject():
    """Id, severity and title; those that no run decides once more, with the reason."""
    lines = plain_text(listing()).splitlines()
    for bug in LAWS.values():
        assert any(re.match(rf"  {bug.id} +{bug.severity} +{re.escape(bug.title)}$", line) for line in lines), bug.id
    end = lines.index("not decided by any run")
    undecided = [bug for bug in LAWS.values() if bug.undecided]
    assert [line.split()[0] for line in lines[end + 1 :]] == [bug.id for bug in undecided]
    for bug, line in zip(undecided, lines[end + 1 :], strict=True):
        assert line.endswith(bug.undecided)


def test_an_explanation_says_all_that_is_known():
    """The bug, the law, the symptom, what it needs, both codes, the fix, where it was reported."""
    for bug in LAWS.values():
        page = plain_text(explanation(bug))
        assert page.startswith(f"{bug.id}: {bug.title}\n{bug.severity}, {bug.subject}\n")
        for part in (bug.law, bug.symptom, bug.needs, bug.undecided, bug.hint, *bug.reported):
            assert part in page, bug.id
        for code in (bug.broken, bug.fixed):
            assert all(line.rstrip() in page for line in code.splitlines()), bug.id
