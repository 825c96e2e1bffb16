"""The disk cache: compiled code and whatever else is expensive to make, kept between processes.

A file per entry, `<directory>/<kind>/<digest of the key>`, all integers little endian:

    at  0  u8[8]   magic        "TJITCACH"
    at  8  u32     version      1
    at 12  u32     label_size
    at 16  u64     data_size
    at 24  u8[16]  checksum     BLAKE2b of everything after the header
    at 40  label, UTF-8: what the entry is, for people
    then the data

Files appear complete or not at all (written beside, then renamed), so any number of processes may share a directory.
Entries are code that will run: a directory that other users could write to is not used. Nothing here raises for the
state of the disk: what cannot be read is a miss, what cannot be written stays unwritten, and `stats` counts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from collections.abc import Iterator

from tjit.dataclass import dataclass

__all__ = ["Cache", "Entry", "Stats", "default_cache", "default_directory"]

_HEADER = struct.Struct("<8sIIQ16s")
_MAGIC = b"TJITCACH"
_VERSION = 1
_DEFAULT_MAX_BYTES = 1 << 30
_TEMPORARY = ".tmp-"
_STALE_SECONDS = 3600
_PUTS_BETWEEN_SCANS = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry on the disk; `used` is the time of the last hit, in seconds since the epoch."""

    kind: str
    digest: str
    label: str
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What this process did, and what lies on the disk.

    Attributes:
        dropped: entries that were damaged, or written by another version, and are gone.
        failed: writes that the system refused.
        evicted: entries removed because the cache had grown beyond its size.
        off: why the cache is not used; empty if it is.
    """

    hits: int = 0
    misses: int = 0
    writes: int = 0
    dropped: int = 0
    failed: int = 0
    evicted: int = 0
    entries: int = 0
    bytes: int = 0
    off: str = ""


class Cache:
    """Bytes under keys in a directory of bounded size, the least recently used going first.

    One object may be used by many threads, one directory by many processes. There is no lock, which a fork could leave
    taken: two threads that evict at once do no harm, and two that count at once may lose a count.
    """

    def __init__(self, directory: str | None, max_bytes: int = _DEFAULT_MAX_BYTES, off: str = "") -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._off = off or ("" if directory else "there is no directory for it")
        self._is_checked = False
        self._can_write = True
        self._total = 0
        self._puts = 0
        # rarely the first: to scan a full cache takes longer than to build a program, and most processes build few
        self._scans_at = os.urandom(1)[0] % _PUTS_BETWEEN_SCANS
        self._counts: dict[str, int] = {}

    def get(self, key: bytes | str, kind: str) -> bytes | None:
        """The data last put under the key, or None."""
        if not self._is_on():
            return None
        path = self._path(key, kind)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            self._count(misses=1)
            return None
        found = _unpack(content)
        if found is None:
            self._remove(path)
            self._count(misses=1, dropped=1)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        self._count(hits=1)
        return found[1]

    def put(self, key: bytes | str, kind: str, data: bytes, label: str = "") -> None:
        """Keep the data, if the disk can; `label` says to people what it is."""
        if not self._is_on() or not self._can_write:
            return
        content = _pack(label, data)
        if len(content) > self.max_bytes:
            return
        path = self._path(key, kind)
        try:
            self._write(path, content)
        except OSError:
            # Read-only, full, or not ours: it will be the same for the next one.
            self._can_write = False
            self._count(failed=1)
            return
        self._count(writes=1)
        self._make_room(len(content))

    def entries(self) -> list[Entry]:
        """Every entry of the directory, the most recently used first."""
        found = [self._entry(kind, path, status) for kind, path, status in self._files()]
        return sorted((e for e in found if e is not None), key=lambda e: e.used, reverse=True)

    def stats(self) -> Stats:
        self._is_on()  # finds out why it is off
        sizes = [status.st_size for _, _, status in self._files()]
        return Stats(**self._counts, entries=len(sizes), bytes=sum(sizes), off=self._off)

    def clear(self) -> int:
        """Remove every entry; how many there were."""
        return sum(self._remove(path) for _, path, _ in list(self._files()))

    def _is_on(self) -> bool:
        if not self._is_checked and self.directory and not self._off:
            self._off = _untrusted(self.directory)
            self._is_checked = True
        return not self._off

    def _path(self, key: bytes | str, kind: str) -> str:
        raw = key.encode() if isinstance(key, str) else key
        return os.path.join(self.directory or "", kind, hashlib.blake2b(raw, digest_size=20).hexdigest())

    def _write(self, path: str, content: bytes) -> None:
        folder, name = os.path.split(path)
        if self.directory and not os.path.isdir(folder):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary = os.path.join(folder, f"{_TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            os.replace(temporary, os.path.join(folder, name))
        except OSError:
            self._remove(temporary)
            raise

    def _make_room(self, size: int) -> None:
        """Evict when the directory has grown too large; other processes' entries are seen now and then."""
        self._total += size
        is_due = self._puts % _PUTS_BETWEEN_SCANS == self._scans_at
        self._puts += 1
        if not is_due and self._total <= self.max_bytes:
            return
        files = sorted(self._files(), key=lambda item: item[2].st_mtime_ns)
        self._total = sum(status.st_size for _, _, status in files)
        if self._total <= self.max_bytes:
            return
        # Down to three quarters, so that not every further put has to scan.
        for _, path, status in files:
            if self._total <= self.max_bytes * 3 // 4:
                return
            self._count(evicted=self._remove(path))
            self._total -= status.st_size

    def _files(self) -> Iterator[tuple[str, str, os.stat_result]]:
        """Kind, path and status of every entry; forgotten temporary files are removed on the way."""
        for kind in _scan(self.directory):
            for file in _scan(kind.path):
                with contextlib.suppress(OSError):
                    status = file.stat()
                    if not file.name.startswith(_TEMPORARY):
                        yield kind.name, file.path, status
                    elif status.st_mtime < time.time() - _STALE_SECONDS:
                        self._remove(file.path)

    def _entry(self, kind: str, path: str, status: os.stat_result) -> Entry | None:
        try:
            with open(path, "rb") as file:
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    return None
                label = file.read(min(_HEADER.unpack(header)[2], status.st_size)).decode(errors="replace")
        except OSError:
            return None
        return Entry(kind, os.path.basename(path), label, status.st_size, status.st_mtime)

    def _remove(self, path: str) -> bool:
        try:
            os.remove(path)
        except OSError:
            return False
        return True

    def _count(self, **more: int) -> None:
        for name, n in more.items():
            self._counts[name] = self._counts.get(name, 0) + n


def _scan(directory: str | None) -> list[os.DirEntry[str]]:
    if not directory:
        return []
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []


def _pack(label: str, data: bytes) -> bytes:
    content = label.encode() + data
    checksum = hashlib.blake2b(content, digest_size=16).digest()
    return _HEADER.pack(_MAGIC, _VERSION, len(content) - len(data), len(data), checksum) + content


def _unpack(content: bytes) -> tuple[str, bytes] | None:
    if len(content) < _HEADER.size:
        return None
    magic, version, label_size, data_size, checksum = _HEADER.unpack_from(content)
    body = memoryview(content)[_HEADER.size :]
    if magic != _MAGIC or version != _VERSION or len(body) != label_size + data_size:
        return None
    if hashlib.blake2b(body, digest_size=16).digest() != checksum:
        return None
    return bytes(body[:label_size]).decode(), bytes(body[label_size:])


def _untrusted(directory: str) -> str:
    """Why code from this directory must not run; empty if it may, or if the directory is yet to be made."""
    if not hasattr(os, "geteuid"):
        return ""
    try:
        status = os.stat(directory)
    except OSError:
        return ""
    if status.st_uid not in (os.geteuid(), 0):
        return f"{directory} belongs to another user"
    if status.st_mode & 0o002:
        return f"any user may write to {directory}"
    return ""


def default_directory() -> str | None:
    """TJIT_CACHE_DIR, else `tjit` in the user's cache directory; None where there is none."""
    chosen = os.environ.get("TJIT_CACHE_DIR")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(os.path.join("~", ".cache"))
    return os.path.join(base, "tjit") if os.path.isabs(base) else None


_default: Cache | None = None


def default_cache() -> Cache:
    """The process's cache, made at the first use; TJIT_CACHE=0 turns it off."""
    global _default
    if _default is None:
        is_off = os.environ.get("TJIT_CACHE", "1").strip().lower() in ("0", "off", "false", "no")
        _default = Cache(default_directory(), off="TJIT_CACHE is 0" if is_off else "")
    return _default
