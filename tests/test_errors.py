"""What a user sees of a mistake: the message, the user's line with its text, and the fix."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit import nn
from tjit.errors import TjitError

T = tjit.ones
TRUTH = "hint: use tjit.where(condition, a, b), or decide outside of the compiled function"


def compiled(fn: Callable, *args: Any) -> Any:
    return tjit.compile(fn)(*args)


def outer(x: Any) -> Any:
    return inner(x) + 1


def inner(x: Any) -> Any:
    return x @ x  # the line that is wrong


def write_slice(x: Any, value: Any, start: Any) -> Any:
    x[start : start + 3] = value
    return x


# Generators run as Python: their conditions cannot become nodes.


def branch(x: Any) -> Any:
    if x.sum() > 0:
        yield x
    yield -x


def loop(x: Any) -> Any:
    while x.sum() > 0:
        x = x - 1
        yield x


def largest(x: Any) -> Any:
    yield max(x)


def total(x: Any) -> Any:
    yield float(x.sum())


def count(x: Any) -> Any:
    yield int(x.sum())


# name: what to run, then the text from its first word to its last, with `{line}` for the user's line
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "matmul": (
        lambda: T(4, 8) @ T(4, 8),
        RuntimeError,
        "matmul needs a's columns to equal b's rows: f32[4, 8] @ f32[4, 8] has 8 and 4\n"
        "  at test_errors.py:N: lambda: T(4, 8) @ T(4, 8),\n"
        "  hint: transpose one operand, for example b.T",
    ),
    "compiled matmul": (
        lambda: compiled(lambda a, b: a @ b, T(4, 8), T(4, 8)),
        RuntimeError,
        "matmul needs a's columns to equal b's rows: f32[4, 8] @ f32[4, 8] has 8 and 4\n"
        "  at test_errors.py:N: lambda: compiled(lambda a, b: a @ b, T(4, 8), T(4, 8)),\n"
        "  hint: transpose one operand, for example b.T",
    ),
    "nested helpers": (
        lambda: compiled(outer, T(2, 3)),
        RuntimeError,
        "matmul needs a's columns to equal b's rows: f32[2, 3] @ f32[2, 3] has 3 and 2\n"
        "  at test_errors.py:N: return x @ x  # the line that is wrong\n"
        "  hint: transpose one operand, for example b.T",
    ),
    "through functools": (
        lambda: compiled(lambda x: functools.reduce(lambda a, b: a @ b, [x, x]), T(2, 3)),
        RuntimeError,
        "matmul needs a's columns to equal b's rows: f32[2, 3] @ f32[2, 3] has 3 and 2\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: functools.reduce(lambda a, b: a @ b, [x, x]), T(2, 3)),\n"
        "  hint: transpose one operand, for example b.T",
    ),
    "broadcast": (
        lambda: T(3) + T(4),
        RuntimeError,
        "add needs shapes that broadcast: [3] and [4] differ in dim -1, 3 against 4\n"
        "  at test_errors.py:N: lambda: T(3) + T(4),",
    ),
    "two dtypes": (
        lambda: compiled(lambda x: np.exp(x) @ np.ones(7), T(2)),
        RuntimeError,
        "matmul needs operands of one dtype: f32[2] @ f64[7] has f32 and f64\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: np.exp(x) @ np.ones(7), T(2)),\n"
        "  hint: convert one with .to(dtype)",
    ),
    "if": (
        lambda: compiled(lambda x: list(branch(x)), T(2)),
        RuntimeError,
        "a bool[] tensor has no truth value while the function is captured\n"
        f"  at test_errors.py:N: if x.sum() > 0:\n  {TRUTH}",
    ),
    "while": (
        lambda: compiled(lambda x: list(loop(x)), T(2)),
        RuntimeError,
        "a bool[] tensor has no truth value while the function is captured\n"
        f"  at test_errors.py:N: while x.sum() > 0:\n  {TRUTH}",
    ),
    "max": (
        lambda: compiled(lambda x: list(largest(x)), T(2)),
        RuntimeError,
        "a bool[] tensor has no truth value while the function is captured\n"
        f"  at test_errors.py:N: yield max(x)\n  {TRUTH}",
    ),
    "item": (
        lambda: compiled(lambda x: x.sum().item(), T(2)),
        RuntimeError,
        "a f32[] tensor has no Python value while the function is captured\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: x.sum().item(), T(2)),\n"
        "  hint: keep .item() outside of the compiled function, or use the 0-d tensor itself",
    ),
    "float": (
        lambda: compiled(lambda x: list(total(x)), T(2)),
        RuntimeError,
        "a f32[] tensor has no Python value while the function is captured\n"
        "  at test_errors.py:N: yield float(x.sum())\n"
        "  hint: keep float(...) outside of the compiled function, or use .float()",
    ),
    "int": (
        lambda: compiled(lambda x: list(count(x)), T(2)),
        RuntimeError,
        "a f32[] tensor has no Python value while the function is captured\n"
        "  at test_errors.py:N: yield int(x.sum())\n"
        "  hint: keep int(...) outside of the compiled function, or use .long()",
    ),
    "numpy": (
        lambda: compiled(lambda x: x.numpy(), T(2)),
        RuntimeError,
        "a f32[2] tensor has no elements while the function is captured\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: x.numpy(), T(2)),\n"
        "  hint: use tjit's functions, or keep .numpy() outside of the compiled function",
    ),
    "asarray": (
        lambda: compiled(lambda x: np.asarray(x), T(2)),
        RuntimeError,
        "a f32[2] tensor has no elements while the function is captured\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: np.asarray(x), T(2)),\n"
        "  hint: use tjit's functions, or keep .numpy() outside of the compiled function",
    ),
    "tolist": (
        lambda: compiled(lambda x: x.tolist(), T(2)),
        RuntimeError,
        "a f32[2] tensor has no elements while the function is captured\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: x.tolist(), T(2)),\n"
        "  hint: keep .tolist() outside of the compiled function",
    ),
    "index of a list": (
        lambda: compiled(lambda i: [1, 2][i], tjit.tensor(1)),
        RuntimeError,
        "a i64[] tensor has no Python value while the function is captured\n"
        "  at test_errors.py:N: lambda: compiled(lambda i: [1, 2][i], tjit.tensor(1)),\n"
        "  hint: index a tensor with it: x[i]",
    ),
    "format": (
        lambda: compiled(lambda x: f"{x.sum():.3f}", T(1)),
        RuntimeError,
        "a f32[] tensor has no Python value while the function is captured\n"
        '  at test_errors.py:N: lambda: compiled(lambda x: f"{x.sum():.3f}", T(1)),\n'
        "  hint: print it outside of the compiled function, or without a format",
    ),
    "numpy's function": (
        lambda: compiled(lambda x: np.linalg.norm(x), T(2)),
        RuntimeError,
        "np.linalg.norm has no counterpart in tjit for a f32[2] tensor\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: np.linalg.norm(x), T(2)),\n"
        "  hint: write it with tjit's functions, or call it outside of the compiled function",
    ),
    "mask": (
        lambda: compiled(lambda x: x[x > 0], T(2)),
        RuntimeError,
        "indexing with a bool mask has a shape that depends on data\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: x[x > 0], T(2)),\n"
        "  hint: use tjit.where(mask, x, other), or multiply by the mask",
    ),
    "a string": (
        lambda: tjit.exp("a"),
        TypeError,
        'exp takes tensors and numbers, not str\n  at test_errors.py:N: lambda: tjit.exp("a"),\n'
        "  hint: make one with tjit.tensor(...)",
    ),
    "a list": (
        lambda: tjit.exp([1.0]),
        TypeError,
        "exp takes tensors and numbers, not list\n  at test_errors.py:N: lambda: tjit.exp([1.0]),\n"
        "  hint: make one with tjit.tensor(...)",
    ),
    "dim": (
        lambda: T(2, 3).sum(5),
        IndexError,
        "Dimension out of range (expected to be in range of [-2, 1], but got 5)\n"
        "  at test_errors.py:N: lambda: T(2, 3).sum(5),",
    ),
    "dim's type": (
        lambda: T(2, 3).sum("a"),
        TypeError,
        "a dim must be an int, not str 'a'\n  at test_errors.py:N: lambda: T(2, 3).sum(\"a\"),",
    ),
    "index": (
        lambda: T(3)[5],
        IndexError,
        "index 5 is out of bounds for dimension 0 with size 3\n  at test_errors.py:N: lambda: T(3)[5],",
    ),
    "compiled index": (
        lambda: compiled(lambda x: x[5], T(3)),
        IndexError,
        "index 5 is out of bounds for dimension 0 with size 3\n"
        "  at test_errors.py:N: lambda: compiled(lambda x: x[5], T(3)),",
    ),
    "index at run time": (
        lambda: compiled(lambda x, i: x[i], T(3), tjit.tensor([7])),
        IndexError,
        "index out of range\n  at test_errors.py:N: lambda: compiled(lambda x, i: x[i], T(3), tjit.tensor([7])),\n"
        "  hint: an index must be in [-n, n) for a dim of extent n",
    ),
    "embedding at run time": (
        lambda: compiled(lambda i, w: F.embedding(i, w), tjit.tensor([9]), T(3, 2)),
        IndexError,
        "index out of range\n"
        "  at test_errors.py:N: lambda: compiled(lambda i, w: F.embedding(i, w), tjit.tensor([9]), T(3, 2)),\n"
        "  hint: an index must be in [-n, n) for a dim of extent n",
    ),
    "linear": (
        lambda: nn.Linear(3, 4)(T(2, 5)),
        RuntimeError,
        "linear needs input's last dim to equal weight's: f32[2, 5] and weight f32[4, 3] have 5 and 3\n"
        "  at test_errors.py:N: lambda: nn.Linear(3, 4)(T(2, 5)),\n  hint: weight is [out_features, in_features]",
    ),
    "reshape": (
        lambda: T(2, 3).reshape(4, 2),
        RuntimeError,
        "shape [4, 2] is invalid for the 6 elements of f32[2, 3]\n"
        "  at test_errors.py:N: lambda: T(2, 3).reshape(4, 2),",
    ),
    "split": (
        lambda: T(0).split([1, -1]),
        RuntimeError,
        "split sizes [1, -1] must not be negative\n  at test_errors.py:N: lambda: T(0).split([1, -1]),",
    ),
    "backward of nothing": (
        lambda: T(2).sum().backward(),
        RuntimeError,
        "the tensor does not require grad and does not have a grad_fn\n"
        "  at test_errors.py:N: lambda: T(2).sum().backward(),\n"
        "  hint: set requires_grad=True on what you differentiate with respect to, and do not compute under no_grad()",
    ),
    "backward of a vector": (
        lambda: (T(2, requires_grad=True) * 2).backward(),
        RuntimeError,
        "grad can be created implicitly only for scalar outputs, not for f32[2]\n"
        "  at test_errors.py:N: lambda: (T(2, requires_grad=True) * 2).backward(),\n"
        "  hint: reduce it, for example with .sum(), or pass a gradient",
    ),
    "a leaf": (
        lambda: T(2, requires_grad=True).add_(1),
        RuntimeError,
        "a leaf tensor that requires grad is being used in an in-place operation\n"
        "  at test_errors.py:N: lambda: T(2, requires_grad=True).add_(1),\n"
        "  hint: wrap the update in `with tjit.no_grad():`",
    ),
    "ints with gradients": (
        lambda: tjit.tensor([1], requires_grad=True),
        RuntimeError,
        "only float tensors can require gradients, not i64[1]\n"
        "  at test_errors.py:N: lambda: tjit.tensor([1], requires_grad=True),",
    ),
    "a set": (
        lambda: compiled(lambda x: x, {1}),
        RuntimeError,
        "an argument of type set cannot be part of a compiled function's signature\n"
        "  at test_errors.py:N: return tjit.compile(fn)(*args)\n"
        "  hint: pass tensors, arrays, numbers, strings, or lists, tuples, dicts and dataclasses of them",
    ),
    "no function": (
        lambda: tjit.compile(3),
        ValueError,
        "compile takes a function, not int 3\n  at test_errors.py:N: lambda: tjit.compile(3),",
    ),
    "stage": (
        lambda: tjit.compile(inner).lower(T(1, 1)).text("nope"),
        ValueError,
        "no stage 'nope'\n"
        '  at test_errors.py:N: lambda: tjit.compile(inner).lower(T(1, 1)).text("nope"),\n'
        "  hint: one of graph, passes, schedule, llvm, asm, triton, ptx",
    ),
    "dtype": (
        lambda: tjit.zeros(2, dtype="nope"),
        TypeError,
        "tjit has no dtype 'nope'\n"
        '  at test_errors.py:N: lambda: tjit.zeros(2, dtype="nope"),\n'
        "  hint: convert to one of bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64",
    ),
    "device": (
        lambda: T(2).to("mars"),
        ValueError,
        "no device 'mars'\n  at test_errors.py:N: lambda: T(2).to(\"mars\"),\n  hint: use 'cpu', 'cuda' or 'cuda:0'",
    ),
    "dtype for a device": (
        lambda: T(2).to("float16"),
        ValueError,
        "no device 'float16'\n"
        '  at test_errors.py:N: lambda: T(2).to("float16"),\n'
        "  hint: a dtype is given as tjit.float16",
    ),
    "device of random numbers": (
        lambda: tjit.rand_like(T(2), device="mars"),
        ValueError,
        "no device 'mars'\n"
        '  at test_errors.py:N: lambda: tjit.rand_like(T(2), device="mars"),\n'
        "  hint: use 'cpu', 'cuda' or 'cuda:0'",
    ),
    "no call to lower": (
        lambda: tjit.compile(inner).lower(),
        ValueError,
        "there is no call of inner to look into: missing a required argument: 'x'\n"
        "  at test_errors.py:N: lambda: tjit.compile(inner).lower(),\n"
        "  hint: give the arguments of a call, of inner(x: 'Any') -> 'Any'",
    ),
    "no call to explain": (
        lambda: tjit.explain(inner, T(2), scale=3),
        ValueError,
        "there is no call of inner to look into: got an unexpected keyword argument 'scale'\n"
        "  at test_errors.py:N: lambda: tjit.explain(inner, T(2), scale=3),\n"
        "  hint: give the arguments of a call, of inner(x: 'Any') -> 'Any'",
    ),
    "slice of computed extent": (
        lambda: tjit.compile(write_slice)(T(5), T(3), tjit.tensor(1)),
        RuntimeError,
        "shape mismatch: value tensor f32[3] cannot be broadcast to indexing result f32[-u0 + max(u0, u1)]\n"
        "  at test_errors.py:N: x[start : start + 3] = value\n"
        "  hint: how many elements a slice has is not known where its bounds are tensors: "
        "write x[start + tjit.arange(3)] = value",
    ),
    "integer division in place": (
        lambda: tjit.tensor([1]).div_(2),
        RuntimeError,
        "result type f32 can't be cast to the type written to, i64\n"
        "  at test_errors.py:N: lambda: tjit.tensor([1]).div_(2),\n"
        "  hint: convert one with .to(dtype), or use the out-of-place form",
    ),
}  # fmt: skip


def without_number(text: str) -> str:
    """The text with `N` for the number of the line."""
    head, colon, rest = text.partition("test_errors.py:")
    return head + colon + ("N" + rest.lstrip("0123456789") if colon else "")


@pytest.mark.parametrize("name", WRONG)
def test_message_line_and_hint(name):
    call, builtin, text = WRONG[name]
    with pytest.raises(TjitError) as caught:
        call()
    assert without_number(str(caught.value)) == text
    assert isinstance(caught.value, builtin)


@pytest.mark.parametrize(
    "call",
    [
        lambda: T(2) + "a",
        lambda: T(2) @ {},
        lambda: compiled(lambda x: x, T(1), T(1)),
        lambda: compiled(lambda x, y: x, T(1)),
    ],
)
def test_python_refuses_as_it_does(call):
    with pytest.raises(TypeError):
        call()


def test_an_index_at_run_time_names_the_line_each_time():
    @tjit.compile
    def pick(x, i):
        y = x * 2
        return y[i] + 1

    pick(T(3), tjit.tensor([1]))
    for _ in range(4):
        with pytest.raises(IndexError, match=r"test_errors.py:\d+: return y\[i\] \+ 1"):
            pick(T(3), tjit.tensor([-4]))
        assert pick(T(3), tjit.tensor([-3])).tolist() == [3]


def test_a_function_without_source():
    names: dict[str, Any] = {"tjit": tjit}
    exec("def f(x):\n    return x * 2\n\ndef g(x):\n    return x.sum(5)\n", names)

    assert compiled(names["f"], T(2)).tolist() == [2, 2]
    with pytest.raises(IndexError) as caught:
        compiled(names["g"], T(2))
    assert str(caught.value).splitlines()[1] == "  at <string>:5"


def test_a_program_without_a_file():
    code = "import tjit; f = tjit.compile(lambda x: x @ x); print(f(tjit.ones(1, 1)).tolist()); f(tjit.ones(2, 3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[[1.0]]\n"
    assert "  at <string>:1\n  hint: transpose one operand" in done.stderr
