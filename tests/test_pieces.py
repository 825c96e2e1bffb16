"""Modules compiled together and taken apart again are the modules compiled alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
import pytest

import tjit
from tjit import nn
from tjit.codegen.llvm.elf import STB_GLOBAL, ElfObject, Symbol, write_object
from tjit.codegen.llvm.module import _all_units
from tjit.codegen.llvm.objects import Compilation, compile_module, compile_modules
from tjit.codegen.llvm.pieces import join, take_apart
from tjit.codegen.llvm.target import Target, host_target, named_target
from tjit.codegen.llvm.text import Printed, print_module
from tjit.errors import CodegenError
from tjit.runtime.image import load
from tjit.runtime.link import link

F32, F64, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(64)


def attention(q: tjit.Tensor) -> tjit.Tensor:
    return nn.functional.scaled_dot_product_attention(q, q, q)


def image(x: tjit.Tensor, w: tjit.Tensor) -> tjit.Tensor:
    y = nn.functional.max_pool2d(nn.functional.conv2d(x, w, padding=1).relu(), 2)
    return tjit.softmax(y.flatten(1) @ y.flatten(1).mT, dim=1)


def mixed(x: tjit.Tensor, i: tjit.Tensor) -> tuple[tjit.Tensor, ...]:
    sums = x.sum(0), x.double().sum(1).tanh(), x.half().exp().mean(0), x.amax(1), x.argmax(0)
    return *sums, x.double().sin().pow(1.5), i.cumsum(1), i.sort(dim=0)[0]


PROGRAMS: list[tuple[Callable[..., Any], tuple[tjit.Tensor, ...]]] = [
    (attention, (tjit.zeros(2, 3, 37, 16),)),
    (image, (tjit.zeros(3, 5, 14, 14), tjit.zeros(7, 5, 3, 3))),
    (mixed, (tjit.zeros(33, 70), tjit.zeros(40, 21, dtype=tjit.int32))),
]


def modules_of(number: int, target: Target) -> list[Printed]:
    """What a program is linked from that can be compiled together."""
    program, inputs = PROGRAMS[number]
    plan = tjit.compile(program).lower(*inputs).schedule()
    modules = [unit.emit() for unit in _all_units(plan, target) if not unit.scalar]
    printed = [print_with_target(module, target) for module in modules]
    return [each for each in printed if each.is_functions and not each.is_plain]


def print_with_target(module: ir.Module, target: Target) -> Printed:
    module.triple = target.triple
    return print_module(module)


def pieces(modules: Sequence[Printed], target: Target) -> list[bytes] | None:
    return take_apart(compile_module(join(modules), target), len(modules))


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3", "x86-64", "aarch64"])
@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=lambda i: PROGRAMS[i][0].__name__)
def test_objects_do_not_depend_on_what_was_compiled_together(number: int, name: str) -> None:
    target = named_target(name)
    modules = modules_of(number, target)
    assert len(modules) > 2

    alone = [pieces([module], target) for module in modules]
    turned = pieces(modules[::-1], target)

    assert pieces(modules, target) == [data for piece in alone for data in piece or ()]
    assert turned is not None
    assert [turned[::-1][i : i + 1] for i in range(len(modules))] == alone


def constant(name: str, lanes: int, element: ir.Type = F32) -> ir.Module:
    """A function that stores the vector 0, 1, 2, ... of so many lanes."""
    kind = ir.VectorType(element, lanes)
    module = ir.Module(name, context=ir.Context())
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.store(ir.Constant(kind, [element(float(i)) for i in range(lanes)]), function.args[0], align=4)
    builder.ret_void()
    return module


@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 8, 16, 17, 40])
@pytest.mark.parametrize("element", [F32, F64], ids=str)
def test_constants_of_any_size_stay_whose_they_are(lanes: int, element: ir.Type) -> None:
    kind = ctypes.c_float if element is F32 else ctypes.c_double
    sizes = {"f": lanes, "g": 16, "h": lanes + 1}
    parts = compile_modules([constant(name, n, element) for name, n in sizes.items()], host_target(), threads=1)
    loaded = load(link(parts))

    for name, n in sizes.items():
        found = (kind * n)()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(loaded.address(name))(found)

        assert list(found) == [float(i) for i in range(n)]


def test_modules_with_data_of_their_own_are_compiled_alone() -> None:
    def counting(name: str) -> ir.Module:
        module = ir.Module(name, context=ir.Context())
        table = ir.GlobalVariable(module, ir.ArrayType(I64, 3), "table")
        table.linkage, table.global_constant, table.initializer = "internal", True, table.value_type([1, 2, 3])
        function = ir.Function(module, ir.FunctionType(I64, [I64]), name)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        at = builder.gep(table, [I64(0), function.args[0]], source_etype=table.value_type)
        builder.ret(builder.load(at, typ=I64))
        return module

    loaded = load(link(compile_modules([counting("f"), counting("g")], host_target(), threads=1)))

    for name in "fg":
        assert [ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address(name))(i) for i in range(3)] == [
            1,
            2,
            3,
        ]


def test_constants_that_llvm_no_longer_reads_are_left_out() -> None:
    """Of lanes 0, 1, 0, 1, ... LLVM reads a few, and leaves all sixteen in the object too."""

    def alternating(name: str) -> ir.Module:
        element = ir.IntType(32)
        kind = ir.VectorType(element, 16)
        module = ir.Module(name, context=ir.Context())
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()] * 2), name)
        b = ir.IRBuilder(function.append_basic_block("entry"))
        x, y = function.args
        b.store(b.sub(ir.Constant(kind, [element(i % 2) for i in range(16)]), b.load(x, typ=kind)), y, align=4)
        b.ret_void()
        return module

    target = named_target("x86-64-v4")
    alone = [pieces([print_with_target(alternating(name), target)], target) for name in "fg"]
    together = pieces([print_with_target(alternating(name), target) for name in "fg"], target)

    assert together is not None
    assert [[data] for data in together] == alone
    read = ElfObject(together[0])
    assert sum(s.size for s in read.sections if s.name == ".rodata") <= 16


def test_the_module_that_llvm_refuses_is_the_one_that_fails() -> None:
    def wrong(name: str) -> ir.Module:
        module = constant(name, 4)
        ir.IRBuilder(next(iter(module.functions)).append_basic_block("dead"))  # without an end
        return module

    with Compilation(host_target(), threads=1) as work:
        jobs = [work.add(constant("f", 3)), work.add(wrong("g")), work.add(constant("h", 5))]
        work.finish()

    assert [job.error is None for job in jobs] == [True, False, True]
    with pytest.raises(CodegenError, match="LLVM"):
        jobs[1].result()


def test_functions_of_one_name_are_not_joined() -> None:
    with Compilation(host_target(), threads=1) as work:
        jobs = [work.add(constant("f", 3)), work.add(constant("f", 5))]
        work.finish()

    assert len({job.result() for job in jobs}) == 2


def test_calls_between_joined_modules_are_declared_once() -> None:
    caller = ir.Module("caller", context=ir.Context())
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
    function = ir.Function(caller, kind, "caller")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.call(ir.Function(caller, kind, "f"), function.args)
    builder.ret_void()

    text = join([print_module(caller), print_module(constant("f", 16))])

    assert text.count("declare") == 0
    assert text.count("define") == 2


def test_what_is_written_is_read() -> None:
    functions = [Symbol("f", STB_GLOBAL, 0, 2, 1, 16), Symbol("hidden", STB_GLOBAL, 2, 2, 1, 0)]
    data = write_object(
        62, (b"\xc3" * 20, 16), (b"abcd", 4), functions, [(3, 2, None, -4), (7, 4, "out", 5), (9, 4, "f", 0)]
    )

    read = ElfObject(data)
    text, table, constants = read.sections[1:4]
    found = [(offset, kind, symbol.name, addend) for offset, kind, symbol, addend in read.relocations(table)]

    assert (bytes(text.data), text.align, bytes(constants.data), constants.align) == (b"\xc3" * 20, 16, b"abcd", 4)
    assert found == [(3, 2, "", -4), (7, 4, "out", 5), (9, 4, "f", 0)]
    assert [s for s in read.symbols if s.section == 1] == functions
    assert read.relocations(table).__next__()[2].section == 3
