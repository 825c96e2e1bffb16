"""LLVM vectors: splats, masked memory, fused multiply-add; what llvmlite's builder does not spell for vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import llvmlite.ir as ir

from tjit.dtypes import DType

__all__ = [
    "I32",
    "I64",
    "PTR",
    "TextConstant",
    "byte_gep",
    "counted_loop",
    "declare",
    "element_type",
    "fenced",
    "i64",
    "is_natural",
    "lanes_below",
    "least",
    "masked_load",
    "masked_store",
    "multiply_add",
    "numbers",
    "poison",
    "prefetch",
    "splat",
    "stack",
    "while_loop",
    "zeros",
]

I64 = ir.IntType(64)
I32 = ir.IntType(32)
PTR = ir.PointerType()
I32_ZERO = ir.Constant(I32, 0)


def element_type(dtype: DType) -> ir.Type:
    """LLVM's type of an element in memory; bf16 is its 16 bits."""
    if dtype.is_floating_point and dtype.name != "bf16":
        return {2: ir.HalfType(), 4: ir.FloatType(), 8: ir.DoubleType()}[dtype.itemsize]
    return ir.IntType(dtype.bits)


@lru_cache(maxsize=1024)
def numbers(values: tuple[int, ...] | range, element: ir.IntType = I32) -> ir.Constant:
    """A constant vector of integers; made once, because llvmlite makes an object of each lane."""
    return ir.Constant(ir.VectorType(element, len(values)), list(values))


def lanes_below(b: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """i1 vector: the first `count` lanes."""
    if isinstance(count, ir.Constant):
        return numbers(tuple(int(lane < int(count.constant)) for lane in range(lanes)), ir.IntType(1))
    # bytes: one comparison of up to 64 lanes, where i64 would be one for every 8
    inside = b.select(b.icmp_signed("<", count, count.type(lanes)), count, count.type(lanes))
    inside = b.trunc(b.select(b.icmp_signed("<", inside, count.type(0)), count.type(0), inside), ir.IntType(8))
    return b.icmp_unsigned("<", numbers(range(lanes), inside.type), splat(b, inside, lanes))


class TextConstant(ir.Constant):
    """A constant given by its text: llvmlite would make an object and a text of each lane of a vector."""

    def __init__(self, type: ir.Type, text: str) -> None:
        self.type = type
        self.constant = text

    def _get_reference(self) -> str:
        return self.constant


@lru_cache(maxsize=64)
def zeros(kind: ir.VectorType) -> ir.Constant:
    return TextConstant(kind, "zeroinitializer")


@lru_cache(maxsize=64)
def poison(kind: ir.VectorType) -> ir.Constant:
    """A vector of which no lane is used."""
    return TextConstant(kind, "poison")


def splat(b: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    unused = poison(ir.VectorType(scalar.type, lanes))
    return b.shuffle_vector(b.insert_element(unused, scalar, I32_ZERO), unused, zeros(ir.VectorType(I32, lanes)))


def byte_gep(b: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    return b.gep(pointer, [offset], source_etype=ir.IntType(8))


def masked_load(b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value, vector: ir.VectorType, align: int) -> ir.Value:
    """The lanes of `vector` at `pointer` where `mask` is on, 0 elsewhere."""
    lanes = ir.VectorType(ir.IntType(1), vector.count)
    name = f"llvm.masked.load.v{vector.count}{_suffix(vector.element)}.p0"
    function = declare(b, name, ir.FunctionType(vector, [PTR, I32, lanes, vector]))
    return b.call(function, [pointer, ir.Constant(I32, align), mask, zeros(vector)])


def masked_store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value, align: int) -> None:
    """Write the lanes of `value` where `mask` is on."""
    lanes_on = _lanes_on(mask)
    if lanes_on is not None and len(lanes_on) == 1:
        # as LLVM 22 does it too; but of a truncated value it stores the lane as wide as that was, over what follows
        at = b.gep(pointer, [i64(lanes_on[0])], source_etype=value.type.element)
        b.store(b.extract_element(value, ir.Constant(I32, lanes_on[0])), at, align=align)
        return
    vector = value.type
    lanes = ir.VectorType(ir.IntType(1), vector.count)
    name = f"llvm.masked.store.v{vector.count}{_suffix(vector.element)}.p0"
    function = declare(b, name, ir.FunctionType(ir.VoidType(), [vector, PTR, I32, lanes]))
    b.call(function, [value, pointer, ir.Constant(I32, align), mask])


def _lanes_on(mask: ir.Value) -> list[int] | None:
    """The lanes that a mask has on; None: not known."""
    if not isinstance(mask, ir.Constant) or not isinstance(mask.constant, (list, tuple)):
        return None
    return [j for j, on in enumerate(mask.constant) if int(on.constant)]


def _suffix(element: ir.Type) -> str:
    names = {ir.FloatType(): "f32", ir.DoubleType(): "f64", ir.HalfType(): "f16"}
    return names.get(element) or f"i{element.width}"


def declare(b: ir.IRBuilder, name: str, type_: ir.FunctionType) -> ir.Function:
    known = b.module.globals.get(name)
    return known if known is not None else ir.Function(b.module, type_, name)


def prefetch(b: ir.IRBuilder, pointer: ir.Value, locality: int = 3, *, write: bool = False) -> None:
    """Ask for a cache line that will be read or written; locality 3: into all caches."""
    function = declare(b, "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32]))
    b.call(function, [pointer, I32(int(write)), I32(locality), I32(1)])


def multiply_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value, *, fused: bool) -> ir.Value:
    """x*y + z; `fused`: rounded once."""
    element = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    if isinstance(element, ir.IntType):
        return b.add(b.mul(x, y), z)
    if not fused:
        return b.fadd(b.fmul(x, y), z)
    lanes = f"v{x.type.count}" if isinstance(x.type, ir.VectorType) else ""
    name = f"llvm.fma.{lanes}{_suffix(element)}"
    return b.call(declare(b, name, ir.FunctionType(x.type, [x.type] * 3)), [x, y, z])


def fenced(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`x`, of which LLVM does not look at how it came about, if it is a vector of f32 or f64. No instruction."""
    if not isinstance(x.type.element, (ir.FloatType, ir.DoubleType)):
        return x
    name = f"llvm.arithmetic.fence.v{x.type.count}{_suffix(x.type.element)}"
    return b.call(declare(b, name, ir.FunctionType(x.type, [x.type])), [x])


@contextmanager
def counted_loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: ir.Value) -> Iterator[ir.Value]:
    """for (i = start; i < stop; i += step), signed, or the body alone if it runs once; the builder stands behind it."""
    if _runs_once(start, stop, step):
        yield start
        return
    before = b.block
    body, after = b.append_basic_block("loop"), b.append_basic_block("after")
    b.cbranch(b.icmp_signed("<", start, stop), body, after)
    b.position_at_end(body)
    i = b.phi(start.type, "i")
    i.add_incoming(start, before)
    counted = i if "optnone" in b.function.attributes else _unreduced(b, i)
    counted.is_natural = is_natural(start)
    yield counted
    following = b.add(i, step, flags=("nsw",))
    i.add_incoming(following, b.block)
    b.cbranch(b.icmp_signed("<", following, stop), body, after)
    b.position_at_end(after)


def _runs_once(*bounds: ir.Value) -> bool:
    if not all(isinstance(bound, ir.Constant) for bound in bounds):
        return False
    start, stop, step = (bound.constant for bound in bounds)
    return start < stop <= start + step


def is_natural(x: ir.Value) -> bool:
    """Whether an integer is known not to be negative."""
    if isinstance(x, ir.Constant):
        return isinstance(x.constant, int) and x.constant >= 0
    return getattr(x, "is_natural", False)


def _unreduced(b: ir.IRBuilder, i: ir.Value) -> ir.Value:
    """`i`, which LLVM does not know to count: its bytes turned and turned back, which costs no instruction.

    Loop strength reduction took a fourth of the compilation of kernels, whose addresses need none.
    """
    turn = declare(b, f"llvm.bswap.{i.type}", ir.FunctionType(i.type, [i.type]))
    return b.call(turn, [b.call(turn, [i])])


@contextmanager
def while_loop(b: ir.IRBuilder, condition: Callable[[], ir.Value]) -> Iterator[None]:
    """while (condition) ...; leaves the builder after the loop."""
    head, body, after = (b.append_basic_block(name) for name in ("head", "body", "after"))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(condition(), body, after)
    b.position_at_end(body)
    yield
    b.branch(head)
    b.position_at_end(after)


@lru_cache(maxsize=4096)
@lru_cache(4096)
def i64(value: int) -> ir.Constant:
    """A number, made once: it keeps its text."""
    return ir.Constant(I64, value)


def least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """min(x, y), signed."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def stack(b: ir.IRBuilder, kind: ir.Type, align: int | None = None, block: ir.Block | None = None) -> ir.Value:
    """Memory of the function's frame, as an untyped pointer; in `block` (the entry) or where the builder stands."""
    if block is not None and block is not b.block:
        with b.goto_block(block):
            return stack(b, kind, align)
    slot = b.alloca(kind)
    slot.align = align
    slot.type = PTR  # llvmlite's typed pointer would not do as an untyped operand
    return slot
