"""The passes in their order, and the runner that verifies their result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tjit.errors import VerifyError
from tjit.ir.graph import Graph
from tjit.ir.printer import print_graph
from tjit.ir.verify import verify
from tjit.passes.algebra import simplify_algebra, simplify_algebra_fast
from tjit.passes.attention import find_attention, find_attention_fast
from tjit.passes.carried import uncarry_invariants
from tjit.passes.common_nodes import merge_common_nodes
from tjit.passes.constants import fold_constants
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.passes.decomposition import decompose, decompose_claimed
from tjit.passes.dot_products import sum_dot_products
from tjit.passes.layouts import lay_out_frozen
from tjit.passes.loop_contractions import batch_contractions
from tjit.passes.loop_invariants import hoist_invariants
from tjit.passes.matmul_chains import reorder_matmul_chains
from tjit.passes.partial_sums import narrow_sums, narrow_sums_fast
from tjit.passes.untouched_parts import read_untouched_parts

__all__ = ["DEFAULT", "FAST_MATH", "UNCLAIMED", "Pass", "PassRun", "run_passes"]

Pass = Callable[[Graph], Graph]

DEFAULT: tuple[Pass, ...] = (
    eliminate_dead_nodes,  # first: nothing later should look at dead nodes
    merge_common_nodes,  # before matmul chains: a product written twice is one that is read twice
    reorder_matmul_chains,  # before decompose: products of vectors are still products, not reshapes around them
    find_attention,  # before decompose: softmax is still one node
    decompose,  # before algebra: identities are of primitives
    fold_constants,  # before what follows: rules then see plain numbers
    narrow_sums,  # before algebra: what is written and read at one place is then seen
    read_untouched_parts,  # after narrow_sums: sums of parts are then reads and writes; before algebra: of zeros
    simplify_algebra,
    uncarry_invariants,  # after algebra: a value times one is the value that came in
    merge_common_nodes,  # after algebra: identities make equal nodes equal in text
    hoist_invariants,  # after merging: what is computed outside already needs no second place
    batch_contractions,  # after hoisting: what is the same on every trip already stands outside
    sum_dot_products,  # after what looks for contractions
    lay_out_frozen,  # after all that moves operands: what a contraction reads is what is laid out
    eliminate_dead_nodes,  # last: what folding and rules no longer read
)

# Identities of real numbers too, for those who ask for them.
_FAST: dict[Pass, Pass] = {
    find_attention: find_attention_fast,
    simplify_algebra: simplify_algebra_fast,
    narrow_sums: narrow_sums_fast,
}
FAST_MATH: tuple[Pass, ...] = tuple(_FAST.get(p, p) for p in DEFAULT)

# For a backend that claims no composite, on the graph that DEFAULT left.
UNCLAIMED: tuple[Pass, ...] = (
    decompose_claimed,
    simplify_algebra,  # after it: identities are of primitives
    merge_common_nodes,  # after algebra, as above
    eliminate_dead_nodes,  # last: results of a composite that no one reads
)


class PassRun(NamedTuple):
    """What a pass did: `after is before` where nothing changed. `seconds` are without verification."""

    name: str
    before: Graph
    after: Graph
    seconds: float


def run_passes(
    graph: Graph, passes: Sequence[Pass] = DEFAULT, observe: Callable[[PassRun], None] | None = None
) -> Graph:
    """Run `passes` in order, and verify the graph that comes of it.

    Where it is broken, or a pass crashes, they run again with each result verified, to say which pass it was.

    Args:
        observe: called after each pass: what dumps and timings are made of.

    Raises:
        VerifyError: a pass broke the graph. Its notes name the pass and show the graph before and after.
        Exception: a pass crashed; a note names it and shows the graph.
    """
    try:
        result = _run(graph, passes, observe)
        if result is not graph:
            verify(result)
    except Exception:
        _run(graph, passes, None, verified=True)
        raise
    return result


def _run(
    graph: Graph, passes: Sequence[Pass], observe: Callable[[PassRun], None] | None, *, verified: bool = False
) -> Graph:
    for one in passes:
        start = time.perf_counter()
        try:
            after = one(graph)
            seconds = time.perf_counter() - start
            if verified and after is not graph:
                verify(after)
        except VerifyError as error:
            error.add_note(f"after pass {one.__name__}; before it:\n{print_graph(graph)}")
            raise
        except Exception as error:
            error.add_note(f"in pass {one.__name__}, on\n{print_graph(graph)}")
            raise
        if observe is not None:
            observe(PassRun(one.__name__, graph, after, seconds))
        graph = after
    return graph
