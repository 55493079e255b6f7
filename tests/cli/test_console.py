"""What commands print where standard output has no character for it, as in the locale C, or nobody reads it."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass

import pytest
from helpers.generators import make_generator
from helpers.programs import as_a_program

from ganaug.cli import main
from ganaug.cli.console import spell_out
from ganaug.cli.flags import run

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SAID = f"{MINUS}0.3 to 1.2 {TIMES} “cat” … café 猫\udc80"


@pytest.fixture
def output(monkeypatch):
    """Standard output in an encoding, and what was written to it as text."""

    def opened(encoding: str, errors: str = "strict"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, errors)
        monkeypatch.setattr(sys, "stdout", stream)

        def read() -> str:
            stream.flush()
            return stream.buffer.getvalue().decode(encoding)

        return read

    return opened


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", rf"{MINUS}0.3 to 1.2 {TIMES} “cat” … café 猫\udc80"),
        ("cp1252", rf"-0.3 to 1.2 {TIMES} “cat” … café \u732b\udc80"),
        ("cp437", r'-0.3 to 1.2 x "cat" ... café \u732b\udc80'),
        ("ascii", r'-0.3 to 1.2 x "cat" ... caf\xe9 \u732b\udc80'),
    ],
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_minus_stays_a_minus_and_names_can_be_told_apart(output, encoding, shown, errors):
    read = output(encoding, errors)
    spell_out()
    sys.stdout.write(SAID)
    assert read() == shown


def test_output_that_leads_to_a_pipe_since_it_was_opened_is_no_obstacle(monkeypatch, tmp_path):
    """As that of a program which another one forked."""
    with open(tmp_path / "file", "w", encoding="ascii") as stream:
        reader, writer = os.pipe()
        os.dup2(writer, stream.fileno())
        os.close(writer)
        monkeypatch.setattr(sys, "stdout", stream)
        spell_out()
        stream.write("said")
    with open(reader, encoding="ascii") as written:
        assert written.read() == "said"


def test_what_the_user_asked_for_stays(output):
    read = output("ascii", "replace")
    spell_out()
    sys.stdout.write(SAID)
    assert read() == "?0.3 to 1.2 ? ?cat? ? caf? ??"


def test_output_that_is_no_file_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    spell_out()
    sys.stdout.write(SAID)
    assert sys.stdout.getvalue() == SAID


def test_a_command_shows_classes_that_the_console_does_not_know(output, tmp_path):
    make_generator(("cat", "猫"), image_size=8, latent_dim=4).save_pretrained(tmp_path)
    read = output("cp1252")
    main(["inspect", str(tmp_path)])
    assert r"cat, \u732b" in read()


@dataclass(frozen=True)
class NoFlags:
    """A program without flags."""


@pytest.mark.skipif(os.name == "nt", reason="Windows has another error for it")
@pytest.mark.parametrize(
    "program",
    [
        lambda _: main(["--help"]),
        lambda _: main(["check", "--help"]),
        lambda folder: main(["inspect", str(folder)]),
        lambda _: run(NoFlags, lambda _: sys.stdout.write("a line\n"), None, words=[]),
        lambda _: run(NoFlags, lambda _: sys.stdout.write("x" * 99_999), None, words=[]),
    ],
    ids=["help", "help of a command", "inspect", "a line", "a lot"],
)
def test_a_program_whose_output_is_read_no_further_ends_without_a_word(tmp_path, monkeypatch, program):
    make_generator(("cat", "dog")).save_pretrained(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with as_a_program(), pytest.raises(SystemExit) as ended:
            program(tmp_path)
    assert ended.value.code == 141
    assert not sys.stderr.getvalue()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("program", [lambda: main(["--help"]), lambda: run(NoFlags, print, None, words=[])])
def test_output_that_cannot_be_written_ends_a_program_in_a_line(monkeypatch, program):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with as_a_program(), pytest.raises(SystemExit, match="output cannot be written: No space left"):
            program()


def test_another_broken_pipe_is_an_error(capsys):
    def fails(_: object) -> None:
        raise BrokenPipeError("the server is gone")

    with as_a_program(), pytest.raises(SystemExit, match="error: the server is gone"):
        run(NoFlags, fails, None, words=[])
