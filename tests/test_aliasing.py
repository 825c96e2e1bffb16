"""Memory that is shared: what compiled functions write and return lies where eager, and PyTorch, have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tjit
from tjit.errors import ArgumentError, AutogradError, CaptureError, TjitError

CALLS = 4  # the first captures, the second is Python's, the native entry serves the others


def tensors(value: Any) -> list[Any]:
    """The tensors in a result."""
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in tensors(v)]
    return [value] if hasattr(value, "shape") else []


def array(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.detach().numpy()


def grid(m: Any) -> Any:
    """A 3 by 4 matrix of tjit, torch or NumPy."""
    return np.arange(12, dtype=np.float32).reshape(3, 4) if m is np else m.arange(12.0).reshape(3, 4)


# -- results -----------------------------------------------------------------------------------------------------------

RESULTS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.t(),
    "rows": lambda x: x[1:],
    "every other column": lambda x: x[:, ::2],
    "another shape": lambda x: x.view(4, 3),
    "one row": lambda x: x[1],
    "one element": lambda x: x[1, 2],
    "a chain": lambda x: x[1:].t()[::2].unsqueeze(0),
    "reshaped where that copies": lambda x: x.t().reshape(-1),
    "contiguous already": lambda x: x.contiguous(),
    "expanded": lambda x: x[0].expand(3, 4),
    "unbound": lambda x: x.unbind(0),
    "split": lambda x: x.split(2, 1),
    "chunks": lambda x: x.chunk(2, 1),
    "a diagonal": lambda x: x.diagonal(),
    "detached": lambda x: x.detach(),
    "cloned": lambda x: x.clone(),
    "in a dict": lambda x: {"view": x[0], "new": x * 2},
    "of what was written": lambda x: (x.t().mul_(2), x[0])[1],
    "of a result": lambda x: (lambda y: (y, y.t(), y[1:]))(x * 2),
    "to its own dtype": lambda x: x.float(),
    "widened": lambda x: x.double(),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_share_memory_where_torchs_do(name):
    fn = RESULTS[name]
    f = tjit.compile(fn)

    for _ in range(CALLS):
        ours, theirs = grid(tjit), grid(torch)
        got, want = tensors(f(ours)), tensors(fn(theirs))
        assert [t.tolist() for t in got] == [t.tolist() for t in want]
        shared = [[np.shares_memory(array(t), array(x)) for t in r] for r, x in ((got, ours), (want, theirs))]
        assert shared[0] == shared[1]
        among = [[np.shares_memory(array(a), array(b)) for a in r for b in r] for r in (got, want)]
        assert among[0] == among[1]


@pytest.mark.parametrize("name", [n for n in RESULTS if n not in ("expanded",)])
def test_what_is_written_to_a_result_is_written_where_torch_writes_it(name):
    fn = RESULTS[name]
    f = tjit.compile(fn)

    for _ in range(CALLS):
        ours, theirs = grid(tjit), grid(torch)
        for m, x, call in ((tjit, ours, f), (torch, theirs, fn)):
            with m.no_grad():
                tensors(call(x))[0].add_(100)
        assert ours.tolist() == theirs.tolist()


def test_sizes_of_the_call_are_those_of_the_view():
    f = tjit.compile(lambda x: x[1:].t())

    for n in (3, 4, 5, 6, 2, 1):
        x = tjit.arange(2.0 * n).reshape(n, 2)
        y = f(x)
        assert y.tolist() == x[1:].t().tolist()
        y.add_(1)
        assert x.tolist() == [[0, 1], *[[2 * i + 1, 2 * i + 2] for i in range(1, n)]]

    assert f.cache_info().misses <= 4


def test_views_of_an_argument_are_on_its_tape():
    f = tjit.compile(lambda w: (w[0], (w * w).sum()))

    for _ in range(CALLS):
        w = tjit.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        row, total = f(w)
        assert row.requires_grad
        (row.sum() + total).backward()
        assert np.asarray(w.grad).tolist() == [[3, 5], [6, 8]]


def test_a_view_made_under_no_grad_is_not_on_the_tape():
    def fn(w):
        with tjit.no_grad():
            return w.t()

    w = tjit.ones(2, 3, requires_grad=True)
    assert not tjit.compile(fn)(w).requires_grad
    assert not fn(w).requires_grad


def test_a_view_of_a_tensor_from_outside():
    table = grid(tjit)
    f = tjit.compile(lambda: table[1:])

    for k in range(CALLS):
        f().fill_(k)
        assert table[1:].tolist() == [[k] * 4] * 2


def test_arrays_give_views_of_arrays():
    f = tjit.compile(lambda x: (x.T, x[1:], x[0, ::2], x * 2))

    for _ in range(CALLS):
        x = grid(np)
        results = f(x)
        assert [type(r) for r in results] == [np.ndarray] * 4
        assert [np.shares_memory(r, x) for r in results] == [True, True, True, False]
        for got, want in zip(results, (x.T, x[1:], x[0, ::2], x * 2), strict=True):
            np.testing.assert_array_equal(got, want)


# -- arguments that lie in memory in their own way ---------------------------------------------------------------------

STRIDED: dict[str, Callable[[Any], Any]] = {
    "plain": lambda b: b,
    "transposed": lambda b: b[0].t(),
    "one column": lambda b: b[:, :, 1],
    "some columns": lambda b: b[:, :, :2],
    "every other": lambda b: b[::2],
    "permuted": lambda b: b.permute(2, 0, 1),
}


def _reshaped_and_written(x: Any) -> Any:
    y = x.reshape(-1)
    y.mul_(2)
    return y


def _contiguous_and_written(x: Any) -> Any:
    y = x.contiguous()
    y.add_(1)
    return y


KEPT = (_reshaped_and_written, _contiguous_and_written, lambda x: (x.is_contiguous(), x + 1), lambda x: x.view(-1))


def _outcome(fn: Callable[[Any], Any], m: Any, make: Callable[[Any], Any]) -> Any:
    base = m.arange(48.0).reshape(4, 3, 4)
    try:
        result = fn(make(base))
    except RuntimeError:
        return "refused"
    return [t.tolist() for t in tensors(result)], base.tolist()


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("fn", KEPT)
def test_copies_of_strided_arguments_are_made_where_torch_makes_them(fn, dynamic):
    f = tjit.compile(fn, dynamic=dynamic)

    for _ in range(CALLS):
        for make in STRIDED.values():
            assert _outcome(f, tjit, make) == _outcome(fn, torch, make)


# -- writes ------------------------------------------------------------------------------------------------------------


def _rows(x: Any) -> None:
    for row in x.unbind(0):
        row.mul_(row[0] + 1)


def _swapped(x: Any) -> None:
    first = x[0].clone()
    x[0] = x[1]
    x[1] = first


def _shifted(x: Any) -> None:
    x[:, 1:] = x[:, :-1].clone()


def _read_between(x: Any) -> Any:
    view = x.t()
    before = view.sum()
    x += 1
    between = view.sum()
    view *= 2
    return before, between, x.sum()


def _twice(x: Any) -> None:
    x.view(-1)[3:9].add_(1)
    x[1:, 1:].t().mul_(2)


def _out_of(m: Any) -> Callable[[Any], Any]:
    return lambda x: m.mul(x[0], 2.0, out=x[1])


WRITES: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "in place": lambda m: lambda x: x.add_(1),
    "augmented": lambda m: lambda x: x.__iadd__(1),
    "an element": lambda m: lambda x: x.__setitem__((1, 2), 50.0),
    "a slice": lambda m: lambda x: x.__setitem__(slice(1, None), 50.0),
    "through t": lambda m: lambda x: x.t().__setitem__(0, 50.0),
    "through view": lambda m: lambda x: x.view(-1).mul_(2),
    "through a chain": lambda m: lambda x: x[1:].t()[::2].add_(7),
    "through unbind": lambda m: _rows,
    "through split": lambda m: lambda x: [p.mul_(i + 2) for i, p in enumerate(x.split(2, 1))],
    "through chunk": lambda m: lambda x: x.chunk(2, 1)[1].zero_(),
    "through select": lambda m: lambda x: x.select(1, 2).fill_(9),
    "through narrow": lambda m: lambda x: x.narrow(1, 1, 2).neg_(),
    "through squeeze": lambda m: lambda x: x[1:2].squeeze(0).add_(3),
    "through a diagonal": lambda m: lambda x: x.diagonal().fill_(-1),
    "through a diagonal of a view": lambda m: lambda x: x.t()[1:].diagonal(1).mul_(3),
    "through flatten": lambda m: lambda x: x.flatten().add_(3),
    "through what copies": lambda m: lambda x: x.t().reshape(-1).add_(3),
    "swapped rows": lambda m: _swapped,
    "shifted": lambda m: _shifted,
    "read between": lambda m: _read_between,
    "twice": lambda m: _twice,
    "out": _out_of,
    "out whole": lambda m: lambda x: m.exp(x / 10, out=x),
    "copy_": lambda m: lambda x: x[0].copy_(x[2]),
    "by a mask": lambda m: lambda x: x.__setitem__(x > 5, 0.0),
    "by positions": lambda m: lambda x: x.__setitem__(m.tensor([2, 0]), 5.0),
    "masked_fill_": lambda m: lambda x: x.masked_fill_(x > 6, -1.0),
    "clamp_": lambda m: lambda x: x.clamp_(2, 7),
    "index_add_": lambda m: lambda x: x.index_add_(0, m.tensor([0, 0]), m.ones(2, 4)),
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", WRITES)
def test_writes_reach_the_callers_memory_as_torchs_do(name, dynamic):
    ours, theirs = WRITES[name](tjit), WRITES[name](torch)
    f = tjit.compile(lambda x: ours(x), dynamic=dynamic)
    eager, x, y = grid(tjit), grid(tjit), grid(torch)

    for _ in range(CALLS):
        results = [tensors(r) for r in (ours(eager), f(x), theirs(y))]
        np.testing.assert_allclose(array(x), array(y), rtol=1e-6)
        np.testing.assert_allclose(array(x), array(eager), rtol=1e-6)
        for a, b in zip(results[1], results[2], strict=True):
            np.testing.assert_allclose(array(a), array(b), rtol=1e-6)


def test_a_compiled_write_counts_as_one_for_backward():
    w = tjit.tensor([1.0, 2.0], requires_grad=True)
    x = tjit.tensor([3.0, 4.0])
    write = tjit.compile(lambda x: x.add_(1))

    for _ in range(CALLS):
        y = (w * x).sum()
        write(x)
        with pytest.raises(AutogradError, match="modified by an in-place operation"):
            y.backward()


def test_a_compiled_write_through_a_view_counts_for_its_base_and_its_other_views():
    base = grid(tjit)
    write = tjit.compile(lambda row: row.mul_(2))

    for k in range(CALLS):
        other = base.t()
        w = tjit.ones(4, 3, requires_grad=True)
        y = (w * other).sum()
        write(base[1])
        assert other[:, 1].tolist() == [2.0 ** (k + 1) * v for v in (4, 5, 6, 7)]
        with pytest.raises(AutogradError, match="modified by an in-place operation"):
            y.backward()


# -- what backward needs and is written --------------------------------------------------------------------------------

SAVED: dict[str, Callable[[Any], Any]] = {
    "pow_": lambda x: (x * 1).pow_(3),
    "clamp_": lambda x: (x * 1).clamp_(0.4, 1.6),
    "mul_": lambda x: (x * 1).mul_(x),
    "relu_": lambda x: (x - 1).relu_(),
    "sqrt_": lambda x: (x * 2).sqrt_(),
    "div_": lambda x: (x * 2).div_(x + 1),
    "a slice": lambda x: _with_slice(x * 2),
}


def _with_slice(y: Any) -> Any:
    y[1:] *= 3
    y[0] = y[1] * 2
    return y


@pytest.mark.parametrize("name", SAVED)
def test_gradients_of_writes_are_torchs(name):
    fn = SAVED[name]
    values = [0.3, 1.5, 2.0]

    def run(call: Callable[[Any], Any], m: Any) -> Any:
        x = m.tensor(values, requires_grad=True)
        try:
            call(x).sum().backward()
        except RuntimeError:
            return "refused"
        return np.asarray(x.grad)

    f = tjit.compile(fn)
    want = run(fn, torch)
    for call in (fn, f, f, f):
        np.testing.assert_allclose(run(call, tjit), want, rtol=1e-5)


# -- arguments that overlap --------------------------------------------------------------------------------------------

PAIRS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "one tensor twice": lambda b: (b, b),
    "its view": lambda b: (b, b[:]),
    "part and whole": lambda b: (b[2:6], b[:4]),
    "interleaved": lambda b: (b[::2][:4], b[1::2][:4]),
    "apart": lambda b: (b[:4], b[4:8]),
    "touching": lambda b: (b[:4], b[3:7]),
    "crossing strides": lambda b: (b[::2][:4], b[:4]),
}

BOTH: dict[str, Callable[[Any, Any], Any]] = {
    "neither": lambda x, y: x * 2 + y,
    "the first": lambda x, y: x.__iadd__(y * 2),
    "the second": lambda x, y: y.__imul__(x + 1),
    "both": lambda x, y: (x.__iadd__(1), y.__imul__(3)),
    "one then read": lambda x, y: (x.__setitem__(slice(1, None), 5.0), y + 1)[1],
}


def _pair_outcome(fn: Callable[..., Any], base: Any, make: Callable[[Any], Any]) -> Any:
    try:
        result = fn(*make(base))
    except ArgumentError as error:
        return "refused" if "overlaps" in str(error) else str(error)
    return [array(t).tolist() for t in tensors(result)], array(base).tolist()


@pytest.mark.parametrize("make", [tjit.arange, np.arange], ids=["tensors", "arrays"])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("writes", BOTH)
def test_arguments_that_overlap_are_right_or_refused(writes, pair, make):
    fn = BOTH[writes]
    f = tjit.compile(lambda x, y: fn(x, y))

    for _ in range(CALLS):
        want = _pair_outcome(fn, make(10.0), PAIRS[pair])
        got = _pair_outcome(f, make(10.0), PAIRS[pair])
        assert got in (want, "refused")
        if writes == "neither" or pair in ("one tensor twice", "apart", "interleaved"):
            assert got == want


def test_a_program_made_for_separate_arguments_is_not_used_for_one_that_is_passed_twice():
    f = tjit.compile(lambda x, y: x.add_(y).add_(y))
    for _ in range(CALLS):
        a, b = tjit.ones(3), tjit.ones(3)
        assert f(a, b).tolist() == [3, 3, 3]
        assert f(a, a).tolist() == [12, 12, 12]  # 3 + 3 = 6, and 6 + 6


def test_a_parameter_and_its_view_as_an_argument():
    w = tjit.zeros(4)
    f = tjit.compile(lambda part: w.add_(1) * part.sum())

    assert f(tjit.ones(2)).tolist() == [2] * 4
    with pytest.raises(TjitError, match="overlaps"):
        f(w[:2])
    assert w.tolist() == [1] * 4


def test_a_result_lies_in_rows_whatever_its_operands_do():
    def write(x):
        y = x.t() * 2.0
        y.reshape(-1)[1:3] = 0.0
        return y

    x = grid(tjit)

    np.testing.assert_array_equal(array(tjit.compile(write)(x)), array(write(x)))
    assert write(x)[0].tolist()[1:] == [0.0, 0.0]


def _view_in_loop(x):
    u = x[:, 1]
    for _ in range(x.shape[0]):
        u += 0.25
    u *= 0.5
    return u


def _view_and_base_in_loop(x):
    u = x[:]
    for i in range(x.shape[0]):
        if x[i, 0] > 1:
            u[1:] -= 0.5 * u[:-1]
        x += 0.25
    return u


def _base_after_view_in_loop(x):
    u = x[1:]
    for _ in range(x.shape[0]):
        u += 0.25
        x *= 0.5
    return u


@pytest.mark.parametrize("f", [_view_in_loop, _view_and_base_in_loop, _base_after_view_in_loop])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_loop_writes_memory_by_two_names(f, dynamic):
    x, y = tjit.arange(30.0).reshape(6, 5) / 10, tjit.arange(30.0).reshape(6, 5) / 10

    wanted, found = f(x), tjit.compile(f, dynamic=dynamic)(y)

    np.testing.assert_allclose(array(found), array(wanted), rtol=1e-6)
    np.testing.assert_allclose(array(y), array(x), rtol=1e-6)


@pytest.mark.parametrize("f", [_view_in_loop, _view_and_base_in_loop, _base_after_view_in_loop])
def test_a_loop_writes_a_numpy_array_by_two_names(f):
    x = np.arange(30.0).reshape(6, 5) / 10
    y = x.copy()

    wanted, found = f(x), tjit.compile(f)(y)

    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(y, x, rtol=1e-12)


def _bound_anew(w):
    m = 0.5 * w
    row = m[0]
    for _ in range(5):
        row[-1:] = 0.25
        m = m.tanh()
    return m


def _bound_anew_in_some_trips(w):
    m = 0.5 * w
    row = m[0]
    for i in range(5):
        row[-1:] = 0.25
        if i % 3 == 1:
            continue
        m = w.tanh()
    return m


def _bound_anew_in_each_trip(w):
    m = 0.5 * w
    row = m[0]
    for _ in range(5):
        row *= 0.25
        m = w.tanh()
    return m + row


@pytest.mark.parametrize("function", [_bound_anew, _bound_anew_in_some_trips, _bound_anew_in_each_trip])
def test_a_loop_binds_a_variable_anew_whose_memory_it_writes_by_a_view(function, rng):
    w = rng.standard_normal((3, 3))

    def both(f):
        x = tjit.tensor(w, requires_grad=True)
        y = f(x)
        return y.detach(), tjit.autograd.grad(y.sum(), x)[0]

    for found, expected in zip(both(tjit.compile(function)), both(function), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-13)


def test_a_while_that_does_so_is_refused():
    @tjit.compile
    def f(w, n):
        m, i = 0.5 * w, n * 0
        row = m[0]
        while i < n:
            row[-1:] = 0.25
            m, i = m.tanh(), i + 1
        return m

    with pytest.raises(CaptureError, match="the loop changes m in place and then binds it to another tensor"):
        f(tjit.ones(3, 3), tjit.tensor(3))
