"""Stored results: old and new ones are read, and whatever else is in a file gets one sentence."""

import copy
import gzip
import json
import math
import os
import socket
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.report.reading import files, rates, read_result, read_results
from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.sweep_file import read_sweep as to_sweep
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import Refused, RulerResult, SweepResult
from tests import results_maker

VALID = results_maker.sweep_document(batch_sizes=(16,), parts=("step", "evaluation"), rounds=8, accuracy=True)


def stored(folder, document, name="result.json"):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def reason(path):
    """Why a file was refused, in one line."""
    found = read_result(path)
    assert isinstance(found, Refused), "it was read"
    assert "\n" not in found.reason
    return found.reason


def changed(*way_and_value):
    """The valid document with one value changed; a way of names and positions leads to it."""
    document = copy.deepcopy(VALID)
    *way, last, value = way_and_value
    here = document
    for step in way:
        here = here[step]
    here[last] = value
    return document


def leaves(thing):
    """Every number and text in a result."""
    if is_dataclass(thing):
        for field in fields(thing):
            value = getattr(thing, field.name)
            yield from leaves(abs(value) if field.name == "log_ratio" else value)  # the one that may be negative
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from leaves(key)
            yield from leaves(value)
    elif isinstance(thing, tuple):
        for value in thing:
            yield from leaves(value)
    else:
        yield thing


def assert_sound(result):
    """Numbers are finite and positive, texts short and of one printable line."""
    for leaf in leaves(result):
        if isinstance(leaf, float):
            assert math.isfinite(leaf)
            assert leaf >= 0.0
        elif isinstance(leaf, str):
            assert len(leaf) <= 300
            assert leaf.isprintable()
        else:
            assert leaf is None or isinstance(leaf, (int, Path))


# What is read


def test_the_stored_results_of_this_repository_are_read(request):
    """All results under benchmarks/results/ are sweeps, and none is refused."""
    found = read_results([request.config.rootpath / "benchmarks" / "results"])
    assert not found.refused
    assert len(found.sweeps) >= 3
    assert {sweep.machine.hash for sweep in found.sweeps}
    for sweep in found.sweeps:
        assert_sound(sweep)
        assert sweep.software["torch"]


def test_a_sweep_is_read(tmp_path):
    """Workload, setting, rates, machine, software and ruler are those that were stored."""
    sweep = read_result(stored(tmp_path, VALID))
    assert isinstance(sweep, SweepResult)
    assert_sound(sweep)
    first, second = sweep.measurements
    assert (first.workload.part, first.workload.batch_size, first.workload.data) == ("step", 16, "Digits")
    assert (first.setting.device, first.setting.threads, first.setting.dtype) == ("cpu", 2, "float32")
    assert second.workload.part == "evaluation"
    info = VALID["benchmarks"][0]["extra_info"]
    assert first.rates == tuple(info["images"] / entry["seconds"] for entry in info["rounds"])
    assert first.median == pytest.approx(info["images_per_second"]["median"], rel=1e-12)
    assert (first.q1, first.q3) == pytest.approx(
        (info["images_per_second"]["q1"], info["images_per_second"]["q3"]), rel=1e-12
    )
    assert first.low <= first.median <= first.high
    assert (first.first_step_s, first.warm_up_s, first.memory_mib) == (0.02, 0.55, 3.5)
    assert sweep.machine == results_maker.CPU
    assert sweep.software["torch"] == "2.15.0"
    assert "hip" not in sweep.software, "what is not there is no fact"
    assert sweep.ruler == {"cpu": RulerResult(**results_maker.RULER)}
    (accuracy,) = sweep.accuracies
    assert (accuracy.accuracy, accuracy.epochs) == (0.9211, 2)
    assert sweep.planned == 3
    assert sweep.facts["OMP_NUM_THREADS"] == "1"
    assert sweep.when == results_maker.WHEN


def test_the_commit_is_a_fact(tmp_path):
    """The commit of the repository is kept where it is a hash."""
    for commit, facts in (("a" * 40, {"commit": "a" * 40}), ("unversioned", {}), (3, {}), ("A" * 40, {})):
        sweep = read_result(stored(tmp_path, changed("commit_info", "id", commit)))
        assert {name: value for name, value in sweep.facts.items() if name == "commit"} == facts


def test_a_file_of_another_schema_is_refused_with_what_to_do(tmp_path):
    """An older one names the version that reads it, a newer one asks to update; without our section it is foreign."""
    assert "mnist_loop 0.1.0 reads" in reason(stored(tmp_path, changed("mnist_loop", "schema", 1)))
    assert "schema 9; this one reads up to 2" in reason(stored(tmp_path, changed("mnist_loop", "schema", 9)))
    lines = results_maker.comparison_lines(rounds=1, generations=1)
    lines[0]["mnist_loop_comparison"] = 7
    assert "schema 7; this one reads up to 1" in reason(results_maker.write_lines(tmp_path / "new.jsonl", lines))
    document = copy.deepcopy(VALID)
    del document["mnist_loop"]
    assert "has no section mnist_loop" in reason(stored(tmp_path, document))


def test_benchmarks_of_other_suites_in_it_are_left_out(tmp_path):
    """What has no part of ours was measured by something else."""
    document = copy.deepcopy(VALID)
    document["benchmarks"].append({"name": "test_verify", "extra_info": {"laws": 54}, "stats": {}})
    assert len(read_result(stored(tmp_path, document)).measurements) == 2
    document["benchmarks"] = document["benchmarks"][-1:]
    assert "no benchmark of mnist-loop" in reason(stored(tmp_path, document))


def test_a_folder_means_all_results_in_it(tmp_path):
    """JSON files in it and below it are read, in order; hidden ones and other files are left alone."""
    (tmp_path / "below").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, seed in (("b.json", 1), ("a.json", 2), ("below/c.json", 3), (".hidden/d.json", 4), (".e.json", 5)):
        results_maker.write_sweep(tmp_path / name, seed=seed, batch_sizes=(16,))
    (tmp_path / "notes.txt").write_text("no result")
    found = read_results([tmp_path])
    assert [sweep.file.name for sweep in found.sweeps] == ["a.json", "b.json", "c.json"]
    assert not found.refused
    (tmp_path / "empty").mkdir()
    (refused,) = read_results([tmp_path / "empty"]).refused
    assert "no .json or .jsonl file" in refused.reason


def test_one_run_counts_once(tmp_path):
    """The same file named twice is read once, and a copy of it is no second run."""
    file = stored(tmp_path, VALID)
    found = read_results([file, tmp_path, file])
    assert len(found.sweeps) == 1
    assert not found.refused
    stored(tmp_path, json.dumps(VALID, indent=3), "copy.json")
    found = read_results([tmp_path])
    assert len(found.sweeps) == 1
    assert "counts once" in found.refused[0].reason


# What is refused


def test_what_is_wrong_is_told_and_the_others_are_read(tmp_path):
    """One bad file among good ones costs only itself."""
    stored(tmp_path, VALID, "good.json")
    stored(tmp_path, json.dumps(VALID)[:-100], "cut.json")
    stored(tmp_path, '{"benchmarks": "x"}', "foreign.json")
    found = read_results([tmp_path])
    assert [sweep.file.name for sweep in found.sweeps] == ["good.json"]
    assert [refused.file.name for refused in found.refused] == ["cut.json", "foreign.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        (json.dumps(VALID)[:1000], "cut short"),
        (json.dumps(VALID, indent=1)[:-1], "cut short"),
        ('{"benchmarks": [}', "not JSON"),
        ("[1, 2]", "JSON of another kind"),
        ("3", "JSON of another kind"),
        ('{"version": 2}', "JSON of another kind"),
        ('{"benchmarks": []}', "has no section mnist_loop"),
        ('{"benchmarks": [], "benchmarks": []}', "says twice"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('{"benchmarks": ' + "9" * 5000 + "}", "thousands of digits"),
    ],
)
def test_what_is_no_result_gets_one_sentence(tmp_path, content, words):
    """Empty, cut, foreign, ambiguous and monstrous JSON."""
    assert words in reason(stored(tmp_path, content))


@pytest.mark.parametrize("schema", [0, -1, True, 1.0, "1", None, 10**400])
def test_a_schema_that_is_no_number_is_refused(tmp_path, schema):
    """Not even a Boolean passes for 1."""
    assert "mnist_loop.schema" in reason(stored(tmp_path, changed("mnist_loop", "schema", schema)))


INFO = ("benchmarks", 0, "extra_info")
NO_NUMBERS = [0, -1.0, math.nan, math.inf, -math.inf, True, "1", [], {}, 1e300, 1e-300, 10**400]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    "way",
    [
        (*INFO, "rounds", 0, "seconds"),
        ("mnist_loop", "ruler", "cpu", "gemm"),
        (*INFO, "batch_size"),
        (*INFO, "images"),
    ],
    ids=lambda way: way[-1],
)
def test_a_number_that_cannot_be_is_refused(tmp_path, way, value):
    """Zero, negative, not finite, a Boolean, a text, beyond all bounds: the name of the place is told."""
    assert str(way[-1]) in reason(stored(tmp_path, changed(*way, value)))


@pytest.mark.parametrize("value", [v for v in NO_NUMBERS if v != 0], ids=repr)
@pytest.mark.parametrize("name", ["first_step_s", "warm_up_s", "peak_memory_mib"])
def test_what_need_not_be_there_must_be_right_if_it_is(tmp_path, name, value):
    """A missing time is None; a wrong one is refused."""
    assert name in reason(stored(tmp_path, changed(*INFO, name, value)))
    assert isinstance(read_result(stored(tmp_path, changed(*INFO, name, None))), SweepResult)


def test_too_few_rounds_for_an_interval_are_refused(tmp_path):
    """With five values no interval of the median has 95 %."""
    rounds = VALID["benchmarks"][0]["extra_info"]["rounds"]
    assert "has 5 rounds" in reason(stored(tmp_path, changed(*INFO, "rounds", rounds[:5])))
    assert isinstance(read_result(stored(tmp_path, changed(*INFO, "rounds", rounds[:6]))), SweepResult)


def test_one_thing_measured_twice_is_refused(tmp_path):
    """Which of the two a report should show is not known."""
    document = copy.deepcopy(VALID)
    document["benchmarks"].append(document["benchmarks"][0])
    assert "measures step at batch size 16 on cpu twice" in reason(stored(tmp_path, document))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    """A sparse file of a terabyte costs no memory."""
    file = tmp_path / "huge.json"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    assert "larger than 16 MiB" in reason(file)


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
def test_what_is_gzipped_is_read_as_what_it_was(tmp_path, kind):
    """By its name, or as one of a folder."""
    lines = [VALID] if kind == "sweep" else results_maker.comparison_lines(rounds=3, generations=6)
    content = "\n".join(map(json.dumps, lines)).encode()
    plain, packed = tmp_path / "result.jsonl", tmp_path / "packed" / "result.jsonl.gz"
    plain.write_bytes(content)
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(content))
    results = read_results([packed.parent])
    found = results.sweeps[0] if kind == "sweep" else results.comparisons[0]
    assert replace(found, file=plain) == read_result(plain)


def test_what_only_seems_to_be_gzipped_gets_one_sentence(tmp_path):
    """Not gzipped, cut short, or a small file that would fill the memory."""
    content = gzip.compress(json.dumps(VALID).encode())
    for number, bad in enumerate((b"no gzip", content[:-20], content[:10] + b"\xff" * 40)):
        path = tmp_path / f"{number}.json.gz"
        path.write_bytes(bad)
        assert reason(path) == "not gzipped, or cut short: expected a result that mnist-loop stored"
    bomb = tmp_path / "bomb.json.gz"
    bomb.write_bytes(gzip.compress(b"[" + b" " * files.LARGEST_SWEEP))
    assert reason(bomb) == "larger than 16 MiB: no result of mnist-loop is"


def test_a_long_list_is_refused(tmp_path):
    """A million rounds are no result of ours, though each is valid."""
    rounds = [{"seconds": 0.5}] * 200_000
    assert "200000 entries" in reason(stored(tmp_path, changed(*INFO, "rounds", rounds)))
    assert "20000 rounds" in reason(stored(tmp_path, changed(*INFO, "rounds", rounds[:20_000])))


HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202e\r\nHTTP/1.1\x00\ud800" + "A" * 10**5


@pytest.mark.parametrize(
    "way", [(*INFO, "part"), (*INFO, "data"), (*INFO, "device"), ("mnist_loop", "software", "torch")]
)
def test_texts_are_made_harmless(tmp_path, way):
    """A hostile text is cut and in one line; what a terminal obeys is gone. Tags are the page's to escape."""
    sweep = read_result(stored(tmp_path, changed(*way, HOSTILE)))
    assert isinstance(sweep, SweepResult)
    assert_sound(sweep)
    assert "<script>alert(1)</script>[31m HTTP/1.1" in repr(sweep), "what is harmless stays"


def test_the_reason_quotes_a_stranger_harmlessly(tmp_path):
    """A refusal that says what was found does not print what a terminal would obey."""
    for document in (changed(*INFO, "batch_size", HOSTILE), changed("mnist_loop", "schema", HOSTILE)):
        told = reason(stored(tmp_path, document))
        assert told.isprintable()
        assert len(told) < 300
    twice = '{"\\u001b[31m' + "a" * 1000 + '": 1, "\\u001b[31m' + "a" * 1000 + '": 2}'
    assert reason(stored(tmp_path, twice)).isprintable()


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids such names")
def test_a_file_name_is_made_harmless(tmp_path):
    """A name with control characters, or bytes that are no text, is shown without them."""
    for name in ("\x1b[31mred\n.json", os.fsdecode(b"no\xfftext.json")):
        try:
            stored(tmp_path, VALID, name)
        except OSError:
            pytest.skip("this file system forbids such names")
    found = read_results([tmp_path])
    names = [entry.file.name for entry in (*found.sweeps, *found.refused)]
    assert sorted(names) == ["[31mred .json", "notext.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    """A pipe without a writer does not make the report wait; a device and a socket are no results either."""
    os.mkfifo(tmp_path / "pipe.json")
    assert "not a regular file" in reason(tmp_path / "pipe.json")
    assert "not a regular file" in reason(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            server.bind("socket.json")
        finally:
            os.chdir(here)
    assert "cannot be read" in reason(tmp_path / "socket.json")


def test_what_cannot_be_opened_is_refused(tmp_path):
    """Missing, a link to nothing, a link to itself, a null in the name."""
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for path in (tmp_path / "missing.json", tmp_path / "dangling.json", tmp_path / "loop.json", Path("a\0b.json")):
        (refused,) = read_results([path]).refused
        assert "cannot be read" in refused.reason


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    """Whoever runs this, root too."""

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "scandir", denied)
    (refused,) = read_results([tmp_path]).refused
    assert "Permission denied" in refused.reason


def test_a_circle_of_folders_ends(tmp_path):
    """A link to a folder above is not followed."""
    stored(tmp_path, VALID)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "up").symlink_to(tmp_path, target_is_directory=True)
    found = read_results([tmp_path])
    assert len(found.sweeps) == 1
    assert not found.refused


def test_very_deep_folders_do_not_break_the_walk(tmp_path):
    """A thousand folders in folders, as a hostile archive unpacks to."""
    here = os.open(tmp_path, os.O_RDONLY)
    top = here
    depth = sys.getrecursionlimit() + 100
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)  # pathlib knows no dir_fd, and the whole path is too long
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    try:
        assert "no .json" in read_results([tmp_path]).refused[0].reason
    finally:  # by hand: what clears tmp_path away is recursive too
        for _ in range(depth):
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            os.rmdir("d", dir_fd=above)
            os.close(here)
            here = above
        os.close(here)
    assert top != -1


# Anything at all


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.sampled_from([10**400, -(10**30), 1e300, "\x1b]0;x\x07", "\ud800", "x" * 10_000, 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw, valid):
    """A valid document in which some values are replaced, removed or repeated."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        here = document
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(here[key], (dict, list)) and draw(st.integers(0, 3)):
                here = here[key]
                continue
            how = draw(st.sampled_from(["replace", "remove", "repeat"]))
            if how == "replace":
                here[key] = draw(ANYTHING)
            elif how == "remove":
                del here[key]
            elif isinstance(here, list):
                here.append(here[key])
            break
    return document


@given(document=mutated(VALID))
def test_a_mutated_sweep_is_read_or_refused(document):
    """Never another error, and whatever is read is sound."""
    found = sweep_or_reason(json.loads(json.dumps(document)))
    if isinstance(found, str):
        assert found.isprintable()
        assert len(found) < 400
    else:
        assert_sound(found)


def sweep_or_reason(document):
    try:
        return to_sweep(document, Path("x.json"))
    except InvalidResult as misfit:
        return str(misfit)


@given(document=ANYTHING)
def test_anything_is_read_or_refused(tmp_path_factory, document):
    """Any JSON at all, through a file."""
    file = tmp_path_factory.getbasetemp() / "anything.json"
    file.write_text(json.dumps(document))
    assert isinstance(read_result(file), Refused)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path_factory, content):
    """Whatever a file holds."""
    file = tmp_path_factory.getbasetemp() / "bytes.json"
    file.write_bytes(content)
    assert isinstance(read_result(file), Refused)


@given(text=st.text())
def test_clean_text_is_one_short_printable_line(text):
    """Whatever a stranger wrote; and cleaning it again changes nothing."""
    found = clean(text)
    assert found.isprintable()
    assert len(found) <= 200
    assert clean(found) == found


# The interval of the median


@given(count=st.integers(6, 200))
def test_the_interval_has_its_confidence_and_no_more_than_it_needs(count):
    """It misses the median in at most 5 % of all cases, and one value less on each side would miss in more."""

    def miss(places):
        return 2 * sum(math.comb(count, below) for below in range(places + 1)) / 2**count

    place = rates.median_interval(range(count))[0]
    assert miss(place) <= 0.05 < miss(place + 1)
