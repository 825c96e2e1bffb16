"""Shapes declared in annotations: symbolic from the first call, within bounds, equal where the names are."""

import numpy as np
import pytest

import tjit
from tjit.errors import ArgumentError

BATCH = tjit.Dim("batch", min=1, max=8)


def scaled(x: tjit.Tensor[BATCH, 3], y: tjit.Tensor["batch", None]):  # noqa: F821
    return x * y.sum(1, keepdim=True)


def test_a_named_dim_is_captured_once():
    f = tjit.compile(scaled)

    for n in (4, 8, 1, 3):
        x, y = tjit.ones(n, 3), tjit.arange(2.0 * n).reshape(n, 2)
        np.testing.assert_array_equal(f(x, y).numpy(), scaled(x, y).numpy())

    assert f.cache_info().misses == 1
    assert "f32[batch, 3]" in str(f.lower(tjit.ones(5, 3), tjit.ones(5, 2)).text("graph"))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((9, 3), (9, 2)), "dim 0 of x is 9, out of the bounds of Dim('batch', min=1, max=8)"),
        (((0, 3), (0, 2)), "dim 0 of x is 0, out of the bounds of Dim('batch', min=1, max=8)"),
        (((4, 3), (5, 2)), "the Dim batch is 4 as dim 0 of x and 5 as dim 0 of y"),
        (((4, 2), (4, 2)), "dim 1 of x is 2, and is annotated with 3"),
        (((4, 3, 1), (4, 2)), "x has 3 dims, [4, 3, 1], and is annotated with 2"),
    ],
)
def test_shapes_that_annotations_exclude_are_refused(shapes, message):
    f = tjit.compile(scaled)
    f(tjit.ones(4, 3), tjit.ones(4, 2))

    for _ in range(2):
        with pytest.raises(ArgumentError) as caught:
            f(*map(tjit.ones, shapes))
        assert caught.value.message == message
    assert f.cache_info().misses == 1


def test_dims_of_a_closure_and_of_a_module():
    rows = tjit.Dim("rows")

    class Doubled(tjit.nn.Module):
        def forward(self, x: tjit.Tensor[rows]):
            return x * 2

    f = tjit.compile(Doubled())
    for n in (0, 1, 5):
        assert f(tjit.ones(n)).tolist() == [2] * n
    assert f.cache_info().misses == 1
