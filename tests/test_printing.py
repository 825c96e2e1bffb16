"""The printed form of tensors is PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tjit
from tjit.capture.trace import trace_graph
from tjit.ir.dims import Symbol
from tjit.ir.types import TensorType

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tjit.tensor([[1, 2, 3], [40, 5, 6]]), "tensor([[ 1,  2,  3],\n        [40,  5,  6]])"),
        (lambda: tjit.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: tjit.tensor([1.5, -2.0]), "tensor([ 1.5000, -2.0000])"),
        (lambda: tjit.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
        (lambda: tjit.tensor([float("nan"), float("inf"), 1.0]), "tensor([nan, inf, 1.])"),
        (lambda: tjit.tensor([True, False]), "tensor([ True, False])"),
        (lambda: tjit.tensor(91.0), "tensor(91.)"),
        (lambda: tjit.tensor([]), "tensor([])"),
        (lambda: tjit.zeros(0, 3), "tensor([], size=(0, 3))"),
        (lambda: tjit.zeros(0, dtype=tjit.int64), "tensor([], dtype=torch.int64)"),
        (lambda: tjit.ones(2, dtype=tjit.int16), "tensor([1, 1], dtype=torch.int16)"),
        (lambda: tjit.ones(2, requires_grad=True), "tensor([1., 1.], requires_grad=True)"),
        (lambda: tjit.ones(2, requires_grad=True).sum(), "tensor(2., grad_fn=<SumBackward0>)"),
        (lambda: tjit.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    ],
)  # fmt: skip
def test_examples(make, text):
    assert repr(make()) == text
    assert str(make()) == text


def test_traced_tensor_prints_its_type():
    seen = []
    x = TensorType(tjit.float32, (Symbol("B").dim, 4))

    trace_graph("f", lambda x: seen.append(repr(x)) or x, [x])

    assert seen == ["tensor(<traced f32[B, 4]>)"]


def test_zero_d_tensors_format_as_numbers():
    assert f"{tjit.tensor(0.63219):.2f}" == "0.63"
    assert f"{tjit.tensor(3)}" == "3"
    assert f"{tjit.tensor([3])}" == "tensor([3])"


def test_print_options_hold_for_a_block():
    x = tjit.tensor([1.23456])

    with tjit.printoptions(precision=2):
        assert repr(x) == "tensor([1.23])"
    assert repr(x) == "tensor([1.2346])"


ELEMENTS = st.one_of(
    st.floats(-1e4, 1e4, width=16),
    st.integers(-200, 200).map(float),
    st.sampled_from([0.0, -0.0, 1e-6, 1e9, np.nan, np.inf, -np.inf, 0.5, 12345.678]),
)


@needs_torch
@settings(max_examples=400, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9), elements=ELEMENTS),
    st.sampled_from(DTYPES),
    st.fixed_dictionaries(
        {
            "precision": st.sampled_from([2, 4, 6]),
            "threshold": st.sampled_from([5, 1000]),
            "edgeitems": st.sampled_from([1, 2, 3]),
            "linewidth": st.sampled_from([40, 80]),
            "sci_mode": st.sampled_from([None, True, False]),
        }
    ),
    st.booleans(),
)
def test_printing_is_pytorchs(array, dtype, options, turn):
    if "float" not in dtype:
        array = np.nan_to_num(array, posinf=1, neginf=1) % 100
    x = tjit.tensor(array).to(getattr(tjit, dtype))
    y = torch.tensor(array).to(getattr(torch, dtype))
    if turn and array.ndim > 1:
        x, y = x.transpose(0, 1), y.transpose(0, 1)

    torch.set_printoptions(**options)
    try:
        with tjit.printoptions(**options):
            assert repr(x) == repr(y)
    finally:
        torch.set_printoptions(profile="default", sci_mode=None)
