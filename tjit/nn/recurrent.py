"""Recurrent layers and their cells: the loop over time is one loop in a captured function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tjit.capture.scan import scan
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.nn import functional as F
from tjit.nn import init
from tjit.nn.module import Module
from tjit.nn.parameter import Parameter
from tjit.ops.creation import empty, zeros
from tjit.ops.join import cat, stack
from tjit.ops.movement import flip
from tjit.tensor import Tensor

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell"]

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class _Weights:
    """The parameters of one cell, with `gates` as many rows as a state has columns: f[gates * h, ...].

    Attributes:
        projection: f[p, h], what makes outputs of an LSTM's states.
    """

    ih: Tensor
    hh: Tensor
    ih_bias: Tensor | None
    hh_bias: Tensor | None
    projection: Tensor | None = None


@dataclass(frozen=True)
class _Kind:
    """A recurrence.

    Attributes:
        gates: how many.
        states: how many tensors are carried; the first is the output.
        step: (gates f[b, gates * h] of the input, those of the output before, states) to the next states.
        adds: whether the gates are only added: their biases may then be one.
    """

    gates: int
    states: int
    step: Callable[[Tensor, Tensor, States], States]
    adds: bool = True

    def given(self, name: str, hx: Any) -> States:
        """The states that a caller gives: a tensor, or a tuple of them."""
        states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        if len(states) != self.states:
            wanted = "one state" if self.states == 1 else f"{self.states} states"
            raise ArgumentError(f"{name} takes {wanted}, not {len(states)}", user_location())
        return states

    def prepared(self, w: _Weights) -> _Weights:
        """The weights for many steps."""
        if not self.adds or w.ih_bias is None or w.hh_bias is None:
            return w
        return replace(w, ih_bias=w.ih_bias + w.hh_bias, hh_bias=None)

    def next(self, x: Tensor, states: States, w: _Weights) -> States:
        """The states f[b, h] after x f[b, i]."""
        y, *rest = self.step(F.linear(x, w.ih, w.ih_bias), F.linear(states[0], w.hh, w.hh_bias), states)
        return (y if w.projection is None else F.linear(y, w.projection), *rest)


def _elman(activation: Callable[[Tensor], Tensor]) -> _Kind:
    return _Kind(1, 1, lambda x, h, states: (activation(x + h),))


def _lstm_step(x: Tensor, h: Tensor, states: States) -> States:
    i, f, g, o = (x + h).chunk(4, -1)
    c = F.sigmoid(f) * states[1] + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(c), c


def _gru_step(x: Tensor, h: Tensor, states: States) -> States:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
    n = F.tanh(xn + F.sigmoid(xr + hr) * hn)
    return (n + F.sigmoid(xz + hz) * (states[0] - n),)  # (1 - z) n + z h


_KINDS = {
    "RNN_TANH": _elman(F.tanh),
    "RNN_RELU": _elman(F.relu),
    "LSTM": _Kind(4, 2, _lstm_step),
    "GRU": _Kind(3, 1, _gru_step, adds=False),
}


def _elman_mode(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.", user_location())
    return f"RNN_{nonlinearity.upper()}"


class RNNBase(Module):
    """Layers of a recurrence over time, each over the outputs of the one before.

    Args:
        mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU".
        input_size, hidden_size: columns of the input, and of a state.
        num_layers: layers on one another.
        bias: whether gates have one.
        batch_first: input and output are f[b, t, *], not f[t, b, *].
        dropout: the probability that an output is dropped before it reaches the next layer, in training.
        bidirectional: each layer also goes from the end to the start; its output has the columns of both ways.
        proj_size: columns of an LSTM's output where it is not its state (0: it is).

    Attributes:
        weight_ih_l{k}, weight_hh_l{k}, bias_ih_l{k}, bias_hh_l{k}: f[gates * hidden_size, *] of layer k, drawn evenly
            from +-1 / sqrt(hidden_size); those of the way back end in `_reverse`.
        weight_hr_l{k}: f[proj_size, hidden_size], where there is a projection.

    Raises:
        ArgumentError: another mode, a size that is not positive, a dropout that is no probability, or a proj_size that
            is not below hidden_size or not an LSTM's.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._check_arguments()
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._add_weights(layer, suffix, device, dtype)
        self.reset_parameters()

    def _check_arguments(self) -> None:
        if self.mode not in _KINDS:
            raise ArgumentError(f"Unrecognized RNN mode: {self.mode}", user_location())
        for name in ("input_size", "hidden_size", "num_layers"):
            if getattr(self, name) <= 0:
                raise ArgumentError(f"{name} must be greater than zero, not {getattr(self, name)}", user_location())
        if not 0 <= self.dropout <= 1:
            raise ArgumentError(f"dropout should be a number in range [0, 1], not {self.dropout}", user_location())
        if self.proj_size and self.mode != "LSTM":
            raise ArgumentError("proj_size argument is only supported for LSTM, not RNN or GRU", user_location())
        if not 0 <= self.proj_size < self.hidden_size:
            raise ArgumentError(
                f"proj_size has to be smaller than hidden_size, but {self.proj_size} is not smaller than "
                f"{self.hidden_size}",
                user_location(),
            )

    def _suffixes(self, layer: int) -> list[str]:
        """What the names of a layer's parameters end in, one for each way."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def _add_weights(self, layer: int, suffix: str, device: Any, dtype: Any) -> None:
        rows, output = _KINDS[self.mode].gates * self.hidden_size, self.proj_size or self.hidden_size
        columns = output * (1 + self.bidirectional) if layer else self.input_size
        shapes = {"weight_ih": (rows, columns), "weight_hh": (rows, output)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (output, self.hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, Parameter(empty(shape, device=device, dtype=dtype)))

    def _weights(self, suffix: str) -> _Weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return _Weights(*(self._parameters.get(name + suffix) for name in names))  # pyright: ignore[reportArgumentType]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and way."""
        suffixes = [s for layer in range(self.num_layers) for s in self._suffixes(layer)]
        return [[p for n, p in self._parameters.items() if n.endswith(s) and p is not None] for s in suffixes]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: there is no copy of the parameters to keep together."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Run over a sequence.

        Args:
            input: f[t, b, input_size], f[b, t, input_size] with `batch_first`, or f[t, input_size].
            hx: the states before the first step (None: zeros), f[layers * ways, b, hidden_size], for an LSTM two:
                (h of proj_size columns where there is a projection, c).

        Returns:
            The outputs of the last layer f[t, b, ways * columns], laid out as `input`, and the last states as `hx`.

        Raises:
            ArgumentError: an operand has another shape, there is no step, or `hx` another number of states.
        """
        self._check_input(input)
        single = input.ndim == 2
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        y, states = self._layers(x, self._initial(x, hx, single))
        if single:
            y, states = y.squeeze(1), tuple(s.squeeze(1) for s in states)
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, states if self.mode == "LSTM" else states[0]

    def _check_input(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ArgumentError(
                f"{self.mode}: Expected input to be 2D or 3D, got {input.ndim}D instead", user_location()
            )
        if input.shape[-1] != self.input_size:
            raise ArgumentError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}",
                user_location(),
            )
        steps = input.shape[1 if self.batch_first and input.ndim == 3 else 0]
        if isinstance(steps, int) and steps == 0:
            raise ArgumentError("Expected sequence length to be larger than 0 in RNN", user_location())

    def _initial(self, x: Tensor, hx: Any, single: bool) -> States:
        """The states f[layers * ways, b, *] before the first step of x f[t, b, *]."""
        kind, count = _KINDS[self.mode], self.num_layers * (1 + self.bidirectional)
        widths = (self.proj_size or self.hidden_size, self.hidden_size)[: kind.states]
        shapes = [(count, x.shape[1], width) for width in widths]
        if hx is None:
            return tuple(zeros(shape, dtype=x.dtype, device=x.device) for shape in shapes)
        states = tuple(s.unsqueeze(1) if single and s.ndim == 2 else s for s in kind.given(self.mode, hx))
        for i, (state, shape) in enumerate(zip(states, shapes, strict=True)):
            if tuple(state.shape) != shape:
                what = f"hidden[{i}]" if kind.states > 1 else "hidden"
                raise ArgumentError(f"Expected {what} size {shape}, got {list(state.shape)}", user_location())
        return states

    def _layers(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """Outputs f[t, b, *] and last states f[layers * ways, b, *] of x f[t, b, i]."""
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            ways: list[Tensor] = []
            for suffix in self._suffixes(layer):
                y, end = self._one_way(x, tuple(s[len(last)] for s in states), suffix)
                ways.append(y)
                last.append(end)
            x = cat(ways, -1) if self.bidirectional else ways[0]
        return x, tuple(stack(parts) for parts in zip(*last, strict=True))

    def _one_way(self, x: Tensor, states: States, suffix: str) -> tuple[Tensor, States]:
        """Outputs f[t, b, *] and last states f[b, *] of one cell, over x f[t, b, i] in its order or from its end."""
        kind, steps, back = _KINDS[self.mode], x.shape[0], suffix.endswith("_reverse")
        weights = kind.prepared(self._weights(suffix))

        def step(t: Any, states: States) -> tuple[States, Tensor]:
            after = kind.next(x[steps - 1 - t if back else t], states, weights)
            return after, after[0]

        last, outputs = scan(step, states, steps)
        y = stack(outputs)
        return flip(y, (0,)) if back else y, last

    def extra_repr(self) -> str:
        shown = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        shown["bidirectional"] = False
        changed = [f", {k}={getattr(self, k)}" for k, default in shown.items() if getattr(self, k) != default]
        return f"{self.input_size}, {self.hidden_size}{''.join(changed)}"


class RNN(RNNBase):
    """h = tanh(x weight_ih.T + bias_ih + h weight_hh.T + bias_hh), or with relu: `RNN(input_size, hidden_size, ...)`.

    Takes RNNBase's arguments, and `nonlinearity` ("tanh" or "relu") behind num_layers.

    Raises:
        ArgumentError: another nonlinearity, or as RNNBase.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(_elman_mode(nonlinearity), input_size, hidden_size, num_layers, *args, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory: gates i, f, g, o; c = f c + i g; h = o tanh(c). Takes RNNBase's arguments.

    Source: Hochreiter and Schmidhuber (1997), "Long short-term memory", with the forget gate of Gers et al. (2000).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gates r, z and n = tanh(x part + r (h part)); h = (1 - z) n + z h. Takes RNNBase's arguments.

    Source: Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder".
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)


class _Cell(Module):
    """One step of a recurrence.

    Attributes:
        weight_ih, weight_hh, bias_ih, bias_hh: f[gates * hidden_size, *], drawn evenly from +-1 / sqrt(hidden_size).
    """

    def __init__(self, mode: str, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias, self._mode = input_size, hidden_size, bias, mode
        rows = _KINDS[mode].gates * hidden_size
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        for name, shape in {**shapes, "bias_ih": (rows,), "bias_hh": (rows,)}.items():
            present = bias or name in shapes
            self.register_parameter(name, Parameter(empty(shape, device=device, dtype=dtype)) if present else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The next state f[b, hidden_size] or f[hidden_size]; for an LSTM (h, c).

        Args:
            input: f[b, input_size] or f[input_size].
            hx: the state before (None: zeros), f[b, hidden_size] or f[hidden_size]; for an LSTM (h, c).

        Raises:
            ArgumentError: an operand has another shape, or `hx` another number of states.
        """
        kind, weights = _KINDS[self._mode], _Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        self._check(input, "input", self.input_size)
        batch = input.shape[:-1]
        if hx is None:
            states = (zeros((*batch, self.hidden_size), dtype=input.dtype, device=input.device),) * kind.states
        else:
            states = kind.given(type(self).__name__, hx)
        for i, state in enumerate(states):
            self._check(state, f"hidden{i}", self.hidden_size)
            if state.shape[:-1] != batch:
                raise ArgumentError(
                    f"Input batch size {list(batch)} doesn't match hidden{i} batch size {list(state.shape[:-1])}",
                    user_location(),
                )
        states = kind.next(input, states, weights)
        return states if kind.states > 1 else states[0]

    def _check(self, x: Tensor, what: str, width: int) -> None:
        if x.ndim not in (1, 2):
            raise ArgumentError(
                f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {x.ndim}D instead", user_location()
            )
        if x.shape[-1] != width:
            raise ArgumentError(f"{what} has {x.shape[-1]} columns, {width} are expected", user_location())

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """One step of `RNN`: `nonlinearity` is "tanh" or "relu".

    Raises:
        ArgumentError: another nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(_elman_mode(nonlinearity), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        shown = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + shown


class LSTMCell(_Cell):
    """One step of `LSTM`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """One step of `GRU`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)
