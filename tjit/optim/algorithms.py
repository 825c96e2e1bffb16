"""The algorithms. Values are PyTorch's; options that only choose between its implementations are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tjit.dtypes import f64
from tjit.errors import ArgumentError
from tjit.ir.graph import Literal
from tjit.location import user_location
from tjit.ops.adam import adam
from tjit.ops.apply import assign
from tjit.ops.elementwise import maximum, pow, sqrt, where
from tjit.optim.optimizer import Optimizer, check_range, hyperparameter
from tjit.tensor import Tensor

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RMSprop"]


def _checked(lr: Any, weight_decay: float, **more: float) -> None:
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ArgumentError("Tensor lr must be 1-element", user_location())
    check_range(isinstance(lr, Tensor) or lr >= 0.0, "learning rate", lr)
    check_range(weight_decay >= 0.0, "weight_decay value", weight_decay)
    for what, value in more.items():
        check_range(value >= 0.0, f"{what} value", value)


def _check_betas(betas: tuple[float, float]) -> None:
    for i, beta in enumerate(betas):
        check_range(0.0 <= beta < 1.0, f"beta parameter at index {i}", beta)


def _gradient(p: Tensor, group: dict[str, Any], decay: bool = True) -> Tensor:
    """p's gradient, turned round to maximize, with the decay of the weights."""
    g = p.grad
    assert g is not None  # parameters without a gradient are left alone
    g = -g if group.get("maximize") else g
    weight_decay = group["weight_decay"]
    return g + p * weight_decay if decay and weight_decay != 0 else g


def _moving(average: Tensor, value: Tensor, rate: float) -> Tensor:
    """average * rate + value * (1 - rate), written into `average`."""
    return assign(average, average * rate + value * (1 - rate))


class SGD(Optimizer):
    """Gradient descent with momentum: b = momentum b + (1 - dampening) g; p -= lr b.

    Args:
        nesterov: p -= lr (g + momentum b).
        maximize: goes up instead of down.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: Any = None,
        differentiable: bool = False,
        fused: Any = None,
    ) -> None:
        _checked(lr, weight_decay, momentum=momentum)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening", user_location())
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        if group["momentum"] == 0:
            return {}
        return {"momentum_buffer": 0.0, **({"step": 0.0} if group["dampening"] != 0 else {})}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, momentum, dampening = hyperparameter(group, "lr"), group["momentum"], group["dampening"]
        if momentum != 0 and dampening != 0:
            for step, sharers in self._advance(params, group):
                # the first gradient starts the buffer whole
                self._descend(group, sharers, lr, where(step == 1, Literal(1.0, f64), Literal(1.0 - dampening, f64)))
        else:
            self._descend(group, params, lr, None)

    def _descend(self, group: dict[str, Any], params: list[Tensor], lr: Any, fresh: Tensor | None) -> None:
        for p in params:
            g = _gradient(p, group)
            if group["momentum"] != 0:
                buffer = self.state[p]["momentum_buffer"]
                assign(buffer, buffer * group["momentum"] + (g if fresh is None else g * fresh))
                g = g + buffer * group["momentum"] if group["nesterov"] else buffer
            assign(p, p - g * lr)


class Adam(Optimizer):
    """Moving averages of the gradient and its square: p -= lr m / (sqrt(v) + eps), both without their bias to zero.

    Args:
        betas: rates of the two averages.
        weight_decay: added to the gradient, or with `decoupled_weight_decay` taken from the parameter.
        amsgrad: divides by the largest v so far.

    Source: Kingma and Ba (2014), "Adam: a method for stochastic optimization".
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: Any = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: Any = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        _checked(lr, weight_decay, epsilon=eps)
        _check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0, **({"max_exp_avg_sq": 0.0} if group["amsgrad"] else {})}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr = hyperparameter(group, "lr")
        lr = lr.reshape(()) if isinstance(lr, Tensor) else lr  # one element, of any rank
        beta1, beta2 = group["betas"]
        for step, sharers in self._advance(params, group):
            step_size = lr / (1 - pow(beta1, step))
            root_rate = 1 / sqrt(1 - pow(beta2, step))  # a reciprocal once, not a division for each element
            for p in sharers:
                self._move(p, group, lr, step_size, root_rate)

    def _move(self, p: Tensor, group: dict[str, Any], lr: Any, step_size: Tensor, root_rate: Tensor) -> None:
        own = self.state[p]
        decoupled = group["decoupled_weight_decay"]
        g = _gradient(p, group, decay=not decoupled)
        base = p * (1 - lr * group["weight_decay"]) if decoupled and group["weight_decay"] != 0 else p
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        m, v, *largest = (own[name] for name in names)
        moved = adam(base, g, m, v, step_size, root_rate, *largest, betas=group["betas"], eps=group["eps"])
        for target, value in zip((p, m, v, *largest), moved, strict=True):
            assign(target, value)


class AdamW(Adam):
    """Adam with the decay of the weights apart from the gradient.

    Source: Loshchilov and Hutter (2017), "Decoupled weight decay regularization".
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        options["decoupled_weight_decay"] = True
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

    Source: Dozat (2016), "Incorporating Nesterov momentum into Adam".
    """

    numbers = ("mu_product",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: Any = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        _checked(lr, weight_decay, epsilon=eps, momentum_decay=momentum_decay)
        _check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "mu_product": 1.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, decay = hyperparameter(group, "lr"), group["weight_decay"]
        beta1, beta2 = group["betas"]
        for step, sharers in self._advance(params, group):
            mu, mu_next = (beta1 * (1 - 0.5 * pow(0.96, (step + ahead) * group["momentum_decay"])) for ahead in (0, 1))
            correction = 1 - pow(beta2, step)
            for p in sharers:
                own = self.state[p]
                g = _gradient(p, group, decay=not group["decoupled_weight_decay"])
                base = p * (1 - lr * decay) if group["decoupled_weight_decay"] and decay != 0 else p
                product = assign(own["mu_product"], own["mu_product"] * mu)
                m = _moving(own["exp_avg"], g, beta1)
                v = _moving(own["exp_avg_sq"], g * g, beta2)
                scale = sqrt(v / correction) + group["eps"]
                now, ahead = lr * (1 - mu) / (1 - product), lr * mu_next / (1 - product * mu_next)
                assign(p, base - g / scale * now - m / scale * ahead)


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the average of squares."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: Any = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        _checked(lr, weight_decay, epsilon=eps)
        _check_betas(betas)
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "exp_avg": 0.0, "exp_inf": 0.0}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr = hyperparameter(group, "lr")
        beta1, beta2 = group["betas"]
        for step, sharers in self._advance(params, group):
            step_size = lr / (1 - pow(beta1, step))
            for p in sharers:
                own, g = self.state[p], _gradient(p, group)
                m = _moving(own["exp_avg"], g, beta1)
                top = assign(own["exp_inf"], maximum(own["exp_inf"] * beta2, g.abs() + group["eps"]))
                assign(p, p - m / top * step_size)


class RMSprop(Optimizer):
    """Divides the gradient by the root of the moving average of its square: p -= lr g / (sqrt(v) + eps).

    Args:
        alpha: rate of the average.
        centered: takes the square of the average gradient from v.

    Source: Tieleman and Hinton (2012), lecture 6.5 of "Neural networks for machine learning".
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: Any = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        _checked(lr, weight_decay, epsilon=eps, momentum=momentum, alpha=alpha)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] > 0 else []
        names += ["grad_avg"] if group["centered"] else []
        return dict.fromkeys(names, 0.0)

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, alpha = hyperparameter(group, "lr"), group["alpha"]
        for p in params:
            own, g = self.state[p], _gradient(p, group)
            v = _moving(own["square_avg"], g * g, alpha)
            if group["centered"]:
                m = _moving(own["grad_avg"], g, alpha)
                v = v - m * m
            step = g / (sqrt(v) + group["eps"])
            if group["momentum"] > 0:
                step = assign(own["momentum_buffer"], own["momentum_buffer"] * group["momentum"] + step)
            assign(p, p - step * lr)


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of its squares so far.

    Args:
        lr_decay: lr falls as 1 / (1 + lr_decay (step - 1)).

    Source: Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization".
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: Any = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: Any = None,
    ) -> None:
        _checked(lr, weight_decay, lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, epsilon=eps)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
            },
        )

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "sum": float(group["initial_accumulator_value"])}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for step, sharers in self._advance(params, group):
            lr = hyperparameter(group, "lr")
            if group["lr_decay"] != 0:
                lr = lr / (1 + (step - 1) * group["lr_decay"])
            for p in sharers:
                own, g = self.state[p], _gradient(p, group)
                total = assign(own["sum"], own["sum"] + g * g)
                assign(p, p - g / (sqrt(total) + group["eps"]) * lr)


class Adadelta(Optimizer):
    """Scales the gradient by the ratio of the average step to the average gradient.

    Source: Zeiler (2012), "ADADELTA: an adaptive learning rate method".
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: Any = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        _checked(lr, weight_decay, epsilon=eps)
        check_range(0.0 <= rho <= 1.0, "rho value", rho)
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def _create_state(self, group: dict[str, Any]) -> dict[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, rho, eps = hyperparameter(group, "lr"), group["rho"], group["eps"]
        for p in params:
            own, g = self.state[p], _gradient(p, group)
            v = _moving(own["square_avg"], g * g, rho)
            delta = sqrt(own["acc_delta"] + eps) / sqrt(v + eps) * g
            _moving(own["acc_delta"], delta * delta, rho)
            assign(p, p - delta * lr)
