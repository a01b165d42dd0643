"""A verdict as JUnit's XML, which CI servers read: a test for each law."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mnist_loop.verdict.outcomes import Outcome, outcomes
from mnist_loop.verdict.text import held_though_expected, summary

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict

SUITES = "mnist-loop"
# What XML 1.0 has no way to write.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(verdict: Verdict) -> str:
    """Return a suite with a test for each law that was asked for; one more fails where nothing could be run."""
    suite = ET.Element("testsuite", name=_text(f"mnist-loop {verdict.tool} {verdict.name}"))
    _properties(suite, verdict)
    unmet = {entry.id: f"{entry.where}: {entry.id}: {instead}" for entry, instead in held_though_expected(verdict)}
    asked = {law.bug.id for law in verdict.laws if law.asked_for}
    for id_, outcome in outcomes(verdict).items():
        if id_ in asked:
            _state(_test(suite, verdict, id_), id_, outcome, verdict, unmet)
    if verdict.result == "nothing-run":
        ET.SubElement(_test(suite, verdict, "some-law-runs"), "error", message=_text(summary(verdict)))
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    for name, path in {**counts, "skipped": "testcase/skipped"}.items():
        suite.set(name, str(len(suite.findall(path))))
    suite.set("time", f"{verdict.seconds:.3f}")
    suites = ET.Element("testsuites", name=SUITES)
    suites.append(suite)
    ET.indent(suites)
    content: bytes = ET.tostring(suites, encoding="us-ascii", xml_declaration=True)
    return content.decode("ascii") + "\n"


def is_junit(content: bytes) -> bool:
    """Tell whether a file with this content holds a suite of ours."""
    start = content[:200].decode(errors="replace")
    return f'<testsuites name="{SUITES}">' in start and start.startswith("<?xml")


def _test(suite: ET.Element, verdict: Verdict, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_text(verdict.name), name=name, time="0")


def _state(test: ET.Element, id_: str, outcome: Outcome, verdict: Verdict, unmet: dict[str, str]) -> None:
    first = outcome.text.partition("\n")[0]
    if id_ in unmet:
        ET.SubElement(test, "failure", message=_text(unmet[id_]))
    elif id_ in verdict.expected:
        reason = f"expected: {verdict.expected[id_].reason}"
        ET.SubElement(test, "skipped", message=_text(reason)).text = _text(outcome.text)
    elif outcome.state == "broken":
        ET.SubElement(test, "failure", message=_text(first)).text = _text(outcome.text)
    elif outcome.state in ("not run", "consequence", "ignored"):
        message = first if outcome.state == "consequence" else f"{outcome.state}: {first}"
        ET.SubElement(test, "skipped", message=_text(message))
    elif outcome.state in ("cost", "info"):  # it fails nothing
        ET.SubElement(test, "system-out").text = _text(outcome.text)


def _properties(suite: ET.Element, verdict: Verdict) -> None:
    facts = {"summary": summary(verdict), "watched": verdict.watched, **verdict.environment}
    facts |= {f"note {number}": note for number, note in enumerate(verdict.notes, start=1)}
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        if value not in (None, ""):
            ET.SubElement(properties, "property", name=name, value=_text(str(value)))


def _text(text: str) -> str:
    """Return text in which what XML cannot hold is escaped."""
    return FORBIDDEN.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
