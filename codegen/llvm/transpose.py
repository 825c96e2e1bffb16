"""Square tiles transposed in registers."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.llvm.vectors import numbers

__all__ = ["transposed"]

_CHUNK_BITS = 128  # what x86's unpacking instructions work within, and all of a vector on other processors

_Places = list[tuple[int, int]]  # for each lane the row and the column that it came from


def transposed(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of n vectors of n elements, n a power of 2.

    Half of the stages interleave two vectors within chunks, the others gather every second chunk of two vectors. Each
    stage turns one bit of the row's number into a bit of the lane's; which vector ends as which column is followed.
    """
    n = len(rows)
    element = rows[0].type.element
    chunk = min(n, _CHUNK_BITS // _bits(element))
    vectors = [(row, [(i, j) for j in range(n)]) for i, row in enumerate(rows)]
    distance = chunk // 2
    while distance:
        vectors = _stage(b, vectors, distance, _interleaved(n, chunk))
        distance //= 2
    distance = chunk
    while distance < n:
        vectors = _stage(b, vectors, distance, _every_second_chunk(n, chunk))
        distance *= 2
    columns = {places[0][1]: vector for vector, places in vectors}
    assert all(places == [(i, places[0][1]) for i in range(n)] for _, places in vectors)
    return [columns[j] for j in range(n)]


def _bits(element: ir.Type) -> int:
    known = {ir.HalfType(): 16, ir.FloatType(): 32, ir.DoubleType(): 64}
    return known.get(element) or element.width


def _interleaved(n: int, chunk: int) -> tuple[list[int], list[int]]:
    """Lanes of two vectors end to end: the lower halves of their chunks interleaved, and the upper ones."""
    low = [c + i // 2 + (i % 2) * n for c in range(0, n, chunk) for i in range(chunk)]
    return low, [i + chunk // 2 for i in low]


def _every_second_chunk(n: int, chunk: int) -> tuple[list[int], list[int]]:
    """Lanes of two vectors end to end: their even chunks, and their odd ones."""
    even = [c + i for c in range(0, 2 * n, 2 * chunk) for i in range(chunk)]
    return even, [i + chunk for i in even]


def _stage(
    b: ir.IRBuilder, vectors: list[tuple[ir.Value, _Places]], distance: int, lanes: tuple[list[int], list[int]]
) -> list[tuple[ir.Value, _Places]]:
    """Combine the vectors whose numbers differ by `distance`."""
    result = list(vectors)
    for i, (x, x_places) in enumerate(vectors):
        if i & distance:
            continue
        y, y_places = vectors[i + distance]
        both = x_places + y_places
        for position, picked in zip((i, i + distance), lanes, strict=True):
            vector = b.shuffle_vector(x, y, numbers(tuple(picked)))
            result[position] = vector, [both[p] for p in picked]
    return result
