"""A plot as PNG, as an SVG file, and as SVG inside the page, where its colours follow the page's."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mnist_loop.report.plots.ink import PAPER, ROLES, drawing
from mnist_loop.report.plots.words import shorten

if TYPE_CHECKING:
    from mnist_loop.report.plots.plot import Plot

DOTS_PER_INCH = 200  # a PNG is then 1500 pixels wide, enough for a screen of high density
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{LINK}}}href"
REFERENCE = re.compile(r"url\(#(\w+)\)")
CREATOR = "mnist-loop report"
IN_PNG, IN_SVG = f"tEXtSoftware\0{CREATOR}".encode(), f"<dc:title>{CREATOR}</dc:title>".encode()
LONGEST_ALT = 2000  # characters


def png(plot: Plot) -> bytes:
    """Return the plot as PNG on white."""
    return _saved(plot, "png", {"Software": CREATOR}, dpi=DOTS_PER_INCH)


def svg(plot: Plot) -> bytes:
    """Return the plot as SVG on white; its text is drawn as outlines, which need no font."""
    words = {"Title": shorten(plot.finding, LONGEST_ALT), "Description": shorten(plot.alt, LONGEST_ALT)}
    return _saved(plot, "svg", {"Date": None, "Creator": CREATOR, **words})


def is_plot(content: bytes) -> bool:
    """Tell whether a file with this content is one that `png` or `svg` made."""
    return IN_PNG in content or IN_SVG in content


class Styles:
    """The styles of all plots on a page: one class for each, in place of style attributes."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, style: str) -> str:
        """Return the class of the content of a ``style`` attribute."""
        for colour, role in ROLES.items():
            style = style.replace(colour, f"var(--{role})")
        style = style.replace("'DejaVu Sans'", "var(--sans)")
        return self._names.setdefault(style, f"p{len(self._names)}")

    def sheet(self) -> str:
        """Return the style sheet."""
        return "\n".join(f".{name}{{{style}}}" for style, name in self._names.items())


def inline(plot: Plot, styles: Styles) -> str:
    """Return the plot for the page: without title and background, with text as text and classes as styles.

    The page shows title and reading as text of its own; ``plot.alt`` becomes the label for screen readers.
    """
    text = _saved(plot, "svg", {"Date": None, "Creator": None}, letters="none")
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    root = ET.fromstring(text)  # noqa: S314 - matplotlib has just written it
    _cut(root, plot.head)
    used = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        _name_apart(element, plot.name, used)
        if style := element.attrib.pop("style", None):
            element.set("class", styles.name(style))
        if path := element.get("d"):
            element.set("d", " ".join(path.split()))
        element.tail = None
    root.set("role", "img")
    root.set("aria-label", shorten(plot.alt, LONGEST_ALT))
    return ET.tostring(root, encoding="unicode")


def _cut(root: ET.Element, head: float) -> None:
    """Remove title, background, style sheet and metadata."""
    for parent in list(root.iter()):
        for child in list(parent):
            kind = child.tag.rpartition("}")[2]
            background = kind == "path" and f"fill: {PAPER}" in child.get("style", "") and parent.get("id") == "patch_1"
            if kind in ("metadata", "style", "title") or child.get("id") == "head" or background:
                parent.remove(child)
    _, _, width, height = map(float, root.get("viewBox", "0 0 0 0").split())
    root.set("viewBox", f"0 {head:g} {width:g} {height - head:g}")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)


def _references(element: ET.Element) -> list[str]:
    """Return the ids that an element refers to."""
    return [*REFERENCE.findall(" ".join(element.attrib.values())), *filter(None, [element.get(HREF, "")[1:]])]


def _name_apart(element: ET.Element, prefix: str, used: set[str]) -> None:
    """Prefix the ids that are referred to with the plot's name, as several plots use the same; remove the others."""
    name = element.attrib.pop("id", None)
    if name in used:
        element.set("id", f"{prefix}-{name}")
    for key, value in element.attrib.items():
        if key == HREF:
            element.set(key, f"#{prefix}-{value[1:]}")
        else:
            element.set(key, REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def _saved(
    plot: Plot, kind: str, metadata: dict[str, str | None], dpi: float | None = None, letters: str = "path"
) -> bytes:
    buffer = io.BytesIO()
    with drawing(**{"svg.fonttype": letters}):
        plot.figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi or "figure")
    return buffer.getvalue()
