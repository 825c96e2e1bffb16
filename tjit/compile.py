"""@compile from top to bottom: capture, passes, schedule, codegen, run.

    Python function --capture--> Graph --passes--> Graph --schedule--> Schedule --emit--> Image --load--> Program

A `CompiledFunction` keeps one variant for each signature it was called with (dtypes, ranks, structure, Python values),
and makes a dim symbolic when it is seen with a second value.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from types import FunctionType
from typing import Any, NamedTuple

from tjit import recording
from tjit.capture.calls import callee
from tjit.capture.containers import refuse_twins
from tjit.capture.declared import check_extents, declared_dims
from tjit.capture.guards import take_guards
from tjit.capture.inputs import Signature, array_leaf, number_leaf, read_signature
from tjit.capture.places import Place
from tjit.capture.pytree import Tree, flatten_call, write_back
from tjit.capture.reasons import closest_difference, definition
from tjit.compiled import BuildOptions, Variant, build_variant
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError
from tjit.ir.dims import Dim, InconclusiveDimError, Symbol, inconclusive
from tjit.ir.dims import symbols as symbols_of
from tjit.location import user_location
from tjit.ops.apply import state
from tjit.ops.numbers import InconclusiveNumberError
from tjit.runtime.entry import NativeCalls, register_thread
from tjit.stages import Lowered
from tjit.tensor import Tensor

__all__ = ["CacheInfo", "CompiledFunction", "compile"]


_MOST_VARIANTS = 256  # of one family; the oldest go
_MANY = 16  # of one family: there is a warning
_MOST_EXACT = 64  # variants looked through for one signature


class CacheInfo(NamedTuple):
    """Calls that found a variant, captures, and why each capture after the first was made."""

    hits: int
    misses: int
    reasons: tuple[str, ...]


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    dynamic: bool | None = None,
    fast_math: bool = False,
    checkpoint: bool = False,
    tune: bool = False,
) -> Any:
    """Compile `fn`: its first call with a signature captures and compiles it, later calls run machine code.

    Args:
        fn: a function of tensors, NumPy arrays, Python values, and nested tuples, lists, dicts and dataclasses of them,
            which it may change. Or an `nn.Module`.
        dynamic: None: a dim becomes symbolic when it is seen with a second value, and a Python int or float that `fn`
            is given or reads becomes an input of the program. True: every dim is symbolic, every such argument an
            input from the start. False: never; each shape and each number is compiled for itself. A dim that an
            annotation names is symbolic from the start, within its bounds:
            `def f(x: tjit.Tensor[tjit.Dim("batch", max=64), 784])`.
        fast_math: allow identities that hold for real numbers but not for every float, and compute f16 and bf16 in f32
            from one elementwise op to the next: they are rounded where they are stored, multiplied as matrices,
            compared or sorted, where otherwise each op rounds as it does outside of compiled functions.
        checkpoint: the gradient of the function, taken from outside, keeps its arguments alone and computes the rest
            again. `tjit.checkpointed` does the same for a loop, `tjit.utils.checkpoint.checkpoint` for a call.
        tune: measure a few ways to cut each large contraction at the first call, and keep the fastest: in the disk
            cache, and in exports of the function. That takes one to two seconds for each. Contractions of other
            shapes than were seen at compile time (symbolic dims) are cut as without it.

    Raises:
        CaptureError: when called, if `fn` cannot be captured whole.
    """
    if fn is None:
        return functools.partial(compile, dynamic=dynamic, fast_math=fast_math, checkpoint=checkpoint, tune=tune)
    if isinstance(fn, CompiledFunction):
        return fn
    if dynamic not in (None, True, False):
        raise ArgumentError(f"dynamic is True, False or None, not {dynamic!r}", user_location())
    if not callable(fn):
        raise ArgumentError(f"compile takes a function, not {type(fn).__name__} {fn!r}", user_location())
    return CompiledFunction(fn, dynamic, fast_math, checkpoint, tune)


@dataclass
class _Family:
    """The variants of calls that differ in extents only."""

    seen: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    numbers: list[tuple[str, ...]] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    pinned: set[tuple[int, int]] = field(default_factory=set)  # (array, dim): asked for its value, never a symbol
    fixed: set[int | Place] = field(default_factory=set)  # numbers that cannot be inputs
    static_only: bool = False


class _Call(NamedTuple):
    """What serves a call: a variant, the values of its symbols, and Python's numbers as the call replays them."""

    variant: Variant
    symbols: tuple[int, ...]
    numbers: Mapping[int, Any]


class CompiledFunction:
    """A function that runs as machine code. Call it like the function it wraps."""

    # The slot `__call__` holds what a call of this object calls: at first `_call_slow`, then the native entry.
    __slots__ = ("__call__", "__dict__", "__weakref__")

    def __init__(
        self,
        fn: Callable[..., Any],
        dynamic: bool | None,
        fast_math: bool,
        checkpoint: bool = False,
        tune: bool = False,
    ) -> None:
        self._tjit_function = fn
        self._dynamic = dynamic
        self._options = BuildOptions(fast_math, tune)
        self._converts = True  # False: a trace, which keeps the branches that its example takes
        self._checkpoint = checkpoint
        self._lock = threading.RLock()
        self._exact: dict[Signature, list[tuple[Variant, tuple[int, ...]]]] = {}
        self._families: dict[Any, _Family] = {}
        self._hits = 0
        self._misses = 0
        self._reasons: list[str] = []
        self._captured: deque[Signature] = deque(maxlen=64)  # signatures that were captured
        self._places: set[Place] = set()  # where a number or a tensor was seen and then another one
        self._native: NativeCalls | None = None
        self._calls: dict[tuple[Variant, tuple[int, ...]], int] = {}
        self.__call__: Callable[..., Any] = self._call_slow
        functools.update_wrapper(self, fn, updated=())

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Functions are copied and pickled by name, as Python's own; copies of methods and modules compile anew."""
        if isinstance(self._tjit_function, FunctionType):
            return self._tjit_function.__qualname__
        options = (self._dynamic, self._options.fast_math, self._checkpoint, self._options.tune)
        return CompiledFunction, (self._tjit_function, *options), {"_converts": self._converts}

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        fn = self.__dict__.get("_tjit_function")
        if callable(getattr(type(fn), "named_parameters", None)):
            return getattr(fn, name)  # a compiled module has the module's parameters, modes and state
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _call_slow(self, *args: Any, **kwargs: Any) -> Any:
        if self._native is not None:
            register_thread()
        if state.trace is not None:
            return callee(self._tjit_function)(*args, **kwargs)  # a part of what is being captured
        leaves, tree = flatten_call(args, kwargs)
        signature = read_signature(tree, leaves)
        call = self._found(signature, leaves)
        if call is None:
            return self._miss(signature, tree, leaves, (args, kwargs))
        self._hits += 1
        result = _run(call, leaves, (args, kwargs))
        if recording.active is None:
            self._learn(call.variant, call.symbols, leaves, tree)
        return result

    def _learn(self, variant: Variant, symbols: tuple[int, ...], leaves: list[Any], tree: Tree) -> None:
        """Have the native entry serve calls like this one, which is the first one of its kind to come a second time.

        Calls that it goes on refusing are offered again less and less often.
        """
        count = self._calls[variant, symbols] = self._calls.get((variant, symbols), 0) + 1
        if count & (count - 1) or (self._native is not None and self._native.full):
            return
        from tjit.native_calls import spec_of_call

        with self._lock:
            spec = spec_of_call(variant, symbols, leaves, tree)
            if spec is None:
                return
            if self._native is None:
                self._native = NativeCalls(self._call_slow)
                self.__call__ = self._native.callable()
            self._native.add(spec)
            register_thread()

    def _miss(self, signature: Signature, tree: Tree, leaves: list[Any], arguments: tuple[Any, ...]) -> Any:
        start = time.perf_counter_ns()
        with self._lock:
            # another thread may have made it meanwhile
            call = self._found(signature, leaves) or self._other(signature, tree, leaves)
        if recording.active is not None:
            recording.active.range(f"compile {_name(self._tjit_function)}", start)
        return _run(call, leaves, arguments)

    def _found(self, signature: Signature, leaves: list[Any]) -> _Call | None:
        """What serves a call of exactly this signature. The newest variants, which have most inputs, come first."""
        for variant, symbols in reversed(self._exact.get(signature, ())):
            numbers = variant.numbers(leaves)
            if numbers is not None and variant.valid():
                return _Call(variant, symbols, numbers)
        return None

    def _other(self, signature: Signature, tree: Tree, leaves: list[Any]) -> _Call:
        """What serves a call whose signature has no valid variant: a symbolic one that fits, or a new capture."""
        names = leaf_names(self._tjit_function, tree)
        check_extents(self._declared, names, leaves)
        family = self._families.setdefault(signature.family, _Family())
        if len(self._exact) > 4096:
            self._exact.clear()
        for variant in family.variants:
            numbers = variant.numbers(leaves)
            symbols = variant.bind(leaves, numbers) if numbers is not None and variant.valid() else None
            if numbers is not None and symbols is not None:
                return self._remember(signature, _Call(variant, symbols, numbers))
        self._misses += 1
        if self._misses > 1:
            self._reasons.append(self._reason(signature, family, leaves, names))
        if len(family.variants) == _MANY:
            self._warn()
        for variant in family.variants[-8:]:
            self._places |= variant.changed_places()
        family.seen.append(signature.extents)
        family.numbers.append(signature.numbers)
        try:
            variant = self._capture(tree, leaves, family, names)
        except BaseException:
            family.seen.pop()  # sizes that are no sizes of this function
            family.numbers.pop()
            raise
        self._captured.append(signature)
        family.variants.append(variant)
        if len(family.variants) > _MOST_VARIANTS:
            del family.variants[0]
        numbers = variant.numbers(leaves)
        assert numbers is not None
        symbols = variant.bind(leaves, numbers)
        assert symbols is not None
        return self._remember(signature, _Call(variant, symbols, numbers))

    def _remember(self, signature: Signature, call: _Call) -> _Call:
        found = self._exact.setdefault(signature, [])
        found.append((call.variant, call.symbols))
        if len(found) > _MOST_EXACT:
            del found[0]
        return call

    def _reason(self, signature: Signature, family: _Family, leaves: list[Any], names: list[str]) -> str:
        """Why nothing that exists serves this call, in words, and where."""
        for variant in reversed(family.variants):
            reason = variant.reason(leaves)
            if reason is not None:
                return reason
        reason = closest_difference(signature, self._captured, names) or "the call differs from those before"
        where = definition(self._tjit_function)
        return reason if where is None else f"{reason}\n  at {where.describe()}"

    def _warn(self) -> None:
        """Say that a capture for each value is slow, once for each signature."""
        warnings.warn(
            f"{_name(self._tjit_function)} is captured for the {_MANY + 1}th time: {self._reasons[-1]}\n"
            "  hint: a number that decides a shape, the length of a loop, an index or a key takes a capture for each "
            "value: compute with it, pass what it decides as a tensor, or ask outside of the function",
            stacklevel=2,
        )

    def _capture(self, tree: Tree, leaves: list[Any], family: _Family, names: list[str]) -> Variant:
        """A variant for this call, and as many others as possible: with symbolic dims, and floats as inputs."""
        while True:
            shapes = self._shapes(leaves, family, names)
            numbers = self._numbers(leaves, family)
            if not numbers and all(isinstance(d, int) for s in shapes if s is not None for d in s):
                return self._build(tree, leaves, shapes, names)
            try:
                with inconclusive(assumes=True) as positive:
                    variant = self._build(tree, leaves, shapes, names, numbers)
                    variant.positive = _of_inputs(variant, positive)
                    if variant.bind(leaves, variant.numbers(leaves) or {}) is None:
                        variant.guards.put_back()  # the function runs again
                        break  # this call has an empty dim, where the others have elements
                    return variant
            except InconclusiveDimError as error:
                if not self._pin(shapes, error.names, family):
                    family.static_only = True
            except InconclusiveNumberError as error:
                if error.places <= family.fixed:
                    family.fixed |= numbers
                family.fixed |= error.places
            except Exception:
                # where the values of this call do, the error was one of general capture
                static = self._static(tree, leaves, names)
                if numbers:
                    family.fixed |= numbers
                else:
                    family.static_only = True
                return static
        return self._static(tree, leaves, names)

    def _numbers(self, leaves: list[Any], family: _Family) -> set[int | Place]:
        """The numbers, and the places of tensors, that become inputs: those that were seen with several values."""
        if self._dynamic is False:
            return set()
        at = [i for i, leaf in enumerate(leaves) if number_leaf(leaf)]
        varies = [self._dynamic is True or len(set(values)) > 1 for values in zip(*family.numbers, strict=True)]
        found = {i for i, changed in zip(at, varies, strict=True) if changed}
        return (found | {place for place in self._places if type(place.now()) in (int, float, Tensor)}) - family.fixed

    def _static(self, tree: Tree, leaves: list[Any], names: list[str]) -> Variant:
        shapes = [tuple(leaf.shape) if array_leaf(leaf) else None for leaf in leaves]
        return self._build(tree, leaves, shapes, names)

    def _pin(self, shapes: Sequence[Any], names: frozenset[str], family: _Family) -> bool:
        """Have the dims that are these symbols no symbols; whether there is a new one."""
        arrays = [shape for shape in shapes if shape is not None]
        places = {(i, d) for i, shape in enumerate(arrays) for d, dim in enumerate(shape) if str(dim) in names}
        new = not places <= family.pinned
        family.pinned |= places
        return new

    def _build(
        self,
        tree: Tree,
        leaves: list[Any],
        shapes: Sequence[Any],
        names: list[str],
        numbers: Collection[int | Place] = (),
    ) -> Variant:
        guards = take_guards(self._tjit_function, [leaf for leaf in leaves if not array_leaf(leaf)])
        if numbers and guards.asks_types:
            raise InconclusiveNumberError(frozenset(numbers))
        return build_variant(
            self._tjit_function,
            tree,
            leaves,
            shapes,
            names,
            guards,
            name=_name(self._tjit_function),
            options=self._options,
            numbers=numbers,
            checkpoint=self._checkpoint,
            rewrites=self._converts,
        )

    @functools.cached_property
    def _declared(self) -> Any:
        """What annotations say of the arguments' shapes."""
        return declared_dims(self._tjit_function)

    def _shapes(self, leaves: list[Any], family: _Family, names: list[str]) -> list[tuple[Dim, ...] | None]:
        """Shapes to capture with: a dim seen with several values is a symbol, equal histories are one symbol.

        A dim that an annotation names is a symbol from the start, with its bounds.
        """
        history: dict[tuple[int, ...], Symbol] = {}
        taken = {dim.name for dims in self._declared.values() for dim in dims if hasattr(dim, "symbol")}
        shapes: list[tuple[Dim, ...] | None] = []
        arrays = 0
        for leaf, name in zip(leaves, names, strict=True):
            if not array_leaf(leaf):
                shapes.append(None)
                continue
            dims: list[Dim] = []
            wanted = self._declared.get(name, (None,) * leaf.ndim)
            for d, extent in enumerate(leaf.shape):
                past = tuple(seen[arrays][d] for seen in family.seen)
                is_named = hasattr(wanted[d], "symbol")
                varies = is_named or self._dynamic is True or (self._dynamic is None and len(set(past)) > 1)
                if not varies or family.static_only or (arrays, d) in family.pinned:
                    dims.append(extent)
                    continue
                if not is_named and past not in history:
                    free = (f"s{n}" for n in itertools.count(len(history)) if f"s{n}" not in taken)
                    history[past] = Symbol(next(free))
                    taken.add(history[past].name)
                dims.append((wanted[d].symbol if is_named else history[past]).dim)
            shapes.append(tuple(dims))
            arrays += 1
        return shapes

    # -- looking inside ------------------------------------------------------------------------------------------------

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The stages of the program that a call with these arguments runs, without running it."""
        return self.variant_for(args, kwargs).lowered()

    def variant_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variant:
        """The variant that a call with these arguments runs; captured if there is none.

        Raises:
            ArgumentError: the function is not called with so many, or with these names.
        """
        _check_arguments(self._tjit_function, args, kwargs)
        leaves, tree = flatten_call(args, kwargs)
        signature = read_signature(tree, leaves)
        with self._lock:
            return (self._found(signature, leaves) or self._other(signature, tree, leaves)).variant

    def cache_info(self) -> CacheInfo:
        """Hits, misses, and the reason of every capture after the first."""
        native = 0 if self._native is None else self._native.hits
        return CacheInfo(self._hits + native, self._misses, tuple(self._reasons))

    def __repr__(self) -> str:
        return f"<compiled {_name(self._tjit_function)}, {self._misses} captures>"


def _run(call: _Call, leaves: list[Any], arguments: tuple[Any, ...]) -> Any:
    """Run a variant on a call's (args, kwargs); lists and dicts among these change as the function changes them."""
    variant = call.variant
    if not variant.captured.changes:
        return variant.call(leaves, call.symbols, call.numbers)
    refuse_twins(arguments)
    returned, changed = variant.call(leaves, call.symbols, call.numbers)
    write_back(arguments, changed)
    return returned


def _of_inputs(variant: Variant, dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """The dims that the arguments' shapes give. Others are of counters, whose loops then do not run."""
    given = {s for value in variant.graph.inputs for d in value.type.shape for s in symbols_of(d)}
    return tuple(d for d in dims if given.issuperset(symbols_of(d)))


def _check_arguments(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(getattr(fn, "forward", fn))
    except (TypeError, ValueError):
        return  # it says itself what it takes
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(
            f"there is no call of {_name(fn)} to look into: {error}",
            user_location(),
            hint=f"give the arguments of a call, of {_name(fn)}{signature}",
        ) from None


def _name(fn: Any) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return name if name.isidentifier() else "main"


def leaf_names(fn: Callable[..., Any], tree: Tree) -> list[str]:
    """A name for every leaf of (args, kwargs): the parameter's, with the path inside a container."""
    args, kwargs = tree.children
    try:
        parameters = list(inspect.signature(getattr(fn, "forward", fn)).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for i, child in enumerate(args.children):
        positional = parameters[i] if i < len(parameters) else None
        fixed = positional is not None and positional.kind is not inspect.Parameter.VAR_POSITIONAL
        names += _paths(child, positional.name if fixed and positional else f"arg{i}")
    for key, child in zip(kwargs.keys, kwargs.children, strict=True):
        names += _paths(child, key)
    return names


def _paths(tree: Tree, path: str) -> list[str]:
    if tree.kind is None:
        return [path]
    keys = tree.keys or range(len(tree.children))
    return [name for key, child in zip(keys, tree.children, strict=True) for name in _paths(child, f"{path}_{key}")]
