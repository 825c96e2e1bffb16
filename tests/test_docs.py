"""The lessons run, and what the README and the docs show is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "examples").glob("[0-9]*.py"))


def _run(program: Path, folder: Path, **env: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TJIT_CACHE_DIR": str(folder / "cache")} | env
    done = subprocess.run([sys.executable, str(program)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page; of no language: outputs."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [text for tag, text in found if tag == language]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(lesson: Path, tmp_path: Path):
    assert _run(lesson, tmp_path)


def test_digits_lesson_without_a_c_compiler_says_what_to_install(tmp_path: Path):
    out = _run(ROOT / "examples" / "01_digits.py", tmp_path, PATH=str(tmp_path))

    assert "no C compiler here: install one (on Debian, apt-get install gcc libc6-dev)" in out


def test_readme_shows_the_graph_that_its_program_prints(tmp_path: Path):
    program = tmp_path / "model.py"
    program.write_text(_blocks("README.md", "python")[0])

    assert _run(program, tmp_path) in _blocks("README.md", "")


def test_profiling_page_has_a_program_that_prints_a_table_and_writes_a_trace(tmp_path: Path):
    program = tmp_path / "train.py"
    program.write_text(_blocks("docs/profiling.md", "python")[0])

    out = _run(program, tmp_path)

    assert "train.py" in out
    assert "in eager ops" in out
    assert (tmp_path / "trace.json").exists()


def test_debugging_page_shows_what_its_program_prints(tmp_path: Path):
    program = tmp_path / "model.py"
    (code,) = _blocks("docs/debugging.md", "python")
    program.write_text(code + 'low = layer.lower(x, w, b)\nprint(low.text("graph"))\nprint(low.text("schedule"))\n')

    shown = "".join(
        line for line in "".join(_blocks("docs/debugging.md", "")).splitlines(True) if not line.startswith(">>>")
    )
    graph, _, schedule = _run(program, tmp_path).partition("schedule ")
    assert graph in shown
    assert _without_hashes("schedule " + schedule.split("  k1 ")[0]) in _without_hashes(shown)


def _without_hashes(text: str) -> str:
    """A schedule without what changes with a kernel's text and with the processor: hashes, scratch memory, places."""
    text = re.sub(r"\.[0-9a-f]{12}\b", "", text)
    text = re.sub(r"^  temp scratch.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"peak \d+ B| at \d+$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_of_pages_lead_somewhere(page: str):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)

    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (ROOT / page).parent.joinpath(link).exists()]
