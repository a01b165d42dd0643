"""Made-up verdicts: each with the findings and laws that a test asks for."""

from mnist_loop.verdict.expected import Expected
from mnist_loop.verdict.finding import Finding, Judgement
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.cases.case import Case

CASE = Case(samples=8, lr=0.1)


def finding(bug, consequence_of=None, shows="step 1: it differs", case=CASE, **attributes):
    return Finding(bug, 3, shows, case, consequence_of, **attributes)


def verdict(*findings, held=("graph-leak", "step-missing"), not_run=None, expected=(), only=None, **attributes):
    """Return a verdict on one case."""
    reasons = {"clip-missing": "declare clip=C"} if not_run is None else not_run
    known = {id_: Expected(id_, "it is known", "known.txt", line) for line, id_ in enumerate(expected, start=1)}
    asked = attributes.pop("asked", Asked("my_train.py:train", only=only))
    judgement = Judgement(CASE, list(findings), list(held), reasons)
    attributes.setdefault("judgements", [judgement])
    return Verdict("my_train.py:train", asked=asked, seconds=2.44, expected=known, **attributes)


MISSING = finding("zero-grad-missing", shows="step 1: w.grad = grad(1) + grad(0)")
DIFFERS = finding("gradient-differs", "zero-grad-missing")
