"""Modules to object code: the same bytes on every run and thread, equal text once, and refusals that are named."""

from __future__ import annotations

import re
import threading

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from tjit.codegen.llvm import objects
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.objects import assembly, compile_module, compile_modules, module_text, optimized_text
from tjit.codegen.llvm.packing import Packing, emit_packing
from tjit.codegen.llvm.target import TARGETS, Target, host_target, named_target
from tjit.codegen.llvm.text import print_module
from tjit.codegen.llvm.threads import emit_threads
from tjit.dtypes import f16, f32
from tjit.errors import CodegenError


def emit(name: str) -> ir.Module:
    i64 = ir.IntType(64)
    module = ir.Module(name, context=ir.Context())
    function = ir.Function(module, ir.FunctionType(i64, [i64]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    slot = builder.alloca(i64)
    builder.store(builder.add(function.args[0], i64(1)), slot)
    builder.ret(builder.load(slot, typ=i64))
    return module


@pytest.mark.parametrize(
    "module",
    [
        emit("f"),
        emit_packing(Packing(f16, f32, 14, "k"), named_target("x86-64-v4")),
        emit_threads("x86_64"),
        emit_threads("aarch64"),
    ],
    ids=lambda module: module.name,
)
def test_modules_print_as_llvmlite_prints_them(module):
    assert print_module(module).text == str(module)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_gives_an_object_of_its_machine(name):
    data = compile_module(emit("f"), named_target(name))

    assert data[:4] == b"\x7fELF"
    assert data[18] == {"x86_64": 62, "aarch64": 183}[named_target(name).architecture]


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("order", ["rows", "k", "any"])
def test_what_hides_an_index_from_loop_strength_reduction_costs_no_instruction(name, order):
    module = emit_packing(Packing(f16, f32, 16, order), named_target(name))
    assert "llvm.bswap" in str(module)

    text = assembly(module, named_target(name))

    assert not re.search(r"\b(bswap|movbe|rev)\w*\b", text)


def test_the_same_module_gives_the_same_bytes():
    assert compile_module(emit("f"), host_target()) == compile_module(emit("f"), host_target())


def instructions(kind: type[ir.IRBuilder]) -> str:
    """A function with one of every instruction that `Builder` writes itself."""
    pointer, lanes = ir.PointerType(), ir.VectorType(ir.FloatType(), 4)
    module = ir.Module("m", context=ir.Context())
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, lanes, ir.IntType(64)]), "f")
    p, v, n = function.args
    b = kind(function.append_basic_block("entry"))
    for name in ("shl", "lshr", "ashr", "add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "and_", "or_", "xor"):
        n = getattr(b, name)(n, ir.IntType(64)(3), "named" if name == "mul" else "")
    n = b.add(n, n, flags=("nsw",))
    for name in ("fadd", "fsub", "fmul", "fdiv", "frem"):
        v = getattr(b, name)(v, v, flags=("reassoc",))
    v = b.select(b.fcmp_ordered("<", b.fneg(v), v), v, b.sitofp(b.fptosi(v, ints := lanes_of(32)), lanes))
    b.fcmp_unordered("uno", v, v)
    one = b.extract_element(v, ir.IntType(32)(1), "one")
    v = b.insert_element(v, b.fptrunc(b.fpext(one, ir.DoubleType()), ir.FloatType()), ir.IntType(32)(2))
    b.store(
        b.shuffle_vector(v, v, ir.Constant(ints, [3, 2, 1, 0])), b.gep(p, [n], source_etype=ir.FloatType()), align=4
    )
    b.store(b.zext(b.trunc(n, ir.IntType(8)), ir.IntType(64)), b.gep(p, [n], inbounds=True, source_etype=ir.IntType(8)))
    b.bitcast(b.load(p, typ=lanes, align=16), ints)
    b.inttoptr(b.ptrtoint(p, ir.IntType(64)), pointer)
    fma = ir.Function(module, ir.FunctionType(lanes, [lanes] * 3), "llvm.fma.v4f32")
    b.call(fma, [v, v, v])
    with b.if_then(b.or_(b.icmp_signed("<=", n, n), b.icmp_unsigned("!=", p, p))):
        b.call(function, [p, v, b.sext(ir.IntType(32)(1), ir.IntType(64))])
    b.ret_void()
    return str(module) if kind is ir.IRBuilder else print_module(module).text


def lanes_of(bits: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(bits), 4)


def test_the_builder_writes_what_llvmlite_does():
    lines, expected = (instructions(kind).splitlines() for kind in (Builder, ir.IRBuilder))

    assert [line.rstrip() for line in lines] == [line.rstrip() for line in expected]


def test_the_builder_refuses_operands_of_two_types():
    function = ir.Function(ir.Module(context=ir.Context()), ir.FunctionType(ir.VoidType(), [ir.IntType(64)]), "f")
    b = Builder(function.append_basic_block())

    with pytest.raises(TypeError, match="operands of one type are wanted, not i64 and i32"):
        b.add(function.args[0], ir.IntType(32)(1))


def test_module_and_text_are_the_same():
    text = module_text(emit("f"), host_target())

    assert compile_module(text, host_target()) == compile_module(emit("f"), host_target())


def test_modules_come_back_in_order():
    names = [f"f{i}" for i in range(12)]
    alone = [data for name in names for data in compile_modules([emit(name)], host_target())]

    assert compile_modules([emit(name) for name in names], host_target(), threads=3) == alone
    assert compile_modules([emit(name) for name in names], host_target(), threads=1) == alone
    assert compile_modules([], host_target()) == []


def test_equal_text_is_compiled_once(monkeypatch):
    compiled: list[str] = []
    original = compile_module

    def count(module: str, target: Target, *, scalar: bool = False) -> bytes:
        compiled.append(module)
        return original(module, target, scalar=scalar)

    monkeypatch.setattr(objects, "compile_module", count)
    first, second, third = compile_modules([emit("f"), emit("g"), emit("f")], host_target())

    assert "".join(compiled).count("define ") == 2
    assert first == third != second


def test_many_threads_compile_at_once():
    expected = {name: compile_module(emit(name), host_target()) for name in ("f", "g")}
    found: list[bool] = []

    def work(name: str) -> None:
        found.extend(compile_module(emit(name), host_target()) == expected[name] for _ in range(20))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("f", "g") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 120


def test_stack_slots_become_registers():
    assert "alloca" not in optimized_text(emit("f"), host_target())


def test_scalar_loops_are_vectorized_on_request():
    text = """
    define void @f(ptr noalias %x, ptr noalias %y, i64 %n) {
      br label %loop
    loop:
      %i = phi i64 [ 0, %0 ], [ %next, %loop ]
      %p = getelementptr float, ptr %x, i64 %i
      %v = load float, ptr %p
      %w = fadd float %v, 1.0
      %q = getelementptr float, ptr %y, i64 %i
      store float %w, ptr %q
      %next = add nuw i64 %i, 1
      %more = icmp ult i64 %next, %n
      br i1 %more, label %loop, label %done
    done:
      ret void }
    """
    target = host_target()
    text = f'target triple = "{target.triple}"\n{text}'

    assert "x float>" in optimized_text(text, target, scalar=True)
    assert "x float>" not in optimized_text(text, target)


def test_assembly_is_text_of_the_target():
    assert "ret" in assembly(emit("f"), named_target("aarch64"))
    assert "lea" in assembly(emit("f"), named_target("x86-64"))


def test_text_that_does_not_parse_is_named():
    with pytest.raises(CodegenError, match=r"LLVM cannot parse a module: .*expected top-level entity"):
        compile_module("not llvm", host_target())


def test_a_module_that_does_not_verify_is_named():
    module = "define void @f() { ret void }\n!llvm.module.flags = !{!0}\n!0 = !{i32 1}"

    with pytest.raises(CodegenError, match=r"LLVM refuses a module: .*module flag"):
        compile_module(module, host_target())


def test_errors_leave_the_compiler_usable():
    with pytest.raises(CodegenError):
        compile_modules(["bad", "worse"], host_target(), threads=2)

    assert compile_module(emit("f"), host_target())[:4] == b"\x7fELF"
    assert llvm.get_global_context() is not None
