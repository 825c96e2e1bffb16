"""Scripted and traced functions and modules: compiled, with TorchScript's attributes and methods."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from tjit.capture.pytree import flatten
from tjit.capture.trace import Trace
from tjit.compile import CompiledFunction, compile
from tjit.errors import ArgumentError, CaptureError
from tjit.jit.annotations import check_arguments
from tjit.jit.examples import Examples
from tjit.jit.text import ScriptGraph
from tjit.location import user_location
from tjit.nn.module import Module
from tjit.ops.apply import state
from tjit.tensor import Tensor

__all__ = ["ScriptFunction", "ScriptModule", "script", "script_if_tracing", "script_method", "trace", "trace_module"]

_MARK = "_tjit_jit"  # what `export`, `ignore` and `unused` leave on a function


class _Compiled:
    """A compiled function that remembers what it was called with.

    Attributes:
        fn: the function.
        checks: whether arguments must have the types that annotations say.
    """

    def __init__(self, fn: Callable[..., Any], name: str, compiled: CompiledFunction, checks: bool) -> None:
        self.fn = fn
        self.name = name
        self.compiled = compiled
        self.checks = checks
        self.examples: Examples | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.trace is not None:
            return self.compiled(*args, **kwargs)
        if self.checks:
            check_arguments(self.fn, self.name, args, kwargs)
        result = self.compiled(*args, **kwargs)
        if self.examples is None:
            self.examples = Examples(args, kwargs)
        else:
            self.examples.note(args, kwargs)
        return result

    def known(self, what: str) -> Examples:
        if self.examples is None:
            raise CaptureError(
                f"{self.name} was not called yet, and {what} needs the types of its arguments",
                user_location(),
                hint=f"call it once with typical arguments, or use tjit.jit.trace({self.name}, example_inputs)",
            )
        return self.examples

    def graph(self) -> ScriptGraph:
        args, kwargs = self.known("its graph").arguments()
        return ScriptGraph(self.compiled.lower(*args, **kwargs).graph)


class ScriptFunction:
    """A scripted or traced function. Call it like the function; other sizes are compiled as they come.

    Attributes:
        graph: as captured for the first call.
        code: the graph as a readable Python function.
    """

    def __init__(self, fn: Callable[..., Any], compiled: CompiledFunction | None = None) -> None:
        name = getattr(fn, "__name__", type(fn).__name__)
        self._tjit_script = _Compiled(fn, name, compiled or compile(fn), checks=compiled is None)
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tjit_script(*args, **kwargs)

    @property
    def name(self) -> str:
        return self._tjit_script.name

    @property
    def graph(self) -> ScriptGraph:
        return self._tjit_script.graph()

    @property
    def code(self) -> str:
        return self.graph.code(self.name if self.name.isidentifier() else "forward")

    def graph_for(self, *args: Any, **kwargs: Any) -> ScriptGraph:
        """The graph for these arguments."""
        return ScriptGraph(self._tjit_script.compiled.lower(*args, **kwargs).graph)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The stages of the program for these arguments, or for those of the first call where there are none."""
        if not args and not kwargs:
            args, kwargs = self._tjit_script.known("lowering").arguments()
        return self._tjit_script.compiled.lower(*args, **kwargs)

    def save(self, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write the function to a file that `tjit.jit.load` and C programs read."""
        from tjit.jit.files import save

        save(self, f, _extra_files)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class ScriptModule(Module):
    """A scripted or traced module: it has the parameters, buffers and submodules of the module, and compiled methods.

    Subclass it, and its `forward` and what `script_method` marks are compiled.
    """

    def __init__(self, original: Module | None = None, compiled: CompiledFunction | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "_original", original or self)
        object.__setattr__(self, "_methods", {})
        if original is not None:
            for name in (
                "_parameters",
                "_buffers",
                "_modules",
                "_forward_pre_hooks",
                "_forward_hooks",
                "_non_persistent",
            ):
                object.__setattr__(self, name, getattr(original, name))
            object.__setattr__(self, "training", original.training)
            self._methods.update(_scripted_methods(original, compiled))

    @property
    def original_name(self) -> str:
        return type(self._original).__name__

    def _forward(self) -> _Compiled:
        found = self._methods.get("forward")
        if found is None:  # of a subclass
            fn = type(self).forward.__get__(self)
            found = self._methods["forward"] = _Compiled(fn, "forward", compile(fn), checks=True)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._original is not self and state.trace is not None:
            return self._original(*args, **kwargs)
        return self._forward()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        methods = self.__dict__.get("_methods", {})
        if name in methods:
            return methods[name]
        original = self.__dict__.get("_original", self)
        return super().__getattr__(name) if original is self else getattr(original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        original = self.__dict__.get("_original", self)
        if original is not self:
            setattr(original, name, value)
        super().__setattr__(name, value)

    def train(self, mode: bool = True) -> ScriptModule:
        """Set the mode of the module and of those inside."""
        if self._original is not self:
            self._original.train(mode)
        super().train(mode)
        return self

    @property
    def graph(self) -> ScriptGraph:
        return self._forward().graph()

    @property
    def code(self) -> str:
        return self.graph.code()

    def graph_for(self, *args: Any, **kwargs: Any) -> ScriptGraph:
        """The graph for these arguments."""
        return ScriptGraph(self._forward().compiled.lower(*args, **kwargs).graph)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The stages of the program for these arguments, or for those of the first call where there are none."""
        if not args and not kwargs:
            args, kwargs = self._forward().known("lowering").arguments()
        return self._forward().compiled.lower(*args, **kwargs)

    def save(self, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write graph, machine code and weights to a file that `tjit.jit.load` and C programs read."""
        from tjit.jit.files import save

        save(self, f, _extra_files)


def _scripted_methods(original: Module, compiled: CompiledFunction | None) -> dict[str, _Compiled]:
    forward = _Compiled(original.forward, "forward", compiled or compile(original), checks=compiled is None)
    found = {"forward": forward}
    for name, member in inspect.getmembers(type(original), inspect.isfunction):
        if getattr(member, _MARK, None) == "export":
            method = member.__get__(original)
            found[name] = _Compiled(method, name, compile(method), checks=True)
    return found


def script(obj: Any, optimize: Any = None, _frames_up: int = 0, _rcb: Any = None, example_inputs: Any = None) -> Any:
    """Compile a function or a module with its control flow.

    Types of tensors come from calls: the first call compiles. Annotations of arguments are checked.

    Args:
        obj: a function, an `nn.Module`, or a class, which is returned as it is.
        example_inputs: a list of tuples of arguments to compile for now, or a dict {module: such a list}.

    Raises:
        ArgumentError: `obj` is none of these.
        CaptureError: at a call, what cannot be captured.
    """
    if isinstance(obj, (ScriptFunction, ScriptModule, type)):
        return obj
    if isinstance(obj, Module):
        result: Any = ScriptModule(obj)
        example_inputs = example_inputs.get(obj) if isinstance(example_inputs, dict) else example_inputs
    elif callable(obj):
        fn = getattr(obj, "_tjit_function", obj)
        result = ScriptFunction(fn)
    else:
        raise ArgumentError(f"script takes a function or a module, not {type(obj).__name__} {obj!r}", user_location())
    for args in example_inputs or ():
        result(*args)
    return result


def trace(
    func: Any,
    example_inputs: Any = None,
    optimize: Any = None,
    check_trace: bool = True,
    check_inputs: Any = None,
    check_tolerance: float = 1e-5,
    strict: bool = True,
    *,
    example_kwarg_inputs: dict[str, Any] | None = None,
    **_: Any,
) -> Any:
    """Compile what `func` does with example inputs. Branches that they take are taken always, with a warning.

    Args:
        func: a function of tensors, or an `nn.Module`.
        example_inputs: a tensor, or a tuple of the positional arguments.
        check_inputs: more tuples of arguments, with which the trace must agree with the function.
        check_tolerance: relative, for `check_inputs`.

    Raises:
        CaptureError: the function cannot be captured.
        ArgumentError: the trace and the function differ on `check_inputs`.
    """
    if isinstance(func, (ScriptFunction, ScriptModule)):
        return func
    args = _tuple(example_inputs)
    kwargs = example_kwarg_inputs or {}
    result = _traced(func)
    detached = tuple(x.detach() if isinstance(x, Tensor) and x.requires_grad else x for x in args)
    before = _random_state()
    result(*detached, **kwargs)
    _set_random_state(before)
    for more in (check_inputs or ()) if check_trace else ():
        _check_trace(func, result, _tuple(more), check_tolerance)
    return result


def _tuple(inputs: Any) -> tuple[Any, ...]:
    if inputs is None:
        return ()
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


def _random_state() -> Any:
    from tjit.random import get_rng_state

    return get_rng_state()


def _set_random_state(before: Any) -> None:
    from tjit.random import set_rng_state

    set_rng_state(before)


def _traced(func: Any) -> Any:
    compiled = compile(func)
    compiled._converts = False
    return ScriptModule(func, compiled) if isinstance(func, Module) else ScriptFunction(func, compiled)


def _check_trace(func: Any, traced: Any, args: tuple[Any, ...], tolerance: float) -> None:
    pairs = zip(flatten(func(*args))[0], flatten(traced(*args))[0], strict=True)
    for wanted, found in pairs:
        if isinstance(wanted, Tensor) and not wanted.allclose(found, rtol=tolerance, atol=tolerance):
            raise ArgumentError(
                "Tracing failed sanity checks: the trace and the function differ on other inputs",
                user_location(),
                hint="use tjit.jit.script, which keeps branches and loops",
            )


def trace_module(mod: Module, inputs: dict[str, Any], optimize: Any = None, **options: Any) -> ScriptModule:
    """Compile methods of a module by what they do with example inputs.

    Args:
        inputs: method name to its arguments: a tensor or a tuple.

    Raises:
        ArgumentError: the module has no such method.
    """
    result = ScriptModule(mod)
    result._methods.clear()
    for name, args in inputs.items():
        method = getattr(mod, name, None)
        if not callable(method):
            raise ArgumentError(f"{type(mod).__name__} has no method {name!r} to trace", user_location())
        compiled = compile(mod if name == "forward" else method)
        compiled._converts = False
        result._methods[name] = _Compiled(method, name, compiled, checks=False)
        result._methods[name](*_tuple(args))
    return result


def script_if_tracing(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Have `fn` keep its branches and loops where it is called while another function is traced."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tracer = state.trace
        if not isinstance(tracer, Trace) or tracer.converts:
            return fn(*args, **kwargs)
        from tjit.capture.calls import callee

        tracer.converts = True
        try:
            return callee(fn)(*args, **kwargs)
        finally:
            tracer.converts = False

    return wrapper


def script_method(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a method of a `ScriptModule` subclass as compiled."""
    setattr(fn, _MARK, "export")
    return fn


def forward_arguments(scripted: Any) -> tuple[_Compiled, Sequence[str]]:
    """The compiled forward of a module, or a function, and the names of its positional arguments."""
    compiled = scripted._forward() if isinstance(scripted, ScriptModule) else scripted._tjit_script
    try:
        names = [p.name for p in inspect.signature(compiled.fn).parameters.values()]
    except (TypeError, ValueError):
        names = []
    return compiled, names
