"""The settings of a project: what ``[tool.mnist_loop]`` may say, and what it is refused for."""

import pytest

from mnist_loop.errors import UserError
from mnist_loop.verdict.expected import Expected
from mnist_loop.verdict.settings import Settings, read_settings
from mnist_loop.verification.binding.intentions import declared_for

WHOLE = """
[project]
name = "x"

[tool.mnist_loop]
ignore = ["sync-every-step", "retain-graph"]
expected-failures = {step-missing = " it is stepped by a hook "}
declare = {clip = 1.0, accumulate = 4, keeps-best = true, frozen = ["body"], input_shape = [1, 28, 28]}
format = "github"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes the file into the working folder."""
    monkeypatch.chdir(tmp_path)

    def do(content):
        (tmp_path / "pyproject.toml").write_bytes(content if isinstance(content, bytes) else content.encode())

    return do


def test_a_project_has_settings(write):
    """All of them; an intention is read as on the command line, and in TOML's types."""
    write(WHOLE)
    found = read_settings()
    assert found.ignore == {"sync-every-step": "pyproject.toml", "retain-graph": "pyproject.toml"}
    where = "pyproject.toml: tool.mnist_loop.expected-failures"
    assert found.expected == {"step-missing": Expected("step-missing", "it is stepped by a hook", where)}
    assert found.expected["step-missing"].where == where
    assert found.format == "github"
    declared = {"clip": 1.0, "accumulate": 4, "keeps_best": True, "frozen": ("body",), "input_shape": (1, 28, 28)}
    assert declared_for(found, []) == declared


def test_the_command_line_comes_first(write):
    """For each intention by itself."""
    write(WHOLE)
    declared = declared_for(read_settings(), ["clip=2", "average=0.9", "keeps_best=off"])
    assert (declared["clip"], declared["accumulate"], declared["average"]) == (2.0, 4, 0.9)
    assert declared["keeps_best"] is False


def test_the_nearest_file_counts(write, tmp_path, monkeypatch):
    """From the working folder upwards, and it alone; without a file or a table nothing is set."""
    write(WHOLE)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert read_settings().format == "github"
    assert read_settings().file == str(tmp_path / "pyproject.toml")
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    assert read_settings() == Settings(file=str(tmp_path / "a" / "pyproject.toml"))
    (inner / "pyproject.toml").mkdir()  # a folder is no file
    assert read_settings().format == "text"
    assert read_settings(tmp_path).format == "github"


@pytest.mark.parametrize("content", ["", "tool = 3", "[tool]", "[tool.mnist_loop]"])
def test_nothing_may_be_set(write, content):
    """As usual, then."""
    write(content)
    assert read_settings() == Settings(file="pyproject.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[tool.mnist_loop", "cannot be read ("),
        (b"\xff", "cannot be read ("),
        ("[tool]\nmnist_loop = 3", "tool.mnist_loop=3 found, expected a table"),
        ("ignored = []", "tool.mnist_loop.ignored found, expected one of ignore, "),
        ("ignored = []", "did you mean ignore?"),
        ("expected_failures = {}", "did you mean expected-failures?"),
        ("wibble = 1", "remove it"),
        ('ignore = "loss-sum"', "tool.mnist_loop.ignore='loss-sum' found, expected a list of ids"),
        ("ignore = [1]", "tool.mnist_loop.ignore=[1] found, expected a list of ids"),
        ('ignore = ["los-sum"]', "tool.mnist_loop.ignore: 'los-sum' found, expected the id of a bug"),
        ("expected-failures = []", "tool.mnist_loop.expected-failures=[] found, expected a table"),
        (
            "expected-failures = {loss-sum = 1}",
            "tool.mnist_loop.expected-failures: loss-sum=1 found, expected the reason",
        ),
        ('expected-failures = {loss-sum = " "}', "loss-sum=' ' found, expected the reason"),
        ('expected-failures = {los-sum = "x"}', "tool.mnist_loop.expected-failures: 'los-sum' found"),
        ('expected-failures = {replica-bypassed = "x"}', "which is never decided"),
        ("declare = 1", "tool.mnist_loop.declare=1 found, expected a table"),
        ("declare = {clop = 1}", "tool.mnist_loop.declare: 'clop' found"),
        ('declare = {clip = "1"}', "tool.mnist_loop.declare: clip='1' found, expected a number above 0"),
        ("declare = {clip = -inf}", "tool.mnist_loop.declare: clip=-inf found"),
        ("declare = {clip = 1979-05-27}", "tool.mnist_loop.declare: clip=datetime.date(1979, 5, 27) found"),
        ("declare = {keeps_best = true, keeps-best = true}", "tool.mnist_loop.declare: keeps_best found twice"),
        ("format = 1", "tool.mnist_loop.format=1 found, expected one of text, json, github, sarif, junit"),
        ('format = "yaml"', "tool.mnist_loop.format='yaml' found"),
    ],
)
def test_what_is_wrong_is_one_sentence(write, content, says):
    """With the file and the key."""
    write(f"[tool.mnist_loop]\n{content}\n" if isinstance(content, str) and "[tool" not in content else content)
    with pytest.raises(UserError) as refused:
        declared_for(read_settings(), [])
    assert str(refused.value).startswith("pyproject.toml: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
