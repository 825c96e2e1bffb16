"""Tensors as Python objects: creation, conversion, protocols, memory and the tape's surface."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tjit
from tjit import testing
from tjit.capture.trace import trace_graph
from tjit.errors import ArgumentError, AutogradError, CaptureError, DTypeError, PackageError, TypeRuleError
from tjit.ir.dims import Symbol
from tjit.ir.evaluate import evaluate
from tjit.ir.types import TensorType

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
F = TensorType(tjit.float32, (2, 3))


def same(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)):
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
        return
    assert (tuple(mine.shape), repr(mine.dtype)) == (tuple(theirs.shape), repr(theirs.dtype))
    np.testing.assert_allclose(mine.array, theirs.numpy(), rtol=2e-6)


# creation

CREATIONS = [
    lambda t: t.tensor([1, 2]),
    lambda t: t.tensor([1, 2.5]),
    lambda t: t.tensor([True, 2]),
    lambda t: t.tensor([[1.0], [2.0]], dtype=t.int32),
    lambda t: t.tensor(3.7, dtype=t.int64),
    lambda t: t.tensor([-1, 3], dtype=t.uint8),
    lambda t: t.full((2,), -1, dtype=t.uint8),
    lambda t: t.tensor([]),
    lambda t: t.tensor([[], []]),
    lambda t: t.tensor(np.arange(3, dtype=np.int16)),
    lambda t: t.tensor([t.tensor(1.0), t.tensor(2.0)]),
    lambda t: t.as_tensor([1.0, 2.0]),
    lambda t: t.from_numpy(np.ones((2, 2))),
    lambda t: t.zeros(2, 3),
    lambda t: t.ones((2, 3), dtype=t.bool),
    lambda t: t.zeros([2]),
    lambda t: t.full((2,), 7),
    lambda t: t.full((2,), 7.5),
    lambda t: t.full((), True),
    lambda t: t.zeros_like(t.ones(2, dtype=t.int8)),
    lambda t: t.full_like(t.ones(2), 3, dtype=t.float64),
    lambda t: t.ones(2).new_zeros(3),
    lambda t: t.ones(2, dtype=t.float64).new_full((3,), 2),
    lambda t: t.ones(2).new_tensor([1, 2]),
    lambda t: t.arange(5),
    lambda t: t.arange(1, 8, 3),
    lambda t: t.arange(5, 0, -2),
    lambda t: t.arange(0.5, 3),
    lambda t: t.arange(0, 1, 0.1),
    lambda t: t.arange(0, 1, 0.3, dtype=t.float64),
    lambda t: t.arange(4, dtype=t.float32),
    lambda t: t.arange(0, 0),
    lambda t: t.linspace(0, 1, 7),
    lambda t: t.linspace(-3, 5, 1),
    lambda t: t.linspace(2, -2, 50, dtype=t.float64),
    lambda t: t.logspace(0, 3, 9),
    lambda t: t.logspace(0, 3, 4, base=2),
    lambda t: t.eye(3),
    lambda t: t.eye(2, 4, dtype=t.int64),
    lambda t: t.scalar_tensor(3),
    lambda t: t.tril_indices(3, 4, -1),
    lambda t: t.triu_indices(3, 4),
]


@needs_torch
@pytest.mark.parametrize("make", range(len(CREATIONS)))
def test_creation_is_pytorchs(make):
    same(CREATIONS[make](tjit), CREATIONS[make](torch))


CAPTURED = [
    lambda t, n: t.zeros(n, 3),
    lambda t, n: t.arange(n),
    lambda t, n: t.arange(1, n, 2),
    lambda t, n: t.eye(n),
    lambda t, n: t.linspace(0, 1, n),
    lambda t, n: t.full((n,), n),
    lambda t, n: t.tensor([n, 1]),
    lambda t, n: t.tensor([[1.5, 2], [3, 4]]),
    lambda t, n: t.tensor([t.ones(2), t.zeros(2)]) if t is tjit else None,
    lambda t, n: t.ones(n, n).tril(),
]


@pytest.mark.parametrize("make", range(len(CAPTURED)))
def test_captured_creation_equals_eager(make):
    b = Symbol("B").dim
    graph = trace_graph("f", lambda x: CAPTURED[make](tjit, x.shape[0]), [TensorType(tjit.float32, (b,))])

    (found,) = evaluate(graph, [np.zeros(6, np.float32)])

    expected = CAPTURED[make](tjit, 6).array
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tjit.tensor([[1, 2], [3]]), ArgumentError, "expected sequence of length 2 at dim 1 (got 1)"),
        (lambda: tjit.tensor("a"), DTypeError, "cannot make a tensor from str 'a'"),
        (lambda: tjit.tensor(2**63), TypeRuleError, "value cannot be converted to type i64 without overflow"),
        (lambda: tjit.tensor([300], dtype=tjit.uint8), TypeRuleError, "value cannot be converted to type u8 without overflow"),  # noqa: E501
        (lambda: tjit.full((2,), -129, dtype=tjit.int8), TypeRuleError, "value cannot be converted to type i8 without overflow"),  # noqa: E501
        (lambda: tjit.tensor([1, 2], requires_grad=True), AutogradError, "only float tensors can require gradients, not i64[2]"),  # noqa: E501
        (lambda: tjit.zeros(-1), TypeRuleError, "trying to create tensor with negative dimension -1: [-1]"),
        (lambda: tjit.zeros(1.5), DTypeError, "a size must be an int, not float 1.5"),
        (lambda: tjit.arange(0, 3, -1), TypeRuleError, "upper bound and lower bound inconsistent with step sign: arange from 0 to 3 by -1"),  # noqa: E501
        (lambda: tjit.from_numpy([1]), DTypeError, "expected np.ndarray (got list)"),
        (lambda: tjit.zeros(2, device="cuda"), TypeRuleError, "no tensors on cuda:0: tjit has none on GPUs yet"),
        (lambda: tjit.compile(lambda: tjit.zeros(2, device="cuda"))(), TypeRuleError, "no tensors on cuda:0: tjit has none on GPUs yet"),  # noqa: E501
        (
            lambda: tjit.nn.functional.softmax([1.0, 2.0], dim=0),
            DTypeError,
            "softmax takes tensors and numbers, not list",
        ),
        (lambda: tjit.cat(tjit.ones(2), tjit.ones(2)), DTypeError, "cat takes a list of tensors and a dim, not a f32[2] tensor as its dim"),  # noqa: E501
        (lambda: f"{tjit.ones(2):.1f}", DTypeError, "a f32[2] tensor has no format '.1f'"),
        (lambda: tjit.zeros(2, device="tpu"), ArgumentError, "no device 'tpu'"),
        (lambda: tjit.zeros(2, colour="red"), DTypeError, "unexpected keyword argument 'colour'"),
    ],
)  # fmt: skip
def test_errors_of_creation(make, error, message):
    with pytest.raises(error) as caught:
        make()

    assert caught.value.message == message


def test_from_numpy_shares_memory_and_tensor_copies():
    array = np.zeros(2)
    shared, copied = tjit.from_numpy(array), tjit.tensor(array)

    array[0] = 1

    assert shared.tolist() == [1, 0]
    assert copied.tolist() == [0, 0]
    assert tjit.as_tensor(array).numpy() is array


def test_old_constructor_takes_sizes_or_elements():
    assert tjit.Tensor(2, 3).shape == (2, 3)
    assert repr(tjit.Tensor([1, 2])) == "tensor([1., 2.])"


# numbers and containers


def test_numbers_of_python():
    assert float(tjit.tensor(1.5)) == 1.5
    assert int(tjit.tensor([2])) == 2
    assert [10, 20][tjit.tensor(1)] == 20
    assert list(range(3))[tjit.tensor([2])] == 2
    assert bool(tjit.tensor(1)) is True
    assert not tjit.tensor([0.0])
    assert tjit.tensor([[2.5]]).item() == 2.5
    assert type(tjit.tensor(1.5, dtype=tjit.bfloat16).item()) is float


def test_tensors_are_containers():
    x = tjit.arange(6).reshape(3, 2)
    a, b, c = x

    assert len(x) == 3
    assert b.tolist() == [2, 3]
    assert [row.sum().item() for row in x] == [1, 5, 9]
    assert 5 in x
    assert 7 not in x
    assert (a.ndim, c.numel(), x.nelement(), x.dim()) == (1, 2, 6, 2)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda x: x.item(), RuntimeError, "a Tensor with 2 elements cannot be converted to Scalar"),
        (lambda x: bool(x), RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
        (lambda x: bool(x[:0]), RuntimeError, "Boolean value of Tensor with no values is ambiguous"),
        (lambda x: [1, 2][x[0]], TypeError, "only integer tensors of a single element can be converted to an index"),
        (lambda x: len(x[0]), TypeError, "len() of a 0-d tensor"),
        (lambda x: list(x[0]), TypeError, "iteration over a 0-d tensor"),
        (lambda x: x.view(3), RuntimeError, "shape [3] is invalid for the 2 elements of f32[2]"),
        (lambda x: x.expand(2, 2).t().view(4), RuntimeError, "view size [4] is not compatible with the size and stride of f32[2, 2]"),  # noqa: E501
        (lambda x: x.cuda(), RuntimeError, "no tensors on cuda:0: tjit has none on GPUs yet"),
        (lambda x: x.requires_grad_().numpy(), RuntimeError, "can't call numpy() on a tensor that requires grad"),
        (lambda x: x.expand(3, 2).add_(1), RuntimeError, "more than one element of the written-to f32[3, 2] tensor refers to a single memory location"),  # noqa: E501
    ],
)  # fmt: skip
def test_errors_of_tensors(use, error, message):
    with pytest.raises(error) as caught:
        use(tjit.ones(2))

    assert caught.value.message == message


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x: 1 if x.sum() > 0 else 2, "a bool[] tensor has no truth value while the function is captured"),
        (lambda x: x.sum().item(), "a f32[] tensor has no Python value while the function is captured"),
        (lambda x: float(x.sum()), "a f32[] tensor has no Python value while the function is captured"),
        (lambda x: x.tolist(), "a f32[2, 3] tensor has no elements while the function is captured"),
        (lambda x: np.asarray(x), "a f32[2, 3] tensor has no elements while the function is captured"),
        (lambda x: f"{x.sum():.3f}", "a f32[] tensor has no Python value while the function is captured"),
        (lambda x: tjit.equal(x, x), "a f32[2, 3] tensor has no Python value while the function is captured"),
        (lambda x: np.percentile(x, 50), "np.percentile has no counterpart in tjit for a f32[2, 3] tensor"),
    ],
)
def test_what_needs_elements_is_refused_while_capturing(use, message):
    with pytest.raises(CaptureError) as caught:
        trace_graph("f", use, [F])

    assert caught.value.message == message
    assert caught.value.hint
    assert "at test_tensor.py:" in str(caught.value)


def test_a_refusal_that_the_function_catches_still_ends_the_capture():
    def sign(x):
        try:
            return x.tolist()
        except Exception:
            return -x

    with pytest.raises(CaptureError) as caught:
        tjit.compile(sign)(tjit.ones(2))

    assert caught.value.message == "a f32[2] tensor has no elements while the function is captured"
    assert caught.value.hint == "keep .tolist() outside of the compiled function"


def test_reading_grad_of_what_is_no_leaf_warns():
    y = tjit.ones(2, requires_grad=True) * 2

    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed: backward\\(\\) does not fill it"):
        assert y.grad is None


def test_a_misspelt_function_is_named_with_its_module():
    with pytest.raises(AttributeError) as caught:
        tjit.sofmax  # noqa: B018

    assert (caught.value.name, caught.value.obj) == ("sofmax", tjit)  # Python suggests the name meant from these


# conversion


@needs_torch
@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_casts_are_pytorchs(dtype):
    values = [-2.7, -0.5, 0.0, 0.5, 1.5, 99.9]
    mine, theirs = tjit.tensor(values).to(getattr(tjit, dtype)), torch.tensor(values).to(getattr(torch, dtype))

    assert mine.tolist() == theirs.tolist()


def test_forms_of_to():
    x = tjit.ones(2)

    assert x.to("cpu") is x
    assert x.to(tjit.float32) is x
    assert x.to(tjit.float32, copy=True) is not x
    assert x.to("cpu", tjit.int64).dtype is tjit.int64
    assert x.to(x.double()).dtype is tjit.float64
    assert x.to(dtype=tjit.int8, device="cpu").dtype is tjit.int8
    assert (x.long().dtype, x.half().dtype, x.type_as(x.int()).dtype) == (tjit.int64, tjit.float16, tjit.int32)
    assert x.type() == "torch.FloatTensor"
    assert x.type(tjit.int16).type("torch.LongTensor").dtype is tjit.int64


def test_attributes_of_memory():
    x = tjit.zeros(2, 3, dtype=tjit.float64)

    assert (x.itemsize, x.element_size(), x.nbytes) == (8, 8, 48)
    assert (x.stride(), x.t().stride(), x.stride(0)) == ((3, 1), (1, 3), 3)
    assert x.is_contiguous()
    assert not x.t().is_contiguous()
    assert x.t().contiguous().stride() == (2, 1)
    assert x[1].data_ptr() == x.data_ptr() + 24
    assert x[1].storage_offset() == 3
    assert not any((x.is_cuda, x.is_sparse, x.is_quantized))
    assert repr(x.layout) == "torch.strided"
    assert x.get_device() == -1


def test_reshape_copies_exactly_where_memory_asks_for_it():
    x = tjit.arange(24).reshape(2, 3, 4)
    cases = [(x, (6, 4)), (x.transpose(0, 1), (6, 4)), (x[:, :, ::2], (2, 6)), (x[:, 0], (8,)), (x.expand(2, 3, 4), (24,)), (x.permute(2, 0, 1), (4, 6))]  # fmt: skip  # noqa: E501

    for source, shape in cases:
        y = source.reshape(shape)
        np.testing.assert_array_equal(y.array, source.array.reshape(shape))
        assert np.shares_memory(y.array, x.array) == np.shares_memory(source.array.reshape(shape), x.array)


def test_captured_writes_reach_the_same_memory_as_eager_ones():
    def f(x):
        a = x * 1
        flat = a.t().reshape(6)  # a copy
        flat[0] = 100
        b = a.view(6)  # a view
        b[1] = 200
        c = a.t().contiguous()  # a copy
        c.zero_()
        d = a.detach()  # the same memory
        d[1, 2] = 300
        return a

    x = tjit.arange(6.0).reshape(2, 3)
    (found,) = evaluate(trace_graph("f", f, [F]), [x.array])

    assert found.tolist() == f(x).tolist() == [[0, 200, 2], [3, 4, 300]]


# writing


def test_writes_in_place():
    x = tjit.zeros(2, 2)

    assert x.fill_(3) is x
    assert x.copy_(tjit.tensor([1, 2])).tolist() == [[1, 2], [1, 2]]
    assert x.mul_(2).tolist() == [[2, 4], [2, 4]]
    assert x.zero_().sum().item() == 0
    x += tjit.tensor([1.0, 2.0])
    assert x[0].tolist() == [1, 2]


def test_data_is_the_memory_without_history():
    w = tjit.ones(2, requires_grad=True)

    w.data.mul_(3)
    w.data[0] = 5

    assert w.tolist() == [5, 3]
    assert w.is_leaf
    w.data = tjit.zeros(3)
    assert w.shape == (3,)
    assert w.requires_grad


def test_a_value_needed_for_backward_must_not_change():
    x = tjit.ones(2, requires_grad=True)
    y = x * 2
    z = (y * y).sum()
    y.detach().zero_()

    with pytest.raises(AutogradError) as caught:
        z.backward()

    assert caught.value.message == "a f32[2] tensor needed for backward was modified by an in-place operation"


def test_copy_carries_the_gradient_to_its_source():
    v = tjit.ones(2, requires_grad=True)
    x = tjit.zeros(3, 2)

    x.copy_(v * 2)
    x.sum().backward()

    assert v.grad.tolist() == [6, 6]


# the tape's surface


def test_hooks_see_and_replace_gradients():
    x = tjit.ones(2, requires_grad=True)
    seen = []
    y = x * 3
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = x.register_hook(lambda g: g * 10)

    y.sum().backward()
    handle.remove()
    (x * 1).sum().backward()

    assert seen == [[1, 1]]
    assert y.grad.tolist() == [1, 1]
    assert x.grad.tolist() == [31, 31]


def test_backward_takes_a_gradient_and_inputs():
    a, b = tjit.ones(2, requires_grad=True), tjit.ones(2, requires_grad=True)

    (a * b * 2).backward(tjit.tensor([1.0, 3.0]), inputs=[a])

    assert a.grad.tolist() == [2, 6]
    assert b.grad is None


def test_gradients_can_be_differentiated():
    x = tjit.tensor(2.0, requires_grad=True)

    (x**3).backward(create_graph=True)
    (second,) = tjit.autograd.grad(x.grad, x)

    assert second.item() == 12


def test_detach_in_place():
    x = tjit.ones(2, requires_grad=True) * 2

    assert x.detach_() is x
    assert not x.requires_grad


# copying


def test_deepcopy_keeps_sharing_and_state():
    w = tjit.ones(2, requires_grad=True)
    (w * 2).sum().backward()
    w.label = "weight"

    a, b = copy.deepcopy([w, w])

    assert a is b
    assert (a.tolist(), a.grad.tolist(), a.requires_grad, a.label) == ([1, 1], [2, 2], True, "weight")
    a.data.zero_()
    assert w.tolist() == [1, 1]


def test_deepcopy_of_a_result_is_refused():
    with pytest.raises(AutogradError, match="only tensors created explicitly by the user"):
        copy.deepcopy(tjit.ones(1, requires_grad=True) * 2)


def test_shallow_copies_share_memory():
    x = tjit.zeros(2)

    copy.copy(x).fill_(1)

    assert x.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_pickles(dtype):
    x = tjit.tensor([0, 1]).to(getattr(tjit, dtype))

    y = pickle.loads(pickle.dumps(x))

    assert y.dtype is x.dtype
    assert y.tolist() == x.tolist()


def test_save_and_load(tmp_path):
    state = {"w": tjit.ones(2, requires_grad=True), "steps": [1, 2.5, None, "x"], "half": tjit.ones(1).bfloat16()}

    tjit.save(state, tmp_path / "state.pt")
    found = tjit.load(tmp_path / "state.pt")

    assert found["w"].requires_grad
    assert found["steps"] == state["steps"]
    assert found["half"].dtype is tjit.bfloat16


def test_load_refuses_code(tmp_path):
    tjit.save({"f": print}, tmp_path / "evil.pt")

    with pytest.raises(PackageError) as caught:
        tjit.load(tmp_path / "evil.pt")

    assert caught.value.message == "the file holds builtins.print, which is more than tensors and containers"
    assert tjit.load(tmp_path / "evil.pt", weights_only=False) == {"f": print}


# other libraries


def test_dlpack_shares_memory_both_ways():
    array = np.zeros(3, np.float32)

    x = tjit.from_dlpack(array)
    x.fill_(2)

    assert array.tolist() == [2, 2, 2]
    assert np.shares_memory(np.from_dlpack(x), array)


@needs_torch
def test_dlpack_with_torch():
    theirs = torch.ones(2)

    mine = tjit.from_dlpack(theirs)
    mine.mul_(3)

    assert theirs.tolist() == [3, 3]
    assert torch.from_dlpack(mine).tolist() == [3, 3]


A = np.arange(1.0, 7.0).reshape(2, 3)
NUMPY_CALLS = [
    lambda x: np.exp(x),
    lambda x: np.add(x, 1),
    lambda x: np.add(A, x),
    lambda x: A * x,
    lambda x: np.float64(2) * x,
    lambda x: np.maximum(x, 3.0),
    lambda x: np.arctan2(x, A),
    lambda x: np.sum(x, axis=0),
    lambda x: np.mean(x, axis=1, keepdims=True),
    lambda x: np.std(x),
    lambda x: np.var(x, axis=0, ddof=1),
    lambda x: np.max(x, axis=0),
    lambda x: np.argmax(x, axis=1),
    lambda x: np.where(x > 2, x, 0.0),
    lambda x: np.concatenate([x, A], axis=1),
    lambda x: np.stack([x, x]),
    lambda x: np.matmul(x, A.T),
    lambda x: np.dot(x, A.T),
    lambda x: np.transpose(x),
    lambda x: np.reshape(x, (3, 2)),
    lambda x: np.clip(x, 2, 4),
    lambda x: np.expand_dims(x, 1),
    lambda x: np.squeeze(x[None]),
    lambda x: np.roll(x, 1, axis=1),
    lambda x: np.flip(x),
    lambda x: np.tile(x, (2, 1)),
    lambda x: np.repeat(x, 2, axis=0),
    lambda x: np.take(x, [2, 0], axis=1),
    lambda x: np.zeros_like(x),
    lambda x: np.add.reduce(x),
    lambda x: np.multiply.outer(x, A),
    lambda x: np.split(x, 3, axis=1)[1],
    lambda x: np.meshgrid(x[0], x[1])[1],
]


@pytest.mark.parametrize("call", range(len(NUMPY_CALLS)))
def test_numpys_functions_work_on_tensors_eager_and_captured(call):
    fn = NUMPY_CALLS[call]
    expected = fn(A)

    eager = fn(tjit.tensor(A))
    graph = trace_graph("f", lambda x, a: _with(fn, x, a), [TensorType(tjit.float64, A.shape)] * 2)
    (captured,) = evaluate(graph, [A, A])

    assert isinstance(eager, tjit.Tensor)
    np.testing.assert_allclose(eager.array, expected)
    np.testing.assert_allclose(captured, expected)


def _with(fn: Any, x: Any, a: Any) -> Any:
    """fn with its global array A traced: a graph of `trace_graph` sees nothing but its operands."""
    import types

    return types.FunctionType(fn.__code__, {**fn.__globals__, "A": a})(x)


def test_numpy_falls_back_to_arrays_eagerly():
    x = tjit.tensor([3.0, 1.0, 2.0])

    assert np.percentile(x, 50) == 2
    assert isinstance(np.cbrt(x), tjit.Tensor)
    with pytest.raises(AutogradError, match="can't call numpy"):
        np.percentile(tjit.ones(2, requires_grad=True), 50)


def test_arrays_are_written_by_numpys_operators():
    array = np.ones(2)

    array += tjit.tensor([1.0, 2.0])

    assert type(array) is np.ndarray
    assert array.tolist() == [2, 3]


# testing


def test_assert_close_says_where():
    testing.assert_close({"a": [tjit.ones(2)]}, {"a": [tjit.ones(2) + 1e-6]})

    with pytest.raises(AssertionError) as caught:
        testing.assert_close(tjit.tensor([1.0, 2.0, 3.0]), tjit.tensor([1.0, 2.5, 3.1]))

    assert str(caught.value) == (
        "tensors are not close: 2 of 3 elements differ\n  the most at index (1,): 2 is not 2.5 (rtol 1.3e-06, atol 1e-05)"  # noqa: E501
    )


def test_types_of_numbers():
    assert tjit.result_type(tjit.ones(2, dtype=tjit.int32), 1.5) is tjit.float32
    assert tjit.promote_types(tjit.int8, tjit.uint8) is tjit.int16
    assert tjit.finfo(tjit.float32).eps == 2**-23
    assert tjit.iinfo(tjit.uint8).max == 255
    assert tjit.is_tensor(tjit.ones(1))
    assert not tjit.is_tensor(np.ones(1))
    assert tjit.get_default_dtype() is tjit.float32


def test_devices():
    assert (str(tjit.device("cpu")), str(tjit.device("cuda:1")), str(tjit.device("cuda", 2))) == (
        "cpu",
        "cuda:1",
        "cuda:2",
    )
    assert tjit.device("cuda") == tjit.device(0)
    assert tjit.ones(1).device == tjit.device("cpu")
    assert isinstance(tjit.cuda.is_available(), bool)
