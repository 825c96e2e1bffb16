"""What every op of the registry keeps: its gradients, its scalar body, its decomposition, its type rule."""

from __future__ import annotations

import functools
import operator

import numpy as np
import pytest
from cases import Case, all_cases, dtypes_of, operands, operands_of, parametrize_cases, special_values
from numpy_scalars import NumpyScalars
from page_edges import at_edge
from tolerances import assert_close, assert_same

import tjit
from tjit import dtypes
from tjit.autograd.tape import grad
from tjit.capture.trace import decomposed_types
from tjit.dtypes import DType
from tjit.errors import TypeRuleError
from tjit.ir.op import OPS, Op
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.tensor import Tensor

CASES = all_cases()
DIFFERENTIABLE = [c for c in CASES if c.op.differentiable and c.op.kind != "create" and dtypes.f64 in dtypes_of(c.op)]
ELEMENTWISE = [op for op in sorted(OPS.values(), key=lambda op: op.name) if op.kind == "elementwise"]
COMPOSITES = [c for c in CASES if c.op.kind == "composite"]
SHAPES = ((), (0,), (1,), (3, 0), (7,), (2, 1, 5), (13, 3))
STEP = 1e-5
# Operands without a gradient, as in PyTorch: the weights of the classes.
CONSTANT_OPERANDS = {"nll_loss": (2,), "cross_entropy": (2,)}


# gradients


def _results(op: Op, xs: list[Tensor], attrs: dict) -> tuple[Tensor, ...]:
    y = apply(op, *xs, **attrs)
    return y if isinstance(y, tuple) else (y,)


def _dot(pairs) -> Tensor:
    return functools.reduce(operator.add, ((a * Tensor(b)).sum() for a, b in pairs))


class _Function:
    """The sum of an op's float results times fixed cotangents, and its gradient, as functions of the float operands."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self.case = case
        self.arrays = operands(case, dtypes.f64, rng)
        constant = CONSTANT_OPERANDS.get(case.op.name, ())
        self.active = [i for i, a in enumerate(self.arrays) if a.dtype == np.float64 and i not in constant]
        self.direction = {i: rng.standard_normal(self.arrays[i].shape) for i in self.active}
        results = _results(case.op, [Tensor(a) for a in self.arrays], case.sample.attrs)
        self.smooth = [i for i, y in enumerate(results) if y.dtype is dtypes.f64]
        self.cotangents = {i: rng.standard_normal(results[i].shape) for i in self.smooth}

    def tensors(self, step: float) -> list[Tensor]:
        moved = [a + step * self.direction[i] if i in self.direction else a for i, a in enumerate(self.arrays)]
        return [Tensor(np.array(a), requires_grad=i in self.direction) for i, a in enumerate(moved)]

    def value(self, xs: list[Tensor]) -> Tensor:
        results = _results(self.case.op, xs, self.case.sample.attrs)
        return _dot((results[i], self.cotangents[i]) for i in self.smooth)

    def gradients(self, xs: list[Tensor], create_graph: bool) -> list[Tensor | None]:
        y = self.value(xs)
        if not y.requires_grad:
            return [None] * len(self.active)
        return list(grad(y, [xs[i] for i in self.active], create_graph=create_graph, allow_unused=True))

    def slope(
        self, step: float, create_graph: bool = False, weights: dict | None = None
    ) -> tuple[list[Tensor], Tensor | float]:
        """The operands at `step` along the direction, and the gradient there times `weights`."""
        xs = self.tensors(step)
        weights = self.direction if weights is None else weights
        found = self.gradients(xs, create_graph)
        pairs = [(g, weights[i]) for i, g in zip(self.active, found, strict=True) if g is not None]
        return xs, _dot(pairs) if pairs else 0.0


def _number(y: Tensor | float) -> float:
    return float(y.array) if isinstance(y, Tensor) else y


@parametrize_cases(DIFFERENTIABLE)
def test_vjp_agrees_with_finite_differences(case, rng):
    f = _Function(case, rng)
    if not f.smooth or not f.active:
        pytest.skip("no f64 result or no f64 operand in this sample")

    numeric = (_number(f.value(f.tensors(STEP))) - _number(f.value(f.tensors(-STEP)))) / (2 * STEP)
    exact = _number(f.slope(0.0)[1])

    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-7)


@parametrize_cases(DIFFERENTIABLE)
def test_second_derivative_agrees_with_finite_differences(case, rng):
    f = _Function(case, rng)
    if not f.smooth or not f.active:
        pytest.skip("no f64 result or no f64 operand in this sample")
    weights = {i: rng.standard_normal(a.shape) for i, a in f.direction.items()}

    up, down = _number(f.slope(STEP, weights=weights)[1]), _number(f.slope(-STEP, weights=weights)[1])
    xs, slope = f.slope(0.0, create_graph=True, weights=weights)
    exact = 0.0
    if isinstance(slope, Tensor) and slope.requires_grad:
        second = grad(slope, [xs[i] for i in f.active], allow_unused=True)
        exact = sum(np.vdot(g.array, f.direction[i]) for i, g in zip(f.active, second, strict=True) if g is not None)

    np.testing.assert_allclose(exact, (up - down) / (2 * STEP), rtol=1e-5, atol=1e-6)


@parametrize_cases(DIFFERENTIABLE)
def test_cotangents_have_the_types_of_the_operands(case, rng):
    dtype = dtypes.f32
    xs = [Tensor(a, requires_grad=a.dtype == dtype.numpy) for a in operands(case, dtype, rng)]
    active = [x for x in xs if x.requires_grad]
    results = [y for y in _results(case.op, xs, case.sample.attrs) if y.requires_grad]
    if not results:
        pytest.skip("no float result in this sample")

    found = grad(results, active, [Tensor(np.ones(y.shape, y.dtype.numpy)) for y in results], allow_unused=True)

    assert [g.type_ for g in found if g is not None] == [
        x.type_ for x, g in zip(active, found, strict=True) if g is not None
    ]


# scalar bodies and decompositions


def _body(op: Op, arrays: list[np.ndarray], attrs: dict) -> np.ndarray:
    narrow = (dtypes.f16.numpy, dtypes.bf16.numpy)
    wide = [a.astype(np.float32) if a.dtype in narrow else a for a in arrays]
    with np.errstate(all="ignore"):
        return np.asarray(op.scalar(NumpyScalars(), *wide, **attrs))


def _check_body(op: Op, arrays: list[np.ndarray], attrs: dict) -> None:
    with np.errstate(all="ignore"):
        expected = np.asarray(op.reference(*arrays, **attrs))
        actual = _body(op, arrays, attrs).astype(expected.dtype)
    if op.exact:
        assert_same(actual, expected)
    else:
        assert_close(actual, expected, op.tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_scalar_body_equals_reference(op, shape, rng):
    for dtype in dtypes_of(op):
        for sample in op.samples:
            arrays = operands_of(sample, dtype, rng, [shape] * len(sample.shapes))
            _check_body(op, arrays, sample.attrs)


SPECIAL = [op for op in ELEMENTWISE if op.name != "cast"]  # floats out of the range of ints are unspecified


def _special_operands(op: Op, dtype: DType) -> list[np.ndarray]:
    """Every combination of the special values."""
    names = op.samples[0].dtypes or (None,) * len(op.samples[0].shapes)
    axes = [special_values(dtype if n is None else dtypes.as_dtype(n)) for n in names]
    return [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]


@pytest.mark.parametrize("op", SPECIAL, ids=lambda op: op.name)
def test_scalar_body_equals_reference_at_special_values(op):
    for dtype in dtypes_of(op):
        _check_body(op, _special_operands(op, dtype), op.samples[0].attrs)


@parametrize_cases(COMPOSITES)
def test_decomposition_equals_reference(case, rng):
    for dtype in dtypes_of(case.op):
        xs = [Tensor(a) for a in operands(case, dtype, rng)]

        expected = _results(case.op, xs, case.sample.attrs)
        results = case.op.decompose(*xs, **case.sample.attrs)

        results = results if isinstance(results, tuple) else (results,)
        for actual, wanted in zip(results, expected, strict=True):
            # each of a composite's ops rounds to a narrow dtype, its reference only once
            assert_close(actual.array, wanted.array, case.op.tolerance * (4 if dtype.itemsize == 2 else 1))


@parametrize_cases([c for c in COMPOSITES if c.op.infer is not None])
def test_type_rule_of_a_composite_is_that_of_its_decomposition(case, rng):
    for dtype in dtypes_of(case.op):
        types = tuple(Tensor(a).type_ for a in operands(case, dtype, rng))
        own = case.op.infer(*types, **case.sample.attrs)

        traced = decomposed_types(case.op, types, types, case.sample.attrs)

        assert traced == (own if isinstance(own, tuple) else (own,))


# type rules


def _refused(op: Op) -> list[DType]:
    return [t for t in dtypes.DTYPES if t not in dtypes_of(op)]


def _same_type_cases() -> list[Op]:
    return [op for op in ELEMENTWISE if op.name not in ("where", "cast")]


@pytest.mark.parametrize("op", [op for op in _same_type_cases() if _refused(op)], ids=lambda op: op.name)
def test_type_rule_refuses_dtypes_and_names_the_types(op):
    types = [TensorType(_refused(op)[0], (4,))] * len(op.samples[0].shapes)

    with pytest.raises(TypeRuleError) as error:
        op.infer(*types, **op.samples[0].attrs)

    assert str(error.value).startswith(f"{op.name} wants ")
    assert str(types[0]) in str(error.value)


@pytest.mark.parametrize(
    "op", [op for op in _same_type_cases() if len(op.samples[0].shapes) > 1], ids=lambda op: op.name
)
def test_type_rule_refuses_mixed_types_and_names_both(op):
    dtype, other = dtypes_of(op)[:2]
    rest = len(op.samples[0].shapes) - 2
    mixed = [TensorType(dtype, (4,)), TensorType(other, (4,))], [TensorType(dtype, (4,)), TensorType(dtype, (5,))]

    for types in mixed:
        with pytest.raises(TypeRuleError) as error:
            op.infer(*types, *types[:1] * rest, **op.samples[0].attrs)

        assert all(str(t) in str(error.value) for t in types)


def test_messages_of_type_rules():
    f32, f64 = TensorType(dtypes.f32, (4,)), TensorType(dtypes.f64, (4,))

    def message(name, *types, **attrs):
        with pytest.raises(TypeRuleError) as error:
            OPS[name].infer(*types, **attrs)
        return str(error.value)

    assert message("add", f32, f64) == (
        "add wants two tensors of one dtype, not f32[4] and f64[4]\n  hint: convert with .to(dtype)"
    )
    assert message("add", f32, TensorType(dtypes.f32, (4, 1))) == (
        "add wants two tensors of one shape, not f32[4] and f32[4, 1]\n  hint: broadcast with broadcast_to"
    )
    assert message("exp", TensorType(dtypes.i32, ())) == "exp wants a float tensor, not i32[]"
    assert message("bitwise_or", f32, f32) == "bitwise_or wants bool or int tensors, not f32[4] and f32[4]"
    assert message("where", f32, f32, f32) == (
        "where wants a bool condition, not f32[4] and f32[4] and f32[4]\n  hint: compare first: x != 0"
    )
    assert message("mean", TensorType(dtypes.i64, (4,)), dims=(0,), keepdim=False) == (
        "mean wants a float tensor, not i64[4]\n  hint: pass a float dtype=, or convert with .to(dtype)"
    )


@parametrize_cases([c for c in CASES if c.op.infer is not None])
def test_reference_has_the_type_of_the_type_rule(case, rng):
    for dtype in dtypes_of(case.op):
        arrays = operands(case, dtype, rng)
        types = case.op.infer(*(Tensor(a).type_ for a in arrays), **case.sample.attrs)
        with np.errstate(all="ignore"):
            results = case.op.reference(*arrays, **case.sample.attrs)

        results = results if isinstance(results, tuple) else (results,)
        for result, wanted in zip(results, types if isinstance(types, tuple) else (types,), strict=True):
            assert np.shape(result) == tuple(wanted.shape)
            assert np.asarray(result).dtype == wanted.dtype.numpy


# compiled code


def _check_compiled(op: Op, xs: list[Tensor], attrs: dict) -> None:
    expected = _results(op, xs, attrs)

    actual = tjit.compile(lambda *xs: apply(op, *xs, **attrs))(*xs)

    actual = actual if isinstance(actual, tuple) else (actual,)
    for a, e in zip(actual, expected, strict=True):
        if op.exact:
            assert_same(a.array, e.array)
        else:
            assert_close(a.array, e.array, op.tolerance)


@parametrize_cases(CASES)
def test_compiled_equals_reference(case, rng):
    for dtype in dtypes_of(case.op):
        _check_compiled(case.op, [Tensor(at_edge(a)) for a in operands(case, dtype, rng)], case.sample.attrs)


@pytest.mark.parametrize("op", SPECIAL, ids=lambda op: op.name)
def test_compiled_equals_reference_at_special_values(op):
    for dtype in dtypes_of(op):
        _check_compiled(op, [Tensor(a) for a in _special_operands(op, dtype)], op.samples[0].attrs)


# narrow floats


def test_statistics_of_many_f16_elements_neither_overflow_nor_vanish():
    x = tjit.full((70000,), 100.0, dtype=tjit.float16, requires_grad=True)

    mean = x.mean()
    mean.backward()

    assert mean.array == 100.0
    np.testing.assert_allclose(x.grad.array[0], 1 / 70000, rtol=1e-2)
    assert x.detach().var().array == 0.0
