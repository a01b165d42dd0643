"""The pages under docs/: what was measured is printed from the stored results, and what they link to is there."""

import re

import pytest

from mnist_loop.report.reading import read
from mnist_loop.report.tables.markdown import bare
from mnist_loop.report.tables.paired import lines, verdicts


@pytest.fixture(scope="module")
def pages(request):
    """Each page's text by its path."""
    return {path: path.read_text() for path in sorted((request.config.rootpath / "docs").glob("*.md"))}


def test_comparisons_are_those_of_the_stored_results(pages, request):
    """``mnist-loop report FILE --format markdown`` prints these tables."""
    printed = [
        found
        for page in pages.values()
        for found in re.findall(r"<!-- comparison: (\S+) -->\n(.*?)<!-- end of comparison -->", page, re.DOTALL)
    ]
    assert printed
    for file, tables in printed:
        (comparison,) = read([request.config.rootpath / file]).comparisons
        assert tables == f"{bare(verdicts(comparison))}\n{bare(lines(comparison))}"


def test_links_lead_to_files(pages):
    """Each relative link of a page."""
    for path, page in pages.items():
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"
