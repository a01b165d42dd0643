"""Studies of the comparison: what they store, that they go on, and what their table says."""

import json
import re
import sys
import time

import psutil
import pytest

from benchmarks.studies import __main__ as command
from benchmarks.studies import study as study_module
from benchmarks.studies.background_load import background_load
from benchmarks.studies.study import Study
from benchmarks.studies.verdict_counts import read_studies, studies_markdown
from mnist_loop.compare.arms import parse_arms
from tests.programs import children

PLAIN = {"slowdown": 0.0, "comparisons": 4, "budget_s": 10.0, "margin": 0.01, "threads": 1, "loaded": False}


class FakeCrew:
    """Counts how often the processes of a study are started."""

    started = 0

    def __init__(self, *_):
        pass

    def start(self):
        FakeCrew.started += 1

    def close(self):
        pass


@pytest.fixture
def study(monkeypatch):
    """Make a study whose comparisons say what they are told to."""
    FakeCrew.started = 0
    monkeypatch.setattr(study_module, "Crew", FakeCrew)

    def make(verdicts, **settings):
        made = Study(**{**PLAIN, "restart_every": 2, **settings})
        says = iter(verdicts)

        def one(self, crew, asked):
            return {"study": vars(self), "verdict": next(says), "spent_s": 8.0, "reason": "so it was told"}

        monkeypatch.setattr(Study, "_one", one)
        return made

    return make


def test_each_comparison_is_a_line(study, tmp_path):
    """In the order in which they were made; after so many the processes are started anew."""
    made = study(["SAME", "SLOWER", "SAME", "INCONCLUSIVE"])
    said = []
    made.run(tmp_path, said.append)
    lines = [json.loads(line) for line in (tmp_path / made.name).read_text().splitlines()]
    assert [line["verdict"] for line in lines] == ["SAME", "SLOWER", "SAME", "INCONCLUSIVE"]
    assert [line["number"] for line in lines] == [0, 1, 2, 3]
    assert len(said) == 4
    assert FakeCrew.started == 2


def test_a_study_goes_on_where_it_was(study, tmp_path):
    """Those that are stored are not made again; with all of them there nothing is started."""
    study(["SAME"] * 2, comparisons=2).run(tmp_path, lambda _: None)
    study(["FASTER"] * 2).run(tmp_path, lambda _: None)
    (kind,) = read_studies(tmp_path)
    assert kind.verdicts == {"SAME": 2, "FASTER": 2}
    before = FakeCrew.started
    study([]).run(tmp_path, lambda _: None)
    assert FakeCrew.started == before


def test_a_study_can_be_made_in_parts(study, tmp_path):
    """The numbers of the comparisons begin where they are told to."""
    study(["SAME"] * 2, comparisons=12).run(tmp_path / "a", lambda _: None, first=10)
    (file,) = (tmp_path / "a").iterdir()
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [10, 11]


def test_arms_are_as_two_environments_are_or_as_two_settings():
    """With hosts of their own, or one; and with the slowdown in either."""
    together = parse_arms(Study(**{**PLAIN, "slowdown": 0.03}, restart_every=1).arms, [])
    apart = parse_arms(Study(**{**PLAIN, "slowdown": 0.03}, restart_every=1, apart=True).arms, [])
    assert together[0].host == together[1].host
    assert apart[0].host != apart[1].host
    assert [arm.settings.get("slowdown", 0.0) for arm in (*together, *apart)] == [0.0, 0.03] * 2


def test_the_table_counts_what_was_wrong_and_what_was_seen(study, tmp_path):
    """Of identical code any red is wrong; of a slowdown SLOWER is right; with Clopper and Pearson's interval."""
    study(["SAME", "SLOWER", "FASTER", "INCONCLUSIVE"]).run(tmp_path, lambda _: None)
    study(["SLOWER"] * 3 + ["SAME"], slowdown=0.03).run(tmp_path, lambda _: None)
    identical, slow = studies_markdown(read_studies(tmp_path)).splitlines()[2:]
    assert identical.startswith(
        "| identical | settings | 10 s | 1 % | as it was | 4 | 1 | 1 | 1 | 1 | wrong 50.0% (6.8% to 93.2%)"
    )
    assert slow.startswith(
        "| 3% slower | settings | 10 s | 1 % | as it was | 4 | 3 | 0 | 1 | 0 | SLOWER 75.0% (19.4% to 99.4%)"
    )


def test_the_command_prints_what_is_stored(study, tmp_path, monkeypatch, capsys):
    """--show runs nothing."""
    study(["SAME"] * 4).run(tmp_path, lambda _: None)
    monkeypatch.setattr(sys, "argv", ["studies", "--show", "--folder", str(tmp_path)])
    assert command.main() == 0
    assert capsys.readouterr().out == studies_markdown(read_studies(tmp_path))


def test_the_page_has_the_table_of_the_stored_studies(request):
    """No number is typed by hand."""
    root = request.config.rootpath
    page = (root / "docs" / "compare.md").read_text()
    (table,) = re.findall(r"<!-- studies: \S+ -->\n(.*?)<!-- end of studies -->", page, re.DOTALL)
    assert table == studies_markdown(read_studies(root / "benchmarks" / "studies" / "results"))


def test_the_load_is_there_and_goes():
    """One process beside this one, as long as the study runs."""
    with background_load(False):
        assert children() == set()
    with background_load(True):
        (process,) = [one for one in children() if "resource_tracker" not in " ".join(one.cmdline())]
        end = time.monotonic() + 20
        while sum(process.cpu_times()[:2]) < 0.5 and time.monotonic() < end:
            time.sleep(0.05)
        assert sum(process.cpu_times()[:2]) >= 0.5
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
