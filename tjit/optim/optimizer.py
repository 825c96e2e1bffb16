"""The base class of optimizers.

A step is made of public ops, so that the same code runs eagerly and in a captured function: there parameters and
state are lifted to inputs and written back. For this the state is made of tensors, also the count of steps, which are
created with the optimizer, not on the first step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tjit.autograd.tape import enable_grad, no_grad
from tjit.dtypes import DType, f64
from tjit.errors import ArgumentError, DTypeError
from tjit.location import user_location
from tjit.ops.apply import assign, state
from tjit.ops.conversion import cast
from tjit.ops.public import write_into
from tjit.tensor import Tensor

__all__ = ["Optimizer", "hyperparameter"]


def hyperparameter(group: dict[str, Any], name: str) -> Any:
    """A number of a parameter group; a trace that can makes it an input of the graph, so that it may change."""
    lift = getattr(state.trace, "lift_number", None)
    return group[name] if lift is None or isinstance(group[name], Tensor) else lift(group, name)


def check_range(ok: bool, what: str, value: Any) -> None:
    """Raise torch's ValueError unless `ok`."""
    if not ok:
        raise ArgumentError(f"Invalid {what}: {value}", user_location())


class Optimizer:
    """Updates parameters from their gradients. Subclasses define `_create_state` and `_update`.

    Attributes:
        defaults: options of groups that do not give their own.
        param_groups: dicts of "params" and options.
        state: for each parameter, its tensors by name.
        numbers: names of state that is one number a parameter.
    """

    numbers: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise DTypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor",
                user_location(),
                hint="put it in a list",
            )
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        if not isinstance(params, Iterable):
            raise DTypeError(
                f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {params!r}",
                user_location(),
                hint="pass module.parameters()",
            )
        groups = list(params)
        if not groups:
            raise ArgumentError("optimizer got an empty parameter list", user_location())
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Update more parameters.

        Args:
            param_group: "params", a tensor or several, and options.

        Raises:
            DTypeError: it is no dict, or a parameter is no tensor.
            ArgumentError: a parameter is no leaf, or is in another group.
        """
        if not isinstance(param_group, dict):
            raise DTypeError(f"param_group must be a dict, but got {type(param_group)}", user_location())
        params = param_group["params"]
        if isinstance(params, set):
            raise DTypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead.",
                user_location(),
            )
        params = [params] if isinstance(params, Tensor) else _without_names(params)
        group = {**param_group, "params": params}
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise DTypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {type(p)}", user_location()
                )
            if not p.is_leaf:
                raise ArgumentError("can't optimize a non-leaf Tensor", user_location())
            if id(p) in known:
                raise ArgumentError(
                    "some parameters appear in more than one parameter group, or twice in one", user_location()
                )
            known.add(id(p))
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self.param_groups.append(group)
        self._complete_state(group)

    # -- state ---------------------------------------------------------------------------------------------------------

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        """Names of the state tensors that `group`'s options need, with the value they start from. "step" is 0-d."""
        return {}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Write new values into `params`, which have gradients, and into their state."""
        raise NotImplementedError

    def _complete_state(self, group: dict[str, Any]) -> None:
        """Create what is missing of the group's state. These tensors are eager also while a function is captured."""
        wanted = self._create_state(group)
        step = _constant((), 0.0, f64, "step")  # one count for the group, until a parameter misses a step
        for p in group["params"]:
            own, owner = self.state[p], p.__dict__.get("name", "param")
            for name, value in wanted.items():
                if name in own:
                    continue
                if name == "step":
                    own[name] = step
                else:
                    number = name in self.numbers
                    own[name] = _constant(
                        () if number else p.shape, value, f64 if number else p.dtype, f"{owner}.{name}"
                    )

    def _advance(self, params: list[Tensor], group: dict[str, Any]) -> list[tuple[Tensor, list[Tensor]]]:
        """Count a step for `params`: pairs of a count, already increased, and the parameters that have it."""
        stepped = {id(p) for p in params}
        counts: dict[int, tuple[Tensor, list[Tensor]]] = {}
        for p in params:
            step = self.state[p]["step"]
            counts.setdefault(id(step), (step, []))[1].append(p)
        for p in group["params"]:
            own = self.state[p]
            if id(p) not in stepped and id(own["step"]) in counts:
                own["step"] = _constant((), float(own["step"].array), f64, "step")  # it misses this step
        for step, _ in counts.values():
            assign(step, step + 1)
        return list(counts.values())

    # -- the protocol --------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss again, with its gradients; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                if params:
                    self._complete_state(group)
                    self._update(group, params)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all parameters' gradients, or write zeros into them."""
        from tjit.nn.module import zero_gradients

        zero_gradients((p for group in self.param_groups for p in group["params"]), set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with parameters as numbers; the tensors share the optimizer's memory."""
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                numbers.setdefault(id(p), len(numbers))
        groups = [{**g, "params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups]
        return {"state": {numbers[id(p)]: dict(s) for p, s in self.state.items() if s}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take state and options from `state_dict`, which another optimizer of the same class and shape of groups gave.

        Raises:
            ArgumentError: the groups do not match.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ArgumentError("loaded state dict has a different number of parameter groups", user_location())
        if any(len(s["params"]) != len(g["params"]) for s, g in zip(saved, self.param_groups, strict=True)):
            raise ArgumentError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group",
                user_location(),
            )
        for options, group in zip(saved, self.param_groups, strict=True):
            group.update({name: value for name, value in options.items() if name != "params"})
            self._complete_state(group)
            found = [state_dict["state"].get(number, {}) for number in options["params"]]
            for p, tensors in zip(group["params"], found, strict=True):
                for name, value in tensors.items():
                    self._load(p, name, value, group)

    def _load(self, p: Tensor, name: str, value: Any, group: dict[str, Any]) -> None:
        own = self.state[p]
        array = np.asarray(value.array if isinstance(value, Tensor) else value)
        if name == "step":
            # parameters with equal counts share one, as after construction
            others = (self.state[q].get("step") for q in group["params"] if q is not p)
            same = next(
                (s for s in others if s is not own.get("step") and s is not None and float(s.array) == float(array)),
                None,
            )
            shared = own.get("step")
            if shared is not None and float(shared.array) == float(array):
                return
            if same is not None:
                own["step"] = same
            elif shared is None or any(self.state[q].get("step") is shared for q in group["params"] if q is not p):
                own["step"] = _constant((), float(array), f64, "step")
            else:
                _write(shared, array)
        elif name in own:
            _write(own[name], array)
        else:
            own[name] = Tensor(array.astype(p.dtype.numpy))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join(lines) + "\n)"


def _without_names(params: Iterable[Any]) -> list[Any]:
    """The tensors of `params`, which may be `named_parameters()`."""
    return [p[1] if isinstance(p, tuple) else p for p in params]


def _constant(shape: Any, value: float, dtype: DType, name: str) -> Tensor:
    """An eager tensor, also while a function is captured."""
    tensor = Tensor(np.full(tuple(shape), value, dtype.numpy))
    tensor.__dict__["name"] = name
    return tensor


def _write(target: Tensor, array: np.ndarray) -> None:
    with no_grad():
        write_into(target, cast(Tensor(array), target.dtype))
