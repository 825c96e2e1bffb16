"""What a user sees of a mistake in a compiled function: the error, the line with its text, and the fix, in full.

The programs are in tests/wrong_programs/: `=== what is wrong`, the program, `--- the error's name`, its text. An error
that is Python's own is followed by the line of the program that its traceback ends at. `--update-golden` writes what
comes today, to be read in review.
"""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit import errors, nn
from tjit.errors import TjitError

FOLDER = Path(__file__).resolve().parent / "wrong_programs"
NAMES = {"tjit": tjit, "np": np, "nn": nn, "F": F, "T": tjit.ones, "tensor": tjit.tensor}


class Wrong(NamedTuple):
    """A program, the name of the error that it must end in, and its text."""

    name: str
    program: str
    error: str
    text: str


def read(path: Path) -> list[Wrong]:
    parts = re.findall(r"^=== (.*)\n((?s:.*?))^--- ?(.*)\n((?s:.*?))(?=^=== |\Z)", path.read_text(), re.MULTILINE)
    return [Wrong(name, program.strip("\n") + "\n", error, text.strip("\n")) for name, program, error, text in parts]


def write(path: Path, cases: list[Wrong]) -> None:
    path.write_text("\n".join(f"=== {c.name}\n{c.program}--- {c.error}\n{c.text}\n" for c in cases))


def run(program: str, path: Path) -> tuple[str, str]:
    """The name and the text of the error that the program, a file of its own, ends in."""
    path.write_text(program)
    linecache.checkcache(str(path))
    limit = sys.getrecursionlimit()
    try:
        exec(compile(program, str(path), "exec"), dict(NAMES))
    except Exception as error:
        return type(error).__name__, shown(error, path)
    finally:
        sys.setrecursionlimit(limit)
    return "", "no error"


def shown(error: Exception, path: Path) -> str:
    if isinstance(error, TjitError):
        return str(error)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    return f"{text}\n  at {path.name}:{lines[-1]}: {linecache.getline(str(path), lines[-1] or 0).strip()}"


FILES = sorted(FOLDER.glob("*.txt"))
CASES = [pytest.param(file, case, id=f"{file.stem}: {case.name}") for file in FILES for case in read(file)]


@pytest.mark.parametrize(("file", "case"), CASES)
def test_message_line_and_fix(file, case, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)  # what a program writes is gone with it
    error, text = run(case.program, tmp_path / "program.py")

    if request.config.getoption("--update-golden"):
        write(file, [case._replace(error=error, text=text) if c.name == case.name else c for c in read(file)])
        return
    assert text == case.text
    assert error == case.error


def test_there_are_many_and_no_two_are_named_alike():
    names = [case.name for file in FILES for case in read(file)]

    assert len(names) >= 60
    assert len(set(names)) == len(names)


def test_no_error_is_one_that_only_a_bug_raises():
    bugs = {"AssertionError", "ImportError", "KeyError", "NameError", "SyntaxError", "VerifyError", "CodegenError"}

    assert [c.name for file in FILES for c in read(file) if c.error in bugs] == ["an assert that Python decides"]


def test_every_error_is_also_the_builtin_that_a_user_would_catch():
    raised: set[Any] = {getattr(errors, case.error, None) for file in FILES for case in read(file)} - {None}

    assert raised
    assert all(issubclass(error, (RuntimeError, TypeError, IndexError, ValueError, AssertionError)) for error in raised)


def test_reading_gives_what_was_written(tmp_path):
    cases = [Wrong("a", "x = 1\n\nx()\n", "TypeError", "text\n  at program.py:3: x()"), Wrong("b", "y\n", "", "")]
    write(tmp_path / "cases.txt", cases)

    assert read(tmp_path / "cases.txt") == cases
