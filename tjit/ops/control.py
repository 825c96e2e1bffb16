"""Control flow: nodes with regions, and symbols bound to computed integers. docs/design/0004 has their meaning."""

from __future__ import annotations

from typing import Any

from tjit.dtypes import bool_
from tjit.errors import TypeRuleError
from tjit.ir.dims import Dim, DimExpr
from tjit.ir.op import Op, register
from tjit.ir.printer import RESERVED
from tjit.ir.types import TensorType

__all__ = ["BIND", "CHECK", "FOR", "IF", "WHILE"]


def _no_reference(name: str) -> Any:
    def reference(*_: Any, **__: Any) -> Any:
        raise AssertionError(f"{name} is run by tjit.ir.evaluate, which knows regions")

    return reference


def _if_vjp(g: Any, y: Any, *operands: Any, **of_tape: Any) -> Any:
    from tjit.autograd.control.branch import if_vjp  # it captures, which is a layer above

    return if_vjp(g, y, *operands, **of_tape)


def _while_vjp(g: Any, y: Any, *operands: Any, **of_tape: Any) -> Any:
    from tjit.autograd.control.while_loop import while_vjp

    return while_vjp(g, y, *operands, **of_tape)


def _for_vjp(g: Any, y: Any, *operands: Any, **of_tape: Any) -> Any:
    from tjit.autograd.control.for_loop import for_vjp

    return for_vjp(g, y, *operands, **of_tape)


# The types of an `if` come from its regions, those of loops are those of what they carry: `verify` checks both.
IF = register(
    Op(name="if", kind="control", infer=None, reference=_no_reference("if"), vjp=_if_vjp, samples=(), dtypes="any")
)


def _while_infer(*carried: TensorType, checkpoint: bool = False) -> tuple[TensorType, ...]:
    return carried


WHILE = register(
    Op(
        name="while",
        kind="control",
        infer=_while_infer,
        reference=_no_reference("while"),
        vjp=_while_vjp,
        samples=(),
        dtypes="any",
    )
)


def _need_name(op: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise TypeRuleError(f"{op} binds a symbol, which cannot be called {name!r}")


def _need_dim(op: str, what: str, dim: Any) -> None:
    if isinstance(dim, bool) or not isinstance(dim, (int, DimExpr)):
        raise TypeRuleError(f"{op} needs an int or a dim as {what}, not {dim!r}")


def _for_infer(*carried: TensorType, counter: str, trip: Dim, checkpoint: bool = False) -> tuple[TensorType, ...]:
    _need_name("for", counter)
    _need_dim("for", "trip", trip)
    return carried


FOR = register(
    Op(
        name="for",
        kind="control",
        infer=_for_infer,
        reference=_no_reference("for"),
        vjp=_for_vjp,
        samples=(),
        dtypes="any",
    )
)


def _bind_infer(value: TensorType, symbol: str, low: int, high: Dim | None) -> tuple[TensorType, ...]:
    if value.ndim or value.dtype.kind != "int":
        raise TypeRuleError(f"bind takes a 0-d integer, not {value}")
    _need_name("bind", symbol)
    if isinstance(low, bool) or not isinstance(low, int):
        raise TypeRuleError(f"bind needs an int as low, not {low!r}")
    if high is not None:
        _need_dim("bind", "high", high)
    return ()


BIND = register(
    Op(
        name="bind",
        kind="control",
        infer=_bind_infer,
        reference=_no_reference("bind"),
        vjp=None,
        samples=(),
        dtypes="any",
        differentiable=False,
    )
)


def _check_infer(ok: TensorType, message: str) -> tuple[TensorType, ...]:
    if ok.ndim or ok.dtype is not bool_:
        raise TypeRuleError(f"check takes a 0-d bool, not {ok}")
    return ()


CHECK = register(
    Op(
        name="check",
        kind="control",
        infer=_check_infer,
        reference=_no_reference("check"),
        vjp=None,
        samples=(),
        dtypes="any",
        differentiable=False,
    )
)
