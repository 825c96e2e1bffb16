"""Reading and writing parts of tensors: like NumPy and PyTorch, eagerly and captured, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tjit
from tjit.capture.trace import trace_graph
from tjit.errors import ArgumentError, CaptureError, DimensionError, TypeRuleError
from tjit.ir.evaluate import evaluate
from tjit.ir.types import TensorType

try:
    import torch
except ImportError:
    torch: Any = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
EXTENTS = st.sampled_from([1, 2, 3, 5])


@st.composite
def basic_keys(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and a key of ints, slices, None and one ellipsis."""
    shape = tuple(draw(st.lists(EXTENTS, max_size=4)))
    key: list[Any] = []
    for n in shape:
        bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
        key.append(
            draw(
                st.one_of(
                    st.integers(-n, n - 1),
                    st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, 3])),
                    st.just(slice(None)),
                )
            )
        )
    for _ in range(draw(st.integers(0, 2))):
        key.insert(draw(st.integers(0, len(key))), None)
    whole = [i for i, part in enumerate(key) if part == slice(None)]
    if whole and draw(st.booleans()):
        key[draw(st.sampled_from(whole))] = Ellipsis
    return shape, tuple(key)


@st.composite
def advanced_keys(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and a key with integer arrays, masks and lists among ints and slices. No part is empty: PyTorch does not
    look at the positions then."""
    shape = tuple(draw(st.lists(EXTENTS, min_size=1, max_size=4)))
    count = draw(st.sampled_from([(), (3,), (2, 3)]))
    key: list[Any] = []
    for n in shape:
        positions = st.integers(-n, n - 1)
        array = st.lists(positions, min_size=6, max_size=6).map(
            lambda v: np.array(v[: max(int(np.prod(count)), 1)]).reshape(count)
        )
        parts = [array, positions, st.just(slice(None)), st.just(slice(0, None, 2))]
        if count == (3,):
            parts.append(st.lists(positions, min_size=3, max_size=3))
        if draw(st.booleans()) and draw(st.booleans()):
            key.append(None)
        key.append(draw(st.one_of(parts)))
    return shape, tuple(key)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def with_tensors(key: tuple[Any, ...], make: Any) -> tuple[Any, ...]:
    return tuple(make(part) if isinstance(part, np.ndarray) else part for part in key)


@settings(max_examples=300, deadline=None)
@given(basic_keys())
def test_basic_indexing_is_numpys_and_shares_memory(case):
    shape, key = case
    array = numbers(shape)
    x = tjit.from_numpy(array)

    y = x[key]

    np.testing.assert_array_equal(y.array, array[key])
    assert y.numel() == 0 or np.shares_memory(y.array, array)


@settings(max_examples=200, deadline=None)
@given(basic_keys(), st.booleans())
def test_basic_writing_is_numpys(case, one_number):
    shape, key = case
    array, x = numbers(shape), tjit.tensor(numbers(shape))
    value = np.float32(-1) if one_number else -1 - numbers(array[key].shape)

    array[key] = value
    x[key] = float(value) if one_number else tjit.tensor(value)

    np.testing.assert_array_equal(x.array, array)


@needs_torch
@settings(max_examples=300, deadline=None)
@given(advanced_keys())
def test_advanced_indexing_is_pytorchs(case):
    shape, key = case
    x, y = tjit.tensor(numbers(shape)), torch.tensor(numbers(shape))
    mine, theirs = with_tensors(key, tjit.tensor), with_tensors(key, torch.tensor)

    np.testing.assert_array_equal(x[mine].array, y[theirs].numpy())
    value = -1 - numbers(tuple(y[theirs].shape))
    x[mine], y[theirs] = tjit.tensor(value), torch.tensor(value)
    np.testing.assert_array_equal(x.array, y.numpy())


@settings(max_examples=100, deadline=None)
@given(advanced_keys())
def test_captured_indexing_equals_eager(case):
    shape, key = case
    x = tjit.tensor(numbers(shape))
    arrays = [part for part in key if isinstance(part, np.ndarray)]

    def read(x, *positions):
        rest = iter(positions)
        return x[tuple(next(rest) if isinstance(part, np.ndarray) else part for part in key)]

    def write(x, *positions):
        x = x * 1
        rest = iter(positions)
        x[tuple(next(rest) if isinstance(part, np.ndarray) else part for part in key)] = -1
        return x

    types = [x.type_, *(TensorType(tjit.int64, a.shape) for a in arrays)]
    eager = [tjit.tensor(a) for a in arrays]
    for fn in (read, write):
        (found,) = evaluate(trace_graph("f", fn, types), [x.array, *arrays])
        np.testing.assert_array_equal(found, fn(x, *eager).array)


def test_compiled_indexing_equals_eager():
    def f(x, i):
        x = x * 1
        x[i] = 5
        x[:, 0] += x[0, i]
        x[x > 4] = 0
        x[i, i] = 9
        return x, x[[0, -1]], x[i], x[1:, ::2], x.roll(1, 0), tjit.cat([x, x]), x.gather(1, (x * 0).long())

    x, i = tjit.arange(16.0).reshape(4, 4), tjit.tensor(2)

    for found, expected in zip(tjit.compile(f)(x, i), f(x, i), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), [0, 2]),
        ([1, 1, 0],),
        ([0, 1], [2, 2]),
        (slice(1, 3), None, [0, 0, 2]),
        (0, slice(None, None, 2)),
        (np.array([[True, False, True]] * 3),),
    ],
    ids=str,
)
def test_gradients_of_reads_and_writes_land_on_the_elements(key):
    x = tjit.tensor(numbers((3, 3)), requires_grad=True)
    g = tjit.rand(*x.detach()[key].shape)

    (x[key] * g).sum().backward()

    expected = np.zeros((3, 3), np.float32)
    np.add.at(expected, _numpy_key(key), g.array)
    np.testing.assert_allclose(x.grad.array, expected)


def _numpy_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(np.array(part) if isinstance(part, list) else part for part in key)


def test_gradient_of_a_write_goes_to_the_value_and_leaves_the_rest():
    x = tjit.ones(4, requires_grad=True)
    v = tjit.tensor(3.0, requires_grad=True)

    y = x * 2
    y[1:3] = v
    (y * tjit.tensor([1.0, 2, 3, 4])).sum().backward()

    assert x.grad.tolist() == [2, 0, 0, 8]
    assert v.grad.item() == 5


def test_of_several_writes_to_one_element_the_last_counts_also_backward():
    x = tjit.zeros(2)
    v = tjit.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = tjit.tensor([0, 0, 1])

    y = x.index_copy(0, index, v)
    y.sum().backward()

    assert y.tolist() == [2, 3]
    assert v.grad.tolist() == [0, 1, 1]


def test_masks_select_and_write():
    x = tjit.arange(6.0).reshape(2, 3)

    assert x[x > 2].tolist() == [3, 4, 5]
    assert x[tjit.tensor([True, False])].tolist() == [[0, 1, 2]]
    x[x > 3] = 0
    assert x.tolist() == [[0, 1, 2], [3, 0, 0]]
    x[x == 0] = tjit.tensor([7.0, 8.0, 9.0])
    assert x.tolist() == [[7, 1, 2], [3, 8, 9]]
    x[:, tjit.tensor([True, False, True])] = tjit.tensor([[-1.0, -2.0]])
    assert x.tolist() == [[-1, 1, -2], [-1, 8, -2]]


def test_masked_write_is_captured_as_where():
    def clear(x):
        x = x * 1
        x[x > 0] = 0
        return x

    graph = trace_graph("clear", clear, [TensorType(tjit.float32, (2, 3))])

    assert [n.op.name for n in graph.nodes][-1] == "where"


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda x: x[x > 0], "indexing with a bool mask has a shape that depends on data"),
        (lambda x: tjit.nonzero(x), "nonzero has a shape that depends on data"),
        (lambda x: tjit.masked_select(x, x > 0), "masked_select has a shape that depends on data"),
    ],
)
def test_data_dependent_shapes_are_refused_while_capturing(read, message):
    with pytest.raises(CaptureError) as caught:
        trace_graph("f", read, [TensorType(tjit.float32, (3,))])

    assert caught.value.message == message
    assert "tjit.where" in (caught.value.hint or "")
    assert "test_indexing.py" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (3, DimensionError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, -5), DimensionError, "index -5 is out of bounds for dimension 1 with size 4"),
        ([0, 3], DimensionError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, 0, 0), DimensionError, "too many indices for f32[3, 4]: 3 for 2 dims"),
        ((..., 0, ...), DimensionError, "an index can only have a single ellipsis ('...')"),
        (slice(None, None, -1), ArgumentError, "slice step must be positive, not -1"),
        (np.zeros((2, 4), bool), DimensionError, "the shape of the mask [2, 4] does not match that of the indexed tensor f32[3, 4] at dim 0"),  # noqa: E501
        (([0, 1], [0, 1, 2]), DimensionError, "shape mismatch: indexing tensors could not be broadcast together with shapes [2], [3]"),  # noqa: E501
        (0.5, TypeError, "only ints, slices, ellipsis, None, and tensors, lists and arrays of ints or bools are indices, not float 0.5"),  # noqa: E501
    ],
    ids=str,
)  # fmt: skip
def test_errors_of_indexing(key, error, message):
    with pytest.raises(error) as caught:
        tjit.zeros(3, 4)[key]

    assert caught.value.message == message


def test_error_of_a_write_that_does_not_fit():
    with pytest.raises(TypeRuleError) as caught:
        tjit.zeros(3, 4)[1:] = tjit.ones(3)

    assert caught.value.message == (
        "shape mismatch: value tensor f32[3] cannot be broadcast to indexing result f32[2, 4]"
    )


def test_views_of_views_see_each_others_writes():
    x = tjit.zeros(2, 3)
    row = x[1]
    corner = row[1:]

    corner[0] = 5
    x[1, 2] = 7

    assert x.tolist() == [[0, 0, 0], [0, 5, 7]]
    assert row.tolist() == [0, 5, 7]
    assert corner.tolist() == [5, 7]


# gather, scatter and the functions that join and split


@needs_torch
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gather_and_scatter_are_pytorchs(dim, rng):
    a = rng.standard_normal((4, 5)).astype(np.float32)
    index = rng.integers(0, 4, (3, 4))
    src = rng.standard_normal((3, 5)).astype(np.float32)
    x, y = tjit.tensor(a), torch.tensor(a)
    i, j = tjit.tensor(index), torch.tensor(index)

    same(x.gather(dim, i), y.gather(dim, j))
    same(x.scatter_add(dim, i, tjit.tensor(src)), y.scatter_add(dim, j, torch.tensor(src)))
    same(x.scatter(dim, i, 2.0), y.scatter(dim, j, 2.0))


def same(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
        return
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert repr(mine.dtype) == repr(theirs.dtype)
    np.testing.assert_allclose(mine.array, theirs.numpy(), rtol=1e-6)


JOINS = [
    lambda t, x: t.cat([x, x + 1], 1),
    lambda t, x: t.cat((x, t.zeros(0), x)),
    lambda t, x: t.stack([x, x], -1),
    lambda t, x: t.vstack([x[0], x[1]]),
    lambda t, x: t.hstack([x, x]),
    lambda t, x: t.dstack([x, x]),
    lambda t, x: t.column_stack([x[:, 0], x]),
    lambda t, x: x.split(2),
    lambda t, x: x.split([1, 4], dim=1),
    lambda t, x: t.chunk(x, 3, 1),
    lambda t, x: t.tensor_split(x, 3, 1),
    lambda t, x: t.tensor_split(x, (1, 3), 0),
    lambda t, x: x.unbind(1),
    lambda t, x: x.narrow(1, 1, 3),
    lambda t, x: x.select(1, -2),
    lambda t, x: t.roll(x, 2),
    lambda t, x: t.roll(x, (1, -2), (0, 1)),
    lambda t, x: x.repeat(2, 1, 3),
    lambda t, x: t.tile(x, (2,)),
    lambda t, x: x.repeat_interleave(3, 1),
    lambda t, x: t.repeat_interleave(x, t.tensor([0, 2, 1, 1]), dim=0),
    lambda t, x: t.index_select(x, 1, t.tensor([4, 0])),
    lambda t, x: x.index_add(1, t.tensor([4, 0]), t.ones(4, 2), alpha=2),
    lambda t, x: x.index_fill(0, t.tensor([0, 2]), -1.0),
    lambda t, x: x.index_put((t.tensor([0, 1]), t.tensor([2, 2])), t.tensor([5.0, 6.0])),
    lambda t, x: x.index_put((t.tensor([0, 0]),), t.ones(5), accumulate=True),
    lambda t, x: t.take(x, t.tensor([[0, 7], [-1, 3]])),
    lambda t, x: t.take_along_dim(x, t.tensor([[1], [0], [2], [4]]), 1),
    lambda t, x: t.nonzero(x > 3),
    lambda t, x: t.nonzero(x > 3, as_tuple=True),
    lambda t, x: t.masked_select(x, x > 3),
    lambda t, x: t.flatten(x[None], 1),
    lambda t, x: x.unflatten(1, (5, -1)),
    lambda t, x: x[None, :, None].squeeze(),
    lambda t, x: x[None, :, None].squeeze(0),
    lambda t, x: x.unsqueeze(-1),
    lambda t, x: t.movedim(x[None], (0, 1), (-1, 0)),
    lambda t, x: x.transpose(0, 1),
    lambda t, x: (x.t(), x.T, x.mT),
    lambda t, x: t.rot90(x, 1),
    lambda t, x: t.rot90(x, -1),
    lambda t, x: t.fliplr(x),
    lambda t, x: (t.diag(x), t.diag(x, 1), t.diag(x[0], -1), t.diagonal(x, -1)),
    lambda t, x: t.diag_embed(x, 1),
    lambda t, x: (t.tril(x), t.triu(x, 1)),
    lambda t, x: (t.atleast_3d(x), t.atleast_2d(x[0])),
    lambda t, x: t.meshgrid(x[0], x[:, 0], indexing="ij"),
    lambda t, x: t.meshgrid(x[0], x[:, 0], indexing="xy"),
    lambda t, x: t.broadcast_tensors(x, x[:, :1]),
    lambda t, x: x.expand(2, -1, -1),
]


@needs_torch
@pytest.mark.parametrize("join", range(len(JOINS)))
def test_joining_and_splitting_are_pytorchs(join, rng):
    a = rng.integers(0, 9, (4, 5)).astype(np.float32)

    same(JOINS[join](tjit, tjit.tensor(a)), JOINS[join](torch, torch.tensor(a)))


def test_one_hot_counts_classes():
    from tjit.ops.index import one_hot

    assert one_hot(tjit.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert one_hot(tjit.tensor([1]), 4).tolist() == [[0, 1, 0, 0]]


def test_gather_out_of_range_is_an_index_error():
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        tjit.zeros(3).gather(0, tjit.tensor([3]))


def test_split_parts_share_memory():
    x = tjit.zeros(4)

    a, b = x.split(2)
    b.fill_(1)

    assert x.tolist() == [0, 0, 1, 1]
    assert a.tolist() == [0, 0]


@pytest.mark.parametrize("make", [np.arange, lambda n: tjit.arange(n)])
def test_slices_near_an_end_serve_all_sizes_that_have_such_ends(make):
    @tjit.compile
    def f(x):
        return x[:-2] + x[1:-1] * x[2:]

    for n in (5, 6, 7, 3, 40, 2):
        x = np.arange(n)
        assert f(make(n)).tolist() == (x[:-2] + x[1:-1] * x[2:]).tolist()
    assert f.cache_info().misses == 2


def test_slices_of_sizes_without_such_ends():
    @tjit.compile
    def f(x):
        return x[1:-1], x[:3], x[-3:], x[2:1]

    for n in (9, 8, 7, 2, 1, 0, 3):
        x = np.arange(n)
        for found, expected in zip(f(x), (x[1:-1], x[:3], x[-3:], x[2:1]), strict=True):
            np.testing.assert_array_equal(found, expected)
