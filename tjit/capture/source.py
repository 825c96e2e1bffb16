"""Convert a function: find its source, rewrite it, and build a function of the new code on the same variables.

    converted(fn)(x)     runs as fn(x) does, and makes nodes of conditions and loops that depend on tensors

A conversion is made once for each code object. The new function has the globals and the closure cells of the old one.
"""

from __future__ import annotations

import ast
import dis
import inspect
import weakref
from functools import cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from tjit.capture.branches import THUNKS
from tjit.capture.dataflow import find_names
from tjit.capture.find import UnreadableError, find_function
from tjit.capture.statements import Statements
from tjit.capture.syntax import RUNTIME, define, put
from tjit.errors import CaptureError
from tjit.location import Location, is_users, user_location

__all__ = ["converted", "is_convertible"]

_FUTURE = 0x1FF0000  # the bits of co_flags that `from __future__ import` sets
_FACTORY = "_tjit_factory"
_FUNCTION = "_tjit_function"
_GENERATES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class _Conversion(NamedTuple):
    """New code for a function, None where the old one does."""

    code: CodeType | None


_known: dict[int, tuple[weakref.ref[CodeType], _Conversion]] = {}  # by the code object's identity


@cache
def _runtime() -> CellType:
    """The variable under which rewritten code finds what it calls."""
    from tjit.capture import rewritten  # which converts functions itself

    return CellType(rewritten)


def is_convertible(code: CodeType) -> bool:
    """Whether a function of this code is the user's and no generator."""
    return is_users(code.co_filename) and not code.co_flags & _GENERATES


def converted(fn: FunctionType) -> FunctionType:
    """`fn` with its conditions, loops and calls rewritten; `fn` itself where it is not the user's or a generator.

    Raises:
        CaptureError: its source cannot be read, or has what cannot be captured.
    """
    code = fn.__code__
    known = _known.get(id(code))
    if known is None or known[0]() is not code:
        known = _remember(code, _convert(fn) if is_convertible(code) else _Conversion(None))
    new = known[1].code
    return fn if new is None else _rebuilt(fn, new)


def _remember(code: CodeType, conversion: _Conversion) -> tuple[weakref.ref[CodeType], _Conversion]:
    key = id(code)

    def forget(_: object, known: dict[int, Any] = _known) -> None:  # globals are gone when the process ends
        known.pop(key, None)

    entry = _known[key] = (weakref.ref(code, forget), conversion)
    return entry


def _rebuilt(fn: FunctionType, code: CodeType) -> FunctionType:
    """A function of `code` with all else that `fn` has."""
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    cells[RUNTIME] = _runtime()
    closure = tuple(cells[name] for name in code.co_freevars)
    new = FunctionType(code, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    new.__kwdefaults__ = fn.__kwdefaults__
    new.__qualname__ = fn.__qualname__
    new.__module__ = fn.__module__
    new.__doc__ = fn.__doc__
    new.__annotations__ = fn.__annotations__
    new.__dict__ = fn.__dict__
    return new


def _convert(fn: FunctionType) -> _Conversion:
    code = fn.__code__
    try:
        node = find_function(code)
    except UnreadableError as error:
        if not _has_jumps(code):
            return _Conversion(None)
        raise CaptureError(
            f"the source of {fn.__qualname__} cannot be read ({error}), and it has control flow that may need it",
            user_location() or Location(code.co_filename, code.co_firstlineno),
            hint="define the function in a file, or write it without branches and loops",
        ) from None
    return _Conversion(_new_code(node, code, fn.__globals__))


def _has_jumps(code: CodeType) -> bool:
    jumps = {*dis.hasjrel, *dis.hasjabs}
    return any(i.opcode in jumps for i in dis.get_instructions(code))


def _new_code(node: ast.FunctionDef | ast.Lambda, code: CodeType, space: dict[str, Any]) -> CodeType:
    """The code of the rewritten function."""
    owner = _owner(code.co_qualname)
    rewriter = Statements(owner, set(code.co_freevars), lambda name: _is_plain(space, name))
    rewriter.file = code.co_filename
    names = find_names(node)
    _strip(node)
    if isinstance(node, ast.Lambda):
        with rewriter.within(rewriter.enter(node, names)):
            node.body = rewriter.expr(node.body)
        body: list[ast.stmt] = [put(ast.Return(node), node)]
    else:
        rewriter.function(node, names)
        node.name = _FUNCTION  # its own name may be a global's or a variable's that it uses
        body = [node]
    module = _module(body, (*code.co_freevars, RUNTIME), owner, node)
    made = compile(module, code.co_filename, "exec", flags=code.co_flags & _FUTURE, dont_inherit=True)
    found = _inner(_inner(made, owner) if owner else made, _FACTORY)
    name = code.co_name if isinstance(node, ast.Lambda) else _FUNCTION
    return _named(_inner(found, name), code.co_name, code.co_qualname)


def _owner(qualname: str) -> str | None:
    """The class in whose body a function stands, if only as a function inside of a method."""
    parts = qualname.split(".")[:-1]
    while parts and parts[-1] == "<locals>":
        del parts[-2:]
    return parts[-1] if parts else None


def _is_plain(space: dict[str, Any], name: str) -> bool:
    """Whether a global stands for a module, class or function, or for nothing yet."""
    value = space.get(name)
    return value is None or callable(value) or isinstance(value, ModuleType)


def _strip(node: ast.FunctionDef | ast.Lambda) -> None:
    """Take away what was evaluated when the function was defined."""
    args = node.args
    args.defaults = []
    args.kw_defaults = [None] * len(args.kwonlyargs)
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None:
            arg.annotation = None
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
        node.returns = None


def _module(body: list[ast.stmt], free: tuple[str, ...], owner: str | None, like: ast.AST) -> ast.Module:
    """A function that has the variables from outside, around `body`; in a class, so that names are mangled."""
    outer: ast.stmt = define(_FACTORY, free, body, like)
    if owner is not None:
        outer = put(ast.ClassDef(owner, [], [], [outer], []), like)
        outer.type_params = []  # pyright: ignore[reportAttributeAccessIssue]  # Python 3.12 asks for it
    return ast.Module([outer], [])


def _inner(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)


def _named(code: CodeType, name: str, qualname: str, rewritten: bool = True) -> CodeType:
    """`code` and all inside under the names of the user's source; methods are converted when they are called."""
    rewritten = rewritten and not _is_class(code)
    consts = tuple(_named_inside(c, code, name, qualname, rewritten) for c in code.co_consts)
    result = code.replace(co_consts=consts, co_name=name, co_qualname=qualname)
    if rewritten:
        _remember(result, _Conversion(None))
    return result


def _is_class(code: CodeType) -> bool:
    return not code.co_flags & inspect.CO_NEWLOCALS


def _named_inside(const: Any, code: CodeType, name: str, qualname: str, rewritten: bool) -> Any:
    if not isinstance(const, CodeType):
        return qualname if _is_class(code) and const == code.co_qualname and isinstance(const, str) else const
    if const.co_name in THUNKS or const.co_name.startswith("_tjit_operand_"):
        return _named(const, name, qualname, rewritten)
    inside = "" if _is_class(code) else ".<locals>"
    return _named(const, const.co_name, f"{qualname}{inside}.{const.co_name}", rewritten)
