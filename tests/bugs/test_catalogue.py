"""The catalogue of bugs: stable ids, snippets that are Python, texts in one form, and a page that is what it makes."""

import ast
import re
import subprocess
import sys

import pytest

from mnist_loop import UserError
from mnist_loop.bugs import BUGS, MODULES, SUBJECTS, get
from mnist_loop.bugs.page import render
from mnist_loop.verification.binding.intentions import NAMES


def words(text):
    return text.split()


# People write ids into files of expected failures: none is renamed, and none goes.
IDS = words("""
    zero-grad-missing zero-grad-per-epoch zero-grad-after-backward zero-grad-per-micro-batch zero-grad-drops-tail
    step-missing step-double optimizer-misses-parameters optimizer-recreated frozen-by-accident frozen-moves
    graph-detached kernel-no-op gradient-differs update-differs replica-bypassed
    softmax-before-cross-entropy log-softmax-missing-for-nll loss-broadcast loss-sum loss-wrong-target
    accumulation-not-divided accumulation-mean-of-means accumulation-tail half-precision-overflow loss-differs
    trains-in-eval-mode train-mode-not-restored train-mode-unfreezes evaluates-in-train-mode evaluates-with-grad
    functional-dropout evaluation-updates best-is-last averaged-weights-wrong resume-incomplete state-differs
    not-shuffled same-order-each-epoch test-shuffled no-batches stops-after-first-batch batches-repeated
    evaluation-duplicates normalised-differently input-altered split-leak selects-on-test mixes-samples
    not-reproducible worker-seeds-equal
    mean-of-batch-means metric-wrong-n metric-in-train-mode metric-differs
    scheduler-before-optimizer scheduler-per-batch scheduler-per-micro-batch clip-missing clip-after-step
    clip-per-micro-batch clip-before-unscale scaler-bypassed
    graph-leak retain-graph sync-every-step
    trains-nothing model-replaced loop-raises loop-hangs loop-exits loop-crashes loop-exhausts-memory
    leaves-global-state leaves-threads
""")

COSTS = {"evaluates-with-grad", "retain-graph", "sync-every-step", "leaves-global-state", "leaves-threads"}
INFOS = {"accumulation-mean-of-means", "test-shuffled", "input-altered", "metric-differs"}
UNDECIDED = {"worker-seeds-equal", "replica-bypassed"}

IMPERATIVES = words("""
    apply average bound build call change check choose clip compute copy divide draw evaluate freeze give iterate keep
    leave let look make minimise move pass put read remove return run save seed shuffle split step stop train turn
    update weight
""")

bugs = pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.id) for bug in BUGS.values()])


def test_the_ids_are_stable():
    """The catalogue has these bugs and no others, each once, in kebab-case."""
    ids = [bug.id for module in MODULES for bug in module.BUGS]
    assert ids == list(BUGS) == IDS
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)


def test_subjects_follow_each_other():
    """A module is a subject, and the subjects come in the order in which they are listed."""
    assert [{bug.subject for bug in module.BUGS} for module in MODULES] == [{subject} for subject in SUBJECTS]


@bugs
def test_severity(bug):
    """What makes no result wrong is a cost or an information, and never fails a verification."""
    assert bug.severity == ("cost" if bug.id in COSTS else "info" if bug.id in INFOS else "bug")


@bugs
def test_what_is_not_decided_says_why(bug):
    """Two bugs cannot be decided by a run of the loop on one machine; the reason is a sentence."""
    assert bool(bug.undecided) == (bug.id in UNDECIDED)
    assert not (bug.undecided and bug.needs)
    assert not bug.undecided or bug.undecided.endswith(".")


@bugs
@pytest.mark.parametrize("state", ["broken", "fixed"])
def test_snippets_are_python(bug, state):
    """Broken and fixed code compiles, is 3 to 12 lines short, and is not indented as a whole."""
    snippet = getattr(bug, state)
    compile(snippet, bug.id, "exec")
    lines = snippet.splitlines()
    assert 3 <= len(lines) <= 12
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert lines[0]
    assert lines[-1]


@bugs
def test_the_fix_changes_something(bug):
    """The two programs differ, comments apart."""
    assert ast.dump(ast.parse(bug.broken)) != ast.dump(ast.parse(bug.fixed))


@bugs
def test_hints_are_imperative(bug):
    """A hint begins with what to do, is one line, and leaves the full stop to whoever prints it."""
    assert bug.hint.split()[0] in IMPERATIVES
    assert "\n" not in bug.hint
    assert not bug.hint.endswith(".")


@bugs
def test_titles_are_one_line(bug):
    """A title fits behind "step 2: " as well as into a table."""
    assert bug.title[0].islower()
    assert "\n" not in bug.title
    assert not bug.title.endswith(".")
    assert len(bug.title) <= 100


@bugs
def test_symptoms_are_one_to_three_sentences(bug):
    """Whole sentences, each with its full stop."""
    assert re.search(r"\.\)?$", bug.symptom)
    assert 1 <= len(re.findall(r"[.?!]\)?(?= |$)", bug.symptom)) <= 3
    assert "\n" not in bug.symptom
    assert "  " not in bug.symptom


@bugs
def test_what_is_to_be_declared_can_be_declared(bug):
    """Each ``name=`` after "declare" is an intention."""
    declared = [text.partition("declare ")[2] for text in (bug.needs, bug.hint)]
    for text in [*declared, bug.needs]:
        assert set(re.findall(r"(\w+)=", text)) <= set(NAMES), text


@bugs
def test_reports_are_addresses(bug):
    """Full addresses, each once: of an issue, a pull request or a page."""
    assert len(set(bug.reported)) == len(bug.reported)
    for address in bug.reported:
        assert re.fullmatch(r"https://(github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+|[\w.]+/\S+\.html)", address)


@bugs
def test_bugs_that_are_mentioned_exist(bug):
    """A text that sends the reader on to another bug names one that is there."""
    for name in re.findall(r"\b[a-z]+(?:-[a-z]+){2,}\b", " ".join((bug.title, bug.hint, bug.symptom, bug.needs))):
        assert name in BUGS


@bugs
def test_a_bug_is_found_by_its_id(bug):
    """By its id, and by no other spelling of it; another spelling is told which one was meant."""
    assert get(bug.id) is bug
    for text in (bug.id.upper(), bug.id.replace("-", "_"), f" {bug.id} ", bug.id.replace("-", " ")):
        with pytest.raises(UserError, match=rf"did you mean {bug.id}\?$") as refused:
            get(text)
        assert str(refused.value).startswith(repr(text))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("zero-grad-mising", "zero-grad-missing"),
        ("no-zero-grad-missing", "zero-grad-missing"),
        ("steps-missing", "step-missing"),
        ("clip-befor-unscale", "clip-before-unscale"),
    ],
)
def test_a_mistyped_id_is_corrected(text, meant):
    """The sentence says what was found, what was expected, and which bug was most likely meant."""
    with pytest.raises(UserError) as refused:
        get(text)
    assert (
        str(refused.value)
        == f"{text!r} found, expected the id of a bug, such as zero-grad-missing: did you mean {meant}?"
    )


@pytest.mark.parametrize("text", ["", " ", "xyzzy", "42", "\n"])
def test_what_is_like_no_id_is_sent_to_the_list(text):
    """Nothing is guessed where nothing is close."""
    with pytest.raises(UserError, match=r"mnist-loop verify --list shows them all$"):
        get(text)


def test_the_page_is_up_to_date(request):
    """docs/bugs.md is what the code makes: python -m mnist_loop.bugs > docs/bugs.md."""
    assert (request.config.rootpath / "docs" / "bugs.md").read_text(encoding="utf-8") == render()


@bugs
def test_the_page_has_each_bug_in_its_table_and_in_full(bug):
    """With everything that is known of it, and one heading that the table's link leads to."""
    page = render()
    assert page.count(f"\n### {bug.id}\n") == 1
    assert page.count(f"\n| [{bug.id}](#{bug.id}) | {bug.severity} | {bug.title} | ") == 1
    in_full = page.partition(f"\n### {bug.id}\n")[2].partition("\n### ")[0]
    for text in (bug.symptom, bug.hint, bug.broken, bug.fixed, bug.needs, bug.undecided, *bug.reported):
        assert text in in_full


def test_the_tables_have_no_ragged_row():
    """A pipe in a text would be read as the end of its cell."""
    for row in re.findall(r"^\|.*$", render(), re.MULTILINE):
        assert row.count("|") == 6, row


def test_the_program_writes_the_page_without_torch():
    """``verify --list`` does not wait for torch, nor does whoever makes the page."""
    program = (
        "import runpy, sys\n"
        "runpy.run_module('mnist_loop.bugs', run_name='__main__')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == render()
