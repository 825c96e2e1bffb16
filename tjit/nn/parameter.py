"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.tensor import Tensor, Traced

__all__ = ["Buffer", "Parameter"]


def _eager_array(data: Any, what: str) -> np.ndarray:
    if data is None:
        return np.empty(0, np.float32)
    if not isinstance(data, Tensor):
        from tjit.ops.creation import as_tensor

        data = as_tensor(data)
    if isinstance(data._data, Traced):
        raise ArgumentError(
            f"a {what} cannot be made of a {data.type_} tensor while a function is captured",
            user_location(),
            hint="make modules outside of the compiled function",
        )
    return data.array


class Parameter(Tensor):
    """A tensor that a module updates: `module.parameters()` lists it.

    Args:
        data: a tensor, whose memory the parameter shares, or what `tjit.as_tensor` takes.
        requires_grad: whether gradients are computed for it.
    """

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        super().__init__(_eager_array(data, "Parameter"))
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy = type(self)(Tensor(self.array.copy()), self._requires_grad)
        if "name" in self.__dict__:  # in dumps
            copy.__dict__["name"] = self.__dict__["name"]
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.array, self._requires_grad)


class Buffer(Tensor):
    """A tensor that is part of a module's state but is not updated by gradients, such as a running mean.

    Args:
        data: as for `Parameter`.
        persistent: whether `state_dict()` holds it.
    """

    __slots__ = ()

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        super().__init__(_eager_array(data, "Buffer"))
        self.__dict__["persistent"] = persistent


def _unpickled(cls: type[Parameter], array: np.ndarray, requires_grad: bool) -> Parameter:
    return cls(Tensor(array), requires_grad)
