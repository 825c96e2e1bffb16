"""Integer expressions: the extents of shapes, and the index maps of kernels.

A `Dim` is an int or a `DimExpr`. A `DimExpr` is a sum of integer multiples of products of atoms; an atom is a `Symbol`
or one of `a // b`, `a % b`, `min(a, b)`, `max(a, b)`. Operators normalise: equal expressions built in different ways
are equal objects by `==`, and an expression without symbols is an int.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, Union

from tjit.errors import ArgumentError
from tjit.location import is_internal, user_location

__all__ = [
    "Call",
    "Dim",
    "DimExpr",
    "InconclusiveDimError",
    "RuntimeDimError",
    "Symbol",
    "add_runtime",
    "apart",
    "as_number",
    "assume_at_least",
    "at_least",
    "coefficient",
    "counter",
    "divided",
    "evaluate",
    "fold",
    "inconclusive",
    "is_constant",
    "is_one",
    "is_runtime",
    "lower_bound",
    "maximum",
    "minimum",
    "product",
    "require_positive",
    "runtime_symbols",
    "substitute",
    "symbols",
    "upper_bound",
]

Dim = Union[int, "DimExpr"]
T = TypeVar("T")


class Symbol(str):
    """A named unknown with known bounds. Two symbols of one name are the same symbol.

    It is its name: a string is hashed, compared and ordered without Python, and dims do little else all day.

    Args:
        name: as printed.
        minimum: smallest value (default 0).
        maximum: largest value, an int or an expression of other symbols; None when unknown.
    """

    __slots__ = ("_dim", "maximum", "minimum", "name")

    name: str
    minimum: int
    maximum: Dim | None
    _dim: DimExpr | None

    def __new__(cls, name: str, minimum: int = 0, maximum: Dim | None = None) -> Symbol:
        self = str.__new__(cls, name)
        self.name = name
        self.minimum = minimum
        self.maximum = maximum
        self._dim = None
        return self

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Symbol], tuple[str, int, Dim | None]]:
        return Symbol, (self.name, self.minimum, self.maximum)

    @property
    def dim(self) -> DimExpr:
        """The symbol as an expression."""
        if self._dim is None:
            self._dim = _expression({(self,): 1}, False)
        return self._dim


class Call(str):
    """`a // b`, `a % b`, `min(a, b)` or `max(a, b)` where it does not simplify. `name` is one of `// % min max`.

    It is its text, as a symbol is its name.
    """

    __slots__ = ("a", "b", "name")

    name: str
    a: Dim
    b: Dim

    def __new__(cls, name: str, a: Dim, b: Dim) -> Call:
        text = f"{name}({a}, {b})" if name in ("min", "max") else f"{_group(a)} {name} {_group(b)}"
        self = str.__new__(cls, text)
        self.name = name
        self.a = a
        self.b = b
        return self

    __repr__ = str.__str__

    def __reduce__(self) -> tuple[type[Call], tuple[str, Dim, Dim]]:
        return Call, (self.name, self.a, self.b)


class InconclusiveDimError(ArgumentError):
    """A question about a symbolic dim has no one answer. Capture then takes the sizes of the call.

    Attributes:
        names: of the symbols that the question is about.
    """

    def __init__(self, message: str, *dims: Dim) -> None:
        super().__init__(message)
        self.names = frozenset(s.name for d in dims for s in symbols(d))


class RuntimeDimError(InconclusiveDimError):
    """The same of a symbol that has its value only while the program runs: a loop's counter, a bound integer."""

    def __init__(self, message: str, *dims: Dim) -> None:
        super().__init__(message, *dims)
        self.location = user_location()
        self.hint = "compute with it, or index a tensor with it: a list of tensors is one as tjit.stack(items)"


class _Capture(threading.local):
    """While a user's function is captured: what it asks of a dim must have one answer for all sizes.

    Attributes:
        assumes: a capture may be for some sizes only: `assume_at_least` adds to `positive`.
        number: makes a traced 0-d integer of a dim that has its value only at run time.
        runtime: names of the symbols of such dims.
    """

    asks_user = False
    assumes = False
    positive: list[Dim] = []  # noqa: RUF012  replaced, never changed
    number: Callable[[DimExpr], Any] | None = None
    runtime: frozenset[str] = frozenset()


_capture = _Capture()


@contextmanager
def inconclusive(*, assumes: bool = False) -> Iterator[list[Dim]]:
    """Inside, asking for a symbolic dim's value raises InconclusiveDimError where user code does.

    Gives the list that `require_positive` adds to, and with `assumes` also `assume_at_least`.
    """
    before = _capture.asks_user, _capture.assumes, _capture.positive
    _capture.asks_user, _capture.assumes, _capture.positive = True, assumes, []
    try:
        yield _capture.positive
    finally:
        _capture.asks_user, _capture.assumes, _capture.positive = before


def require_positive(d: Dim) -> None:
    """What is being captured holds for sizes that make `d` at least 1."""
    if _capture.asks_user and not isinstance(d, int) and not at_least(d, 1) and not is_runtime(d):
        _capture.positive.append(d)


def assume_at_least(a: Dim, bound: int) -> bool:
    """Whether a >= bound: it is certain, or what is being captured is for such sizes only."""
    if at_least(a, bound):
        return True
    if not _capture.assumes or isinstance(a, int) or is_runtime(a):
        return False
    _capture.positive.append(a - bound + 1)
    return True


def is_runtime(d: Dim) -> bool:
    """Whether a dim has its value only while the program runs: it mentions a loop's counter or a bound integer."""
    return not isinstance(d, int) and any(s.name in _capture.runtime for s in symbols(d))


def as_number(d: Dim) -> Any:
    """A dim as a traced 0-d integer, while a loop or a branch of it is captured."""
    assert _capture.number is not None
    assert isinstance(d, DimExpr)
    return _capture.number(d)


@contextmanager
def runtime_symbols(number: Callable[[DimExpr], Any]) -> Iterator[None]:
    """Inside, `bind_runtime` may be called, and dims of such symbols compute as traced numbers where they must."""
    before = _capture.number, _capture.runtime, _capture.asks_user
    _capture.number, _capture.runtime, _capture.asks_user = number, frozenset(), True
    try:
        yield
    finally:
        _capture.number, _capture.runtime, _capture.asks_user = before


def add_runtime(symbol: Symbol) -> None:
    """Declare a symbol whose value is known only at run time."""
    _capture.runtime |= {symbol.name}


_SPECIAL = frozenset({"__eq__", "__ne__", "__hash__", "__repr__", "__str__", "__format__"})  # of containers


def _user_asks() -> bool:
    """Whether user code called the method of DimExpr that asks this, perhaps through a container."""
    if not _capture.asks_user:
        return False
    frame = sys._getframe(2)
    while frame.f_code.co_name in _SPECIAL and frame.f_back is not None:
        frame = frame.f_back
    return not is_internal(frame.f_code.co_filename)


def _ask(a: Dim, name: str, b: Dim) -> None:
    """Raise where the comparison may turn out either way."""
    if not at_least(a - b, 1) and not at_least(b - a, 1):
        raise InconclusiveDimError(f"whether {a} {name} {b} depends on the sizes of the call", a, b)


def _compare(a: Dim, name: str, b: Any) -> Any:
    """An order between dims, where it is known; for dims of run-time symbols else a traced bool.

    Raises:
        InconclusiveDimError: it is not known.
    """
    if not isinstance(b, (int, DimExpr)):
        assert isinstance(a, DimExpr)
        return _mixed(a, _ORDERS[name], b)
    if name in (">", ">="):
        return _compare(b, {">": "<", ">=": "<="}[name], a)
    least = 1 if name == "<" else 0
    if at_least(b - a, least):
        return True
    if at_least(a - b, 1 - least):
        return False
    if is_runtime(b - a):
        return as_number(b - a) >= least
    raise InconclusiveDimError(f"whether {a} {name} {b} depends on the sizes of the call", a, b)


_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _swapped(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: compute(b, a)


Atom = Union[Symbol, Call]
Monomial = tuple[Atom, ...]


def _group(d: Dim) -> str:
    text = str(d)
    if isinstance(d, int):
        return text if d >= 0 else f"({text})"
    monomial, c = next(iter(d.terms.items()))
    # one atom alone: a symbol or min or max stands as it is, a quotient has its own parentheses
    return text if len(d.terms) == 1 and len(monomial) == 1 and c == 1 else f"({text})"


class DimExpr:
    """A normalised integer expression over symbols; immutable and hashable."""

    __slots__ = ("_hash", "_string", "_symbols", "has_calls", "terms")

    terms: dict[Monomial, int]
    has_calls: bool  # whether an atom is a `Call`
    _hash: int | None
    _string: str | None
    _symbols: tuple[Symbol, ...] | None

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        calls = any(isinstance(atom, Call) for monomial in terms for atom in monomial)
        _fill(self, _sorted(terms, calls), calls)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DimExpr) and self.terms == other.terms:
            return True
        if isinstance(other, (int, DimExpr)) and _user_asks():
            if is_runtime(self - other) and not at_least(self - other, 1) and not at_least(other - self, 1):
                return as_number(self - other) == 0
            _ask(self, "==", other)
        return False

    def __ne__(self, other: object) -> bool:
        equal = self == other
        return not equal if isinstance(equal, bool) else as_number(self - other) != 0  # pyright: ignore[reportOperatorIssue]

    def __lt__(self, other: Dim) -> bool:
        return _compare(self, "<", other)

    def __le__(self, other: Dim) -> bool:
        return _compare(self, "<=", other)

    def __gt__(self, other: Dim) -> bool:
        return _compare(self, ">", other)

    def __ge__(self, other: Dim) -> bool:
        return _compare(self, ">=", other)

    def __index__(self, *_: object) -> int:
        if is_runtime(self):
            raise RuntimeDimError(
                f"the integer {_text(self)} has its value only when the program runs, where Python is gone",
                self,
            )
        raise InconclusiveDimError(f"the symbolic dim {_text(self)} has no value while the function is captured", self)

    __int__ = __float__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = __divmod__ = __rdivmod__ = (
        __index__
    )

    def _number(self, compute: Callable[..., Any], *others: Any) -> Any:
        """What only numbers do: as a traced number, where the value is known at run time."""
        return compute(as_number(self), *others) if is_runtime(self) else self.__index__()

    def __abs__(self) -> Any:
        return self if at_least(self, 0) else -self if at_least(-self, 0) else self._number(abs)

    def __invert__(self) -> Any:
        return -self - 1

    def __truediv__(self, other: Any) -> Any:
        return self._number(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._number(_swapped(operator.truediv), other)

    def __pow__(self, other: Any) -> Any:
        whole = isinstance(other, int) and 0 <= other <= 8
        return product([self] * other) if whole else self._number(operator.pow, other)

    def __rpow__(self, other: Any) -> Any:
        return self._number(_swapped(operator.pow), other)

    def __lshift__(self, other: Any) -> Any:
        return (
            self * (1 << other) if isinstance(other, int) and 0 <= other < 63 else self._number(operator.lshift, other)
        )

    def __rlshift__(self, other: Any) -> Any:
        return self._number(_swapped(operator.lshift), other)

    def __rshift__(self, other: Any) -> Any:
        return (
            self // (1 << other) if isinstance(other, int) and 0 <= other < 63 else self._number(operator.rshift, other)
        )

    def __rrshift__(self, other: Any) -> Any:
        return self._number(_swapped(operator.rshift), other)

    def __and__(self, other: Any) -> Any:
        return self._number(operator.and_, other)

    def __or__(self, other: Any) -> Any:
        return self._number(operator.or_, other)

    def __xor__(self, other: Any) -> Any:
        return self._number(operator.xor, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __getattr__(self, name: str) -> Any:
        if _user_asks() and hasattr(int, name):
            self.__index__()
        raise AttributeError(f"a symbolic dim has no attribute {name!r}")

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # no setter
        if _user_asks():  # isinstance(dim, int)
            if is_runtime(self):
                return int
            self.__index__()
        return DimExpr

    def __hash__(self) -> int:
        if _capture.asks_user and _user_asks():
            self.__index__()
        if self._hash is None:
            self._hash = hash(tuple(self.terms.items()))
        return self._hash

    # type(x) is DimExpr: isinstance would ask the property __class__, which is Python

    def __add__(self, other: Dim) -> Dim:
        if type(other) is DimExpr:
            return _sum(self, other, 1)
        if not isinstance(other, int):
            return _mixed(self, operator.add, other)
        return _shifted(self, other) if other else self

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _scaled(self, -1)

    def __sub__(self, other: Dim) -> Dim:
        if type(other) is DimExpr:
            return _sum(self, other, -1)
        if not isinstance(other, int):
            return _mixed(self, operator.sub, other)
        return _shifted(self, -other) if other else self

    def __rsub__(self, other: Dim) -> Dim:
        if not isinstance(other, (int, DimExpr)):
            return _mixed(self, _swapped(operator.sub), other)
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        if type(other) is DimExpr:
            return _multiplied(self, other)
        if not isinstance(other, int):
            return _mixed(self, operator.mul, other)
        return self if other == 1 else _scaled(self, int(other)) if other else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if type(other) is not DimExpr and not isinstance(other, int):
            return _mixed(self, operator.floordiv, other)
        return _part_of_quotient(self, other, operator.floordiv)

    def __rfloordiv__(self, other: Dim) -> Dim:
        if not isinstance(other, (int, DimExpr)):
            return _mixed(self, _swapped(operator.floordiv), other)
        return _part_of_quotient(other, self, operator.floordiv)

    def __mod__(self, other: Dim) -> Dim:
        if type(other) is not DimExpr and not isinstance(other, int):
            return _mixed(self, operator.mod, other)
        return _part_of_quotient(self, other, operator.mod)

    def __rmod__(self, other: Dim) -> Dim:
        if not isinstance(other, (int, DimExpr)):
            return _mixed(self, _swapped(operator.mod), other)
        return _part_of_quotient(other, self, operator.mod)

    def __str__(self) -> str:
        if _capture.asks_user and _user_asks():
            self.__index__()
        return _text(self)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        if _capture.asks_user and _user_asks():
            self.__index__()
        return format(_text(self), spec)

    def __bool__(self) -> bool:
        if at_least(self, 1):
            return True
        if is_runtime(self):
            self.__index__()
        raise InconclusiveDimError(
            f"whether the symbolic dim {_text(self)} is 0 depends on the sizes of the call", self
        )

    def __reduce__(self) -> tuple[Callable[..., DimExpr], tuple[dict[Monomial, int]]]:
        return DimExpr, (self.terms,)


def _mixed(d: DimExpr, compute: Callable[[Any, Any], Any], other: Any) -> Any:
    """The result of an operation with what is no dim: a float needs the dim's value; others may know what to do."""
    if not isinstance(other, (float, complex)):
        return NotImplemented
    return compute(as_number(d), other) if is_runtime(d) else d.__index__()


def _text(d: DimExpr) -> str:
    if d._string is None:
        d._string = _written(d)
    return d._string


def _written(d: DimExpr) -> str:
    text = ""
    for monomial, c in d.terms.items():
        factors = [str(a) if isinstance(a, Symbol) or a.name in ("min", "max") else f"({a})" for a in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
        text += sign + "*".join(factors)
    return text


def _atom_order(atom: Atom) -> tuple[bool, str]:
    return isinstance(atom, Call), atom


def _term_order(term: tuple[Monomial, int]) -> tuple[bool, list[tuple[bool, str]]]:
    monomial, _ = term
    return not monomial, [_atom_order(a) for a in monomial]  # the constant comes last


def _symbol_order(term: tuple[Monomial, int]) -> tuple[bool, Monomial]:
    """The same order, where no atom is a call."""
    return not term[0], term[0]


def _terms(d: Dim) -> Iterable[tuple[Monomial, int]]:
    return d.terms.items() if type(d) is DimExpr else (((), int(d)),) if d else ()


def _sorted(terms: Mapping[Monomial, int], has_calls: bool) -> dict[Monomial, int]:
    return dict(sorted(terms.items(), key=_term_order if has_calls else _symbol_order) if len(terms) > 1 else terms)


def _fill(d: DimExpr, terms: dict[Monomial, int], has_calls: bool) -> DimExpr:
    d.terms = terms
    d.has_calls = has_calls
    d._hash = d._string = d._symbols = None
    return d


def _expression(terms: dict[Monomial, int], has_calls: bool) -> DimExpr:
    """The expression of terms that are in order, none of them 0."""
    return _fill(DimExpr.__new__(DimExpr), terms, has_calls)


def _shifted(d: DimExpr, by: int) -> Dim:
    """d + by, where by is not 0."""
    terms = dict(d.terms)
    constant = terms.get((), 0) + by
    if constant:
        terms[()] = constant  # which stays or becomes the last
    else:
        del terms[()]
    return _expression(terms, d.has_calls)


def _scaled(d: DimExpr, by: int) -> DimExpr:
    """d * by, where by is not 0."""
    return _expression({monomial: c * by for monomial, c in d.terms.items()}, d.has_calls)


def _sum(a: DimExpr, b: DimExpr, sign: int) -> Dim:
    """a + sign*b."""
    terms = dict(a.terms)
    for monomial, c in b.terms.items():
        terms[monomial] = terms.get(monomial, 0) + sign * c
    return _made(terms, a.has_calls or b.has_calls)


def _multiplied(a: DimExpr, b: DimExpr) -> Dim:
    has_calls = a.has_calls or b.has_calls
    order = _atom_order if has_calls else None
    terms: dict[Monomial, int] = {}
    for ma, ca in a.terms.items():
        for mb, cb in b.terms.items():
            monomial = tuple(sorted(ma + mb, key=order)) if ma and mb else ma or mb
            terms[monomial] = terms.get(monomial, 0) + ca * cb
    return _made(terms, has_calls)


def _make(terms: dict[Monomial, int]) -> Dim:
    return _made(terms, any(isinstance(atom, Call) for monomial in terms for atom in monomial))


def _made(terms: dict[Monomial, int], has_calls: bool) -> Dim:
    """The dim of terms in any order."""
    if 0 in terms.values():
        terms = {m: c for m, c in terms.items() if c}
    if has_calls:
        joined = _join_quotients(terms)
        if joined is not None:
            return joined
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return _expression(_sorted(terms, has_calls), has_calls)


def _join_quotients(terms: dict[Monomial, int]) -> Dim | None:
    """b*(a // b) + a % b = a, wherever both are among the terms (times a common factor)."""
    for monomial, c in terms.items():
        for i, atom in enumerate(monomial):
            if not isinstance(atom, Call) or atom.name != "%":
                continue
            rest = _make({monomial[:i] + monomial[i + 1 :]: c})
            quotient = _make({(Call("//", atom.a, atom.b),): 1}) * atom.b * rest
            wanted = dict(_terms(quotient))
            if all(terms.get(m) == k for m, k in wanted.items()):
                left = {m: k for m, k in terms.items() if m not in wanted and m != monomial}
                return _make(left) + atom.a * rest
    return None


def _part_of_quotient(a: Dim, b: Dim, compute: Callable[[Any, Any], Any]) -> Any:
    """a // b or a % b; a traced number where only the program knows the sign of b."""
    if is_runtime(b) and not at_least(b, 1) and not at_least(-b, 1):
        return compute(*(as_number(d) if isinstance(d, DimExpr) else d for d in (a, b)))
    return divided(a, b)[compute is operator.mod]


def divided(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """a // b and a % b."""
    if b == 0:
        raise ArgumentError(f"division of the dim {a} by zero")
    if b < 0 if isinstance(b, int) else not at_least(b, 1) and at_least(-b, 1):
        quotient, rest = divided(-a, -b)
        return quotient, -rest
    require_positive(b)
    if isinstance(a, int) and isinstance(b, int):
        return divmod(a, b)
    if b == 1:
        return a, 0
    if a == b:
        return 1, 0
    # a = b*quotient + rest, taking out every term that b divides
    quotient, rest = _taken_out(a, b)
    if isinstance(rest, int) and isinstance(b, int):
        q, r = divmod(rest, b)
        return quotient + q, r
    if rest == 0:
        return quotient, 0
    if at_least(rest, 0) and _below(rest, b):
        return quotient, rest
    return quotient + DimExpr({(Call("//", rest, b),): 1}), DimExpr({(Call("%", rest, b),): 1})


def _taken_out(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """(q, r) with a = b*q + r, where b divides no single term of r; (q, 0) where b is a factor of a."""
    if isinstance(b, DimExpr) and len(b.terms) > 1:
        whole = _quotient(a, b)
        return (0, a) if whole is None else (whole, 0)
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, c in _terms(a):
        divided = _divide_term(monomial, c, b)
        if divided is None:
            rest[monomial] = c
        else:
            quotient[divided[0]] = divided[1]
    return _make(quotient), _make(rest)


def _divide_term(monomial: Monomial, c: int, b: Dim) -> tuple[Monomial, int] | None:
    if isinstance(b, int):
        return (monomial, c // b) if c % b == 0 else None
    ((mb, cb),) = b.terms.items()
    left = list(monomial)
    for atom in mb:
        if atom not in left:
            return None
        left.remove(atom)
    return (tuple(left), c // cb) if c % cb == 0 else None


def _quotient(a: Dim, b: DimExpr) -> Dim | None:
    """a / b where b is a factor of a: division of polynomials, largest terms first."""
    atoms = sorted({atom for d in (a, b) for m, _ in _terms(d) for atom in m}, key=str)

    def largest(d: Dim) -> tuple[Monomial, int]:
        return max(_terms(d), key=lambda term: (len(term[0]), [term[0].count(atom) for atom in atoms]))

    lead = _make(dict((largest(b),)))
    quotient: Dim = 0
    for _ in range(32):
        if a == 0:
            return quotient
        divided = _divide_term(*largest(a), lead)
        if divided is None:
            return None
        part = _make(dict((divided,)))
        quotient, a = quotient + part, a - b * part
    return None


def _extreme(d: Dim, upper: bool) -> Dim | None:
    """`d` with every symbol that has a symbolic maximum replaced by its bound, innermost first."""
    for _ in range(32):
        ranged = [s for s in symbols(d) if isinstance(s.maximum, DimExpr)]
        if not ranged:
            return d
        within = {inner for s in ranged if isinstance(s.maximum, DimExpr) for inner in symbols(s.maximum)}
        s = next((s for s in ranged if s not in within), ranged[0])
        k = coefficient(d, s)
        if k is None:
            return None
        positive = k > 0 if isinstance(k, int) else (lower_bound(k) >= 0 or None)
        if positive is None:
            return None
        bound = s.maximum if positive == upper else s.minimum
        assert bound is not None  # the maximum of what is in `ranged` is an expression
        d = substitute(d, {s: bound})
    return None


def _below(a: Dim, b: Dim) -> bool:
    """Whether a < b is certain."""
    high = upper_bound(a)
    if high is not None and high < lower_bound(b):
        return True
    if at_least(b - a, 1):  # where a's range mentions what b is made of
        return True
    top = _extreme(a, upper=True)
    return top is not None and top is not a and lower_bound(b - 1 - top) >= 0  # of `a` itself, the line above says it


def at_least(a: Dim, bound: int) -> bool:
    """Whether a >= bound is certain, by what is known of the symbols' ranges."""
    if isinstance(a, int):
        return a >= bound
    if lower_bound(a) >= bound:
        return True
    low = _extreme(a, upper=False)
    return low is not None and low is not a and lower_bound(low) >= bound


_NEVER = -(1 << 62)


def lower_bound(d: Dim) -> int:
    """A number that `d` is never below; a very negative one where nothing is known."""
    low = _bounds(d)[0]
    return _NEVER if low is None else low


def upper_bound(d: Dim) -> int | None:
    """A number that `d` is never above, or None."""
    return _bounds(d)[1]


def _bounds(d: Dim) -> tuple[int | None, int | None]:
    low: int | None = 0
    high: int | None = 0
    for monomial, c in _terms(d):
        a: int | None = 1
        b: int | None = 1
        for atom in monomial:
            x, y = _atom_bounds(atom)
            if a is None or x is None or a < 0 or x < 0:
                a, b = None, None  # a product with a negative factor: not needed by any caller
                break
            a, b = a * x, (None if b is None or y is None else b * y)
        if c < 0:
            a, b = b, a
        low = None if low is None or a is None else low + c * a
        high = None if high is None or b is None else high + c * b
    return low, high


def _atom_bounds(atom: Atom) -> tuple[int | None, int | None]:
    if isinstance(atom, Symbol):
        top = atom.maximum
        return atom.minimum, top if top is None or isinstance(top, int) else upper_bound(top)
    (al, ah), (bl, bh) = _bounds(atom.a), _bounds(atom.b)
    if atom.name == "min":
        return (None if al is None or bl is None else min(al, bl)), _least(ah, bh)
    if atom.name == "max":
        high = None if ah is None or bh is None else max(ah, bh)
        return (bl if al is None else al if bl is None else max(al, bl)), high
    if bl is None or bl <= 0:
        return None, None
    if atom.name == "%":
        return 0, _least(None if bh is None else bh - 1, ah if al is not None and al >= 0 else None)
    if al is None or al < 0:
        return None, None
    return (0 if bh is None else al // bh), None if ah is None else ah // bl


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """min(a, b)."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if at_least(b - a, 0):
        return a
    if at_least(a - b, 0):
        return b
    return DimExpr({(Call("min", *sorted((a, b), key=str)),): 1})


def maximum(a: Dim, b: Dim) -> Dim:
    """max(a, b)."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if at_least(b - a, 0):
        return b
    if at_least(a - b, 0):
        return a
    return DimExpr({(Call("max", *sorted((a, b), key=str)),): 1})


def counter(name: str, trip: Dim) -> Symbol:
    """The symbol that counts a loop's trips: from 0 to trip - 1. Inside of the loop a trip of max(0, n) is n."""
    if isinstance(trip, DimExpr) and len(trip.terms) == 1:
        ((monomial, c),) = trip.terms.items()
        atom = monomial[0]
        if c == 1 and len(monomial) == 1 and isinstance(atom, Call) and atom.name == "max":
            trip = atom.b if isinstance(atom.a, int) and atom.a == 0 else atom.a if atom.b == 0 else trip
    return Symbol(name, 0, trip - 1)


def is_one(d: Dim) -> bool:
    """Whether `d` is the number 1; asks nothing of a symbolic dim."""
    return isinstance(d, int) and d == 1


def product(dims: Iterable[Dim]) -> Dim:
    """The product of `dims`; 1 for none."""
    result: Dim = 1
    for d in dims:
        result = result * d
    return result


def is_constant(d: Dim) -> bool:
    return isinstance(d, int)


def _atoms(d: Dim) -> Iterator[Atom]:
    for monomial, _ in _terms(d):
        yield from monomial


def _find_symbols(d: DimExpr) -> tuple[Symbol, ...]:
    found: dict[Symbol, None] = {}
    for atom in _atoms(d):
        if isinstance(atom, Symbol):
            found[atom] = None
        else:
            found.update(dict.fromkeys(symbols(atom.a)))
            found.update(dict.fromkeys(symbols(atom.b)))
    return tuple(found)


def symbols(d: Dim) -> tuple[Symbol, ...]:
    """The symbols of `d`, in order of first appearance."""
    if not isinstance(d, DimExpr):
        return ()
    if d._symbols is None:  # kept here and not by equality: equal expressions may hold symbols of other bounds
        d._symbols = _find_symbols(d)
    return d._symbols


def coefficient(d: Dim, symbol: Symbol) -> Dim | None:
    """The factor k where d = k*symbol + (terms without symbol); None when `d` is not linear in `symbol`."""
    if symbol not in symbols(d):
        return 0
    k: Dim = 0
    for monomial, c in _terms(d):
        if len(monomial) == 1 and monomial[0] == symbol:
            k = k + c
            continue
        if any(isinstance(a, Call) and symbol in (*symbols(a.a), *symbols(a.b)) for a in monomial):
            return None
        n = monomial.count(symbol)
        if n > 1:
            return None
        if n == 1:
            left = list(monomial)
            left.remove(symbol)
            k = k + _make({tuple(left): c})
    return k


def apart(d: Dim, some: Collection[Symbol]) -> tuple[Dim, Dim]:
    """Two dims whose sum is `d`: the terms without any symbol of `some`, and those with one."""
    if not any(s in some for s in symbols(d)):
        return d, 0
    without: dict[Monomial, int] = {}
    others: dict[Monomial, int] = {}
    for monomial, c in _terms(d):
        inner = {s for a in monomial for s in ((a,) if isinstance(a, Symbol) else (*symbols(a.a), *symbols(a.b)))}
        (without if inner.isdisjoint(some) else others)[monomial] = c
    return _made(without, False), _made(others, False)


def substitute(d: Dim, values: Mapping[Symbol, Dim]) -> Dim:
    """`d` with symbols replaced by expressions."""
    if not any(s in values for s in symbols(d)):
        return d

    def atom(a: Atom) -> Dim:
        if isinstance(a, Symbol):
            return values.get(a, a.dim)
        return _OPERATIONS[a.name](substitute(a.a, values), substitute(a.b, values))

    kept: dict[Monomial, int] = {}
    result: Dim = 0
    for monomial, c in _terms(d):
        if any(isinstance(a, Call) or a in values for a in monomial):
            result = result + c * (atom(monomial[0]) if len(monomial) == 1 else product(map(atom, monomial)))
        else:
            kept[monomial] = c
    return result + _made(kept, False)


_OPERATIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": minimum,
    "max": maximum,
}


def evaluate(d: Dim, values: Mapping[str, int]) -> int:
    """The number `d` is, given the symbols' values by name.

    Raises:
        ArgumentError: a symbol has no value.
    """
    missing = [s.name for s in symbols(d) if s.name not in values]
    if missing:
        raise ArgumentError(f"the dim {d} needs a value for {', '.join(missing)}")
    result = substitute(d, {s: values[s.name] for s in symbols(d)})
    assert isinstance(result, int)
    return result


def fold(d: Dim, *, constant: Callable[[int], T], symbol: Callable[[Symbol], T], apply: Callable[[str, T, T], T]) -> T:
    """Rebuild `d` in another algebra: what every emitter of index arithmetic uses.

    Args:
        constant: int to result.
        symbol: Symbol to result.
        apply: (name, a, b) to result, name one of `+ * // % min max`.
    """
    if isinstance(d, int):
        return constant(d)
    total: T | None = None
    for monomial, c in d.terms.items():
        term = constant(c) if c != 1 or not monomial else None
        for a in monomial:
            if isinstance(a, Symbol):
                value = symbol(a)
            else:
                x, y = (fold(x, constant=constant, symbol=symbol, apply=apply) for x in (a.a, a.b))
                value = apply(a.name, x, y)
            term = value if term is None else apply("*", term, value)
        assert term is not None  # the empty product is the constant
        total = term if total is None else apply("+", total, term)
    assert total is not None  # 0 is an int, no expression
    return total
