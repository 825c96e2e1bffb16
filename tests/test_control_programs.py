"""Compiled control flow agrees with `evaluate`, which runs graphs node by node."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_regions import random_graph

import tjit
from tjit.codegen.kernel import Axis, ContractKernel, Kernel, LoopKernel
from tjit.codegen.llvm.module import compile_schedule
from tjit.codegen.llvm.program import costs, emit_program
from tjit.codegen.llvm.target import host_target
from tjit.codegen.schedule import schedule
from tjit.codegen.steps import Placed, Schedule, Step, bodies, kernel_steps, numbered
from tjit.compiled import _info
from tjit.errors import CodegenError, DimensionError
from tjit.ir.dims import Symbol
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph
from tjit.ir.parser import parse_graph
from tjit.ir.verify import verify
from tjit.passes.pipeline import run_passes
from tjit.runtime.program import Program


def graph_of(text: str) -> Graph:
    graph = parse_graph(textwrap.dedent(text).strip())
    verify(graph)
    return graph


def program_of(graph: Graph, nests: bool = True) -> Program:
    target = host_target()
    plan = schedule(run_passes(graph), costs(target), nests=nests)
    return Program(compile_schedule(plan, target, None), _info(plan))


def run(graph: Graph, arrays: Sequence[Any], nests: bool) -> list[np.ndarray]:
    """All outputs by the compiled program, those that are written back included."""
    program = program_of(graph, nests)
    inputs = [np.array(a) for a in arrays]
    symbols = program.bind(inputs)
    assert symbols is not None
    returned = iter(program.run(inputs, symbols))
    outputs = (inputs[graph.writes[i]] if i in graph.writes else next(returned) for i in range(len(graph.outputs)))
    return [np.array(o) for o in outputs]


def check(text: str, *arrays: Any) -> None:
    check_graph(graph_of(text), arrays)


def check_graph(graph: Graph, arrays: Sequence[Any]) -> None:
    """Both ways: with loops over elements as kernels, and with every loop in the program."""
    expected = evaluate(graph, [np.array(a) for a in arrays])

    for nests in (True, False):
        got = run(graph, arrays, nests)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed):
    check_graph(*random_graph(seed, Symbol("N", 4).dim if seed % 2 else 4))


def plan_of(text: str) -> Schedule:
    """The schedule with every loop in the program."""
    return schedule(run_passes(graph_of(text)), nests=False)


def written_names(plan: Schedule) -> list[str]:
    """The buffer that each kernel writes, by its name in the outermost schedule."""
    outside: dict[Placed, Placed] = {}
    names = []
    for _, step in numbered(plan):
        for body in bodies(step):
            outside.update(zip(body.plan.inputs, body.inputs, strict=True))
            outside.update(zip(body.plan.outputs, body.outputs, strict=True))
        if isinstance(step, Step):
            outputs = {id(b) for b in step.kernel.outputs}
            placed = [p for b, p in zip(step.kernel.buffers, step.arguments, strict=True) if id(b) in outputs]
            for p in placed:
                while p in outside:
                    p = outside[p]
                names.append(p.name)
    return names


def extents(plan: Schedule) -> list[list[str]]:
    """The parallel extents of each kernel."""
    return [[str(a.extent) for a in _parallel(step.kernel)] for step in kernel_steps(plan)]


def _parallel(kernel: Kernel) -> Sequence[Axis]:
    if isinstance(kernel, LoopKernel):
        return kernel.parallel
    return (*kernel.batch, kernel.m, kernel.n) if isinstance(kernel, ContractKernel) else ()


FIBONACCI = """
    graph f(%n: i64[N], %a: i64[], %b: i64[]) -> i64[], i64[] {
      %0: i64[], %1: i64[] = for(%a, %b, counter="i0", trip=N) {
        body(%x: i64[], %y: i64[]) {
          %2: i64[] = add(%x, %y)
          yield %y, %2
        }
      }
      return %0, %1
    }
"""


@pytest.mark.parametrize("trip", [0, 1, 2, 30])
def test_a_for_carries_values_from_trip_to_trip(trip):
    check(FIBONACCI, np.zeros(trip, np.int64), np.int64(0), np.int64(1))


def test_carried_values_change_places():
    check(
        """
        graph f(%a: f64[5], %b: f64[5]) -> f64[5], f64[5] {
          %0: f64[5], %1: f64[5] = for(%a, %b, counter="i0", trip=3) {
            body(%x: f64[5], %y: f64[5]) { yield %y, %x }
          }
          return %0 to %a, %1 to %b
        }
        """,
        np.arange(5.0),
        np.arange(5.0) + 10,
    )


NEWTON = """
    graph f(%a: f64[], %x: f64[]) -> f64[], i64[] {
      %0: f64[], %1: i64[] = while(%x, 0:i64) {
        test(%y: f64[], %n: i64[]) {
          %2: f64[] = mul(%y, %y)
          %3: f64[] = sub(%2, %a)
          %4: f64[] = abs(%3)
          %5: bool[] = gt(%4, 1e-10)
          yield %5
        }
        body(%y_1: f64[], %n_1: i64[]) {
          %6: f64[] = div(%a, %y_1)
          %7: f64[] = add(%y_1, %6)
          %8: f64[] = mul(%7, 0.5)
          %9: i64[] = add(%n_1, 1)
          yield %8, %9
        }
      }
      return %0, %1
    }
"""


@pytest.mark.parametrize("start", [1.0, 1000.0, 2.0**0.5])
def test_a_while_runs_until_its_test_fails(start):
    check(NEWTON, np.float64(2.0), np.float64(start))


BRANCH = """
    graph f(%c: bool[], %a: f64[4], %b: f64[4]) -> f64[4], f64[], f64[4] {
      %0: f64[4] = exp(%b)
      %1: f64[4], %2: f64[] = if(%c, %a) {
        then(%x: f64[4]) {
          %3: f64[4] = add(%x, %0)
          %4: f64[] = sum(%3, dims=(0,), keepdim=False)
          yield %3, %4
        }
        else(%x_1: f64[4]) { yield %x_1, 2.5:f64 }
      }
      %5: f64[4] = add(%1, %a)
      return %1, %2, %5
    }
"""


@pytest.mark.parametrize("condition", [True, False])
def test_an_if_runs_one_branch(condition):
    check(BRANCH, np.bool_(condition), np.arange(4.0), np.arange(4.0) / 3)


NESTED = """
    graph f(%y: f64[N], %c: bool[], %k: i64[]) -> f64[N], f64[], i64[] where N in [2, inf] {
      %0: f64[N], %1: f64[] = for(%y, 0.5, counter="i0", trip=N - 1) {  # model.py:3
        body(%y_1: f64[N], %s: f64[]) {
          %2: f64[N] = for(%y_1, counter="i1", trip=i0 + 1) {
            body(%y_2: f64[N]) {
              %3: f64[i1 + 1] = slice(%y_2, starts=(0,), stops=(i1 + 1,), steps=(1,))
              %4: f64[] = sum(%3, dims=(0,), keepdim=False)
              %5: f64[1] = reshape(%4, shape=(1,))
              %6: f64[N] = slice_update(%y_2, %5, starts=(i0 + 1,), stops=(i0 + 2,), steps=(1,))
              yield %6
            }
          }
          %7: i64[] = full(value=i0, shape=(), dtype=i64, device=cpu)
          %8: f64[] = cast(%7, dtype=f64)
          %9: f64[] = add(%s, %8)
          yield %2, %9
        }
      }
      bind(%k, symbol="u0", low=0, high=N - 1)  # model.py:9
      %10: f64[1] = slice(%0, starts=(u0,), stops=(u0 + 1,), steps=(1,))
      %11: f64[] = reshape(%10, shape=())
      %12: f64[], %13: i64[] = if(%c, %11) {
        then(%input: f64[]) { yield 1.5:f64, 3:i64 }
        else(%input_1: f64[]) { yield %input_1, %k }
      }
      %14: i64[], %15: f64[] = while(0:i64, %1) {
        test(%n: i64[], %x: f64[]) {
          %16: bool[] = lt(%n, 3)
          yield %16
        }
        body(%n_1: i64[], %x_1: f64[]) {
          %17: i64[] = add(%n_1, 1)
          %18: f64[] = mul(%x_1, %12)
          yield %17, %18
        }
      }
      return %0 to %y, %15, %13
    }
"""


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("condition", [True, False])
def test_loops_in_loops_and_symbols_bound_on_the_way(n, condition):
    check(NESTED, np.arange(n) / 4.0 + 1, np.bool_(condition), np.int64(n - 1))


@pytest.mark.parametrize("nests", [True, False])
@pytest.mark.parametrize("index", [-1, 5])
def test_a_bound_index_that_is_out_of_range_is_an_error_at_its_line(index, nests):
    program = program_of(graph_of(NESTED), nests)
    inputs = [np.ones(5), np.array(True), np.array(index)]

    with pytest.raises(DimensionError, match="index out of range") as raised:
        program.run(inputs, program.bind(inputs) or ())

    assert raised.value.location is not None
    assert raised.value.location.line == 9


THREE_STATEMENTS = """
    graph f(%x: f64[N], %y: f64[N]) -> f64[N] where N in [4, inf] {
      %0: f64[1] = slice(%y, starts=(0,), stops=(1,), steps=(1,))
      %1: f64[N] = slice_update(%x, %0, starts=(0,), stops=(1,), steps=(1,))
      %2: f64[N - 2] = slice(%y, starts=(0,), stops=(N - 2,), steps=(1,))
      %3: f64[N - 2] = slice(%1, starts=(1,), stops=(N - 1,), steps=(1,))
      %4: f64[N - 2] = add(%2, %3)
      %5: f64[N] = slice_update(%1, %4, starts=(1,), stops=(N - 1,), steps=(1,))
      %6: f64[1] = sum(%5, dims=(0,), keepdim=True)
      %7: f64[N] = slice_update(%5, %6, starts=(N - 1,), stops=(N,), steps=(1,))
      return %7 to %x
    }
"""


def test_parts_of_an_argument_are_written_in_place():
    check(THREE_STATEMENTS, np.arange(9.0), np.arange(9.0) / 7)

    assert written_names(plan_of(THREE_STATEMENTS)) == ["x", "x", "x"]
    assert ["N"] not in extents(plan_of(THREE_STATEMENTS))


SWAP = """
    graph f(%x: f64[6], %i: i64[], %j: i64[]) -> f64[6] {
      bind(%i, symbol="u0", low=0, high=5)
      bind(%j, symbol="u1", low=0, high=5)
      %0: f64[1] = slice(%x, starts=(u0,), stops=(u0 + 1,), steps=(1,))
      %1: f64[1] = slice(%x, starts=(u1,), stops=(u1 + 1,), steps=(1,))
      %2: f64[6] = slice_update(%x, %1, starts=(u0,), stops=(u0 + 1,), steps=(1,))
      %3: f64[6] = slice_update(%2, %0, starts=(u1,), stops=(u1 + 1,), steps=(1,))
      return %3 to %x
    }
"""


@pytest.mark.parametrize(("i", "j"), [(0, 5), (3, 2), (4, 4)])
def test_two_elements_change_places(i, j):
    check(SWAP, np.arange(6.0), np.int64(i), np.int64(j))
    assert ["6"] not in extents(plan_of(SWAP))


STENCIL = """
    graph f(%x: f64[12]) -> f64[12] {
      %0: f64[12] = for(%x, counter="i0", trip=4) {
        body(%a: f64[12]) {
          %1: f64[10] = slice(%a, starts=(0,), stops=(10,), steps=(1,))
          %2: f64[10] = slice(%a, starts=(2,), stops=(12,), steps=(1,))
          %3: f64[10] = add(%1, %2)
          %4: f64[10] = mul(%3, 0.5)
          %5: f64[12] = slice_update(%a, %4, starts=(1,), stops=(11,), steps=(1,))
          yield %5
        }
      }
      return %0 to %x
    }
"""


def test_a_stencil_in_place_reads_what_was_there():
    check(STENCIL, np.arange(12.0) ** 2)
    assert extents(plan_of(STENCIL)) == [["10"], ["10"]]


FILLED = """
    graph f(%x: f64[N, M]) -> f64[N, M] {
      %0: f64[N, M] = for(%x, counter="i0", trip=N) {
        body(%a: f64[N, M]) {
          %1: f64[1, M] = full(value=i0, shape=(1, M), dtype=f64, device=cpu)
          %2: f64[N, M] = slice_update(%a, %1, starts=(i0, 0), stops=(i0 + 1, M), steps=(1, 1))
          yield %2
        }
      }
      %3: f64[N, M] = for(%0, counter="i1", trip=N) {
        body(%b: f64[N, M]) {
          %4: f64[1, M] = slice(%b, starts=(i1, 0), stops=(i1 + 1, M), steps=(1, 1))
          %5: f64[1, M] = exp(%4)
          %6: f64[N, M] = slice_update(%b, %5, starts=(i1, 0), stops=(i1 + 1, M), steps=(1, 1))
          yield %6
        }
      }
      return %3 to %x
    }
"""


def test_loops_over_an_argument_write_it_without_a_copy():
    check(FILLED, np.zeros((5, 3)))
    check(FILLED, np.zeros((0, 3)))

    assert plan_of(FILLED).arena == 0
    assert extents(plan_of(FILLED)) == [["M"], ["M"]]


def test_a_value_that_is_read_later_is_not_overwritten():
    check(
        """
        graph f(%x: f64[4], %p: f64[4, 4]) -> f64[4], f64[4, 1], f64[4, 1], f64[4] {
          %0: f64[4, 1] = reshape(%x, shape=(4, 1))
          %1: f64[4, 1] = dot(%p, %0)
          %2: f64[4, 1] = mul(%1, 3.0)
          %3: f64[1, 1] = slice(%1, starts=(3, 0), stops=(4, 1), steps=(1, 1))
          %4: f64[4, 1] = slice_update(%1, %3, starts=(0, 0), stops=(1, 1), steps=(1, 1))
          %5: f64[4, 1] = add(%2, %4)
          %6: f64[1] = slice(%x, starts=(2,), stops=(3,), steps=(1,))
          %7: f64[4] = slice_update(%x, %6, starts=(1,), stops=(2,), steps=(1,))
          return %x, %5, %4, %7 to %x
        }
        """,
        np.arange(4.0),
        np.arange(16.0).reshape(4, 4),
    )


def test_one_value_carried_twice_is_two_arrays():
    check(
        """
        graph f(%x: f64[4]) -> f64[4], f64[4] {
          %0: f64[4] = exp(%x)
          %1: f64[4], %2: f64[4] = for(%0, %0, counter="i0", trip=2) {
            body(%a: f64[4], %b: f64[4]) {
              %3: f64[4] = add(%a, %b)
              %4: f64[4] = sub(%0, %b)
              yield %3, %4
            }
          }
          return %1, %2
        }
        """,
        np.arange(4.0),
    )


SCATTERED = """
    graph f(%x: f64[5], %i: i64[7], %s: f64[7]) -> f64[5] {
      %0: f64[5] = index_add(%x, %i, %s, dim=0)
      %1: f64[5] = scatter(%0, %i, %s, dim=0)
      return %1 to %x
    }
"""


def test_scatters_write_over_an_argument():
    check(SCATTERED, np.arange(5.0), np.array([0, 1, 4, 4, 2, 0, 3]), np.arange(7.0))

    assert written_names(plan_of(SCATTERED)) == ["x", "x"]


def test_a_row_of_a_product_goes_where_it_belongs():
    text = """
        graph f(%x: f64[6, 5], %a: f64[12, 4], %b: f64[4, 5]) -> f64[6, 5] {
          %0: f64[6, 5] = for(%x, counter="i0", trip=6) {
            body(%y: f64[6, 5]) {
              %1: f64[1, 4] = slice(%a, starts=(2*i0, 0), stops=(2*i0 + 1, 4), steps=(1, 1))
              %2: f64[1, 5] = dot(%1, %b)
              %3: f64[6, 5] = slice_update(%y, %2, starts=(i0, 0), stops=(i0 + 1, 5), steps=(1, 1))
              yield %3
            }
          }
          return %0 to %x
        }
    """
    check(text, np.zeros((6, 5)), np.arange(48.0).reshape(12, 4), np.arange(20.0).reshape(4, 5) / 9)

    assert written_names(plan_of(text)) == ["x"]


def test_a_long_chain_of_updates_is_no_chain_of_choices():
    update = "slice_update(%{0}, %v, starts=({1},), stops=({1} + 1,), steps=(1,))"
    lines = ["graph f(%v: f64[1]) -> f64[50] {", "%0: f64[50] = full(value=0.0, shape=(50,), dtype=f64, device=cpu)"]
    lines += [f"%{n}: f64[50] = {update.format(n - 1, n)}" for n in range(1, 40)]
    text = "\n".join([*lines, "return %39", "}"])

    check(text, np.ones(1))

    assert extents(plan_of(text)).count(["50"]) == 1


ASSERTED = """
    graph f(%x: f64[], %k: i64[]) -> f64[] {
      %0: f64[] = for(%x, counter="i0", trip=5) {
        body(%y: f64[]) {
          %1: i64[] = full(value=i0, shape=(), dtype=i64, device=cpu)
          %2: bool[] = ne(%1, %k)
          check(%2, message="not at k")  # model.py:4
          %3: f64[] = add(%y, 1.0)
          yield %3
        }
      }
      bind(%k, symbol="u0", low=3, high=9)  # model.py:6
      return %0
    }
"""


@pytest.mark.parametrize("nests", [True, False])
def test_failures_in_loops_and_after_them_are_told_apart(nests):
    program = program_of(graph_of(ASSERTED), nests)

    with pytest.raises(AssertionError, match="not at k"):
        program.run([np.array(1.0), np.array(4)])
    with pytest.raises(DimensionError, match="index out of range"):
        program.run([np.array(1.0), np.array(10)])
    (result,) = program.run([np.array(1.0), np.array(9)])
    assert result == 6.0


def test_every_failure_has_room_on_the_stack():
    checks = "\n".join(f'%{n}: bool[] = ne(%z, {n}.0)\ncheck(%{n}, message="at {n}")' for n in range(2, 30))
    text = f"""
        graph f(%x: f64[5], %k: i64[3]) -> f64[], f64[3] {{
          %0: f64[] = for(0.0:f64, counter="i0", trip=5) {{
            body(%z: f64[]) {{
              {checks}
              %30: f64[] = add(%z, 0.5)
              yield %30
            }}
          }}
          %31: f64[3] = take(%x, %k, dim=0)
          return %0, %31
        }}
    """
    written = str(emit_program(schedule(run_passes(graph_of(text))), host_target()))

    (size,) = map(int, re.findall(r"alloca \[(\d+) x i32\]", written))
    places = [int(n) for n in re.findall(r"getelementptr i32, ptr [^,]*, i64 (\d+)", written)]
    assert max(places) < size


TRIANGLE = """
    graph f(%x: f64[N, N], %y: f64[N]) -> f64[N] {
      %0: f64[N] = for(%y, counter="i0", trip=N) {
        body(%z: f64[N]) {
          %1: f64[1, i0 + 1] = slice(%x, starts=(i0, 0), stops=(i0 + 1, i0 + 1), steps=(1, 1))
          %2: f64[i0 + 1] = slice(%z, starts=(0,), stops=(i0 + 1,), steps=(1,))
          %3: f64[i0 + 1, 1] = reshape(%2, shape=(i0 + 1, 1))
          %4: f64[i0 + 1, 1] = exp(%3)
          %5: f64[1, 1] = dot(%1, %4)
          %6: f64[1] = reshape(%5, shape=(1,))
          %7: f64[N] = slice_update(%z, %6, starts=(i0,), stops=(i0 + 1,), steps=(1,))
          yield %7
        }
      }
      return %0
    }
"""


@pytest.mark.parametrize("n", [0, 1, 2, 33])
def test_temps_of_a_body_have_room_for_its_last_trip(n, rng):
    check(TRIANGLE, rng.standard_normal((n, n)) / 9, rng.standard_normal(n))
    assert plan_of(TRIANGLE).symbols[0].name == "N"


TAPE = """
    graph f(%x: f64[], %limit: f64[]) -> f64[] {
      %0: f64[], %1: i64[] = while(%x, 0:i64) {
        test(%a: f64[], %n: i64[]) {
          %2: bool[] = lt(%a, %limit)
          yield %2
        }
        body(%a_1: f64[], %n_1: i64[]) {
          %3: f64[] = mul(%a_1, 1.5)
          %4: i64[] = add(%n_1, 1)
          yield %3, %4
        }
      }
      bind(%1, symbol="u0", low=0, high=None)
      %5: f64[u0, 4] = full(value=0.0, shape=(u0, 4), dtype=f64, device=cpu)
      %6: f64[u0, 4], %7: f64[] = for(%5, %x, counter="i0", trip=u0) {
        body(%t: f64[u0, 4], %a_2: f64[]) {
          %8: f64[1, 4] = broadcast_to(%a_2, shape=(1, 4))
          %9: f64[u0, 4] = slice_update(%t, %8, starts=(i0, 0), stops=(i0 + 1, 4), steps=(1, 1))
          %10: f64[] = mul(%a_2, 1.5)
          yield %9, %10
        }
      }
      check(%c, message="enough")
      %11: f64[] = sum(%6, dims=(0, 1), keepdim=False)
      return %11
    }
"""


def _tape(check: str) -> str:
    return TAPE.replace("check(%c, ", f"%c: bool[] = {check}\n      check(%c, ")


@pytest.mark.parametrize("limit", [0.5, 2.0, 1e6])
def test_arrays_whose_size_the_program_computes(limit):
    check(_tape("lt(0.0, %limit)"), np.float64(1.0), np.float64(limit))

    assert any(p.kind == "heap" for p in plan_of(_tape("lt(0.0, %limit)")).temps)


def test_arrays_on_the_heap_are_freed_where_the_program_fails():
    program = program_of(graph_of(_tape("lt(%limit, 2.0)")), nests=False)

    with pytest.raises(AssertionError, match="enough"):
        program.run([np.array(1.0), np.array(1e300)])


HEAP_IN_LOOP = """
    graph f(%x: f64[N], %k: i64[M]) -> f64[] {
      %0: f64[] = for(0.0:f64, counter="i0", trip=M) {
        body(%s: f64[]) {
          %1: i64[1] = slice(%k, starts=(i0,), stops=(i0 + 1,), steps=(1,))
          %2: i64[] = reshape(%1, shape=())
          bind(%2, symbol="u0", low=0, high=None)
          %3: f64[u0, 3] = full(value=1.5, shape=(u0, 3), dtype=f64, device=cpu)
          %4: f64[u0, u0] = full(value=2.0, shape=(u0, u0), dtype=f64, device=cpu)
          %5: f64[u0, 3] = dot(%4, %3)
          %6: f64[u0, 3] = exp(%5)
          %7: f64[u0, 3] = dot(%4, %6)
          %8: f64[] = sum(%7, dims=(0, 1), keepdim=False)
          %9: f64[] = add(%s, %8)
          yield %9
        }
      }
      return %0
    }
"""


def test_arrays_on_the_heap_in_a_loop_change_their_size():
    check(HEAP_IN_LOOP, np.zeros(3), np.array([2, 0, 5, 1]))


def test_an_output_of_a_size_that_the_program_computes_is_an_error():
    text = """
        graph f(%x: f64[N], %k: i64[]) -> f64[N] {
          bind(%k, symbol="u0", low=0, high=N)
          %0: f64[u0] = slice(%x, starts=(0,), stops=(u0,), steps=(1,))
          return %x
        }
    """
    graph = graph_of(text)
    graph = replace(graph, outputs=graph.nodes[-1].results)

    with pytest.raises(CodegenError, match=r"output 0 is f64\[u0\], and u0 is known only while the program runs"):
        schedule(graph)


@pytest.mark.parametrize(("extent", "kernel"), [(30, "for"), (40_000, "sin")])
def test_a_loop_over_large_arrays_calls_kernels_that_threads_share(extent, kernel):
    text = """
        graph f(%x: f64[EXTENT]) -> f64[EXTENT] {
          %0: f64[EXTENT] = for(%x, counter="i0", trip=3) {
            body(%y: f64[EXTENT]) {
              %1: f64[EXTENT] = exp(%y)
              %2: f64[EXTENT] = sin(%1)
              yield %2
            }
          }
          return %0 to %x
        }
    """
    plan = schedule(run_passes(graph_of(text.replace("EXTENT", str(extent)))))

    assert [step.kernel.name.partition(".")[0].partition("_")[0] for step in kernel_steps(plan)] == [kernel]


def test_the_text_shows_bodies_and_what_is_written_in_place():
    plan = plan_of(FILLED)
    lines = [re.sub(r"\.[0-9a-f]{12}", "", line) for line in str(plan).splitlines()]

    assert [line for line in lines if line.startswith(("  k", "    body", "      k"))] == [
        "  k0 for i0 < N",
        "    body (inout a = x), 0 B",
        "      k1 slice_update () -> a: f64[N, M] in place",
        "  k2 for i1 < N",
        "    body (inout b = x), 0 B",
        "      k3 slice_update () -> b: f64[N, M] in place",
    ]


def test_every_stage_of_a_loop_prints():
    def power(x):
        y = tjit.ones(4)
        for _ in range(x.shape[0]):
            y = y * x[0]
        return y

    lowered = tjit.compile(power).lower(tjit.rand(5))

    assert all(lowered.text(stage) for stage in ("graph", "passes", "schedule", "llvm", "asm", "triton"))
    assert tjit.explain(tjit.compile(power), tjit.rand(5)).kernels


@pytest.mark.parametrize("name", ["k", "p0", "r0", "part", "d1"])
def test_symbols_may_be_called_like_those_of_kernels(name, rng):
    text = """
        graph f(%x: f64[NAME, 6], %y: f64[6, NAME]) -> f64[NAME, NAME], f64[NAME], f64[NAME, 6] {
          %0: f64[NAME, NAME] = dot(%x, %y)
          %1: f64[NAME] = sum(%0, dims=(1,), keepdim=False)
          %2: f64[NAME, 6] = for(%x, counter="i0", trip=NAME) {
            body(%z: f64[NAME, 6]) {
              %3: f64[1, 6] = slice(%z, starts=(i0, 0), stops=(i0 + 1, 6), steps=(1, 1))
              %4: f64[1, 6] = sin(%3)
              %5: f64[NAME, 6] = slice_update(%z, %4, starts=(i0, 0), stops=(i0 + 1, 6), steps=(1, 1))
              yield %5
            }
          }
          return %0, %1, %2
        }
    """
    check(text.replace("NAME", name), rng.standard_normal((4, 6)), rng.standard_normal((6, 4)))


TURNS = """
    graph f(%x: f64[N], %y: f64[N], %k: i64[T]) -> f64[N], f64[N], f64[N] {
      %0: f64[N], %1: f64[N], %2: f64[N] = for(%x, %y, %x, counter="i0", trip=T) {
        body(%a: f64[N], %b: f64[N], %s: f64[N]) {
          %3: f64[N] = flip(%a, dims=(0,))
          %4: f64[N] = add(%3, %b)
          %5: f64[N] = mul(%4, 0.5)
          %6: f64[N] = for(%b, counter="i1", trip=i0) {
            body(%c: f64[N]) {
              %7: f64[N] = flip(%c, dims=(0,))
              %8: f64[N] = sub(%7, %a)
              yield %8
            }
          }
          %9: f64[N], %10: i64[] = while(%6, 0:i64) {
            test(%d: f64[N], %n: i64[]) {
              %11: f64[] = sum(%d, dims=(0,), keepdim=False)
              %12: bool[] = lt(%11, 2.0)
              %13: bool[] = lt(%n, 3)
              %14: bool[] = bitwise_and(%12, %13)
              yield %14
            }
            body(%d_1: f64[N], %n_1: i64[]) {
              %15: f64[N] = flip(%d_1, dims=(0,))
              %16: f64[N] = add(%15, 0.25)
              %17: i64[] = add(%n_1, 1)
              yield %16, %17
            }
          }
          %18: f64[N] = add(%s, %a)
          yield %5, %9, %18
        }
      }
      return %0, %1 to %y, %2
    }
"""


@pytest.mark.parametrize("trips", [0, 1, 2, 3, 4])
def test_arrays_change_places_with_their_next_values(trips, rng):
    check(TURNS, rng.standard_normal(5), rng.standard_normal(5), np.zeros(trips, np.int64))

    plan = plan_of(TURNS)
    assert str(plan).count("becomes") == 3
    assert "copy" not in str(plan)


def test_a_value_that_two_carried_ones_become_is_copied_once():
    text = """
        graph f(%x: f64[4], %y: f64[4], %k: i64[T]) -> f64[4], f64[4] {
          %0: f64[4], %1: f64[4] = for(%x, %y, counter="i0", trip=T) {
            body(%a: f64[4], %b: f64[4]) {
              %2: f64[4] = flip(%a, dims=(0,))
              %3: f64[4] = flip(%b, dims=(0,))
              %4: f64[4] = add(%2, %3)
              yield %4, %4
            }
          }
          return %0, %1
        }
    """
    for trips in range(4):
        check(text, np.arange(4.0), np.ones(4), np.zeros(trips, np.int64))


def test_an_array_is_scattered_into_itself():
    text = """
        graph f(%x: f64[4], %i: i64[4]) -> f64[4] {
          %0: f64[4] = for(%x, counter="i0", trip=2) {
            body(%v: f64[4]) {
              %1: f64[4] = index_add(%v, %i, %v, dim=0)
              yield %1
            }
          }
          return %0
        }
    """
    check(text, np.arange(4.0) + 1, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_sum_reads_what_the_same_loop_overwrites(dim):
    text = f"""
        graph f(%x: f64[40, 8], %y: f64[40, 8]) -> f64[{8 if dim == 0 else 40}], f64[40, 8] {{
          %0: f64[40, 8] = mul(%y, %x)
          %1: f64[{8 if dim == 0 else 40}] = sum(%0, dims=({dim},), keepdim=False)
          %2: f64[40, 8] = mul(%x, 2.0)
          return %1, %2 to %y
        }}
    """
    check(text, np.arange(320.0).reshape(40, 8), np.ones((40, 8)))
