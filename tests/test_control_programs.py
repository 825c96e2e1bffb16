"""Compiled control flow agrees with `evaluate`, which runs graphs node by node."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest

from tjit.compiled import build_program
from tjit.errors import DimensionError
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph
from tjit.ir.parser import parse_graph
from tjit.ir.verify import verify
from tjit.runtime.program import Program


@pytest.fixture(autouse=True)
def _no_disk_cache(monkeypatch):
    monkeypatch.setenv("TJIT_CACHE", "0")


def graph_of(text: str) -> Graph:
    graph = parse_graph(textwrap.dedent(text).strip())
    verify(graph)
    return graph


def program_of(text: str) -> Program:
    graph = graph_of(text)
    return build_program(graph, (None,) * len(graph.inputs), False, {})


def run(text: str, *arrays: Any) -> list[np.ndarray]:
    """All outputs by the compiled program, those that are written back included."""
    graph, program = graph_of(text), program_of(text)
    inputs = [np.array(a) for a in arrays]
    symbols = program.bind(inputs)
    assert symbols is not None
    returned = iter(program.run(inputs, symbols))
    outputs = (inputs[graph.writes[i]] if i in graph.writes else next(returned) for i in range(len(graph.outputs)))
    return [np.array(o) for o in outputs]


def check(text: str, *arrays: Any) -> None:
    expected = evaluate(graph_of(text), [np.array(a) for a in arrays])

    got = run(text, *arrays)

    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize("index", [-1, 5])
def test_a_bound_index_that_is_out_of_range_is_an_error_at_its_line(index):
    program = program_of(NESTED)
    inputs = [np.ones(5), np.array(True), np.array(index)]

    with pytest.raises(DimensionError, match="index out of range") as raised:
        program.run(inputs, program.bind(inputs) or ())

    assert raised.value.location is not None
    assert raised.value.location.line == 9
