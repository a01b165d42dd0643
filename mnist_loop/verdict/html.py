"""A verdict as HTML, which a notebook shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_loop.support.console import printable
from mnist_loop.verdict.text import REMINDER, header, held_though_expected, summary

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict

# In the notebook's own font and colours, light or dark; only what is found is coloured.
TEMPLATE = """\
<div style="line-height: 1.5; max-width: 60em">
<div style="opacity: .7">{{ head }}</div>
{% for found in diagnoses %}
{% if found.ignored %}
<div style="opacity: .7; margin-top: .6em">{{ found.id }}: {{ found.title }} (ignored: {{ found.ignored }})</div>
{% else %}
<div style="border-left: .25em solid {{ found.colour }}; padding-left: .8em; margin-top: .6em">
<div><b style="color: {{ found.colour }}">{{ found.id }}</b>: {{ found.title }}{{ found.kind }}</div>
{% for line in found.evidence %}<div style="font-family: monospace">{{ line }}</div>
{% endfor %}
<div>Most likely: {{ found.hint }}.</div>
{% if found.place %}<div>{{ found.place }}: <code>{{ found.line }}</code></div>{% endif %}
{% if found.consequences %}<div>Consequences: {{ found.consequences }}</div>{% endif %}
{% if found.snippet %}<details><summary>{{ found.case }}</summary>
<pre>{{ found.snippet }}</pre></details>{% endif %}
</div>
{% endif %}
{% endfor %}
{% for line in told %}<div style="margin-top: .6em">{{ line }}</div>
{% endfor %}
<div style="margin-top: .6em"><b style="color: {{ colour }}">{{ summary }}</b></div>
<div style="opacity: .7">{{ reminder }}</div>
</div>
"""
RED, AMBER, GREEN = "#c62828", "#b26a00", "#2e7d32"  # each is legible on white and on black


def as_html(verdict: Verdict) -> str:
    """Return the diagnoses and the count; what a loop says is escaped."""
    from jinja2 import Environment

    diagnoses = []
    for found in verdict.diagnoses:
        line, expected, case = verdict.likely_line(found), verdict.expected.get(found.id), found.finding.case
        kind = "" if found.severity == "bug" else f" ({found.severity})"
        diagnoses.append(
            {
                "id": found.id,
                "title": found.bug.title,
                "kind": kind if expected is None else f" (expected: {expected.reason})",
                "colour": RED if found.severity == "bug" and expected is None else AMBER,
                "ignored": found.ignored,
                "evidence": [printable(text) for text in found.finding.text.splitlines()],
                "hint": found.hint,
                "place": "" if line is None else line.place,
                "line": "" if line is None else printable(line.text.strip()),
                "consequences": ", ".join(one.id for one in found.consequences),
                "case": "" if case is None else f"Smallest case: {case!r}. To see it again:",
                "snippet": verdict.snippet(found),
            }
        )
    told = [f"{entry.where}: {entry.id}: {instead}" for entry, instead in held_though_expected(verdict)]
    told += verdict.notes
    told += [f"watched: {verdict.watched}"] if verdict.watched else []
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE)
    return template.render(
        head=header(verdict) if verdict.tool == "verify" else verdict.name,
        diagnoses=diagnoses,
        told=told,
        colour=GREEN if verdict.exit_code == 0 else RED,
        summary=summary(verdict),
        reminder=REMINDER,
    )
