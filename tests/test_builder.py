"""The builder writes what a block computes once, and nothing that adds nothing."""

import llvmlite.ir as ir
import pytest

import tjit
from tjit.codegen.llvm.builder import Builder, function_module
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, i64, splat

KIND = ir.FunctionType(ir.VoidType(), [I64, I64, PTR])


@pytest.fixture
def place():
    with function_module("f", KIND, "x86_64-unknown-linux-gnu") as (_, b, function):
        yield b, *function.args


def test_what_a_block_has_computed_is_not_computed_again(place):
    b, x, y, pointer = place

    assert b.mul(x, y) is b.mul(x, y)
    assert b.gep(pointer, [x], source_etype=I64) is b.gep(pointer, [x], source_etype=I64)
    assert splat(b, x, 8) is splat(b, x, 8)
    assert b.icmp_signed("<", x, y) is b.icmp_signed("<", x, y)


def test_what_differs_is_computed_apart(place):
    b, x, y, pointer = place

    assert b.mul(x, y) is not b.mul(y, x)
    assert b.add(x, y) is not b.add(x, y, flags=("nsw",))
    assert b.gep(pointer, [x], source_etype=I64) is not b.gep(pointer, [x], source_etype=ir.FloatType())
    assert b.icmp_signed("<", x, y) is not b.icmp_unsigned("<", x, y)
    assert b.load(pointer, typ=I64) is not b.load(pointer, typ=I64)  # memory may have changed


def test_other_blocks_compute_anew(place):
    b, x, y, _ = place
    first = b.mul(x, y)
    other = b.append_basic_block("other")
    b.branch(other)
    b.position_at_end(other)

    assert b.mul(x, y) is not first


def test_what_stands_behind_is_not_taken(place):
    b, x, y, pointer = place
    load = b.load(pointer, typ=I64)
    late = b.mul(x, y)
    b.position_before(load)

    early = b.mul(x, y)

    assert early is not late
    assert b.block.instructions.index(early) < b.block.instructions.index(load)


def test_a_block_that_ends_takes_more_before_its_end(place):
    b, x, y, _ = place
    entry = b.block
    first = b.mul(x, y)
    after = b.append_basic_block("after")
    b.branch(after)
    b.position_at_end(after)

    with b.goto_block(entry):
        assert b.mul(x, y) is first
        assert entry.instructions.index(b.add(x, y)) < len(entry.instructions) - 1


@pytest.mark.parametrize(
    "neutral",
    [
        lambda b, x: b.add(x, i64(0)),
        lambda b, x: b.add(i64(0), x),
        lambda b, x: b.sub(x, i64(0)),
        lambda b, x: b.mul(x, i64(1)),
        lambda b, x: b.mul(i64(1), x),
        lambda b, x: b.udiv(x, i64(1)),
        lambda b, x: b.sdiv(x, i64(1)),
    ],
)
def test_what_leaves_a_number_as_it_is_is_not_written(place, neutral):
    b, x, _, _ = place

    assert neutral(b, x) is x


def test_what_changes_a_number_is_written(place):
    b, x, _, pointer = place

    assert b.sub(i64(0), x) is not x
    assert b.udiv(i64(1), x) is not x
    assert b.gep(pointer, [i64(0)], source_etype=I64) is pointer
    assert b.gep(pointer, [i64(1)], source_etype=I64) is not pointer


@pytest.mark.parametrize(("stop", "branches"), [(16, 0), (17, 2), (0, 2)])
def test_a_loop_that_runs_once_is_its_body(stop: int, branches: int) -> None:
    module = ir.Module(context=ir.Context())
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), "f")
    b = Builder(function.append_basic_block())
    with counted_loop(b, i64(0), i64(stop), i64(16)) as i:
        b.store(i, function.args[0])
    b.ret_void()

    assert str(module).count("br ") == branches


def test_quotients_of_what_is_not_negative_are_one_instruction() -> None:
    """Of pooled rows: which window a position belongs to, and where in it."""

    def gradient(x: tjit.Tensor) -> tjit.Tensor | None:
        x = x.detach().requires_grad_()
        tjit.nn.functional.avg_pool2d(x, 2).pow(2).sum().backward()
        return x.grad

    text = tjit.compile(gradient).lower(tjit.zeros(2, 6, 28, 28)).text("llvm")

    assert " udiv i64 " in text
    assert " sdiv i64 " not in text
