"""The catalogue of bugs: each has a law and a mutant, ids stay, snippets are Python, and the page is up to date."""

import ast
import graphlib
import re
import subprocess
import sys

import pytest

from mnist_loop import UserError
from mnist_loop.bugs import BUGS, MODULES, SUBJECTS, get
from mnist_loop.bugs.page import render
from mnist_loop.verdict.finding import SEVERITIES
from mnist_loop.verification.binding.intentions import NAMES
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.watching.laws.registry import WATCHED
from tests.loops.mutants import MUTANTS
from tests.watching.mutants import MUTANTS as STYLES_WITH_BUGS


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
    scheduler-before-optimizer scheduler-per-batch scheduler-per-micro-batch scheduler-per-epoch
    clip-missing clip-after-step clip-per-micro-batch clip-before-unscale scaler-bypassed
    graph-leak retain-graph sync-every-step
    trains-nothing model-replaced loop-raises loop-hangs loop-exits loop-crashes loop-exhausts-memory
    leaves-global-state leaves-threads
""")


def place(module):
    """The name of a module without its package."""
    return module.rpartition(".")[2]


def missing(bugs, laws, mutants):
    """Yield what is missing or in the wrong place, given the subject of each entry, each law and each mutant."""
    for id_, subject in bugs.items():
        if "verify" not in BUGS[id_].decided_by:
            continue
        if BUGS[id_].undecided:
            if id_ in laws or mutants.get(id_):
                yield f"{id_} is undecided and has a law or a mutant: remove either"
            continue
        if BUGS[id_].law and id_ not in laws:
            yield f"{id_} has no law: write it in mnist_loop/verification/laws/{subject}.py"
        if not BUGS[id_].law and (id_ in laws or not BUGS[id_].ends):
            yield f"{id_} has no text of its law: give law= in mnist_loop/bugs/{subject}.py"
        if not mutants.get(id_):
            yield f"{id_} has no mutant: write one in tests/loops/mutants/{subject}.py"
        for what, found in (("law", {laws.get(id_, subject)}), ("mutant", mutants.get(id_, set()))):
            for other in sorted(found - {subject}):
                yield f"the {what} of {id_} stands in {other}.py: move it to {subject}.py, the subject of the entry"
    for id_ in sorted(set(mutants) - set(bugs)):
        yield f"a mutant has the bug {id_}, which has no entry in mnist_loop/bugs/"


def test_each_bug_has_its_entry_its_law_and_its_mutant():
    """All three are in the module of one subject. A law without an entry is refused where it is registered."""
    mutants = {}
    for mutant in MUTANTS:
        mutants.setdefault(mutant.bug, set()).add(place(mutant.loop.__module__))
    bugs = {bug.id: place(module.__name__) for module in MODULES for bug in module.BUGS}
    assert list(bugs) == list(BUGS), "two bugs have one id"
    laws = {law.id: place(law.body.__module__) for law in LAWS.values()}
    assert not (found := list(missing(bugs, laws, mutants))), "\n".join(found)


def missing_in_watching(bugs, laws, mutants):
    """Yield what `check` lacks or has in the wrong place, given the same."""
    for id_, subject in bugs.items():
        decided = "check" in BUGS[id_].decided_by
        if decided and id_ not in laws:
            yield f"{id_} has no law: write it in mnist_loop/watching/laws/{subject}.py"
        if decided and id_ not in mutants:
            yield f"{id_} has no mutant of a style: write some in tests/watching/mutants.py"
        if laws.get(id_, subject) != subject:
            yield f"the law of {id_} stands in {laws[id_]}.py: move it to {subject}.py, the subject of the entry"
    for id_ in sorted(mutants - {id_ for id_ in bugs if "check" in BUGS[id_].decided_by}):
        yield f"a mutant of a style has the bug {id_}, which check does not decide"


def test_each_bug_that_check_decides_has_its_law_and_its_mutants():
    """Both, and the law in the module of the bug's subject."""
    bugs = {bug.id: place(module.__name__) for module in MODULES for bug in module.BUGS}
    laws = {id_: place(body.__module__) for id_, body in WATCHED.items()}
    mutants = {mutant.bug for mutant in STYLES_WITH_BUGS}
    assert not (found := list(missing_in_watching(bugs, laws, mutants))), "\n".join(found)


def test_what_check_lacks_is_said():
    """Without its law, without its mutant, with the law under another subject, with a mutant of another bug."""
    bug, right, mutant = {"step-missing": "gradients"}, {"step-missing": "gradients"}, {"step-missing"}
    assert list(missing_in_watching(bug, right, mutant)) == []
    for laws, mutants, says in (
        ({}, mutant, "step-missing has no law"),
        (right, set(), "step-missing has no mutant of a style"),
        ({"step-missing": "losses"}, mutant, "the law of step-missing stands in losses.py"),
        (right, {*mutant, "loss-sum"}, "a mutant of a style has the bug loss-sum"),
    ):
        (sentence,) = missing_in_watching(bug, laws, mutants)
        assert sentence.startswith(says)


def test_what_is_missing_is_said():
    """Without its law, without its mutant, and with either under another subject."""
    bug = {"step-missing": "gradients"}
    place, elsewhere = {"step-missing": "gradients"}, {"step-missing": "losses"}
    mutant = {"step-missing": {"gradients"}}
    assert list(missing(bug, place, mutant)) == []
    for laws, mutants, says in (
        ({}, mutant, "step-missing has no law"),
        (place, {}, "step-missing has no mutant"),
        (elsewhere, mutant, "the law of step-missing stands in losses.py"),
        (place, {"step-missing": {"gradients", "losses"}}, "the mutant of step-missing stands in losses.py"),
        (place, {**mutant, "no-bug": {"losses"}}, "a mutant has the bug no-bug"),
    ):
        (sentence,) = missing(bug, laws, mutants)
        assert sentence.startswith(says)


def test_ids_stay():
    """No id of the list is gone, and each is in kebab-case."""
    assert set(IDS) <= set(BUGS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in BUGS)


def test_each_module_is_a_subject():
    """No two modules have one heading."""
    assert len(set(SUBJECTS)) == len(MODULES)
    assert [bug.subject for bug in BUGS.values()] == [module.SUBJECT for module in MODULES for _ in module.BUGS]


def test_what_explains_what_has_no_cycle():
    """Of two bugs that explain each other, neither would be the primary one. Each id is that of another law, once."""
    for bug in BUGS.values():
        assert set(bug.explains) <= set(LAWS) - {bug.id}, bug.id
        assert len(set(bug.explains)) == len(bug.explains), bug.id
        # A catch-all says what differs and not why.
        assert not bug.catch_all or all(BUGS[name].catch_all for name in bug.explains), bug.id
    assert list(graphlib.TopologicalSorter({bug.id: bug.explains for bug in BUGS.values()}).static_order())


def test_snippets_are_python():
    """Broken and fixed code compiles, is 3 to 12 lines short, and is not indented as a whole; the two differ."""
    for bug in BUGS.values():
        for snippet in (bug.broken, bug.fixed):
            compile(snippet, bug.id, "exec")
            lines = snippet.splitlines()
            assert 3 <= len(lines) <= 12, bug.id
            assert max(map(len, lines)) <= 100, bug.id
            assert all(line == line.rstrip() for line in lines), bug.id
            assert lines[0], bug.id
            assert lines[-1], bug.id
        assert ast.dump(ast.parse(bug.broken)) != ast.dump(ast.parse(bug.fixed)), bug.id


def test_texts_fit_where_they_are_shown():
    """A title stands behind an id, a hint before a full stop; a symptom, a law and a reason are whole sentences."""
    for bug in BUGS.values():
        assert bug.severity in SEVERITIES, bug.id
        assert bug.title[0].islower(), bug.id
        assert len(bug.title) <= 100, bug.id
        assert bug.hint[0].islower(), bug.id
        assert not bug.title.endswith("."), bug.id
        assert not bug.hint.endswith("."), bug.id
        assert re.search(r"\.\)?$", bug.symptom), bug.id
        assert len(re.findall(r"[.?!]\)?(?= |$)", bug.symptom)) <= 3, bug.id
        for sentence in (bug.law, bug.undecided):
            assert not sentence or (sentence[0].isupper() or sentence.startswith("torch")), bug.id
            assert not sentence or sentence.endswith("."), bug.id
        for text in (bug.title, bug.hint, bug.symptom, bug.law, bug.needs, bug.undecided):
            assert "\n" not in text, bug.id
            assert "  " not in text, bug.id


def test_patterns_are_regular_expressions():
    """A pattern that could not be compiled would fail only once its bug is found."""
    for bug in BUGS.values():
        for pattern in (*bug.lines, *filter(None, [bug.loop_over])):
            re.compile(pattern)


def test_what_is_to_be_declared_can_be_declared():
    """Each ``name=`` after "declare" is an intention. What no run decides needs none."""
    for bug in BUGS.values():
        declared = [text.partition("declare ")[2] for text in (bug.needs, bug.hint)]
        for text in [*declared, bug.needs]:
            assert set(re.findall(r"(\w+)=", text)) <= set(NAMES), bug.id
        assert not (bug.undecided and bug.needs), bug.id


def test_reports_are_addresses():
    """Full addresses, each once: of an issue, a pull request or a page."""
    for bug in BUGS.values():
        assert len(set(bug.reported)) == len(bug.reported), bug.id
        for address in bug.reported:
            assert re.fullmatch(r"https://(github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+|[\w.]+/\S+\.html)", address)


def test_bugs_that_are_mentioned_exist():
    """A text that sends the reader on to another bug names one that is there."""
    for bug in BUGS.values():
        for name in re.findall(r"\b[a-z]+(?:-[a-z]+){2,}\b", " ".join((bug.title, bug.hint, bug.symptom, bug.needs))):
            assert name in BUGS, bug.id


def test_a_bug_is_found_by_its_id():
    """By its id, and by no other spelling of it; another spelling is told which one was meant."""
    for bug in BUGS.values():
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


def test_the_page_has_each_bug_in_its_table_and_in_full():
    """With everything that is known of it, and one heading that the table's link leads to."""
    page = render()
    for bug in BUGS.values():
        assert page.count(f"\n### {bug.id}\n") == 1
        assert page.count(f"\n| [{bug.id}](#{bug.id}) | {bug.severity} | {bug.title} | ") == 1
        in_full = page.partition(f"\n### {bug.id}\n")[2].partition("\n### ")[0]
        for text in (bug.symptom, bug.hint, bug.broken, bug.fixed, bug.needs, bug.undecided, *bug.reported):
            assert text in in_full, bug.id


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
