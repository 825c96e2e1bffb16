"""One captured and compiled variant of a function: how it is built, when it is valid, and how it is called."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tjit import recording
from tjit.autograd.compiled import Joint, split_joint
from tjit.capture.aliases import view_again
from tjit.capture.function import Captured, Source, capture_function
from tjit.capture.guards import Guards
from tjit.capture.inputs import array_leaf, array_of, number_leaf, stride_dim
from tjit.capture.places import Place
from tjit.capture.pytree import Tree, unflatten
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError, TjitError
from tjit.frozen import laid_sources
from tjit.ir.dims import Dim, DimExpr, evaluate
from tjit.ir.graph import Graph
from tjit.ir.op import Op
from tjit.ir.printer import print_graph
from tjit.location import user_location
from tjit.ops.apply import TapeNode, state
from tjit.runtime import threads
from tjit.runtime.cache import default_cache
from tjit.runtime.collector import paused_collection
from tjit.runtime.image import Image
from tjit.runtime.preload import preload_llvm
from tjit.runtime.program import Program, ProgramInfo
from tjit.runtime.version import compiler_version
from tjit.stages import Lowered, dump_stage
from tjit.tensor import Laid, Size, Tensor

if TYPE_CHECKING:
    from tjit.codegen.kernel import Kernel
    from tjit.codegen.llvm.target import Target
    from tjit.codegen.schedule import Costs
    from tjit.runtime.profiled import ProfiledProgram

__all__ = ["BuildOptions", "Variant", "build_program", "build_variant", "numpy_result"]


@dataclass(frozen=True)
class BuildOptions:
    """How programs of a function are built.

    Attributes:
        fast_math: with identities that hold for real numbers but not for every float.
        tune: with contractions cut as was measured.
    """

    fast_math: bool = False
    tune: bool = False

    def costs(self, target: Target) -> Costs:
        """What the scheduler asks for a program for `target`."""
        if self.tune:
            from tjit.runtime.tuning import tuned_costs

            return tuned_costs(target)
        from tjit.codegen.llvm.program import costs

        return costs(target)

    def key(self) -> str:
        """What tells programs apart in the disk cache; a choice is one for a number of threads."""
        return f"{self.fast_math}" + (f" tuned for {threads.get_num_threads()}" if self.tune else "")


@paused_collection()
def build_variant(
    fn: Callable[..., Any],
    tree: Tree,
    leaves: Sequence[Any],
    shapes: Sequence[tuple[Dim, ...] | None],
    names: Sequence[str],
    guards: Guards,
    *,
    name: str,
    options: BuildOptions,
    numbers: Collection[int | Place] = (),
    checkpoint: bool = False,
    rewrites: bool = True,
) -> Variant:
    """Capture and compile `fn` for arguments like `leaves`; `numbers` as in `capture_function`."""
    start = time.perf_counter()
    try:
        captured = capture_function(
            fn, tree, leaves, shapes, names, name, numbers, rewrites, guards.watch(), changes=True
        )
    except Exception:
        if numbers or not all(isinstance(d, int) for shape in shapes if shape is not None for d in shape):
            guards.put_back()  # the caller tries again, with less that varies
        raise
    captured.checkpoint = checkpoint
    seconds = {"capture": time.perf_counter() - start}
    once = bool(captured.sets_numbers) or not guards.hold()
    replay = captured.replay
    lifted = [leaf.where for leaf in replay.leaves if isinstance(leaf.where, Place)] if replay is not None else []
    lifted += [s.place for s in captured.sources if s.place is not None and not guards.reads(s.place.key)]
    if lifted:
        guards.forget(lifted)
    guards.seal()
    fixed = tuple((i, leaf) for i, leaf in enumerate(leaves) if number_leaf(leaf) and i not in numbers)
    return Variant(captured, guards, leaves, fixed, options, seconds, once)


class Variant:
    """A program and the Python around it: guards, where inputs come from, what becomes of outputs."""

    def __init__(
        self,
        captured: Captured,
        guards: Guards,
        leaves: Sequence[Any],
        fixed: tuple[tuple[int, int | float], ...],
        options: BuildOptions,
        seconds: dict[str, float],
        once: bool = False,
    ) -> None:
        arrays = [leaf for leaf in leaves if array_leaf(leaf)]
        self.captured = captured
        self.guards = guards
        self.fixed = fixed  # numbers among the leaves that are no inputs
        self.options = options
        self.seconds = seconds
        self.once = once  # the function changed what it reads: its Python has to run at every call
        self.sources = captured.sources
        self.returns_numpy = bool(arrays) and all(isinstance(a, np.ndarray) for a in arrays)
        self.joint: Joint | None = (
            None if captured.joint is None else split_joint(captured, _primitives(captured.joint))
        )
        self.graph = self.joint.forward if self.joint is not None else captured.graph
        self.strides = tuple(self._strides(i, arrays) for i in range(len(self.sources)))
        self.lifted_strides = tuple(None if s is None else self._lifted_strides(i) for i, s in enumerate(self.strides))
        self.program = build_program(self.graph, self.strides, options, seconds)
        self.sources = laid_sources(self.sources, self.program.info.laid)
        self._backward: Program | None = None
        self.writes = self.program.info.writes
        self.positive: tuple[Dim, ...] = ()  # dims that have to be at least 1
        self.freed = {r.position: _freed_node(captured.graph) for r in captured.results if r.freed}

    # -- validity ------------------------------------------------------------------------------------------------------

    def valid(self) -> bool:
        """Whether every Python value that capture read is what it was, and stays so."""
        return not self.once and self.guards.hold() and self._tensors_fit()

    def numbers(self, leaves: Sequence[Any]) -> Mapping[int, Any] | None:
        """What a call replays of Python's numbers; None: it is not to be served by this variant."""
        replay = self.captured.replay
        if not self._takes(leaves):
            return None
        return {} if replay is None else replay.run(leaves)

    def _takes(self, leaves: Sequence[Any]) -> bool:
        """Whether the numbers of a call that are no inputs are what they were."""
        return all(leaves[i] is value or repr(leaves[i]) == repr(value) for i, value in self.fixed)

    def _tensors_fit(self) -> bool:
        captured = self.captured
        for tensor, wanted in captured.wanted:
            if tensor._requires_grad is not wanted:
                return False
        for tensor in captured.grad_absent:
            if tensor._grad is not None:
                return False
        for i, source in enumerate(self.sources):
            if source.is_number and source.place is not None and not isinstance(source.place.now(), (int, float)):
                return False
            if source.kind == "argument" or source.is_number:
                continue
            t = _present(source)
            if t is None or not _fits(t, self.program.info.inputs[i], self.lifted_strides[i]):
                return False
        return True

    def changed_places(self) -> set[Place]:
        """Places of numbers and tensors that are others than capture read, or numbers that the function sets."""
        return {*self.guards.changed_places(), *self.captured.sets_numbers}

    def reason(self, leaves: Sequence[Any]) -> str | None:
        """What no longer holds for a call with these leaves, in words; None where its arguments are others."""
        if not self._takes(leaves):
            return None
        replay = self.captured.replay
        reason = self.guards.reason() or (None if replay is None else replay.reason(leaves))
        if reason is not None:
            return reason
        for tensor, wanted in self.captured.wanted:
            if tensor._requires_grad is not wanted:
                return f"requires_grad of a {tensor.type_} tensor changed"
        for tensor in self.captured.grad_absent:
            if tensor._grad is not None:
                return f".grad of a {tensor.type_} tensor was None and is not"
        if not self._tensors_fit():
            return "a tensor that the function uses changed its type"
        return "the function changes Python values that it reads" if self.once else None

    # -- binding -------------------------------------------------------------------------------------------------------

    def _strides(self, i: int, arrays: list[Any]) -> tuple[Dim, ...] | None:
        """The strides of an input as the program knows them; None: contiguous."""
        source = self.sources[i]
        if source.is_number:
            return None
        if source.kind == "tensor" and isinstance(_tensor_of(source)._data, Laid):
            return None
        array = array_of(arrays[source.position]) if source.kind == "argument" else _tensor_of(source).array
        if array.flags.c_contiguous:
            return None
        return tuple(stride_dim(s, array.itemsize, f"stride{i}_{d}") for d, s in enumerate(array.strides))

    def _lifted_strides(self, i: int) -> tuple[int, ...] | None:
        """The strides in bytes that a lifted tensor has to keep."""
        source = self.sources[i]
        return _tensor_of(source).array.strides if source.kind in ("tensor", "grad", "held") else None

    def bind(self, leaves: Sequence[Any], numbers: Mapping[int, Any]) -> tuple[int, ...] | None:
        """The symbols' values for a call; None where its shapes do not fit."""
        inputs = self._inputs(leaves, numbers)
        symbols = self.program.bind(inputs)
        if symbols is None or not self.positive:
            return symbols
        sizes = self._sizes(inputs)
        return symbols if all(evaluate(d, sizes) > 0 for d in self.positive) else None

    def _sizes(self, inputs: Sequence[np.ndarray]) -> dict[str, int]:
        """The values of the symbols in the inputs' shapes."""
        dims = [
            pair
            for v, a in zip(self.graph.inputs, inputs, strict=True)
            for pair in zip(v.type.shape, a.shape, strict=True)
        ]
        return {str(d): extent for d, extent in dims if not isinstance(d, int)}

    def _inputs(self, leaves: Sequence[Any], numbers: Mapping[int, Any]) -> list[np.ndarray]:
        """The arrays of all inputs of the graph, in order.

        Args:
            numbers: what the call replays.
        """
        arrays = [array_of(leaf) for leaf in leaves if array_leaf(leaf)]
        result: list[np.ndarray] = []
        for source, value in zip(self.sources, self.graph.inputs, strict=True):
            if source.kind == "argument":
                result.append(arrays[source.position])
            elif source.kind == "step":
                result.append(np.array(numbers[source.position], value.type.dtype.numpy))
            elif source.is_number:
                number = leaves[source.position] if source.place is None else source.place.now()
                result.append(np.array(number, value.type.dtype.numpy))
            else:
                result.append(_tensor_of(source).array)
        return result

    # -- calling -------------------------------------------------------------------------------------------------------

    def call(self, leaves: Sequence[Any], values: tuple[int, ...], numbers: Mapping[int, Any]) -> Any:
        """Run the program on a call's arguments, with `numbers` as it replays them."""
        arguments = [leaf for leaf in leaves if array_leaf(leaf)]
        inputs = self._inputs(leaves, numbers)
        if self.writes:
            self._check_writes(inputs, arguments)
        outputs = self.program.run(inputs, values)
        for i in self.writes:
            self._wrote(self.sources[i], arguments)
        return self.finish(arguments, inputs, outputs, numbers)

    def finish(
        self,
        arguments: list[Any],
        inputs: list[np.ndarray],
        outputs: Sequence[np.ndarray],
        numbers: Mapping[int, Any],
    ) -> Any:
        """What a call returns, after the program has run; gradients are set and the tape is written.

        Where capture has noted that `changes`: a pair of that and of the arguments as they are to be.
        """
        tensors = self._tensors(outputs, inputs, arguments)
        for source, position in self.captured.grads:
            target = _owner(source, arguments)
            if isinstance(target, Tensor):
                target._grad = None if position is None else Tensor(outputs[position])
        sizes = self._sizes(inputs) if any(r.kind in ("dim", "view") for r in self.captured.results) else {}
        leaves_out = [
            numbers[r.position] if r.kind == "number" else self._leaf(r, tensors, outputs, arguments, sizes)
            for r in self.captured.results
        ]
        returned = unflatten(self.captured.tree, leaves_out)
        if not self.captured.leaves_more:
            return returned
        returned, left, changed = returned
        for place, value in zip(self.captured.places, left, strict=True):
            place.put(value)
        return (returned, changed) if self.captured.changes else returned

    def _check_writes(self, inputs: list[np.ndarray], arguments: list[Any]) -> None:
        """Written memory must be writable and of its own.

        Raises:
            ArgumentError: it is read-only, or overlaps another input.
        """
        for i in self.writes:
            if not inputs[i].flags.writeable:
                name = self.graph.inputs[i].name
                raise ArgumentError(
                    f"the function writes to {name}, which is read-only", user_location(), hint="pass a copy"
                )
        written = set(self.writes)
        for pair in _near(inputs):
            for i, j in (pair, pair[::-1]):
                if i in written and np.shares_memory(inputs[i], inputs[j]):
                    name, other = self.graph.inputs[i].name, self.graph.inputs[j].name
                    raise ArgumentError(
                        f"the function writes to {name}, whose memory overlaps that of {other}",
                        user_location(),
                        hint="pass a clone() of one of them",
                    )

    def _wrote(self, source: Source, arguments: list[Any]) -> None:
        owner = arguments[source.position] if source.kind == "argument" else _tensor_of(source)
        if isinstance(owner, Tensor):
            owner._storage.version += 1
            owner._seen = owner._storage.version

    def _leaf(
        self,
        result: Any,
        tensors: dict[int, Tensor],
        outputs: Sequence[np.ndarray],
        arguments: list[Any],
        sizes: dict[str, int],
    ) -> Any:
        if result.kind == "dim":
            return _sized(result.value, sizes)
        if result.kind == "view":
            base = self._leaf(result.base, tensors, outputs, arguments, sizes)
            return view_again(base, result.chain, sizes, result.requires_grad)
        if result.kind == "value" or result.kind == "tensor":
            return result.value
        if result.kind == "argument":
            return arguments[result.position]
        if result.value is not None:
            return numpy_result(outputs[result.position], result.value)
        if self.returns_numpy:
            return outputs[result.position]
        return tensors[result.position]

    def _tensors(
        self, outputs: Sequence[np.ndarray], inputs: list[np.ndarray], arguments: list[Any]
    ) -> dict[int, Tensor]:
        positions = {r.position for r in self.captured.results if r.kind == "output"}
        tensors = {i: Tensor(outputs[i]) for i in positions}
        if self.joint is not None and state.grad:
            operands = [
                arguments[s.position] if s.kind == "argument" else _present(s) if s.kind in ("tensor", "held") else None
                for s in self.sources
            ]
            self.joint.record(tensors, operands, inputs, outputs, self.backward_program)
        for i, node in self.freed.items():
            if i in tensors:
                tensors[i]._grad_fn = node
        return tensors

    def backward_program(self) -> Program:
        """The program of the gradient; built at the first backward."""
        if self._backward is None:
            assert self.joint is not None
            self._backward = build_program(
                self.joint.backward, (None,) * len(self.joint.backward.inputs), self.options, {}
            )
        return self._backward

    def lowered(self) -> Lowered:
        """The stages, built again from the graph."""
        result = _lowered(self.graph, self.strides, self.options)
        result.graph = self.captured.graph
        result.seconds = self.seconds
        if self.joint is not None:
            backward = self.joint.backward
            result.backward = _lowered(backward, (None,) * len(backward.inputs), self.options)
        return result


def _freed_node(graph: Graph) -> TapeNode:
    """What stands on the tape for a history that a backward() inside of the function freed: going back on it raises."""
    name = f"{graph.name}_compiled"
    op = Op(name=name, kind="composite", infer=None, reference=_never, vjp=_never, samples=(), decompose=_never)
    node = TapeNode(op, (), {}, ())
    node.freed = True
    return node


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("what was freed is computed again")


def _sized(value: Any, sizes: dict[str, int]) -> Any:
    """A dim or a shape at the sizes of a call."""
    return Size(evaluate(d, sizes) for d in value) if isinstance(value, Size) else evaluate(value, sizes)


def numpy_result(output: np.ndarray, form: str) -> Any:
    """What NumPy code returns: an array, perhaps complex from its parts, a NumPy scalar, or a Python number."""
    if form.startswith("complex"):
        output = output.view(np.complex64 if output.dtype == np.float32 else np.complex128)[..., 0]
    return output if form.endswith("array") else output.item() if form.endswith("number") else output[()]


def _present(source: Source) -> Tensor | None:
    """The tensor that a source is now; None where it is none, or one of another kind than capture saw."""
    if source.kind == "held":
        assert source.place is not None
        assert source.tensor is not None
        now = source.place.now()
        return now if type(now) is Tensor and now.requires_grad is source.tensor.requires_grad else None
    assert source.tensor is not None
    return source.tensor if source.kind == "tensor" else source.tensor._grad


def _tensor_of(source: Source) -> Tensor:
    found = _present(source)
    assert found is not None
    return found


def _owner(source: Source, arguments: list[Any]) -> Any:
    return arguments[source.position] if source.kind == "argument" else source.tensor


def _fits(tensor: Tensor, type: Any, strides: tuple[int, ...] | None) -> bool:
    """Whether a lifted tensor has the type and the strides (None: contiguous) that the program was made for."""
    data = tensor._data
    if not isinstance(data, np.ndarray) or data.shape != type.shape or data.dtype != type.dtype.numpy:
        return False
    return data.flags.c_contiguous if strides is None else data.strides == strides


def _near(arrays: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Positions of two arrays, the lower first, of which one begins before the other has ended."""
    ends = [(*byte_bounds(a), n) for n, a in enumerate(arrays) if a.size]
    reaching: list[tuple[int, int]] = []  # (end, position) of arrays that began earlier
    for low, high, n in sorted(ends):
        reaching = [other for other in reaching if other[0] > low]
        yield from ((min(n, other), max(n, other)) for _, other in reaching)
        reaching.append((high, n))


def _primitives(graph: Graph) -> Graph:
    from tjit.passes.common_nodes import merge_common_nodes
    from tjit.passes.decomposition import decompose
    from tjit.passes.pipeline import run_passes

    return run_passes(graph, (decompose, merge_common_nodes))


# -- building ----------------------------------------------------------------------------------------------------------


def _lowered(graph: Graph, strides: Sequence[tuple[Dim, ...] | None], options: BuildOptions) -> Lowered:
    @cache
    def passes() -> Graph:
        return _passed(graph, options)

    @cache
    def plan() -> Any:
        from tjit.codegen.llvm.target import host_target
        from tjit.codegen.schedule import schedule
        from tjit.passes.frozen import split_frozen

        program, laid = split_frozen(passes())
        return schedule(program, options.costs(host_target()), _laid_strides(strides, laid), wide=options.fast_math)

    return Lowered(graph, passes, plan, wide=options.fast_math)


def _passed(graph: Graph, options: BuildOptions) -> Graph:
    from tjit.passes.pipeline import DEFAULT, FAST_MATH, run_passes

    return run_passes(graph, FAST_MATH if options.fast_math else DEFAULT)


@paused_collection()
def build_program(
    graph: Graph, strides: Sequence[tuple[Dim, ...] | None], options: BuildOptions, seconds: dict[str, float]
) -> Program:
    """The program of a captured graph: from the disk cache where it was built before, without loading LLVM."""
    start = time.perf_counter()
    text = print_graph(graph)
    dump_stage(graph.name, "graph", lambda: text)
    key = _program_key(text, strides, options)
    program = _from_cache(key, graph) if not os.environ.get("TJIT_DUMP") else None
    if program is not None:
        seconds["load"] = time.perf_counter() - start
    else:
        program = _build(graph, strides, options, key, seconds)
    program.profiled = cache(lambda: _build_profiled(graph, strides, options))
    return program


# nodes: of more, one kernel is likely to be cut into tasks, and is compiled later than the pool
_LARGE = 64


def _build(
    graph: Graph, strides: Sequence[tuple[Dim, ...] | None], options: BuildOptions, key: str, seconds: dict[str, float]
) -> Program:
    clock = _Clock(seconds)
    preload_llvm()  # the passes need Python alone, and run meanwhile
    if len(graph.nodes) > _LARGE:
        threads.prepare()  # while nothing is there to compile yet
    from tjit.codegen.schedule import schedule
    from tjit.passes.frozen import split_frozen

    clock.lap("import")
    final = _passed(graph, options)
    run, laid = split_frozen(final)
    clock.lap("passes")
    from tjit.codegen.llvm.module import KernelObjects
    from tjit.codegen.llvm.target import host_target

    target, cache = host_target(), default_cache()
    clock.lap("import")  # of LLVM, with the first program
    with KernelObjects(target, cache) as objects:

        def decided(kernel: Kernel) -> None:
            if kernel.tasks != 1:
                threads.prepare()
            objects.add(kernel)

        costs = replace(options.costs(target), decided=decided)
        plan = schedule(run, costs, _laid_strides(strides, laid), wide=options.fast_math)
        clock.lap("schedule")
        low = Lowered(graph, lambda: final, lambda: plan, wide=options.fast_math)
        for stage in ("passes", "schedule", "llvm", "asm", "triton"):
            dump_stage(graph.name, stage, lambda stage=stage: low.text(stage))
        image = objects.image(plan)
    clock.lap("codegen")
    info = replace(_info(plan), laid=tuple((i, print_graph(g, locations=False)) for i, g in laid.items()))
    cache.put(key, "program", _pack(info, image), label=graph.name)
    program = Program(image, info)
    clock.lap("load")
    return program


def _build_profiled(graph: Graph, strides: Sequence[tuple[Dim, ...] | None], options: BuildOptions) -> ProfiledProgram:
    """The program with notes of when its kernels run: the same kernels, which the disk cache has."""
    from tjit.codegen.llvm.module import compile_schedule
    from tjit.codegen.llvm.target import host_target
    from tjit.inspect.work import kernel_works
    from tjit.runtime.profiled import ProfiledProgram

    start = time.perf_counter_ns()
    plan = _lowered(graph, strides, options).schedule()
    image = compile_schedule(plan, host_target(), default_cache(), profiled=True)
    program = ProfiledProgram(graph.name, Program(image, _info(plan)), kernel_works(plan))
    if recording.active is not None:
        recording.active.range(f"build {graph.name} for the profile", start)
    return program


def _laid_strides(
    strides: Sequence[tuple[Dim, ...] | None], laid: Collection[int]
) -> tuple[tuple[Dim, ...] | None, ...]:
    """The strides of a program's inputs, of which those in `laid` lie row by row."""
    return tuple(None if i in laid else s for i, s in enumerate(strides))


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now


def _info(plan: Any) -> ProgramInfo:
    from tjit.codegen.steps import failures

    return ProgramInfo(
        _program_symbols(plan),
        tuple(p.type for p in plan.inputs),
        tuple(p.type for p in plan.outputs),
        tuple(p.strides for p in plan.inputs),
        plan.writes,
        plan.arena,
        failures(plan),
    )


def _program_symbols(plan: Any) -> tuple[str, ...]:
    """Those that the machine code reads, then those that only the shapes of inputs mention."""
    used = {s.name: None for s in plan.symbols}
    return tuple(used | {str(d): None for p in plan.inputs for d in p.type.shape if isinstance(d, DimExpr)})


def _pack(info: ProgramInfo, image: Image) -> bytes:
    text = info.to_json().encode()
    return len(text).to_bytes(8, "little") + text + image.to_bytes()


def _from_cache(key: str, graph: Graph) -> Program | None:
    data = default_cache().get(key, "program")
    if data is None:
        return None
    try:
        size = int.from_bytes(data[:8], "little")
        info = ProgramInfo.from_json(data[8 : 8 + size].decode())
        laid = {i for i, _ in info.laid}
        wanted = [t if i in laid else v.type for i, (t, v) in enumerate(zip(info.inputs, graph.inputs, strict=False))]
        if len(wanted) != len(graph.inputs) or tuple(wanted) != info.inputs:
            return None
        return Program(Image.from_bytes(data[8 + size :]), info)
    except (TjitError, UnicodeDecodeError, AttributeError):
        return None  # not what tjit wrote there: it is built again and replaced


def _program_key(text: str, strides: Sequence[Any], options: BuildOptions) -> str:
    parts = (text, repr(strides), options.key(), compiler_version(), _processor())
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@cache
def _processor() -> str:
    """What LLVM would generate code for here, told apart without loading LLVM."""
    import platform

    try:
        with open("/proc/cpuinfo") as file:
            first = file.read().partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # not platform.processor(), which starts a process
    told = [line for line in first.splitlines() if line.startswith(_TELLING)]
    return "\n".join((platform.machine(), *told))


# of the lines of /proc/cpuinfo, on x86-64 and AArch64; the others hold numbers that change
_TELLING = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU variant", "CPU part")
