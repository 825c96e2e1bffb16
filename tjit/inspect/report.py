"""explain: one page about what a compiled function became."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.capture.guards import Guards
from tjit.capture.pytree import flatten
from tjit.compile import CacheInfo, CompiledFunction, compile
from tjit.compiled import Variant
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError
from tjit.ir.dims import Dim, evaluate
from tjit.stages import Lowered

__all__ = ["Explanation", "KernelLine", "explain"]

_MOST_GUARDS = 12


def explain(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """What a call `fn(*args, **kwargs)` runs, and why, as an object that prints as a page. The call itself is not made.

    Args:
        fn: a compiled function, or one to compile.

    Raises:
        CaptureError: it cannot be captured.
    """
    compiled: CompiledFunction = fn if isinstance(fn, CompiledFunction) else compile(fn)
    variant = compiled.variant_for(args, kwargs)
    lowered = variant.lowered()
    programs = [lowered] if lowered.backward is None else [lowered, lowered.backward]
    return Explanation(
        name=variant.graph.name,
        seconds=dict(variant.seconds),
        symbols=_symbols(variant, args, kwargs),
        inputs=_inputs(variant),
        guards=_guards(variant.guards),
        programs=tuple(_program(p, _symbols(variant, args, kwargs)) for p in programs),
        calls=compiled.cache_info(),
    )


@dataclass(frozen=True)
class KernelLine:
    """One kernel of a schedule.

    Attributes:
        bytes: of all its buffers, each counted once. An expression where a size is not known before the call.
        operations: scalar ones; a multiply-add is two.
        location: the user's line, as `model.py:7`.
    """

    name: str
    bytes: Dim
    operations: Dim
    location: str


@dataclass(frozen=True)
class _ProgramPart:
    name: str
    captured: int
    final: int
    kernels: tuple[KernelLine, ...]
    arena: Dim
    tapes: Dim


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        seconds: by phase; "load" alone where the program came from the disk cache.
        symbols: sizes that are arguments of the program, with their values in this call.
        inputs: how many of each kind: arguments, tensors the function uses, gradients, lifted numbers.
        guards: in words, those on plain values first.
        programs: the program, and that of its gradient where the call is differentiated from outside.
        calls: hits, misses, and the reason of every capture after the first.
    """

    name: str
    seconds: dict[str, float]
    symbols: dict[str, int]
    inputs: dict[str, int]
    guards: tuple[str, ...]
    programs: tuple[_ProgramPart, ...]
    calls: CacheInfo

    @property
    def kernels(self) -> tuple[KernelLine, ...]:
        """The kernels of all programs."""
        return tuple(kernel for program in self.programs for kernel in program.kernels)

    def __str__(self) -> str:
        lines = [f"{self.name}: {sum(self.seconds.values()) * 1e3:.1f} ms to make"]
        lines += [f"  {phase:<10}{seconds * 1e3:9.1f} ms" for phase, seconds in self.seconds.items()]
        lines.append("inputs: " + ", ".join(f"{n} {kind}" for kind, n in self.inputs.items()))
        if self.symbols:
            lines.append("symbols: " + ", ".join(f"{name} = {value} here" for name, value in self.symbols.items()))
        for program in self.programs:
            lines += _print_program(program)
        lines += _print_guards(self.guards)
        lines += _print_calls(self.calls)
        return "\n".join(lines)

    __repr__ = __str__


# -- finding out -------------------------------------------------------------------------------------------------------


def _symbols(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, int]:
    leaves = flatten((args, kwargs))[0]
    values = variant.bind(leaves, variant.numbers(leaves) or {}) or ()
    return dict(zip(variant.program.info.symbols, values, strict=True))


def _inputs(variant: Variant) -> dict[str, int]:
    words = {
        "argument": "arguments",
        "tensor": "tensors that it uses",
        "held": "tensors that it finds where it reads them",
        "grad": "gradients",
        "number": "numbers that may change",
        "leaf": "numbers among the arguments",
        "step": "numbers that Python computes",
    }
    kinds = [source.kind for source in variant.sources]
    found = {words.get(kind, kind): kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return found | {"of them written": len(variant.writes)}


def _guards(guards: Guards) -> tuple[str, ...]:
    plain = (bool, int, float, str, type(None))
    values = [f"{s.path} is {s.expected!r}" for s in guards.slots if isinstance(s.expected, plain)]
    objects = [
        f"{s.path} is the same {type(s.expected).__name__}" for s in guards.slots if not isinstance(s.expected, plain)
    ]
    sizes = [f"{path} has {size} entries" for _, size, path in guards.sizes]
    return tuple(dict.fromkeys((*values, *objects, *sizes)))


def _program(lowered: Lowered, symbols: dict[str, int]) -> _ProgramPart:
    from tjit.codegen.steps import kernel_steps, tapes_of
    from tjit.inspect.work import kernel_bytes, kernel_operations

    plan = lowered.schedule()
    kernels = tuple(
        KernelLine(
            step.kernel.name,
            _number(kernel_bytes(step), symbols),
            _number(kernel_operations(step.kernel), symbols),
            step.location.short if step.location else "",
        )
        for step in kernel_steps(plan)
    )
    sizes = len(lowered.graph.nodes), len(lowered.passes().nodes)
    tapes = sum((p.type.nbytes for p in tapes_of(plan)), 0)
    return _ProgramPart(lowered.graph.name, *sizes, kernels, _number(plan.arena, symbols), _number(tapes, symbols))


def _number(d: Dim, symbols: dict[str, int]) -> Dim:
    """The number where the symbols give one; sizes computed by the program itself stay expressions."""
    try:
        return evaluate(d, symbols)
    except ArgumentError:
        return d


# -- printing ----------------------------------------------------------------------------------------------------------


def _print_program(program: _ProgramPart) -> list[str]:
    head = f"program {program.name}: {program.captured} nodes captured, {program.final} after the passes,"
    tapes = "" if isinstance(program.tapes, int) and program.tapes == 0 else f", {_size(program.tapes)} on tapes"
    lines = [f"{head} {len(program.kernels)} kernels, {_size(program.arena)} for intermediates{tapes}"]
    width = max([len(k.name) for k in program.kernels], default=0)
    for n, k in enumerate(program.kernels):
        lines.append(
            f"  k{n:<3}{k.name:<{width}}  {_size(k.bytes):>10}  {_count(k.operations):>10}  {k.location}".rstrip()
        )
    return lines


def _print_guards(guards: tuple[str, ...]) -> list[str]:
    more = len(guards) - _MOST_GUARDS
    lines = [f"guards: {len(guards)}; a call captures again unless", *(f"  {g}" for g in guards[:_MOST_GUARDS])]
    return [*lines, f"  and {more} more (.guards has them all)"] if more > 0 else lines if guards else ["guards: none"]


def _print_calls(calls: CacheInfo) -> list[str]:
    lines = [f"calls: {calls.hits} ran a variant that was there, {calls.misses} captured"]
    return lines + ["  captured again: " + reason.replace("\n", "\n  ") for reason in calls.reasons]


def _size(nbytes: Dim) -> str:
    return _scaled(nbytes, ("B", "kB", "MB", "GB", "TB"))


def _count(operations: Dim) -> str:
    return _scaled(operations, ("ops", "kops", "Mops", "Gops", "Tops"))


def _scaled(number: Dim, units: tuple[str, ...]) -> str:
    if not isinstance(number, int):
        return f"{number} {units[0]}"
    value, at = float(number), 0
    while value >= 1000 and at + 1 < len(units):
        value, at = value / 1000, at + 1
    return f"{number} {units[0]}" if at == 0 else f"{value:.1f} {units[at]}"
