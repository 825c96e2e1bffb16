"""Checkpoints: backward computes again instead of keeping, with the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.errors import AutogradError
from tjit.utils.checkpoint import checkpoint

RNG = np.random.default_rng(9)


def _leaves(*arrays):
    return [tjit.tensor(a.copy(), requires_grad=True) for a in arrays]


def _arrays():
    return RNG.standard_normal((12, 5)), RNG.standard_normal((5, 5)) * 0.5, RNG.standard_normal(5)


def _gradients(f, arrays):
    leaves = _leaves(*arrays)
    f(*leaves).backward()
    return [x.grad.numpy() for x in leaves]


def _agree(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def _recurrent(rows):
    def run(x, w, h):
        for i in rows(range(x.shape[0])):
            h = tjit.tanh(w @ tjit.sin(w @ h) + x[i])
        return (h * h).sum()

    return run


def _deep(call):
    def run(x, w, h):
        def block(a):
            a = tjit.tanh(w @ a)
            return tjit.tanh(w @ a), a

        for i in range(3):
            h, g = call(block, h)
            h = h + g + x[i]
        return (h * h).sum() + (x * x).sum()

    return run


def _plain(function, *args):
    return function(*args)


def _until(x, w, h):
    for row in tjit.checkpointed(x):
        h = tjit.tanh(w @ h + row)
        if h.sum() > 2:
            break
    return (h * h).sum() + (x * x).sum()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_checkpointed_loop_has_the_gradients_of_the_loop(compiled):
    arrays = _arrays()
    f = _recurrent(tjit.checkpointed)

    found = _gradients(tjit.compile(f) if compiled else f, arrays)

    _agree(found, _gradients(_recurrent(lambda items: items), arrays))


def test_a_checkpointed_loop_that_breaks_has_the_eager_gradients():
    arrays = _arrays()

    _agree(_gradients(tjit.compile(_until), arrays), _gradients(_until, arrays))


def _tapes(f, arrays):
    x, w, h = arrays
    text = str(tjit.compile(f).lower(tjit.tensor(x), *_leaves(w, h)).schedule())
    return [line.strip() for line in text.splitlines() if line.startswith("  tape ")]


def test_a_checkpointed_loop_keeps_only_what_it_carries():
    arrays = _arrays()

    assert len(_tapes(_recurrent(lambda items: items), arrays)) > 1
    assert [line.split(": ")[1] for line in _tapes(_recurrent(tjit.checkpointed), arrays)] == ["f64[12, 5] 480 B"]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_checkpointed_function_has_the_gradients_of_its_calls(compiled):
    arrays = _arrays()
    f = _deep(checkpoint)

    found = _gradients(tjit.compile(f) if compiled else f, arrays)

    _agree(found, _gradients(_deep(_plain), arrays))


def test_a_checkpointed_function_runs_again_in_backward():
    calls = []

    def block(a):
        calls.append(1)
        return a.exp().sin()

    x = tjit.ones(3, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=False).sum()
    assert len(calls) == 1
    y.backward()
    assert len(calls) == 2


def test_the_compiled_backward_of_a_checkpointed_function_computes_it_again():
    def step(x, w, h):
        loss = _deep(checkpoint)(x, w, h)
        loss.backward()
        return loss.detach()

    x, w, h = _arrays()
    text = str(tjit.compile(step).lower(*_leaves(x, w, h)).passes())

    assert text.count(" = tanh(") == 12  # 6 forward, and again


def test_a_function_compiled_with_checkpoint_keeps_its_arguments_alone():
    arrays = _arrays()
    f = _recurrent(lambda items: items)
    compiled = tjit.compile(f, checkpoint=True)

    found = _gradients(compiled, arrays)

    _agree(found, _gradients(f, arrays))
    backward = compiled.lower(*_leaves(*arrays)).backward
    assert [v.name for v in backward.graph.inputs] == ["x", "w", "h", "d0"]


def test_second_derivatives_go_through_checkpoints():
    def penalty(call):
        def run(x, w, h):
            (g,) = tjit.autograd.grad(_deep(call)(x, w, h), [w], create_graph=True)
            return g.pow(2).sum() + (x * x).sum() + (h * h).sum()

        return run

    arrays = _arrays()
    wanted = _gradients(penalty(_plain), arrays)

    _agree(_gradients(penalty(checkpoint), arrays), wanted)
    _agree(_gradients(tjit.compile(penalty(checkpoint)), arrays), wanted)


def test_backward_draws_the_random_numbers_of_forward():
    x = tjit.ones(1000, requires_grad=True)

    y = checkpoint(lambda a: nn.functional.dropout(a * 2.0, 0.5), x)
    y.sum().backward()

    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_parameters_that_the_function_reads_get_gradients():
    layer = nn.Linear(4, 4)
    x = tjit.rand(3, 4)

    checkpoint(layer, x).sum().backward()

    np.testing.assert_allclose(layer.bias.grad.numpy(), np.full(4, 3.0))


def test_writing_what_a_checkpoint_reads_before_backward_is_an_error():
    x = tjit.ones(3, requires_grad=True)
    scale = x * 2.0
    y = checkpoint(lambda a: (a * a).sum(), scale)
    scale.add_(1.0)

    with pytest.raises(AutogradError, match="modified by an in-place operation"):
        y.backward()
