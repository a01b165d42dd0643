"""What is said of a verdict, as text and as JSON: made-up verdicts, each with what is to be seen of it."""

import dataclasses
import io
import json
import math
import re

import pytest

from mnist_loop.bugs import BUGS, SUBJECTS
from mnist_loop.support.console import plain_text, write
from mnist_loop.verdict import text
from mnist_loop.verdict.document import SCHEMA, as_json, document
from mnist_loop.verdict.expected import Expected
from mnist_loop.verdict.explain import explanation, law_texts, listing
from mnist_loop.verdict.report import report
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.cases.battery import Description
from mnist_loop.verification.cases.cases import Case
from mnist_loop.verification.laws.judge import LAWS, Finding, Judgement
from mnist_loop.verification.trial import Verdict

CASE = Case(samples=8, lr=0.1)
ASKED = Asked(loop="my_train.py:train")


def finding(bug, consequence_of=None, shows="step 1: it differs", case=CASE):
    return Finding(bug, 3, shows, case, consequence_of)


def verdict(*findings, held=("graph-leak", "step-missing"), not_run=None, roles=None, **attributes):
    """Return a verdict on one case."""
    description = Description("my_train.py:train", None, None, frozenset({"model"}), roles, False, Intentions())
    judgement = Judgement(CASE, list(findings), list(held), not_run or {"clip-missing": "declare clip=C"})
    return Verdict("my_train.py:train", description, [judgement], seconds=2.44, **attributes)


def shown(made, **given):
    """Return the text of a verdict, as lines."""
    return text.render(report(made, ASKED, **given)).splitlines()


def expecting(*ids):
    return {id_: Expected(id_, "it is known", "known.txt", line) for line, id_ in enumerate(ids, start=1)}


def counts(broken):
    """Return the end of the last line: two laws are said to hold, and the loop came back in each of three ways."""
    return f"5 laws hold, {len(BUGS) - 5 - broken} not run"


def not_run(made):
    return sum(row.status == "not-run" for row in made.rows)


MISSING = finding("zero-grad-missing", shows="step 1: w.grad = grad(1) + grad(0)")
DIFFERS = finding("gradient-differs", "zero-grad-missing")


# Text


def test_the_header_says_what_was_judged_and_where():
    """The loop, its evaluation, torch, the device, the cases, the time: on one line."""
    header = shown(verdict())[0]
    assert re.fullmatch(r"loop: my_train\.py:train · evaluation: none · torch \S+ · cpu · 1 case · 2\.4 s", header)


@pytest.mark.parametrize(
    ("found_by", "evaluate", "says"),
    [
        ("beside", None, "evaluation: found beside it"),
        ("declared", "my_train.py:test", "evaluation: my_train.py:test"),
        ("declared", None, "evaluation: as declared"),
    ],
)
def test_the_header_says_how_the_evaluation_was_found(found_by, evaluate, says):
    """Found beside the loop, or declared, by name where that is known."""
    made = verdict(roles=frozenset({"model"}))
    made.description = dataclasses.replace(made.description, found_evaluate_by=found_by)
    header = text.header(report(made, Asked(loop="my_train.py:train", evaluate=evaluate)))
    assert f" · {says} · torch" in header


def test_the_header_counts_fixed_and_random_cases():
    """Those that were drawn, with their seed; where a random case found a bug, it says so."""
    made = verdict(random_cases=2, seed=7)
    made.judgements *= 3
    assert "3 cases (1 fixed, 2 random from seed 7)" in shown(made)[0]
    made = verdict(MISSING, random_cases=2, seed=7)
    assert "1 case (the fixed ones, then random ones from seed 7 until a bug showed)" in shown(made)[0]


def test_each_law_has_a_line_under_its_subject():
    """Held in how many cases, broken and of what it is a consequence, not run and why."""
    lines = shown(verdict(MISSING, DIFFERS))
    for id_ in BUGS:
        assert sum(re.match(rf"  (held|broken|not run) +{id_} ", line) is not None for line in lines) == 1, id_
    assert [line for line in lines if line in SUBJECTS] == list(SUBJECTS)
    start = lines.index("gradients and steps")
    assert re.fullmatch(r"  broken   zero-grad-missing +in 1 case", lines[start + 1])
    joined = "\n".join(lines)
    assert re.search(r"^  held     graph-leak +in 1 case$", joined, re.MULTILINE)
    assert re.search(r"^  not run  clip-missing +declare clip=C$", joined, re.MULTILINE)
    assert re.search(r"^  broken   gradient-differs +in 1 case, a consequence of zero-grad-missing$", joined, re.M)
    assert re.search(r"^  held     loop-hangs +in 1 case$", joined, re.MULTILINE)
    assert re.search(r"^  not run  loss-sum +no case decides it$", joined, re.MULTILINE)


def test_a_diagnosis_follows_the_grammar():
    """What it is, how it shows, the fix, the consequences, the case as code, where to read more."""
    lines = shown(verdict(MISSING, DIFFERS))
    start = lines.index("zero-grad-missing: gradients of earlier batches are applied again")
    assert lines[start + 1 :] == [
        "  step 1: w.grad = grad(1) + grad(0)",
        "  Most likely: call optimizer.zero_grad() once per batch, before loss.backward().",
        "  Consequences: gradient-differs",
        "  Smallest case: Case(samples=8, lr=0.1), the only one that shows it. To see it again:",
        "      from mnist_loop.verification.cases.cases import Case",
        "      from mnist_loop.verification.trial import Options, verify",
        "",
        "      case = Case(samples=8, lr=0.1)",
        '      verdict = verify("my_train.py:train", options=Options(cases=(case,)))',
        '      print(verdict.failed.get("zero-grad-missing", "held"))',
        "  mnist-loop verify --explain zero-grad-missing",
        "",
        f"1 bug, {counts(broken=2)}",
        text.REMINDER,
    ]


def test_the_most_likely_line_is_shown(tmp_path, monkeypatch):
    """The file from here, the number, the line as it stands."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my_train.py"
    file.write_text("def train(model, loader):\n    loss.backward()\n", encoding="utf-8")
    made = verdict(MISSING)
    made.description = dataclasses.replace(made.description, file=str(file), lines=(1, 2))
    assert "  my_train.py:2:     loss.backward()" in shown(made)
    assert document(report(made))["diagnoses"][0]["location"] == {
        "file": str(file),
        "line": 2,
        "text": "    loss.backward()",
    }


@pytest.mark.parametrize(
    ("made", "expected", "code", "last"),
    [
        (verdict(), (), 0, "no bug"),
        (verdict(MISSING), (), 1, "1 bug"),
        (verdict(MISSING, finding("loss-sum")), (), 1, "2 bugs"),
        (verdict(finding("retain-graph")), (), 0, "no bug, 1 cost"),
        (verdict(finding("test-shuffled")), (), 0, "no bug, 1 info"),
        (verdict(MISSING), ("zero-grad-missing",), 0, "no bug, 1 expected failure"),
        (verdict(MISSING), ("loss-sum",), 1, "1 bug, 1 expected but not found"),
        (verdict(), ("step-missing",), 1, "no bug, 1 expected but not found"),
        (verdict(MISSING, DIFFERS), ("zero-grad-missing", "gradient-differs"), 0, "no bug, 1 expected failure"),
    ],
)
def test_the_last_line_and_the_exit_code(made, expected, code, last):
    """1 with a bug that is not expected, or with one that is and does not occur; costs and infos fail nothing."""
    made = report(made, ASKED, expecting(*expected))
    broken = len(made.verdict.failed)
    assert text.summary(made) == f"{last}, {counts(broken)}"
    assert made.exit_code == code
    assert text.render(made).splitlines()[-2:] == [text.summary(made), text.REMINDER]
    assert made.result == ("bugs" if "1 bug" in last or "2 bugs" in last else "clean")


def test_nothing_run_is_a_failure():
    """No case, or none that decides a law: exit code 1, and it says so."""
    nothing, undecided = verdict(), verdict(held=())
    nothing.judgements = []
    for made in (report(nothing, ASKED), report(undecided, ASKED)):
        assert made.exit_code == 1
        assert made.result == "nothing-run"
        assert text.summary(made) == f"nothing was run: no law could be decided, {not_run(made)} not run"
    asked = dataclasses.replace(ASKED, only=("loop-hangs",))
    assert report(undecided, asked).exit_code == 0


def test_a_loop_that_never_came_back_holds_no_law():
    """Of a single case that hangs there is the hang, and nothing that held; its last output is shown."""
    made = verdict(finding("loop-hangs"), held=(), output="\n".join(f"line {n}\x1b[2J" for n in range(9)))
    lines = shown(made)
    assert not any(line.startswith("  held") for line in lines)
    assert any(re.match("  not run  loss-sum +loop-hangs came first", line) for line in lines)
    start = lines.index("The last that the loop printed:")
    assert lines[start + 1 : start + 7] == [f"  line {n}\\x1b[2J" for n in range(4, 9)] + [""]
    assert lines[-2] == f"1 bug, 0 laws hold, {len(BUGS) - 1} not run"


def test_in_this_process_nothing_is_known_of_how_a_loop_ends():
    """There is nothing that would have noticed; the text says why it ran here."""
    lines = shown(verdict(not_isolated="asked for"))
    assert lines[1] == "run in this process: asked for"
    assert any(re.match("  not run  loop-exits +the loop ran in this process", line) for line in lines)


def test_what_was_left_out_is_said():
    """A case that the loop need not be able to do."""
    assert "left out: Case(samples=8, lr=0.1): it may" in shown(verdict(skipped={CASE: "it may"}))


def test_laws_that_were_not_asked_for_have_no_line():
    """With --only; they count as not run, and none is expected to fail."""
    asked = dataclasses.replace(ASKED, only=("graph-leak",))
    made = report(verdict(held=("graph-leak",), not_run={}), asked, expecting("step-missing"))
    lines = text.render(made).splitlines()
    assert [line for line in lines if re.match("  (held|broken|not run)", line)] == ["  held     graph-leak  in 1 case"]
    assert made.exit_code == 0
    assert lines[-2] == f"no bug, 1 law holds, 0 not run, {len(BUGS) - 1} not asked for"


def test_expected_failures_are_marked_with_their_reason():
    """Beside the title; one that did not occur names its place in the file, and whether it held or did not run."""
    lines = shown(verdict(MISSING), expected=expecting("zero-grad-missing", "step-missing", "clip-missing"))
    title = "zero-grad-missing: gradients of earlier batches are applied again (expected: it is known)"
    assert title in lines
    assert "known.txt, line 2: step-missing: expected to fail, but held" in lines
    assert "known.txt, line 3: clip-missing: expected to fail, but was not run: declare clip=C" in lines


@pytest.mark.parametrize("bug", ["retain-graph", "test-shuffled"])
def test_what_is_no_bug_says_what_it_is(bug):
    """A cost or an info, beside its title and on its line."""
    lines = shown(verdict(finding(bug)))
    assert f"{bug}: {BUGS[bug].title} ({BUGS[bug].severity})" in lines
    assert any(re.match(rf"  broken   {bug} +in 1 case \({BUGS[bug].severity}\)$", line) for line in lines)


# The snippet


def test_the_snippet_asks_as_was_asked():
    """With the evaluation, the declarations and the options that were given; not with the random cases."""
    options = {"timeout": 5.0, "random_cases": 3, "seed": 4, "device": "cuda", "in_process": True}
    asked = Asked('a "b".py:train', "none", {"clip": 1.0, "frozen": ("head",)}, ("loss-sum",), options)
    code = report(verdict(MISSING), asked).diagnoses[0].snippet
    compile(code, "snippet", "exec")
    assert (
        'verdict = verify(\'a "b".py:train\', "none", options=Options(cases=(case,), timeout=5.0, '
        "device=\"cuda\", in_process=True), clip=1.0, frozen=('head',))\n"
    ) in code


def test_a_loop_that_was_handed_over_is_called_by_its_name():
    """As in a notebook."""
    assert "verdict = verify(train, options=" in report(verdict(MISSING)).diagnoses[0].snippet


# JSON


def test_the_document_has_the_keys_that_are_promised():
    """None goes and none changes its meaning without a new schema."""
    found = json.loads(as_json(report(verdict(MISSING, DIFFERS), ASKED, expecting("loss-sum"))))
    assert found["schema"] == SCHEMA == 1
    assert set(found) == {
        *("schema", "loop", "file", "evaluation", "verdict", "exit_code", "primary", "diagnoses", "laws", "expected"),
        *("skipped", "not_isolated", "output", "environment"),
    }
    assert (found["loop"], found["verdict"], found["primary"]) == ("my_train.py:train", "bugs", "zero-grad-missing")
    assert found["evaluation"] == {"found": None, "name": None}
    assert set(found["environment"]) == {"torch", "python", "device", "seed", "cases", "random_cases", "seconds"}
    (diagnosis,) = found["diagnoses"]
    assert diagnosis == {
        "id": "zero-grad-missing",
        "severity": "bug",
        "title": BUGS["zero-grad-missing"].title,
        "text": MISSING.text,
        "hint": BUGS["zero-grad-missing"].hint,
        "case": dataclasses.asdict(CASE),
        "snippet": diagnosis["snippet"],
        "count": 1,
        "consequences": [{"id": "gradient-differs", "text": DIFFERS.text}],
        "location": None,
        "expected": False,
    }
    assert found["expected"] == [
        {"id": "loss-sum", "reason": "it is known", "file": "known.txt", "line": 1, "occurred": False}
    ]
    laws = {law["id"]: law for law in found["laws"]}
    assert list(laws) == list(BUGS)
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

    content = as_json(report(made))
    found = json.loads(content, parse_constant=refuse)
    assert found["diagnoses"][0]["case"]["lr"] == written
    assert found["environment"]["seconds"] == written
    assert found["diagnoses"][0]["text"] == "é\ud800\x1b"
    assert found["skipped"] == [{"case": dataclasses.asdict(CASE), "reason": "why"}]
    assert content.isascii()


# Where it is written to


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A colour terminal of 60 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def without_colour(content):
    return re.sub(r"\x1b\[[\d;]*m", "", content)


def test_a_terminal_gets_colour_within_its_width(terminal):
    """Code alone is not broken: it is to be pasted."""
    made = report(verdict(MISSING, DIFFERS), ASKED)
    write(text.page(made), terminal)
    content = terminal.getvalue()
    assert "\x1b[" in content
    lines = without_colour(content).splitlines()
    code = {f"      {line}" for line in made.diagnoses[0].snippet.splitlines()}
    assert code <= {line.rstrip() for line in lines} | {"      "}
    assert all(len(line) <= 60 for line in lines if line.rstrip() not in code)
    words = " ".join(without_colour(content).split())
    assert f"1 bug, {counts(broken=2)}" in words
    assert text.REMINDER in words
    assert lines[lines.index("gradients and steps") - 1] == ""


# The list and the explanations


def test_the_list_has_each_bug_under_its_subject():
    """Id, severity and title; those that no run decides once more, with the reason."""
    lines = plain_text(listing()).splitlines()
    for bug in BUGS.values():
        assert any(re.match(rf"  {bug.id} +{bug.severity} +{re.escape(bug.title)}$", line) for line in lines), bug.id
    end = lines.index("not decided by any run")
    undecided = [bug for bug in BUGS.values() if bug.undecided]
    assert [line.split()[0] for line in lines[end + 1 :]] == [bug.id for bug in undecided]
    for bug, line in zip(undecided, lines[end + 1 :], strict=True):
        assert line.endswith(bug.undecided)


@pytest.mark.parametrize("bug", BUGS.values(), ids=list(BUGS))
def test_an_explanation_says_all_that_is_known(bug):
    """The bug, the law, the symptom, what it needs, both codes, the fix, where it was reported."""
    page = plain_text(explanation(bug))
    assert page.startswith(f"{bug.id}: {bug.title}\n{bug.severity}, {bug.subject}\n")
    for part in (bug.symptom, bug.needs, bug.undecided, f"Fixed: {bug.hint}.", *bug.reported):
        assert part in page
    for code in (bug.broken, bug.fixed):
        assert all(line.rstrip() in page for line in code.splitlines())
    if bug.id in LAWS:
        assert f"The law: {LAWS[bug.id].text}" in page


def test_the_laws_are_read_as_they_are_written():
    """Without importing them: each law is found, with its text."""
    assert law_texts() == {id_: law.text for id_, law in LAWS.items()}
