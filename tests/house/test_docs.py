"""The pages: tables are printed from the stored results; files, links, options and programs on them exist."""

import ast
import configparser
import importlib
import importlib.util
import json
import re

import pytest

import mnist_loop
from benchmarks.accuracy.accuracy_table import accuracy_markdown
from benchmarks.accuracy.trainings import read_trainings
from benchmarks.peers.outcome import read_outcome
from benchmarks.peers.tables import peers_markdown
from benchmarks.scaling.tables import read_scaling, scaling_markdown
from mnist_loop.cli import main
from mnist_loop.engines import NAMES
from mnist_loop.report.reading import read_results
from mnist_loop.report.tables import sweep_tables
from mnist_loop.report.tables.markdown import table_to_markdown
from mnist_loop.report.tables.paired import arm_step_time_table, verdict_table
from tests import answers, coverage_study, matrix, scoreboard, simulated_series

CLAIM = r"Measured: ([\d.]+k) images/s at batch size 64(?:, ([\d.]+) times as fast as `reference`)?"


def marked(pages, name):
    """What stands between ``<!-- name: FILE -->`` and ``<!-- end of name -->``, with the file, on any page."""
    found = [
        pair
        for page in pages.values()
        for pair in re.findall(rf"<!-- {name}: (\S+) -->\n(.*?)<!-- end of {name} -->", page, re.DOTALL)
    ]
    assert found, f"no page has {name}"
    return found


def test_comparisons_are_those_of_the_stored_results(pages, request):
    """``mnist-loop report FILE --format markdown`` prints these tables."""
    for file, tables in marked(pages, "comparison"):
        (comparison,) = read_results([request.config.rootpath / file]).comparisons
        assert (
            tables
            == f"{table_to_markdown(verdict_table(comparison))}\n{table_to_markdown(arm_step_time_table(comparison))}"
        )


def test_the_cost_of_watching_is_that_of_the_stored_result(pages, request):
    """The medians and quartiles of docs/check.md, in the order of its table."""
    (file,) = (request.config.rootpath / "benchmarks" / "studies" / "results" / "watching").glob("*.json")
    stored = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    ratios = {one["name"]: one["extra_info"]["watched_to_bare"] for one in stored}
    page = pages[request.config.rootpath / "docs" / "check.md"]
    shown = re.findall(r"steps \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|", page)
    names = ("lesson", "in memory", "convolutions")
    found = [ratios[f"test_watching[{name}]"] for name in names]
    assert shown == [tuple(f"{one[key]:.2f}" for key in ("median", "q1", "q3")) for one in found]


def test_sweeps_are_those_of_the_stored_results(pages, request):
    """``mnist-loop report FILE --format markdown`` prints these tables too."""
    for file, tables in marked(pages, "sweep"):
        (sweep,) = read_results([request.config.rootpath / file]).sweeps
        assert tables == "\n".join(map(table_to_markdown, sweep_tables(sweep)))


def test_the_ratios_of_peers_are_those_of_the_stored_result(pages, request):
    """``python -m benchmarks.peers --show FILE`` prints them."""
    for file, tables in marked(pages, "peers"):
        assert tables == peers_markdown(read_outcome(request.config.rootpath / file))


def test_the_times_to_accuracy_are_those_of_the_stored_result(pages, request):
    """``python -m benchmarks.accuracy --show FILE`` prints them."""
    for file, tables in marked(pages, "accuracy"):
        assert tables == accuracy_markdown(*read_trainings(request.config.rootpath / file))


def test_scaling_is_that_of_the_stored_result(pages, request):
    """``python -m benchmarks.scaling --show FILE`` prints it."""
    for file, tables in marked(pages, "scaling"):
        assert tables == scaling_markdown(read_scaling(request.config.rootpath / file))


def test_engines_claim_what_was_measured(pages, request):
    """The rate and the ratio that an engine's docstring opens with are those of its row in docs/engines.md."""
    page = pages[request.config.rootpath / "docs" / "engines.md"]
    ((_, tables),) = marked({None: page}, "peers")
    for name in NAMES:
        words = " ".join((importlib.import_module(f"mnist_loop.engines.{name}").__doc__ or "").split())
        claim = re.search(CLAIM, words)
        if claim is None:
            assert name in ("graphed", "distributed"), f"{name} says nothing of its speed"
            continue
        row = re.search(rf"^\| {name} \| torch ([\d.]+) .*$", tables, re.MULTILINE)
        assert row is not None, name
        assert f"| {claim[1]} | {claim[2] or '1'} " in row[0], name
        assert f"torch {row[1]}, 20 epochs" in words, name
        assert "median of 20 epochs" in tables


def test_generated_pages_have_the_words_of_their_generators():
    """The same numbers, put into the page again, give the page: only what is measured may be older than the code."""
    page = matrix.PAGE.read_text(encoding="utf-8")
    assert page.startswith(matrix.INTRODUCTION)
    assert matrix.LAW_LIST in page
    page = scoreboard.PAGE.read_text(encoding="utf-8")
    assert scoreboard.render(scoreboard.known_rows(page)) == page
    page = coverage_study.PAGE.read_text(encoding="utf-8")
    assert coverage_study.page(list(cells_of(page))) == page


def cells_of(page):
    """The cells of docs/coverage.md."""
    coverage, at_a_look, false = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    )
    keys = {scenario.title: key for key, scenario in simulated_series.SCENARIOS.items()}
    simulations = int(re.search(r"([\d,]+) for each cell", page)[1].replace(",", ""))
    for rows in zip(coverage, at_a_look, false, strict=True):
        for number, generations in enumerate(coverage_study.GENERATIONS, start=1):
            shares = [float(share) / 100 for row in rows for share in row[number].split(" / ")]
            yield coverage_study.Cell(keys[rows[0][0]], generations, simulations, *shares)


def test_links_lead_to_files(pages):
    """Each relative link of a page, and the heading that it names."""
    for path, page in pages.items():
        for link, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", page):
            if link.startswith("https://"):
                continue
            target = path.parent / link if link else path
            assert target.exists(), f"{path.name}: {link}"
            if heading:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                known = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
                assert heading in known, f"{path.name}: {link}#{heading}"


def test_files_that_are_named_exist(pages, request):
    """Each test file that is named by its name alone, and each path of the repository."""
    root = request.config.rootpath
    for path, page in pages.items():
        for name in re.findall(r"`(test_\w+\.py)`", page):
            assert list((root / "tests").rglob(name)) or (root / "benchmarks" / name).exists(), f"{path.name}: {name}"
        for name in re.findall(r"`((?:mnist_loop|tests|benchmarks|docs)/[\w./-]*)`", page):
            assert "SUBJECT" in name or (root / name).exists(), f"{path.name}: {name}"


def test_the_map_has_each_room(pages, request):
    """Each package and module of the root has its line in CONTRIBUTING.md, but for what Python itself asks for."""
    root = request.config.rootpath
    rooms = {f"{folder.parent.name}/" for folder in (root / "mnist_loop").glob("*/__init__.py")}
    rooms |= {file.name for file in (root / "mnist_loop").glob("[!_]*.py")} - {"errors.py"}
    told = set(re.findall(r"`([\w.]+/?)`", pages[root / "CONTRIBUTING.md"]))
    assert rooms <= told, f"CONTRIBUTING.md lacks {sorted(rooms - told)}"


def test_the_answers_are_those_of_check(pages, request):
    """Each script is named by its bug. The page is what ``python -m tests.answers`` prints, but for the losses."""

    def without_losses(page):
        return re.sub(r"loss \S+ to \S+;", "loss;", page)

    for asked in answers.REQUESTS:
        first = answers.verdict_on(asked).diagnoses[0]
        assert (first.id, first.severity) == (asked.bug, asked.severity)
    page = pages[request.config.rootpath / "docs" / "answers.md"]
    assert without_losses(page) == without_losses(answers.render())


def test_options_exist(pages, capsys, request):
    """Each option after ``mnist-loop COMMAND`` is one that the command has; each after ``pytest`` is pytest's."""
    known = {}
    for command in ("train", "bench", "check", "verify", "compare", "report"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known[command] = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    options = [*request.config._parser._anonymous.options]
    options += [option for group in request.config._parser._groups for option in group.options]
    known["pytest"] = {name for option in options for name in option.names()}
    for path, page in pages.items():
        for command, line in re.findall(r"(?:mnist-loop (\w+)|\bpytest(?= -))([^#\n`|&;]*)", page):
            assert command in (*known, ""), f"{path.name}: mnist-loop {command}"
            if command == "check":  # what follows the script is the script's
                line = re.split(r"\.py|\.ipynb|-m \S+", line)[0]
            unknown = set(re.findall(r"(?<!\S)--[a-z-]+", line)) - known[command or "pytest"]
            assert not unknown, f"{path.name}: {command or 'pytest'}{line}"


def test_programs_exist(pages, request):
    """Each module after ``python -m`` can be run, and each environment after ``tox -e`` is one of tox.ini."""
    tox = configparser.ConfigParser()
    tox.read(request.config.rootpath / "tox.ini")
    factors = {line.partition(":")[0].strip() for line in tox["testenv"]["deps"].splitlines() if line}
    for path, page in pages.items():
        for module in re.findall(r"python -m ([\w.]+)", page):
            package = importlib.util.find_spec(module)
            assert package is not None, f"{path.name}: {module}"
            if package.submodule_search_locations is not None:
                assert importlib.util.find_spec(f"{module}.__main__") is not None, f"{path.name}: {module}"
        for environment in re.findall(r"tox -e ([\w-]+)", page):
            python, *others = environment.split("-")
            matrix = re.fullmatch(r"py3\d+", python) and {*others} <= {*factors, "bench"}
            assert matrix or f"testenv:{environment}" in tox, f"{path.name}: tox -e {environment}"


def test_python_uses_public_names(pages):
    """Each block of Python compiles, and imports of mnist_loop what is public: names of the package, and engines."""
    for path, page in pages.items():
        for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(code, str(path))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mnist_loop"):
                    public = {"mnist_loop": mnist_loop.__all__, "mnist_loop.engines": NAMES}.get(node.module, ())
                    for alias in node.names:
                        assert alias.name in public, f"{path.name}: {node.module}.{alias.name}"


def test_the_glossary_is_short(pages, request):
    """At most 20 lines, each word once."""
    lines = pages[request.config.rootpath / "docs" / "glossary.md"].splitlines()
    assert len(lines) <= 20
    words = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert len(words) == len(set(words))
