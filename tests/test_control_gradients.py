"""Gradients through captured control flow: those of the function run eagerly, of first and second order."""

from __future__ import annotations

import numpy as np
import pytest

import tjit

RNG = np.random.default_rng(8)


def _branch(x):
    if x.sum() > 0:
        y = x * x
    elif x[0] > -1:
        y = x.exp()
    else:
        y = -x
    return (y * y).sum()


def _branch_that_writes(x, w):
    a = x * 1.0
    if w.sum() > 0:
        a[1:3] = w[1:3].clone() * a[0:2].clone()
    return (a * a * a).sum()


def _numbers_carried(x, w):
    s = 0.0
    for i in range(x.shape[0]):
        s = s + x[i] * w[i] * i
    return s * s


def _recurrent(x, w, h):
    for i in range(x.shape[0]):
        h = tjit.tanh(w @ h + x[i])
    return (h * h).sum()


def _collected(x):
    outs, h = [], x[0]
    for row in x:
        h = tjit.sin(h + row)
        outs.append(h)
    return (tjit.stack(outs) ** 2).sum()


def _newton(a):
    y = a * 0.5
    while (y * y - a).abs().max() > 1e-12:
        y = 0.5 * (y + a / y)
    return (y * y * y).sum()


def _written_recurrence(x):
    y = tjit.zeros(x.shape[0], dtype=x.dtype)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = tjit.sin(y[i - 1].clone()) * x[i]
    return (y * y).sum()


def _written_nest(x):
    a = x * 1.0
    for i in range(1, a.shape[0]):
        for j in range(1, a.shape[1]):
            a[i, j] = a[i - 1, j].clone() * a[i, j - 1].clone() * 0.1 + a[i, j].clone()
    return (a * a).sum()


def _triangle(x):
    a = x * 1.0
    for i in range(1, a.shape[0]):
        for j in range(i):
            a[i, j] = tjit.sin(a[i, j].clone() + a[j, i].clone() * a[i - 1, j].clone())
    return (a * a).sum()


def _triangular_solve(m, b):
    x = tjit.zeros(b.shape[0], dtype=b.dtype)
    for i in range(b.shape[0]):
        x[i] = (b[i] - m[i, :i] @ x[:i].clone()) / (m[i, i] + 3.0)
    return (x * x).sum()


def _cholesky(m):
    a = m @ m.t() + 3.0 * tjit.eye(m.shape[0], dtype=m.dtype)
    for j in range(a.shape[0]):
        a[j, j] = (a[j, j].clone() - a[j, :j].clone() @ a[j, :j].clone()).sqrt()
        for i in range(j + 1, a.shape[0]):
            a[i, j] = (a[i, j].clone() - a[i, :j].clone() @ a[j, :j].clone()) / a[j, j].clone()
    return (tjit.tril(a) ** 2 * m).sum()


def _branch_in_loop(x):
    s = 0.0
    for i in range(x.shape[0]):
        if x[i] > 0:
            s = s + x[i] * x[i]
            s = s * 0.9
        else:
            s = s * x[i]
    return s


def _loop_in_branch(x, w):
    h = x[0]
    if w.sum() > 0:
        for i in range(x.shape[0]):
            h = tjit.tanh(w @ h + x[i])
    return (h * h).sum()


def _loop_in_while(x):
    s = (x * x).sum() * 0.1
    while s.abs() < 10.0:
        for i in range(x.shape[0]):
            s = s + x[i] * x[i] * s
        s = s * 1.3 + 0.1
    return s * s


def _while_in_loop(x):
    total = 0.0
    for i in range(x.shape[0]):
        y = x[i] * x[i] + 1.0
        while y < 20.0:
            y = y * y + 0.5
        total = total + y.log()
    return total


def _breaks(x):
    s = 0.0
    for i in range(x.shape[0]):
        s = s + x[i] * x[i]
        if s > 4.0:
            break
    return s * s


def _continues(x):
    t = 0.0
    for i in range(x.shape[0]):
        if x[i] < 0:
            continue
        t = t + x[i].exp()
    return t


def _returns_early(x):
    s = x[0]
    for i in range(x.shape[0]):
        s = s + x[i] * s
        if s > 3.0:
            return s * x[i]
    return s * s


def _gathered(x, w):
    k = tjit.argmax(x.detach())
    s = x[k] * w[0]
    for i in range(w.shape[0]):
        s = s + x[(k + i) % x.shape[0]] * w[i] * s.sin()
    return s


def _products(x, w):
    y = x
    for _ in range(6):
        y = tjit.tanh(y @ w) + x
    return (y * y).sum()


def _without_history(x):
    s = x[0]
    for i in range(x.shape[0]):
        with tjit.no_grad():
            scale = (x * x).sum() + s
        s = s * x[i] + scale + (x[i] * s).detach()
    return s


def _swapped(x):
    a, b = x[0], x[1]
    for _ in range(5):
        a, b = b * x[2], a + b
    return a * b


def _never(x):
    s = x.sum()
    for i in range(x.shape[0] - 6):
        s = s * x[i]
    return s * s


PLACES = tjit.tensor(np.array([2, 0, 1, 2, 4, 0]))


def _scattered(x):
    a = tjit.zeros(5, dtype=x.dtype)
    for i in range(6):
        k = PLACES[i]
        a[k] = a[k].clone() + x[i] * x[i]
    return (a * a).sum()


def _growing_slices(x):
    s = 0.0
    for i in range(1, x.shape[0]):
        s = s + (x[i, :i] * x[i - 1, :i]).sum() * x[:i, i].sum()
    return s


def _branches_in_branches(x, w):
    h = x[0]
    for i in range(x.shape[0]):
        if h.sum() > 0:
            h = tjit.tanh(w @ h + x[i]) if x[i].sum() > 0 else h * 0.5 + x[i]
        else:
            h = -h
            h = h + x[i] * 2
    return (h * h).sum()


def _containers(x):
    s = {"a": x[0] * 1.0, "b": [x[1] * 2.0]}
    for i in range(8):
        s["a"] = s["a"] * s["b"][0].sin()
        s["b"][0] = s["b"][0] + x[i]
    return s["a"] + s["b"][0]


def _breaks_inside(x):
    s = 0.0
    for i in range(x.shape[0]):
        t = x[i]
        for j in range(5):
            t = t * x[j] + 1.0
            if t.abs() > 2:
                break
        s = s + t
    return s


def _normal(*shape):
    return RNG.standard_normal(shape)


PROGRAMS = [
    (_branch, np.array([1.0, 2.0, -0.5])),
    (_branch, np.array([-0.5, -0.7, 0.1])),
    (_branch, np.array([-1.5, 0.7, 0.1])),
    (_branch_that_writes, _normal(4), np.array([0.5, 1.0, 2.0, 0.3])),
    (_branch_that_writes, _normal(4), -np.array([0.5, 1.0, 2.0, 0.3])),
    (_numbers_carried, _normal(9), _normal(9)),
    (_recurrent, _normal(12, 5), _normal(5, 5), _normal(5)),
    (_collected, _normal(8)),
    (_collected, _normal(8, 3)),
    (_newton, np.array([2.0, 3.0, 10.0])),
    (_written_recurrence, _normal(9)),
    (_written_nest, _normal(6, 7)),
    (_triangle, _normal(6, 6)),
    (_triangular_solve, _normal(7, 7), _normal(7)),
    (_cholesky, _normal(6, 6)),
    (_branch_in_loop, _normal(9)),
    (_loop_in_branch, _normal(6, 5), 0.1 + np.abs(_normal(5, 5)) * 0.3),
    (_loop_in_branch, _normal(6, 5), -np.abs(_normal(5, 5))),
    (_loop_in_while, _normal(6)),
    (_while_in_loop, _normal(7)),
    (_breaks, _normal(20)),
    (_continues, _normal(8)),
    (_returns_early, np.abs(_normal(9))),
    (_returns_early, -np.abs(_normal(9)) * 0.5),
    (_gathered, _normal(6), _normal(8)),
    (_products, _normal(5, 4), _normal(4, 4)),
    (_without_history, _normal(7) * 0.5),
    (_swapped, _normal(4)),
    (_never, _normal(6)),
    (_scattered, _normal(6)),
    (_growing_slices, _normal(7, 7)),
    (_branches_in_branches, _normal(6, 4), _normal(4, 4)),
    (_containers, _normal(9)),
    (_breaks_inside, _normal(6)),
]
NAMES = [f"{p[0].__name__[1:]}{i}" for i, p in enumerate(PROGRAMS)]


def _leaves(arrays):
    return [tjit.tensor(a.copy(), requires_grad=True) for a in arrays]


def _grads(leaves):
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]


def _penalty(f, order):
    """What has the gradient of `f` in it: differentiating it takes second derivatives (order 2), or takes
    the gradient for a constant (order 1)."""

    def penalty(*args):
        y = f(*args)
        found = tjit.autograd.grad(y, args, retain_graph=True, create_graph=order == 2, allow_unused=True)
        total = y * 0.5
        for g in found:
            if g is not None:
                total = total + y * (g * g).sum() + g.sin().sum()
        return total

    return penalty


def _run(f, arrays):
    leaves = _leaves(arrays)
    y = f(*leaves)
    y.backward()
    return [y.detach().numpy(), *_grads(leaves)]


def _agree(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_gradient_of_a_compiled_function_is_the_eager_one(program):
    f, *arrays = program

    found = _run(tjit.compile(f), arrays)

    _agree(found, _run(f, arrays))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_a_gradient_inside_of_a_compiled_function_is_the_eager_one(program, order):
    f, *arrays = program
    penalty = _penalty(f, order)

    found = _run(tjit.compile(penalty), arrays)

    _agree(found, _run(penalty, arrays))


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_a_second_derivative_from_outside_is_the_eager_one(program):
    f, *arrays = program
    found = _run(_penalty(tjit.compile(f), 2), arrays)

    _agree(found, _run(_penalty(f, 2), arrays))


def test_newton_has_the_analytic_derivatives_of_first_and_second_order():
    a = np.array([0.3, 2.0, 7.0, 40.0])
    leaf = tjit.tensor(a, requires_grad=True)

    (g,) = tjit.autograd.grad(tjit.compile(_newton)(leaf), [leaf], create_graph=True)
    (h,) = tjit.autograd.grad(g.sum(), [leaf])

    np.testing.assert_allclose(g.detach().numpy(), 1.5 * a**0.5, rtol=1e-6)
    np.testing.assert_allclose(h.numpy(), 0.75 * a**-0.5, rtol=1e-6)


def test_newton_has_the_derivatives_of_finite_differences():
    a = np.array([0.3, 2.0, 7.0])

    @tjit.compile
    def value_and_derivatives(a):
        y = _newton(a)
        (g,) = tjit.autograd.grad(y, [a], create_graph=True)
        (h,) = tjit.autograd.grad(g.sum(), [a])
        return y, g, h

    def at(k, step, position):
        moved = a.copy()
        moved[k] += step
        return value_and_derivatives(tjit.tensor(moved, requires_grad=True))[position].detach().numpy()

    _, g, h = value_and_derivatives(tjit.tensor(a, requires_grad=True))
    for k in range(3):
        slope = (at(k, 1e-5, 0) - at(k, -1e-5, 0)) / 2e-5
        curve = (at(k, 1e-5, 1) - at(k, -1e-5, 1)).sum() / 2e-5
        np.testing.assert_allclose(g.detach().numpy()[k], slope, rtol=1e-6)
        np.testing.assert_allclose(h.detach().numpy()[k], curve, rtol=1e-6)


def test_a_training_step_with_a_loop_differentiates_inside():
    arrays = [_normal(9, 4), _normal(4, 4) * 0.4, _normal(4)]

    def step(x, w, h):
        loss = _recurrent(x, w, h)
        loss.backward()
        return loss.detach()

    eager, compiled = _leaves(arrays), _leaves(arrays)
    step(*eager)
    tjit.compile(step)(*compiled)

    _agree(_grads(compiled), _grads(eager))


def test_lengths_that_change_need_no_new_program():
    f = tjit.compile(_recurrent)
    for n in (5, 7, 9, 20, 1, 0):
        arrays = [RNG.standard_normal((n, 4)), _normal(4, 4), _normal(4)]
        _agree(_run(f, arrays), _run(_recurrent, arrays))

    assert f.cache_info().misses <= 4


def test_torch_has_the_same_gradients():
    torch = pytest.importorskip("torch")
    arrays = [_normal(12, 5), _normal(5, 5), _normal(5)]
    x, w, h = (torch.tensor(a, requires_grad=True) for a in arrays)
    state = h
    for i in range(12):
        state = torch.tanh(w @ state + x[i])
    (state * state).sum().backward()

    found = _run(tjit.compile(_recurrent), arrays)

    _agree(found[1:], [t.grad.numpy() for t in (x, w, h)])


def _loss_and_gradients(x, w, h):
    loss = _recurrent(x, w, h)
    loss.backward()
    return loss.detach()


def test_the_schedule_prints_the_bytes_of_tapes():
    x, w, h = _normal(12, 5), _normal(5, 5), _normal(5)
    leaves = [tjit.tensor(x), *_leaves([w, h])]

    text = str(tjit.compile(_loss_and_gradients).lower(*leaves).schedule())

    tapes = [line.split(" at ")[0].strip() for line in text.splitlines() if line.strip().startswith("tape ")]
    states, rates, of_products = "tape_b1: f64[12, 5]", "tape_b2: f64[12, 5]", "tape_b3: f64[12, 5, 1]"
    assert tapes == [f"tape {name} 480 B" for name in (states, rates, of_products)]


def test_explain_adds_up_the_bytes_of_tapes():
    leaves = [tjit.tensor(_normal(12, 5)), *_leaves([_normal(5, 5), _normal(5)])]

    page = str(tjit.explain(tjit.compile(_recurrent), *leaves))

    assert ", 960 B on tapes" in page


def test_slices_that_grow_with_the_counter_are_kept_and_not_their_array():
    def tapes(f, *arrays):
        text = str(tjit.compile(f).lower(*_leaves(arrays)).schedule())
        return {line.split(": ")[1] for line in text.splitlines() if line.startswith("  tape ")}

    assert tapes(_triangular_solve, _normal(9, 9), _normal(9)) == {"f64[9, 8] 576 B", "f64[9] 72 B"}
    assert max(tapes(_cholesky, _normal(9, 9)), key=len) == "f64[9, 8, 8] 4608 B"


def _nested_sum(w, x):
    s = 0.0
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            if x[j] > 0:
                s = s + (w[i, j] * x[j]).sin()
    return s


def test_loops_inside_of_loops_add_to_one_sum():
    arrays = [_normal(7, 9), _normal(9)]
    compiled = tjit.compile(_nested_sum)

    _agree(_run(compiled, arrays), _run(_nested_sum, arrays))
    backward = compiled.lower(*_leaves(arrays)).backward.passes()
    zeros = [line for line in str(backward).splitlines() if "shape=(7, 9)" in line]
    assert zeros  # before the loops, and no others: each trip would fill and add 63 numbers
    assert all(line.startswith("  %") for line in zeros)


@pytest.mark.parametrize("f", [_breaks, _newton])
def test_a_while_runs_again_in_the_program_of_its_gradient_alone(f):
    lowered = tjit.compile(f).lower(*_leaves([np.full(20, 0.7)]))

    assert " for(" not in str(lowered.passes())
    assert str(lowered.backward.passes()).count(" for(") == 2  # the trips again, and the countdown
