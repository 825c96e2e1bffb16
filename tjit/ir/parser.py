"""Text to graph: the inverse of `tjit.ir.printer`. The grammar is in docs/ir.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from tjit.devices import Device, cpu
from tjit.dtypes import DTYPES, DType
from tjit.errors import ParseError, TjitError
from tjit.ir.dims import Dim, DimExpr, Symbol, maximum, minimum
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value, infer_types
from tjit.ir.op import OPS, Op
from tjit.ir.printer import RESERVED
from tjit.ir.scope import bound_symbol
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = ["parse_dim", "parse_graph"]

_T = TypeVar("_T")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)
      | (?P<newline>\n)
      | \#(?P<comment>[^\n]*)
      | (?P<value>%\w+)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<word>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<mark>->|//|[{}()\[\],:=@+*%-])
    """,
    re.VERBOSE,
)
_LOCATION = re.compile(r"\s*(.+):(\d+)\s*$")
_DTYPES = {t.name: t for t in DTYPES}
_CONSTANTS: dict[str, Any] = {
    "True": True,
    "False": False,
    "true": True,
    "false": False,
    "None": None,
    "inf": float("inf"),
    "nan": float("nan"),
    **_DTYPES,
}


def parse_graph(text: str) -> Graph:
    """The graph that `text` spells.

    Raises:
        ParseError: `text` is not a graph, names an op or value that does not exist, or states a type that the op's
            type rule does not give. The message has line and column, and the line with the place marked.
    """
    return _Parser(text).whole()


def parse_dim(text: str) -> Dim:
    """The dim that `text` spells.

    Raises:
        ParseError: it spells none.
    """
    return _Parser(text).whole_dim()


class _Token(NamedTuple):
    kind: str  # value, number, word, string, mark, or end
    text: str
    line: int
    column: int
    first: bool  # on its line

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else f"`{self.text}`"


class _Pending(NamedTuple):
    """A literal whose dtype is not known before all operands are."""

    token: _Token
    value: bool | int | float


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.locations: dict[int, Location] = {}
        self.tokens = self.tokenize(text)
        self.position = 0
        self.values: dict[str, Value] = {}
        self.symbols: dict[str, DimExpr] = {}
        self.declaring = False  # whether a symbol that is seen for the first time is fine

    def tokenize(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        at, line, start, first = 0, 1, 0, True
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail(f"`{text[at]}` means nothing here", _Token("mark", text[at], line, at - start + 1, first))
            kind, found = match.lastgroup or "", match.group()
            if kind == "newline":
                line, start, first = line + 1, match.end(), True
            elif kind == "comment":
                place = _LOCATION.match(match.group("comment"))
                if place is not None:
                    self.locations[line] = Location(place[1], int(place[2]))
            elif kind != "space":
                tokens.append(_Token(kind, found, line, at - start + 1, first))
                first = False
            at = match.end()
        tokens.append(_Token("end", "", line, at - start + 1, first))
        return tokens

    def fail(self, message: str, token: _Token | None = None, hint: str | None = None) -> NoReturn:
        token = token or self.next
        text = self.lines[token.line - 1]
        mark = " " * (token.column - 1) + "^" * max(1, len(token.text))
        raise ParseError(f"line {token.line}, column {token.column}: {message}\n    {text}\n    {mark}", hint=hint)

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.tokens[self.position]
        self.position += token.kind != "end"
        return token

    def at(self, text: str) -> bool:
        token = self.tokens[self.position]
        return token.text == text and token.kind in ("mark", "word")

    def accept(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def expect(self, text: str) -> _Token:
        if not self.at(text):
            self.fail(f"expected `{text}`, found {self.next}")
        return self.take()

    def expect_kind(self, kind: str, what: str) -> _Token:
        if self.next.kind != kind:
            self.fail(f"expected {what}, found {self.next}")
        return self.take()

    def series(self, item: Callable[[], _T], end: str) -> list[_T]:
        """Items with commas between, and after the last if one likes, up to and with `end`."""
        items: list[_T] = []
        while not self.accept(end):
            items.append(item())
            if not self.at(end):
                self.expect(",")
        return items

    def whole(self) -> Graph:
        self.expect("graph")
        name = self.expect_kind("word", "the graph's name").text
        self.read_bounds()
        self.expect("(")
        self.declaring = True
        inputs, frozen = self.graph_inputs()
        self.declaring = False
        self.expect("->")
        types = self.result_types()
        if self.at("where"):
            while not self.at("{") and self.next.kind != "end":
                self.take()  # the bounds, read above
        self.expect("{")
        nodes = self.nodes(None)
        last = self.expect("return")
        outputs, writes = self.returned({value: i for i, value in enumerate(inputs)})
        if [o.type for o in outputs] != types:
            self.fail(f"the outputs are {_list(o.type for o in outputs)}, the header says {_list(types)}", last)
        self.expect("}")
        if self.next.kind != "end":
            self.fail(f"expected the end of the text after the graph, found {self.next}")
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs), writes, frozen)

    def graph_inputs(self) -> tuple[list[Value], frozenset[int]]:
        """The inputs of the graph, and the positions of those that `frozen` stands before."""
        marked = self.series(lambda: (self.accept("frozen"), self.definition()), ")")
        return [value for _, value in marked], frozenset(i for i, (is_frozen, _) in enumerate(marked) if is_frozen)

    def whole_dim(self) -> Dim:
        self.declaring = True
        dim = self.dim()
        self.expect_kind("end", "the end of the dim")
        return dim

    def read_bounds(self) -> None:
        """Read the header's `where` ahead of the types: expressions normalise by the bounds of their symbols."""
        start = self.position
        while self.next.kind != "end" and not self.at("{") and not self.at("where"):
            self.take()
        if self.accept("where"):
            self.bound()
            while self.accept(","):
                self.bound()
            if not self.at("{"):
                self.fail(f"expected `{{` after the bounds of symbols, found {self.next}")
        self.position = start

    def bound(self) -> None:
        """`B in [1, 1024]`, the maximum an expression of symbols or `inf`."""
        token = self.expect_kind("word", "a symbol")
        if token.text in RESERVED or token.text in self.symbols:
            self.fail(f"{token} is {'a reserved word' if token.text in RESERVED else 'bounded already'}", token)
        self.expect("in")
        self.expect("[")
        low = self.dim()
        if not isinstance(low, int):
            self.fail("the minimum of a symbol is a number")
        self.expect(",")
        self.declaring = True
        high = None if self.accept("inf") else self.dim()
        self.declaring = False
        self.expect("]")
        self.symbols[token.text] = Symbol(token.text, low, high).dim

    def typed(self) -> tuple[_Token, Value]:
        """`%x: f32[B, 4]`. The name becomes the value's hint unless it is a number."""
        token = self.expect_kind("value", "a value such as `%x`")
        self.expect(":")
        name = token.text[1:]
        return token, Value(self.type(), None if name.isdigit() else name)

    def define(self, token: _Token, value: Value) -> Value:
        if token.text in self.values:
            self.fail(f"{token.text} is defined twice", token)
        self.values[token.text] = value
        return value

    def definition(self) -> Value:
        return self.define(*self.typed())

    def result_types(self) -> list[TensorType]:
        if self.accept("("):
            return self.series(self.type, ")")
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        return types

    def type(self) -> TensorType:
        token = self.expect_kind("word", "a type such as `f32[4, 8]`")
        if token.text not in _DTYPES:
            self.fail(f"no dtype {token}", token, hint=f"one of {', '.join(_DTYPES)}")
        self.expect("[")
        shape = tuple(self.series(self.dim, "]"))
        device = self.device(self.take()) if self.accept("@") else cpu
        return TensorType(_DTYPES[token.text], shape, device)

    def device(self, token: _Token) -> Device:
        if token.text not in ("cpu", "cuda"):
            self.fail(f"no device {token}", token, hint="one of cpu, cuda:0")
        if not self.accept(":"):
            return Device(token.text)
        return Device(token.text, int(self.expect_kind("number", "the device's index").text))

    def nodes(self, around: Location | None) -> list[Node]:
        """Nodes up to `return` or `yield`; `around` is the location of those that share their line with others."""
        nodes: list[Node] = []
        while not self.at("return") and not self.at("yield"):
            nodes.append(self.node(around))
        return nodes

    def node(self, around: Location | None) -> Node:
        start = self.next
        location = self.locations.get(start.line, None if start.first else around)
        if start.kind not in ("value", "word"):
            self.fail(f"expected a node, `return` or `yield`, found {start}")
        results: list[tuple[_Token, Value]] = []
        if start.kind == "value":
            results.append(self.typed())
            while self.accept(","):
                results.append(self.typed())
            self.expect("=")
        word = self.expect_kind("word", "the name of an op")
        op = OPS.get(word.text)
        if op is None:
            self.fail(f"no op {word}", word)
        self.expect("(")
        operands, attrs = self.arguments()
        self.check_types(op, operands, attrs, [value for _, value in results], start)
        bound = self.bind(bound_symbol(op.name, attrs), word)
        regions = self.regions(location) if self.accept("{") else ()
        if regions and bound is not None:
            del self.symbols[bound]  # a counter counts in its regions alone
        values = [self.define(token, value) for token, value in results]
        return Node(op, operands, attrs, values, regions=regions, location=location)

    def bind(self, symbol: Symbol | None, token: _Token) -> str | None:
        """Declare the symbol that a node binds; its name."""
        if symbol is None:
            return None
        if symbol.name in self.symbols:
            self.fail(f"{token} binds `{symbol.name}`, which is a symbol already", token)
        self.symbols[symbol.name] = symbol.dim
        return symbol.name

    def check_types(
        self, op: Op, operands: Sequence[Operand], attrs: dict[str, Any], results: Sequence[Value], token: _Token
    ) -> None:
        if op.infer is None:
            return
        try:
            types = infer_types(op, operands, attrs)
        except (TjitError, TypeError) as error:
            self.fail(error.message if isinstance(error, TjitError) else f"{op.name}: {error}", token)
        stated = tuple(value.type for value in results)
        if types != stated:
            self.fail(f"{op.name} gives {_list(types)}, the text says {_list(stated)}", token)

    def arguments(self) -> tuple[list[Operand], dict[str, Any]]:
        """Operands, then attrs, up to and with `)`."""
        found: list[Value | Literal | _Pending] = []
        attrs: dict[str, Any] = {}

        def item() -> None:
            token = self.next
            if token.kind == "word" and self.tokens[self.position + 1].text == "=":
                self.take()
                self.take()
                if token.text in attrs:
                    self.fail(f"attr {token} is given twice", token)
                attrs[token.text] = self.expression()
            elif attrs:
                self.fail(f"expected an attr such as `dims=(0,)` after the operands, found {token}")
            else:
                found.append(self.operand())

        self.series(item, ")")
        values = [o for o in found if isinstance(o, Value)]
        implied = values[-1].type.dtype if values else None
        return [self.resolved(o, implied) for o in found], attrs

    def operand(self) -> Value | Literal | _Pending:
        if self.next.kind == "value":
            return self.used()
        token = self.next
        number = self.expression()
        if not isinstance(number, (bool, int, float)):
            self.fail(f"expected a value or a number, found {token}", token)
        if not self.accept(":"):
            return _Pending(token, number)
        dtype = self.expect_kind("word", "a dtype")
        if dtype.text not in _DTYPES:
            self.fail(f"no dtype {dtype}", dtype, hint=f"one of {', '.join(_DTYPES)}")
        return self.literal(token, number, _DTYPES[dtype.text])

    def used(self) -> Value:
        token = self.expect_kind("value", "a value such as `%x`")
        if token.text not in self.values:
            self.fail(f"{token.text} is not defined here", token)
        return self.values[token.text]

    def resolved(self, operand: Value | Literal | _Pending, implied: DType | None) -> Operand:
        if not isinstance(operand, _Pending):
            return operand
        if implied is None:
            self.fail("a number needs its dtype here", operand.token, hint=f"write {operand.value}:f32")
        return self.literal(operand.token, operand.value, implied)

    def literal(self, token: _Token, number: bool | int | float, dtype: DType) -> Literal:
        kinds = {bool: ("bool",), int: ("int", "float"), float: ("float",)}[type(number)]
        if dtype.kind not in kinds:
            self.fail(f"the number {number} does not fit {dtype}", token)
        return Literal(number, dtype)

    def regions(self, location: Location | None) -> list[Region]:
        regions: list[Region] = []
        while not self.accept("}"):
            name = self.expect_kind("word", "a region's name").text
            outside, symbols = len(self.values), dict(self.symbols)
            inputs = self.series(self.definition, ")") if self.accept("(") else []
            self.expect("{")
            nodes = self.nodes(location)
            self.expect("yield")
            outputs: list[Operand] = []
            if not self.at("}"):
                outputs.append(self.output())
                while self.accept(","):
                    outputs.append(self.output())
            self.expect("}")
            while len(self.values) > outside:  # nothing behind the region sees what it defines
                self.values.popitem()
            self.symbols = symbols
            regions.append(Region(name, tuple(inputs), tuple(nodes), tuple(outputs)))
        return regions

    def output(self) -> Operand:
        return self.resolved(self.operand(), None)

    def returned(self, inputs: dict[Value, int]) -> tuple[list[Operand], dict[int, int]]:
        outputs: list[Operand] = []
        writes: dict[int, int] = {}
        while not self.at("}"):
            outputs.append(self.output())
            if self.accept("to"):
                token = self.next
                target = self.used()
                if target not in inputs:
                    self.fail(f"{token.text} is not an input of the graph, so nothing can be written to it", token)
                writes[len(outputs) - 1] = inputs[target]
            if not self.accept(","):
                break
        return outputs, writes

    def dim(self) -> Dim:
        token = self.next
        value = self.expression()
        if isinstance(value, bool) or not isinstance(value, (int, DimExpr)):
            self.fail(f"expected a dim, found {token}", token)
        return value

    def expression(self) -> Any:
        """A sum of terms, or any one thing that an attr can be."""
        value = self.term()
        while self.at("+") or self.at("-"):
            mark = self.take()
            value = self.combined(mark, value, self.term())
        return value

    def term(self) -> Any:
        value = self.factor()
        while self.at("*") or self.at("//") or self.at("%"):
            mark = self.take()
            value = self.combined(mark, value, self.factor())
        return value

    def combined(self, mark: _Token, a: Any, b: Any) -> Dim:
        for side in (a, b):
            if isinstance(side, bool) or not isinstance(side, (int, DimExpr)):
                self.fail(f"{mark} stands between dims only, not {side}", mark)
        try:
            return _OPERATIONS[mark.text](a, b)
        except TjitError as error:
            self.fail(error.message, mark)

    def factor(self) -> Any:
        token = self.take()
        if token.kind == "mark" and token.text == "-":
            value = self.factor()
            if isinstance(value, bool) or not isinstance(value, (int, float, DimExpr)):
                self.fail(f"{token} needs a number behind it", token)
            return -value
        if token.kind == "mark" and token.text == "(":
            return self.group()
        if token.kind == "number":
            return int(token.text) if token.text.isdigit() else float(token.text)
        if token.kind == "string":
            return self.string(token)
        if token.kind == "word":
            return self.word(token)
        self.fail(f"expected a number, a name, a string or `(`, found {token}", token)

    def group(self) -> Any:
        """`(a)` is a, `(a,)` and `(a, b)` and `()` are tuples."""
        items = self.series(self.expression, ")")
        commas = len(items) != 1 or self.tokens[self.position - 2].text == ","
        return tuple(items) if commas else items[0]

    def string(self, token: _Token) -> str:
        try:
            return json.loads(token.text)
        except ValueError:
            self.fail("this string has an escape that JSON does not know", token)

    def word(self, token: _Token) -> Any:
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.text in ("cpu", "cuda"):
            return self.device(token)
        if token.text in ("min", "max"):
            self.expect("(")
            a = self.dim()
            self.expect(",")
            b = self.dim()
            self.expect(")")
            return _OPERATIONS[token.text](a, b)
        if token.text not in self.symbols:
            if token.text in RESERVED or not self.declaring:
                hint = "a symbol stands in the type of an input, behind `where` in the header, or is bound by a node"
                self.fail(f"{token} is not a symbol of this graph", token, hint=hint)
            self.symbols[token.text] = Symbol(token.text).dim
        return self.symbols[token.text]


_OPERATIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": minimum,
    "max": maximum,
}


def _list(types: Any) -> str:
    return ", ".join(map(str, types)) or "nothing"
