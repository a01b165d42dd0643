"""Renders the page, with a Content-Security-Policy that allows its own script and style alone."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from mnist_loop.report.page.headline import headline
from mnist_loop.report.page.sections import sections

if TYPE_CHECKING:
    from mnist_loop.report.stored import StoredResults


def to_html(results: StoredResults) -> str:
    """Return the page; equal results give equal bytes."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from mnist_loop.report.plots import figures
    from mnist_loop.report.plots.files import Styles, inline

    styles = Styles()
    plots = [(plot, Markup(inline(plot, styles))) for plot in figures(results)]  # noqa: S704 - matplotlib escapes text
    style = f"{_own('page.css')}\n{styles.sheet()}"
    script = _own("page.js")
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_own("page.html.j2"))
    return template.render(
        headline=headline(results),
        sections=sections(results, plots),
        refused=results.refused,
        style=Markup(style),  # noqa: S704 - our own file, and styles that matplotlib wrote
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(style, script),
    )


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: this style sheet and this script, by their hashes, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
