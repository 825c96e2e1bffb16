"""Functions that LLVM is to spend no time on, and modules of nothing else: those take a fourth of it."""

from __future__ import annotations

import llvmlite.ir as ir

__all__ = ["plain_function", "take_optimised"]


def plain_function(module: ir.Module, type_: ir.FunctionType, name: str) -> ir.Function:
    """A function that mostly calls: LLVM generates its code without looking for a better one."""
    function = ir.Function(module, type_, name)
    function.attributes.add("optnone")
    function.attributes.add("noinline")
    return function


def take_optimised(module: ir.Module) -> ir.Module | None:
    """What LLVM is to optimise of a module that has plain functions too, as a module of its own: `module` declares it.

    LLVM goes through all its passes for a module with one function that wants them, and takes three times as long for
    the plain ones. None: there is nothing to take, or there are constants that would have to be in both.
    """
    functions = [f for f in module.globals.values() if isinstance(f, ir.Function)]
    wanted = [f for f in functions if f.blocks and not _is_plain(f)]
    if not wanted or len(functions) < len(module.globals) or not any(_is_plain(f) for f in functions):
        return None
    taken = ir.Module(name=f"{module.name}.parts", context=module.context)
    taken.triple = module.triple
    for function in functions:
        if not function.blocks:
            taken.globals[function.name] = function
    for function in wanted:
        function.linkage = ""
        taken.globals[function.name] = function
        module.globals[function.name] = _declaration(function)
    return taken


def _is_plain(function: ir.Function) -> bool:
    return "optnone" in function.attributes


def _declaration(function: ir.Function) -> ir.Function:
    """The function without its body, in a module that nothing is compiled from."""
    return ir.Function(ir.Module(context=function.module.context), function.function_type, function.name)
