"""Functions that LLVM spends no time on lie in modules of nothing else, beside what it is to optimise."""

from __future__ import annotations

import ctypes

import llvmlite.ir as ir

from tjit.codegen.llvm.objects import compile_module, module_text
from tjit.codegen.llvm.plain import plain_function, take_optimised
from tjit.codegen.llvm.target import host_target
from tjit.runtime.image import load
from tjit.runtime.link import link

_I64 = ir.IntType(64)
_UNARY = ir.FunctionType(_I64, [_I64])


def _module(*, with_constant: bool = False) -> ir.Module:
    """`twice(x)` is plain and calls `add_one`, which is not, two times; `add_one` calls `one`, which is elsewhere."""
    module = ir.Module(name="twice", context=ir.Context())
    module.triple = host_target().triple
    one = ir.Function(module, ir.FunctionType(_I64, []), "one")
    twice, add_one = plain_function(module, _UNARY, "twice"), ir.Function(module, _UNARY, "add_one")
    add_one.linkage = "internal"
    b = ir.IRBuilder(twice.append_basic_block())
    b.ret(b.call(add_one, [b.call(add_one, [twice.args[0]])]))
    b = ir.IRBuilder(add_one.append_basic_block())
    b.ret(b.add(add_one.args[0], b.call(one, [])))
    if with_constant:
        constant = ir.GlobalVariable(module, _I64, "constant")
        constant.linkage, constant.global_constant, constant.initializer = "internal", True, _I64(3)
    return module


def _one() -> ir.Module:
    module = ir.Module(name="one", context=ir.Context())
    one = ir.Function(module, ir.FunctionType(_I64, []), "one")
    ir.IRBuilder(one.append_basic_block()).ret(_I64(1))
    return module


def test_both_modules_together_are_what_one_was() -> None:
    module = _module()
    parts = take_optimised(module)
    assert parts is not None
    target = host_target()
    texts = module_text(module, target), module_text(parts, target)
    assert [line.split("@")[1][:9] for line in texts[0].splitlines() if line.startswith("define ")] == ['"twice"(i']
    assert [line.split("@")[1][:9] for line in texts[1].splitlines() if line.startswith("define ")] == ['"add_one"']
    loaded = load(link([compile_module(text, target) for text in (*texts, module_text(_one(), target))]))
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address("twice"))(40) == 42


def test_modules_of_one_kind_stay_whole() -> None:
    assert take_optimised(_one()) is None
    module = _module()
    assert take_optimised(module) is not None
    assert take_optimised(module) is None


def test_a_module_with_constants_stays_whole() -> None:
    assert take_optimised(_module(with_constant=True)) is None
