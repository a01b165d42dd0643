"""The README: its table is that of a stored result, and what it tells people to type exists."""

import re

import pytest

from mnist_loop.cli import main
from mnist_loop.report.reading import read
from mnist_loop.report.tables.markdown import bare
from mnist_loop.report.tables.throughput import throughput


@pytest.fixture(scope="session")
def readme(request):
    return (request.config.rootpath / "README.md").read_text()


def test_the_table_is_that_of_the_stored_result(readme, request):
    """No number is typed by hand: ``mnist-loop report FILE --format markdown`` prints the table."""
    marked = re.search(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", readme, re.DOTALL)
    assert marked is not None
    (sweep,) = read([request.config.rootpath / marked[1]]).sweeps
    assert marked[2] == bare(throughput(sweep))


def test_its_options_exist(readme, capsys, request):
    """Each option after ``mnist-loop COMMAND`` is one that the command has; each after ``pytest`` is pytest's."""
    for command in ("train", "bench", "verify", "compare", "report"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        for line in re.findall(rf"mnist-loop {command}([^#\n`]*)", readme):
            assert set(re.findall(r"--[a-z-]+", line)) <= known, f"mnist-loop {command}{line}"
    known = {name for option in request.config._parser._anonymous.options for name in option.names()} | {
        name for group in request.config._parser._groups for option in group.options for name in option.names()
    }
    for line in re.findall(r"^    .*?\bpytest\b([^#\n`]*)", readme, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= known, f"pytest{line}"


def test_its_files_exist(readme, request):
    """Each file and folder that it names or links to is there."""
    root = request.config.rootpath
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("https://") or (root / link).exists(), link
    for name in re.findall(r"`(test_\w+\.py)`", readme):
        assert list((root / "tests").rglob(name)), name
