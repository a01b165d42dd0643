"""The text writer: what a terminal gets, what a pipe gets, and what no stream may get."""

import io
import re

import pytest

from mnist_loop.support.console import Paragraph, Styled, TextTable, plain_text, printable, write


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A colour terminal of 60 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def without_colour(content):
    return re.sub(r"\x1b\[[\d;]*m", "", content)


def test_no_color_is_respected(terminal, monkeypatch):
    """A terminal without colour still gets text within its width."""
    monkeypatch.setenv("NO_COLOR", "1")
    write([Paragraph("bad " * 30, "bad"), TextTable([(Styled("a", "bad"), "b " * 60)], indent=2)], terminal)
    assert "\x1b[3" not in terminal.getvalue()
    assert all(len(line) <= 60 for line in without_colour(terminal.getvalue()).splitlines())


def test_a_pipe_gets_plain_unbroken_lines(monkeypatch):
    """Whatever the environment says of colour: grep finds what belongs together."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    write(
        [Paragraph("long " * 100, "bad", indent=2), TextTable([(Styled("a", "bad"), "b"), ("long", "c")], indent=2)],
        stream,
    )
    assert stream.getvalue() == "  " + ("long " * 100).rstrip() + "\n  a     b\n  long  c\n"


def test_what_an_encoding_lacks_is_spelt_out(terminal):
    """An ASCII pipe, a lone surrogate from a file's name; a stream that is not there gets nothing."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write([Paragraph("a · b \udcff")], stream)
    assert raw.getvalue() == b"a \\xb7 b \\udcff\n"
    write([Paragraph("\udcff")], terminal)
    assert without_colour(terminal.getvalue()) == "\\udcff\n"
    write([Paragraph("x")], None)


def test_control_characters_are_spelt_out(terminal):
    """An error message of a stranger neither clears the screen nor goes back on its line; markup is text."""
    assert printable("a\x1b[2J\rb\x9bc\td\n") == "a\\x1b[2J\\x0db\\x9bc\td\\x0a"
    write([Paragraph("[bold]a[/bold] :smile:\x1b[2J")], terminal)
    assert without_colour(terminal.getvalue()) == "[bold]a[/bold] :smile:\\x1b[2J\n"


def test_a_table_with_a_head_has_a_rule_and_numbers_to_the_right(terminal):
    """In a pipe as on a terminal; a wide character takes two columns, and a value is shown as its text."""
    table = TextTable([("日本", Styled(5, "good")), ("b", 120)], headings=("name", "n"), right={1})
    assert plain_text([table]) == "name    n\n----  ---\n日本    5\nb     120\n"
    write([table], terminal)
    lines = [line.rstrip() for line in without_colour(terminal.getvalue()).splitlines()]
    assert [line.split() for line in lines] == [["name", "n"], [lines[1].strip()], ["日本", "5"], ["b", "120"]]
    assert lines[2].endswith("  5")
    assert set(lines[1]) == {"─"}
