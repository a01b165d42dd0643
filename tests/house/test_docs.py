"""The pages under docs/: what was measured is printed from the stored results, and what they link to is there."""

import re

import pytest

from benchmarks.accuracy import run as accuracy_run
from benchmarks.accuracy import summary as accuracy_summary
from benchmarks.peers import results as peers_results
from benchmarks.peers import table as peers_table
from mnist_loop.report.reading import read
from mnist_loop.report.tables import of_sweep
from mnist_loop.report.tables.markdown import bare
from mnist_loop.report.tables.paired import lines, verdicts


def marked(pages, name):
    """What stands between ``<!-- name: FILE -->`` and ``<!-- end of name -->``, with the file, on any page."""
    found = [
        pair
        for page in pages.values()
        for pair in re.findall(rf"<!-- {name}: (\S+) -->\n(.*?)<!-- end of {name} -->", page, re.DOTALL)
    ]
    assert found, f"no page has {name}"
    return found


@pytest.fixture(scope="module")
def pages(request):
    """Each page's text by its path."""
    return {path: path.read_text() for path in sorted((request.config.rootpath / "docs").glob("*.md"))}


def test_comparisons_are_those_of_the_stored_results(pages, request):
    """``mnist-loop report FILE --format markdown`` prints these tables."""
    for file, tables in marked(pages, "comparison"):
        (comparison,) = read([request.config.rootpath / file]).comparisons
        assert tables == f"{bare(verdicts(comparison))}\n{bare(lines(comparison))}"


def test_sweeps_are_those_of_the_stored_results(pages, request):
    """``mnist-loop report FILE --format markdown`` prints these tables too."""
    for file, tables in marked(pages, "sweep"):
        (sweep,) = read([request.config.rootpath / file]).sweeps
        assert tables == "\n".join(map(bare, of_sweep(sweep)))


def test_the_ratios_of_peers_are_those_of_the_stored_result(pages, request):
    """``python -m benchmarks.peers --show FILE`` prints them."""
    for file, tables in marked(pages, "peers"):
        assert tables == peers_table.as_markdown(peers_results.read(request.config.rootpath / file))


def test_the_times_to_accuracy_are_those_of_the_stored_result(pages, request):
    """``python -m benchmarks.accuracy --show FILE`` prints them."""
    for file, tables in marked(pages, "accuracy"):
        assert tables == accuracy_summary.as_markdown(*accuracy_run.read(request.config.rootpath / file))


def test_links_lead_to_files(pages):
    """Each relative link of a page."""
    for path, page in pages.items():
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"
