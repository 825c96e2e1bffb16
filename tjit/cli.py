"""The command `tjit`: what is installed here, and what lies in the disk cache."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from tjit.errors import TjitError
from tjit.runtime.cache import Cache, Entry, default_cache

__all__ = ["main"]

_PACKAGES = ("numpy", "llvmlite", "numba", "ml_dtypes", "safetensors", "triton")
_HOW = """\
An entry is found by what it was made from: the graph's text, the processor, and tjit's own files, so it is never
stale. It is checked when read, dropped if damaged, and the least recently used go when space is short."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.run(chosen)
    except TjitError as error:
        print(f"tjit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tjit", description="What is installed here, and what lies in the disk cache."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="versions, the processor that code is generated for, threads, cache")
    info.set_defaults(run=_info)
    cache = commands.add_parser("cache", help="the disk cache of compiled programs").add_subparsers(
        required=True, metavar="list|explain|clear"
    )
    listing = cache.add_parser("list", help="the entries, most recently used first")
    listing.add_argument("--kind", help="only entries of this kind")
    listing.set_defaults(run=_cache_list)
    cache.add_parser("explain", help="where it is, what it holds, why it is off").set_defaults(run=_cache_explain)
    cache.add_parser("clear", help="remove every entry").set_defaults(run=_cache_clear)
    return parser


# -- info --------------------------------------------------------------------------------------------------------------


def _info(_: argparse.Namespace) -> int:
    from tjit.codegen.llvm.target import host_target
    from tjit.runtime.threads import get_num_threads, usable_cores

    cache = default_cache()
    rows = {
        "tjit": version("tjit") if _installed("tjit") else "a checkout that is not installed",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _installed(name) or "not installed" for name in _PACKAGES},
        "target": str(host_target()),
        "threads": f"{get_num_threads()} of {usable_cores()} usable cores",
        "cache": cache.stats().off or str(cache.directory),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


# -- cache -------------------------------------------------------------------------------------------------------------


def _cache_list(chosen: argparse.Namespace) -> int:
    entries = [e for e in default_cache().entries() if chosen.kind in (None, e.kind)]
    width = max([len(e.kind) for e in entries], default=0)
    for entry in entries:
        print(f"{_age(entry.used):>8}  {_kilobytes(entry.size):>12}  {entry.kind:<{width}}  {_name(entry)}")
    print(f"{len(entries)} entries, {_kilobytes(sum(e.size for e in entries))}")
    return 0


def _name(entry: Entry) -> str:
    return entry.label or entry.digest[:12]


def _age(then: float) -> str:
    seconds = max(0, int(time.time() - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


def _cache_explain(_: argparse.Namespace) -> int:
    cache = default_cache()
    stats = cache.stats()
    print(f"directory  {cache.directory or 'none'} (TJIT_CACHE_DIR chooses another)")
    print(f"state      {f'off: {stats.off}' if stats.off else 'on (TJIT_CACHE=0 turns it off)'}")
    print(f"holds      {stats.entries} entries, {_kilobytes(stats.bytes)} of at most {_kilobytes(cache.max_bytes)}")
    for kind, count, size in _kinds(cache):
        print(f"  {kind:<9}{count} entries, {_kilobytes(size)}")
    print(_HOW)
    return 0


def _kinds(cache: Cache) -> list[tuple[str, int, int]]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in cache.entries():
        counts[entry.kind] += 1
        sizes[entry.kind] += entry.size
    return [(kind, counts[kind], sizes[kind]) for kind in sorted(counts)]


def _cache_clear(_: argparse.Namespace) -> int:
    print(f"removed {default_cache().clear()} entries")
    return 0
