"""Judging and diagnosing: which finding goes first, and what explains what."""

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.diagnosis import diagnose
from mnist_loop.verdict.finding import ENDED, SEVERITIES, Finding, Judgement, ranked
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.laws.judge import LAWS, judge
from mnist_loop.verification.laws.registry import Law, NotRun, law, must
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.trace import Trace

RUNS = {"again", "poisoned", "relabelled", "resumed"}

ids = st.sampled_from([*LAWS, *ENDED])


def broken(name, time, text="", case=None):
    """Return a finding as `judge` makes it."""
    return Finding(name, time, text or f"{name} at {time}", case or Case())


# A process ends once: no case has two findings that say how.
found = (
    st.lists(st.tuples(ids, st.integers(0, 50)), min_size=1, max_size=8, unique_by=lambda pair: pair[0])
    .filter(lambda pairs: sum(name in ENDED for name, _ in pairs) <= 1)
    .map(lambda pairs: [broken(name, time) for name, time in pairs])
)


def diagnosed(cases):
    """Return the diagnosis of cases in which this was found, and no law is known to hold."""
    return diagnose([Judgement(findings[0].case if findings else Case(), ranked(findings)) for findings in cases])


def explains(cause, effect):
    return broken(cause, 0).is_cause_of(effect)


# -- the laws ----------------------------------------------------------------------------------------------------------


def test_each_run_that_a_law_compares_with_exists():
    """The verification knows these runs."""
    for one in LAWS.values():
        assert set(one.needs) <= RUNS, one.id


def test_there_are_no_two_laws_of_one_bug():
    """The second one is refused when it is written."""
    with pytest.raises(AssertionError, match="two laws for step-missing"):
        law("step-missing")(lambda trace: iter(()))


def test_a_law_of_no_bug_is_refused():
    """The sentence says where its entry is missing."""
    with pytest.raises(AssertionError, match=r"is for no-such-bug, which has no entry in mnist_loop/bugs/"):
        law("no-such-bug")(lambda trace: iter(()))


# -- the order of findings ---------------------------------------------------------------------------------------------


@given(findings=found)
def test_nothing_is_lost_in_the_ranking(findings):
    """Each finding is there once, with its time, text and case."""
    strip = [dataclasses.replace(finding, consequence_of=None) for finding in ranked(findings)]
    assert sorted(strip, key=lambda finding: finding.id) == sorted(findings, key=lambda finding: finding.id)


@given(findings=found)
def test_a_consequence_has_its_cause_in_the_same_case(findings):
    """It is a consequence where a finding that explains it is there, and only there."""
    present = {finding.id for finding in findings}
    for finding in ranked(findings):
        causes = {name for name in present - {finding.id} if explains(name, finding.id)}
        assert (finding.consequence_of is not None) == bool(causes)
        assert finding.consequence_of is None or finding.consequence_of in causes


@given(findings=found)
def test_causes_go_first_then_severity_then_names(findings):
    """Before any consequence all causes, bugs before infos before costs, and catch-alls last among their like."""
    places = [
        (finding.consequence_of is not None, SEVERITIES.index(finding.severity), finding.bug.catch_all, finding.time)
        for finding in ranked(findings)
    ]
    assert places == sorted(places)


@given(findings=found, data=st.data())
def test_the_order_of_the_laws_does_not_matter(findings, data):
    """Any order of the same findings is ranked alike."""
    assert ranked(data.draw(st.permutations(findings))) == ranked(findings)


def test_what_may_change_the_result_comes_before_a_cost():
    """A loop that reads each loss, as most do, is first told of its schedule or its evaluation."""
    for info in ("scheduler-horizon", "evaluation-incomplete", "last-batch-reported"):
        findings = [Finding("sync-every-step", 0, "", Case()), Finding(info, 1, "", Case())]
        assert [diagnosis.id for diagnosis in diagnosed([findings])] == [info, "sync-every-step"]


def test_severities():
    """A finding is as bad as its bug."""
    for bug in BUGS.values():
        assert bug.severity in SEVERITIES
        assert Finding(bug.id, 0, "", Case()).severity == bug.severity


# -- the diagnosis of several cases ------------------------------------------------------------------------------------


@given(cases=st.lists(found, min_size=1, max_size=4))
def test_a_broken_law_always_leads_to_a_diagnosis(cases):
    """Whatever is found in whichever cases, there is a bug, and what is no bug of its own hangs on one."""
    diagnoses = diagnosed(cases)
    assert diagnoses
    named = [diagnosis.id for diagnosis in diagnoses]
    assert len(set(named)) == len(named)
    told = set(named) | {finding.id for diagnosis in diagnoses for finding in diagnosis.consequences}
    assert told == {finding.id for findings in cases for finding in findings}


@given(cases=st.lists(found, min_size=1, max_size=4))
def test_bugs_go_first_in_a_diagnosis(cases):
    """By severity; among bugs the end of a process first and the catch-alls last."""
    diagnoses = diagnosed(cases)
    places = [(SEVERITIES.index(BUGS[d.id].severity), d.id not in ENDED, d.bug.catch_all) for d in diagnoses]
    assert places == sorted(places)


@given(findings=found)
def test_one_case_is_diagnosed_as_it_is_ranked(findings):
    """What nothing explains is a bug with all that it explains under it; each shows in one case."""
    judged = ranked(findings)
    diagnoses = diagnosed([findings])
    assert {d.id for d in diagnoses} == {finding.id for finding in judged if finding.consequence_of is None}
    assert {d.count for d in diagnoses} == {1}
    for diagnosis in diagnoses:
        assert diagnosis.finding in judged


def test_nothing_found_is_no_bug():
    """No case, or cases in which every law holds."""
    assert diagnose([]) == []
    assert diagnosed([[], []]) == []


def test_a_bug_that_explains_an_effect_in_one_case_explains_it_in_all():
    """Where the cause is not seen, its effect is not a bug of its own."""
    cause, effect = "zero-grad-missing", "gradient-differs"
    assert explains(cause, effect)
    first, second = Case(), Case(model="probe")
    cases = [
        [broken(cause, 3, "stale", first), broken(effect, 3, "differs", first)],
        [broken(effect, 3, "differs", second)],
    ]
    for order in (cases, cases[::-1]):
        (diagnosis,) = diagnosed(order)
        assert diagnosis.id == cause
        assert diagnosis.finding.case == first
        assert diagnosis.count == 1
        assert [finding.id for finding in diagnosis.consequences] == [effect]


def test_a_cause_explains_nothing_in_the_cases_in_which_it_does_not_show():
    """A bug of one case does not take over the findings of four others, though none of them looked for it."""
    cause, effect = "zero-grad-missing", "gradient-differs"
    cases = [[broken(cause, 3, "stale", Case()), broken(effect, 3, "differs", Case())]]
    cases += [[broken(effect, 3, "differs", Case(seed=seed))] for seed in range(1, 5)]
    assert {diagnosis.id: diagnosis.count for diagnosis in diagnosed(cases)} == {cause: 1, effect: 5}


def test_where_the_cause_was_looked_for_and_not_found_it_explains_nothing():
    """A finding in a case in which its usual cause is known to be absent is a bug of its own."""
    cause, effect = "zero-grad-missing", "gradient-differs"
    first, second = Case(), Case(model="probe")
    judgements = [
        Judgement(first, ranked([broken(cause, 3, "stale", first)])),
        Judgement(second, ranked([broken(effect, 3, "differs", second)]), held=[cause]),
    ]
    assert {diagnosis.id for diagnosis in diagnose(judgements)} == {cause, effect}


def test_the_number_of_cases_is_counted():
    """And the finding is that of the first of them, which is the smallest."""
    cases = [[broken("step-missing", 1, str(seed), Case(seed=seed))] for seed in range(3)]
    (diagnosis,) = diagnosed(cases)
    assert (diagnosis.count, diagnosis.finding.case) == (3, Case(seed=0))


# -- holding a trace to laws -------------------------------------------------------------------------------------------


def train(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trace():
    """A right loop, in the plainest case."""
    return Trace(record(bind(train), Case()))


def made(bug, body, needs=()):
    return Law(BUGS[bug], body, needs)


def test_each_law_is_decided_once(trace):
    """Found, held or not run: every law is in one of the three, and a reason is a phrase."""
    judgement = judge(trace)
    decided = [*(finding.id for finding in judgement.findings), *judgement.held, *judgement.not_run]
    assert sorted(decided) == sorted(LAWS)
    assert judgement.findings == []
    assert judgement.primary is None
    assert all(reason and not reason.endswith(".") for reason in judgement.not_run.values())
    assert len(judgement.held) > len(LAWS) / 3


def test_what_a_law_yields_first_is_the_finding(trace):
    """Its time and its sentence; what holds, and what cannot be decided, is noted as such."""

    def broken(trace):
        yield 7, "first"
        raise AssertionError("the second is not asked for")

    def undecided(trace):
        must(trace is None, "it cannot be")
        yield 1, "never"

    laws = [
        made("step-missing", broken),
        made("step-double", lambda trace: iter(())),
        made("loss-sum", undecided),
        made("split-leak", broken, needs=("poisoned",)),
    ]
    judgement = judge(trace, laws)
    assert judgement.findings == [Finding("step-missing", 7, "first", trace.case)]
    assert judgement.primary is judgement.findings[0]
    assert judgement.held == ["step-double"]
    assert judgement.not_run == {"loss-sum": "it cannot be", "split-leak": "the loop is handed no test data"}


def test_an_error_in_a_law_is_no_verdict(trace):
    """A law that fails has decided nothing, and says so."""

    def fails(trace):
        raise ZeroDivisionError
        yield

    judgement = judge(trace, [made("step-missing", fails)])
    assert not judgement.held
    assert not judgement.findings
    assert judgement.not_run["step-missing"].startswith("it cannot be decided here: ZeroDivisionError")


def test_must_raises_unless_it_holds():
    """With the reason."""
    must([0], "unused")
    with pytest.raises(NotRun, match=r"^because$"):
        must([], "because")


@given(findings=found)
def test_how_a_process_ended_explains_all(findings):
    """Where a process hangs, exits or crashes, everything else that was seen of it is a consequence."""
    assume(sum(finding.id in ENDED for finding in findings) == 1)
    (end,) = [finding.id for finding in findings if finding.id in ENDED]
    first, *others = ranked(findings)
    assert (first.id, first.consequence_of) == (end, None)
    assert all(other.consequence_of is not None for other in others)
