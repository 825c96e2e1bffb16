"""The disk cache: what was put comes back, whatever happens to the files, and no state of the disk raises."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tjit.runtime import cache as module
from tjit.runtime.cache import Cache, default_cache, default_directory


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "tjit"))


def files(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    return sorted(p for p in Path(cache.directory).rglob("*") if p.is_file())


def test_what_was_put_comes_back_in_another_process(cache):
    cache.put("key", "image", b"data", label="softmax, model.py:3")

    other = Cache(cache.directory)

    assert other.get("key", "image") == b"data"
    assert other.get(b"key", "image") == b"data"
    assert other.get("key", "object") is None
    assert other.get("other", "image") is None
    assert (other.stats().hits, other.stats().misses) == (2, 2)


def test_a_second_put_replaces_the_first(cache):
    cache.put("key", "image", b"first")
    cache.put("key", "image", b"second")

    assert cache.get("key", "image") == b"second"
    assert len(files(cache)) == 1


@pytest.mark.parametrize("data", [b"", b"\0", bytes(1 << 20)])
def test_any_bytes_can_be_kept(cache, data):
    cache.put(b"\xff\0", "image", data)

    assert cache.get(b"\xff\0", "image") == data


def test_damage_at_any_byte_drops_the_entry(cache):
    cache.put("key", "image", b"data", label="x")
    (path,) = files(cache)
    content = path.read_bytes()

    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert cache.get("key", "image") is None
        assert not path.exists()

    assert cache.stats().dropped == len(content)


def test_truncation_at_any_byte_drops_the_entry(cache):
    cache.put("key", "image", b"data", label="x")
    (path,) = files(cache)
    content = path.read_bytes()

    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert cache.get("key", "image") is None
        assert not path.exists()


def test_a_dropped_entry_can_be_put_again(cache):
    cache.put("key", "image", b"data")
    files(cache)[0].write_bytes(b"")
    assert cache.get("key", "image") is None

    cache.put("key", "image", b"data")

    assert cache.get("key", "image") == b"data"


def test_the_least_recently_used_go_first(tmp_path):
    cache = Cache(str(tmp_path), max_bytes=10_000)
    for i in range(9):
        cache.put(str(i), "image", bytes(1000))
        os.utime(cache._path(str(i), "image"), (1000 + i, 1000 + i))
    assert cache.get("0", "image") is not None

    cache.put("new", "image", bytes(1000))

    kept = {key for key in [*map(str, range(9)), "new"] if os.path.exists(cache._path(key, "image"))}
    assert {"0", "8", "new"} <= kept
    assert not kept & {"1", "2"}
    assert cache.stats().bytes <= 10_000
    assert cache.stats().evicted == 10 - len(kept)


def test_data_larger_than_the_cache_is_not_kept(tmp_path):
    cache = Cache(str(tmp_path), max_bytes=1000)
    cache.put("small", "image", b"x")

    cache.put("large", "image", bytes(2000))

    assert cache.get("large", "image") is None
    assert cache.get("small", "image") == b"x"


def test_entries_are_listed_with_their_labels(cache):
    cache.put("a", "image", b"12345", label="softmax, model.py:3")
    cache.put("b", "object", b"1")
    os.utime(cache._path("b", "object"), (1000, 1000))

    first, second = cache.entries()

    assert (first.kind, first.label, first.size > 5) == ("image", "softmax, model.py:3", True)
    assert (second.kind, second.used) == ("object", 1000)
    assert cache.stats().entries == 2


def test_clear_removes_everything(cache):
    cache.put("a", "image", b"1")
    cache.put("b", "object", b"1")

    assert cache.clear() == 2
    assert cache.get("a", "image") is None
    assert (cache.stats().entries, cache.stats().bytes) == (0, 0)


def test_temporary_files_of_dead_processes_are_removed(cache):
    cache.put("a", "image", b"1")
    folder = files(cache)[0].parent
    old, young = folder / ".tmp-1-x", folder / ".tmp-2-x"
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (1000, 1000))

    entries = cache.entries()

    assert len(entries) == 1
    assert (old.exists(), young.exists()) == (False, True)


def test_files_are_for_the_user_alone(cache):
    cache.put("a", "image", b"1")

    assert cache.directory is not None
    assert stat.S_IMODE(os.stat(cache.directory).st_mode) == 0o700


def test_a_directory_open_to_all_users_is_not_used(tmp_path):
    tmp_path.chmod(0o777)
    cache = Cache(str(tmp_path))

    cache.put("a", "image", b"1")

    assert cache.get("a", "image") is None
    assert files(cache) == []
    assert cache.stats().off == f"any user may write to {tmp_path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_a_directory_of_another_user_is_not_used(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    cache = Cache(str(tmp_path))

    cache.put("a", "image", b"1")

    assert files(cache) == []
    assert cache.stats().off == f"{tmp_path} belongs to another user"


def test_a_file_in_place_of_the_directory_is_no_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    cache = Cache(str(path))

    cache.put("a", "image", b"1")

    assert cache.get("a", "image") is None
    assert (cache.entries(), cache.clear(), cache.stats().failed) == ([], 0, 1)


@pytest.mark.parametrize("call", ["makedirs", "replace"])
def test_a_disk_that_cannot_be_written_is_no_error(cache, monkeypatch, call):
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    cache.put("a", "image", b"1")
    cache.put("b", "image", b"1")

    assert cache.get("a", "image") is None
    assert files(cache) == []
    assert (cache.stats().failed, cache.stats().writes) == (1, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_read(cache):
    cache.put("a", "image", b"1")
    assert cache.directory is not None
    folders = [Path(cache.directory), Path(cache.directory) / "image"]
    for folder in folders:
        folder.chmod(0o500)

    other = Cache(cache.directory)
    other.put("b", "image", b"1")

    assert other.get("a", "image") == b"1"
    assert other.get("b", "image") is None
    for folder in folders:
        folder.chmod(0o700)


def test_without_a_directory_nothing_is_kept():
    cache = Cache(None)

    cache.put("a", "image", b"1")

    assert cache.get("a", "image") is None
    assert cache.stats().off == "there is no directory for it"


WRITER = """
import sys
from tjit.runtime.cache import Cache
cache = Cache(sys.argv[1], max_bytes=60_000)
for round in range(300):
    key = str(round % 40)
    expected = (key * 2000).encode()[:2000]
    found = cache.get(key, "image")
    assert found is None or found == expected, (key, found)
    cache.put(key, "image", expected)
assert cache.stats().dropped == 0 and cache.stats().failed == 0, cache.stats()
"""


def test_many_processes_share_a_directory(tmp_path):
    (tmp_path / "tjit").mkdir(mode=0o700)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "tjit")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [p.communicate()[1].decode() for p in processes]

    assert errors == [""] * 4
    assert [p.returncode for p in processes] == [0] * 4
    assert Cache(str(tmp_path / "tjit")).stats().bytes <= 2 * 60_000


def test_the_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TJIT_CACHE_DIR", str(tmp_path / "own"))
    assert default_directory() == str(tmp_path / "own")

    monkeypatch.delenv("TJIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == str(tmp_path / "tjit")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_directory() == str(tmp_path / ".cache" / "tjit")


def test_the_environment_turns_the_cache_off(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_default", None)
    monkeypatch.setenv("TJIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TJIT_CACHE", "0")

    default_cache().put("a", "image", b"1")

    assert default_cache().get("a", "image") is None
    assert default_cache().stats().off == "TJIT_CACHE is 0"
    assert list(tmp_path.iterdir()) == []
