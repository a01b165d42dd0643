"""Expected failures: what a file of them may say, and what it is refused for, with file and line."""

import pytest

from mnist_loop.errors import UserError
from mnist_loop.verdict.expected import Expected, read_expected

KNOWN = "step-missing: the optimizer is stepped by a hook"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file of expected failures."""
    file = tmp_path / "known.txt"

    def do(content):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return do


def refusal(file):
    """Return the sentence with which a file is refused."""
    with pytest.raises(UserError) as refused:
        read_expected(file)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_line_is_an_id_and_a_reason(write):
    """With comments, blank lines and blanks around; a reason may have a colon, a hash sign and any letter."""
    file = write(f"# known\n\n  {KNOWN}  # since 2024\n\tloss-sum :  a: b, c#1, é\n   # end")
    assert read_expected(file) == {
        "step-missing": Expected("step-missing", "the optimizer is stepped by a hook", str(file), 3),
        "loss-sum": Expected("loss-sum", "a: b, c#1, é", str(file), 4),
    }


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing yet", b"\xef\xbb\xbf" + KNOWN.encode()])
def test_a_file_may_be_empty_or_from_windows(write, content):
    """Nothing is expected; a byte order mark is none of the id's letters."""
    assert set(read_expected(write(content))) <= {"step-missing"}
    assert len(read_expected(write(content))) == (b"step" in content if isinstance(content, bytes) else 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("step-missing", "'step-missing' found, expected `id: reason`: say why the bug stays"),
        ("step-missing:", "'step-missing' without a reason found, expected `id: reason`"),
        ("step-missing: # later", "'step-missing' without a reason found"),
        ("step-mising: why", "'step-mising' found, expected the id of a bug, such as zero-grad-missing: did you mean"),
        (": why", "'' found, expected the id of a bug"),
        ("replica-bypassed: why", "replica-bypassed found, which is never decided"),
        (KNOWN + "\n" + KNOWN, "step-missing found, which line 2 has as well, expected each id once"),
    ],
)
def test_what_is_no_entry_is_refused(write, line, says):
    """A missing reason, an unknown id, one that no run decides, one that is there twice: file, line and what to do."""
    file = write(f"# known\n{line}\n")
    number = line.count("\n") + 2
    assert refusal(file).startswith(f"{file}, line {number}: {says}")


def test_what_cannot_be_read_is_refused(write, tmp_path):
    """A missing file, a folder, bytes that are no text."""
    assert "No such file or directory" in refusal(tmp_path / "no.txt")
    assert "Is a directory" in refusal(tmp_path)
    assert "UTF-8" in refusal(write(b"\xff\xfe\x00"))
