"""Parts that no earlier trip of a loop wrote are read from before it: the same values, and less is carried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tjit
from tjit.ir.evaluate import evaluate
from tjit.ir.parser import parse_graph
from tjit.ir.verify import verify
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.passes.untouched_parts import read_untouched_parts

SIZE, TRIPS = 30, 6


def _graph(step: int, read: int, width: int, write: int, returned: str):
    """A loop that reads `width` elements of %d from `read`, writes two from `write`, and moves by `step`."""
    at = f"{step}*i0 + {abs(step) * (TRIPS - 1) if step < 0 else 0}"
    low, high = f"{at} + {read}", f"{at} + {read + width}"
    start, stop = f"{at} + {write}", f"{at} + {write + 2}"
    return parse_graph(f"""graph f(%d: f64[{SIZE}], %s: f64[{width}]) -> f64[{width if returned == "%0" else SIZE}] {{
  %0: f64[{width}], %1: f64[{SIZE}] = for(%s, %d, counter="i0", trip={TRIPS}) {{
    body(%t: f64[{width}], %e: f64[{SIZE}]) {{
      %2: f64[{width}] = slice(%e, starts=({low},), stops=({high},), steps=(1,))
      %3: f64[{width}] = add(%t, %2)
      %4: f64[2] = full(value=7.0, shape=(2,), dtype=f64, device=cpu)
      %5: f64[{SIZE}] = slice_update(%e, %4, starts=({start},), stops=({stop},), steps=(1,))
      yield %3, %5
    }}
  }}
  return {returned}
}}""")


def _slices_of(graph) -> list[str]:
    (loop,) = (node for node in graph.nodes if node.regions)
    return [n.operands[0].name for n in loop.regions[0].nodes if n.op.name == "slice"]


@pytest.mark.parametrize("step", [1, 2, 3, -1, -2])
def test_values_stay_wherever_a_trip_reads_and_writes(step, rng):
    d = rng.standard_normal(SIZE)
    moved = set()
    for read, width, write in itertools.product(range(6), (1, 2, 3), range(6)):
        graph = _graph(step, read, width, write, "%0")
        s = np.zeros(width)
        (wanted,) = evaluate(graph, [d, s])

        after = read_untouched_parts(graph)

        verify(after)
        np.testing.assert_array_equal(evaluate(after, [d, s])[0], wanted)
        apart = all(
            not set(range(step * i + read, step * i + read + width))
            & set(range(step * j + write, step * j + write + 2))
            for i in range(TRIPS)
            for j in range(i)
        )
        moved.add((_slices_of(after) == ["d"], apart))
        assert _slices_of(after) == ["e"] or apart
    assert (True, True) in moved


def test_what_is_no_longer_read_is_no_longer_carried():
    after = eliminate_dead_nodes(read_untouched_parts(_graph(2, 0, 2, 0, "%0")))

    (loop,) = (node for node in after.nodes if node.regions)
    assert len(loop.operands) == 1


def test_an_array_that_is_read_behind_the_loop_is_changed_in_place():
    graph = _graph(2, 0, 2, 0, "%1")

    assert read_untouched_parts(graph) is graph


def test_the_gradient_of_a_list_that_a_loop_makes_carries_no_list(rng):
    def loss(x, w):
        h, seen = tjit.zeros(3), []
        for t in range(x.shape[0]):
            h = tjit.tanh(x[t] + w * h)
            seen.append(h)
        (tjit.stack(seen) ** 2).sum().backward()
        return w.grad

    x, w = tjit.from_numpy(rng.standard_normal((50, 3), np.float32)), tjit.ones(3, requires_grad=True)
    passes = tjit.compile(loss).lower(x, w).passes()

    forward, backward = (node for node in passes.nodes if node.op.name == "for")
    assert len(forward.operands) > 1
    assert not any(n.op.name == "slice_update" for n in backward.regions[0].nodes)
