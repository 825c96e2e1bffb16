"""The command line: what it prints, and what it removes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tjit.cli import main
from tjit.runtime import cache as module
from tjit.runtime.cache import Cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """The process's cache, in a folder of its own."""
    own = Cache(str(tmp_path / "tjit"))
    monkeypatch.setattr(module, "_default", own)
    return own


def test_list_names_every_entry(cache: Cache, capsys: pytest.CaptureFixture[str]):
    cache.put("a", "program", b"x" * 1960, label="step")
    cache.put("b", "object", b"y")

    assert main(["cache", "list"]) == 0

    out = capsys.readouterr().out
    assert "2.0 kB  program  step\n" in out
    assert out.endswith("2 entries, 2.0 kB\n")


def test_list_of_one_kind_leaves_out_the_others(cache: Cache, capsys: pytest.CaptureFixture[str]):
    cache.put("a", "program", b"x", label="step")
    cache.put("b", "object", b"y", label="softmax")

    assert main(["cache", "list", "--kind", "object"]) == 0

    out = capsys.readouterr().out
    assert "softmax" in out
    assert "step" not in out


def test_explain_says_where_and_how_much(cache: Cache, capsys: pytest.CaptureFixture[str]):
    cache.put("a", "program", b"x", label="step")

    assert main(["cache", "explain"]) == 0

    out = capsys.readouterr().out
    assert f"directory  {cache.directory}" in out
    assert "state      on" in out
    assert "program  1 entries" in out


def test_explain_says_why_it_is_off(cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cache.put("a", "program", b"x")
    (tmp_path / "tjit").chmod(0o777)
    cache._is_checked = False

    assert main(["cache", "explain"]) == 0

    assert "off: any user may write to" in capsys.readouterr().out


def test_clear_removes_what_is_there(cache: Cache, capsys: pytest.CaptureFixture[str]):
    cache.put("a", "program", b"x")

    assert main(["cache", "clear"]) == 0

    assert capsys.readouterr().out == "removed 1 entries\n"
    assert cache.entries() == []


def test_info_names_versions_target_and_cache(cache: Cache, capsys: pytest.CaptureFixture[str]):
    assert main(["info"]) == 0

    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert "vectors" in rows["target"]
    assert rows["cache"] == cache.directory


def test_bad_environment_is_one_line_and_not_a_traceback(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from tjit.runtime import threads

    monkeypatch.setenv("TJIT_NUM_THREADS", "many")
    monkeypatch.setattr(threads, "_threads", 0)

    assert main(["info"]) == 1

    assert capsys.readouterr().err.startswith("tjit: ")


def test_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "tjit", "--help"], capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout.startswith("usage: tjit")
