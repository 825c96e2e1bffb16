"""Recurrent layers: PyTorch's outputs, gradients, names and messages, and one loop over time in a captured function."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import tjit
from tjit import nn
from tjit.errors import ArgumentError

MODES = ("RNN", "LSTM", "GRU")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "dropout": 0.0},
)
LAYERS = [
    *itertools.product(MODES, OPTIONS),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
]
IN, HIDDEN = 4, 6


def pair(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A layer of tjit's and PyTorch's of the same parameters."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*args, dtype=torch.float64, **options)
    ours = getattr(nn, name)(*args, dtype=tjit.float64, **options)
    ours.load_state_dict({k: tjit.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def flat(result: Any) -> list[Any]:
    return [t for r in result for t in flat(r)] if isinstance(result, tuple) else [result]


def trained(framework: Any, layer: Any, inputs: list[np.ndarray], compile: Any = lambda fn: fn) -> list[Any]:
    """Results of a layer, and the gradients of its parameters and of its inputs; inputs behind the first are states."""
    x, *states = [framework.from_numpy(a.copy()).requires_grad_() for a in inputs]

    def run(x: Any, *states: Any) -> Any:
        hx = () if not states else (states[0],) if len(states) == 1 else (states,)
        results = flat(layer(x, *hx))
        loss: Any = sum((r * r).sum() * (i + 1) for i, r in enumerate(results))
        loss.backward()
        return results

    results = compile(run)(x, *states)
    return [r.detach().numpy() for r in results] + [p.grad.numpy() for p in (*layer.parameters(), x, *states)]


def states_of(name: str, rng: np.random.Generator, *shape: int, projection: int = 0) -> list[np.ndarray]:
    widths = [projection or HIDDEN, HIDDEN] if name.startswith("LSTM") else [HIDDEN]
    return [rng.standard_normal((*shape, width)) for width in widths]


@pytest.mark.parametrize("compile", [lambda fn: fn, tjit.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize(("name", "options"), LAYERS, ids=str)
def test_layers_give_pytorchs_results_and_gradients(name, options, compile, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(name, IN, HIDDEN, **options)
    x = rng.standard_normal((3, 7, IN) if options.get("batch_first") else (7, 3, IN))
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    given = bool(options) or compile is tjit.compile
    states = states_of(name, rng, count, 3, projection=options.get("proj_size", 0)) if given else []
    expected = trained(torch, theirs, [x, *states])

    found = trained(tjit, ours, [x, *states], compile)

    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 10)


@pytest.mark.parametrize("name", MODES)
def test_a_sequence_without_a_batch_has_results_without_one(name, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(name, IN, HIDDEN, bidirectional=True, batch_first=True)
    inputs = [rng.standard_normal((7, IN)), *states_of(name, rng, 2)]

    for a, b in zip(trained(tjit, ours, inputs), trained(torch, theirs, inputs), strict=True):
        assert_close(a, b, 10)


@pytest.mark.parametrize("batch", [(), (3,)], ids=["single", "batch"])
@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=str)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_give_pytorchs_results_and_gradients(name, options, batch, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(name, IN, HIDDEN, **options)
    x = rng.standard_normal((*batch, IN))
    states = states_of(name, rng, *batch) if options else []
    expected = trained(torch, theirs, [x, *states])

    for compile in (lambda fn: fn, tjit.compile):
        ours.zero_grad()
        for a, b in zip(trained(tjit, ours, [x, *states], compile), expected, strict=True):
            assert_close(a, b, 10)


@pytest.mark.parametrize("name", MODES)
def test_the_steps_are_one_loop_and_a_new_length_compiles_nothing(name, rng):
    layer = getattr(nn, name)(IN, HIDDEN)
    run = tjit.compile(lambda x: layer(x)[0])

    def sequence(steps: int) -> tjit.Tensor:
        return tjit.from_numpy(rng.standard_normal((steps, 2, IN), np.float32))

    loops = [node for node in run.lower(sequence(50)).graph.nodes if node.op.name == "for"]
    for steps in (50, 60, 9):
        x = sequence(steps)
        assert_close(run(x).detach().numpy(), layer(x)[0].detach().numpy(), 10)

    assert len(loops) == 1
    assert run.cache_info().misses <= 2


def test_dropout_lies_between_layers_in_training_only(rng):
    tjit.manual_seed(1)
    layer = nn.LSTM(IN, HIDDEN, num_layers=2, dropout=1.0)
    x = tjit.from_numpy(rng.standard_normal((5, 2, IN), np.float32))
    alone = nn.LSTM(HIDDEN, HIDDEN)
    alone.load_state_dict({k.replace("_l1", "_l0"): v for k, v in layer.state_dict().items() if k.endswith("_l1")})

    assert_close(layer(x)[0].detach().numpy(), alone(tjit.zeros(5, 2, HIDDEN))[0].detach().numpy())
    assert not np.allclose(layer.eval()(x)[0].detach().numpy(), alone(tjit.zeros(5, 2, HIDDEN))[0].detach().numpy())


@pytest.mark.parametrize(("name", "options"), [*LAYERS, ("GRU", {"dropout": 0.5, "num_layers": 2})], ids=str)
def test_names_and_printed_forms_are_pytorchs(name, options):
    ours, theirs = pair(name, IN, HIDDEN, **options)

    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [[p.shape for p in ps] for ps in ours.all_weights] == [
        [tuple(p.shape) for p in ps] for ps in theirs.all_weights
    ]


def test_printed_forms_of_cells_are_pytorchs():
    torch = pytest.importorskip("torch")
    for make in (
        lambda m: m.RNNCell(2, 3, nonlinearity="relu"),
        lambda m: m.LSTMCell(2, 3, bias=False),
        lambda m: m.GRUCell(2, 3),
    ):
        assert repr(make(nn)) == repr(make(torch.nn))


def test_first_values_are_drawn_from_the_width_of_a_state():
    for layer in (nn.LSTM(3, 100), nn.GRUCell(3, 100)):
        values = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])

        assert 0.099 < np.abs(values).max() <= 0.1
        assert abs(values.mean()) < 0.005


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: nn.RNN(2, 3, nonlinearity="sin"), "Unknown nonlinearity 'sin'. Select from 'tanh' or 'relu'."),
        (lambda: nn.RNNBase("TREE", 2, 3), "Unrecognized RNN mode: TREE"),
        (lambda: nn.GRU(2, 0), "hidden_size must be greater than zero, not 0"),
        (lambda: nn.LSTM(2, 3, dropout=2), r"dropout should be a number in range \[0, 1\], not 2.0"),
        (lambda: nn.GRU(2, 3, proj_size=2), "proj_size argument is only supported for LSTM, not RNN or GRU"),
        (lambda: nn.LSTM(2, 3, proj_size=3), "proj_size has to be smaller than hidden_size, but 3 is not smaller"),
        (lambda: nn.LSTM(2, 3)(tjit.ones(2)), "LSTM: Expected input to be 2D or 3D, got 1D instead"),
        (lambda: nn.LSTM(2, 3)(tjit.ones(4, 1, 3)), "must be equal to input_size. Expected 2, got 3"),
        (lambda: nn.LSTM(2, 3)(tjit.ones(0, 1, 2)), "Expected sequence length to be larger than 0 in RNN"),
        (lambda: nn.LSTM(2, 3)(tjit.ones(4, 1, 2), (tjit.ones(1, 1, 3),)), "LSTM takes 2 states, not 1"),
        (
            lambda: nn.LSTM(2, 3)(tjit.ones(4, 1, 2), (tjit.ones(1, 2, 3), tjit.ones(1, 1, 3))),
            r"Expected hidden\[0\] size \(1, 1, 3\), got \[1, 2, 3\]",
        ),
        (lambda: nn.GRU(2, 3)(tjit.ones(4, 2), tjit.ones(3)), r"Expected hidden size \(1, 1, 3\), got \[3\]"),
        (lambda: nn.GRUCell(2, 3)(tjit.ones(4, 3)), "input has 3 columns, 2 are expected"),
        (lambda: nn.GRUCell(2, 3)(tjit.ones(4, 2, 2)), "GRUCell: Expected input to be 1D or 2D, got 3D instead"),
        (lambda: nn.GRUCell(2, 3)(tjit.ones(4, 2), tjit.ones(4, 2)), "hidden0 has 2 columns, 3 are expected"),
        (
            lambda: nn.LSTMCell(2, 3)(tjit.ones(4, 2), (tjit.ones(4, 3), tjit.ones(1, 3))),
            r"Input batch size \[4\] doesn't match hidden1 batch size \[1\]",
        ),
        (
            lambda: nn.RNNCell(2, 3)(tjit.ones(4, 2), tjit.ones(3)),
            r"batch size \[4\] doesn't match hidden0 batch size \[",
        ),
        (lambda: nn.LSTMCell(2, 3)(tjit.ones(4, 2), tjit.ones(4, 3)), "LSTMCell takes 2 states, not 1"),
        (lambda: nn.GRU(2, 3)(tjit.ones(4, 2), (tjit.ones(1, 3), tjit.ones(1, 3))), "GRU takes one state, not 2"),
    ],
)
def test_messages(act, message):
    with pytest.raises(ArgumentError, match=message):
        act()
