"""The wheel: what users install is the tree, under one name, and it works away from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tjit

TREE = Path(tjit.__file__).parent
PROJECT = TREE.parent

pytestmark = pytest.mark.skipif(not (PROJECT / "pyproject.toml").exists(), reason="tjit runs from an installed wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree: building writes files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    names = ["pyproject.toml", "README.md", "LICENSE", "tjit", "passes", "codegen"]
    copy.mkdir()
    subprocess.run(["cp", "-a", *(str(PROJECT / n) for n in names if (PROJECT / n).exists()), str(copy)], check=True)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it."""
    folder = tmp_path_factory.mktemp("site")
    _pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _run(code: str, folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that lies in `folder` with `path` to import from."""
    program = folder / "program.py"
    program.write_text(code)
    env = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, str(program)], cwd=folder, env=env, capture_output=True, text=True)


def _tree_files() -> set[str]:
    found = set()
    for folder, _, files in os.walk(TREE, followlinks=True):
        found |= {
            Path(folder, f).relative_to(PROJECT).as_posix() for f in files if f.endswith((".py", ".c", ".h", ".typed"))
        }
    return found


def test_wheel_holds_the_files_of_the_tree(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}

    assert names == _tree_files()


def test_site_packages_gets_nothing_but_tjit(site: Path):
    names = {p.name for p in site.iterdir() if not p.name.endswith(".dist-info")}

    assert names - {"bin"} == {"tjit"}


def test_installed_package_compiles_away_from_the_tree(site: Path, tmp_path: Path):
    code = (
        "import tjit\n"
        "def f(x):\n    return (x * 2 + 1).sum()\n"
        "print(tjit.compile(f)(tjit.arange(4.0)).item(), tjit.__file__)\n"
    )

    done = _run(code, tmp_path, site)

    assert done.stdout == f"16.0 {site / 'tjit' / '__init__.py'}\n", done.stderr


@pytest.mark.parametrize("name", ["passes", "codegen"])
def test_parts_refuse_to_be_imported_under_a_bare_name(name: str, tmp_path: Path):
    done = _run(f"import {name}", tmp_path, PROJECT)

    assert done.returncode == 1
    assert f"ImportError: import tjit.{name}, not {name}: the folder is a part of tjit" in done.stderr


def test_version_is_the_metadata_s(wheel: Path):
    assert wheel.name == f"tjit-{tjit.__version__}-py3-none-any.whl"
