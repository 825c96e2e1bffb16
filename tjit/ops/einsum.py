"""`einsum` and `tensordot`, in terms of `dot`, movement and sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim, is_one, product
from tjit.location import user_location
from tjit.ops.contract import contract
from tjit.ops.creation import iota
from tjit.ops.elementwise import where
from tjit.ops.movement import broadcast_to, permute, reshape
from tjit.ops.operands import as_tensor_operand, common_dtype, normalize_dim
from tjit.ops.public import public
from tjit.ops.reduce import sum as sum_
from tjit.tensor import Tensor

__all__ = ["einsum", "tensordot"]


@public(method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The sums of products over dims of a paired with dims of b.

    Args:
        dims: how many of a's last and b's first dims, or a pair of lists of dims.

    Raises:
        TypeRuleError: paired dims have different extents.
    """
    a, b = as_tensor_operand(a, "tensordot"), as_tensor_operand(b, "tensordot")
    if isinstance(dims, int):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = ([normalize_dim(d, x.ndim) for d in side] for side, x in zip(dims, (a, b), strict=True))
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise TypeRuleError(
            f"tensordot needs paired dims of one extent: {a.type_} along {left} and {b.type_} along {right}",
            user_location(),
        )
    rows = [d for d in range(a.ndim) if d not in left]
    columns = [d for d in range(b.ndim) if d not in right]
    k = product(a.shape[d] for d in left)
    x = reshape(permute(a, (*rows, *left)), (product(a.shape[d] for d in rows), k))
    y = reshape(permute(b, (*right, *columns)), (k, product(b.shape[d] for d in columns)))
    return reshape(contract(x, y), (*(a.shape[d] for d in rows), *(b.shape[d] for d in columns)))


@public(method=False)
def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by labelled dims: `einsum("bik,bkj->bij", a, b)`.

    Args:
        equation: a letter for each dim of each operand; `...` stands for dims that broadcast; without `->`, the result
            has the letters that occur once, in alphabetical order.
        operands: tensors, as arguments or as one list. Products are taken from left to right.

    Raises:
        ArgumentError: the equation does not fit the operands.
        TypeRuleError: a letter stands for different extents.
    """
    listed = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    tensors = [as_tensor_operand(x, "einsum") for x in listed]
    inputs, output = _parse(equation, [x.ndim for x in tensors])
    _check_extents(equation, inputs, tensors)
    terms = [_diagonal(x, labels) for x, labels in zip(tensors, inputs, strict=True)]
    value, labels = terms[0]
    for position, (other, other_labels) in enumerate(terms[1:], 1):
        needed = set(output).union(*(set(t[1]) for t in terms[position + 1 :]))
        value, labels = _multiply(value, labels, other, other_labels, needed)
    gone = tuple(i for i, label in enumerate(labels) if label not in output)
    value = sum_(value, gone) if gone else value
    kept = [label for label in labels if label in output]
    return permute(value, tuple(kept.index(label) for label in output))


Labels = list[str]


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result; the dims of `...` are labelled "0", "1", ... from the last one."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ArgumentError(
            f"einsum(): the equation {equation!r} has {len(terms)} operands, {len(ranks)} were given", user_location()
        )
    inputs = [_labels(term, rank, equation) for term, rank in zip(terms, ranks, strict=True)]
    ellipsis = sorted({x for labels in inputs for x in labels if x.isdigit()}, key=int, reverse=True)
    if arrow:
        head, dots, tail = right.partition("...")
        output = [*head, *(ellipsis if dots else ()), *tail]
    else:
        letters = [x for labels in inputs for x in labels if not x.isdigit()]
        output = [*ellipsis, *sorted(x for x in set(letters) if letters.count(x) == 1)]
    known = {x for labels in inputs for x in labels}
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ArgumentError(
            f"einsum(): the result of {equation!r} repeats a letter or has one that no operand has", user_location()
        )
    return inputs, output


def _labels(term: str, rank: int, equation: str) -> Labels:
    head, dots, tail = term.partition("...")
    extra = rank - len(head) - len(tail)
    letters = head + tail
    if (letters and not letters.isalpha()) or extra < 0 or (extra > 0 and not dots):
        raise ArgumentError(
            f"einsum(): {term!r} of the equation {equation!r} does not fit an operand with {rank} dims", user_location()
        )
    return [*head, *(str(i) for i in reversed(range(extra))), *tail]


def _check_extents(equation: str, inputs: list[Labels], tensors: list[Tensor]) -> None:
    extents: dict[str, Dim] = {}
    for labels, x in zip(inputs, tensors, strict=True):
        for label, extent in zip(labels, x.shape, strict=True):
            known = extents.setdefault(label, extent)
            if is_one(known):
                extents[label] = extent
            elif known != extent and not is_one(extent):
                raise TypeRuleError(
                    f"einsum(): {label!r} of {equation!r} stands for the extents {known} and {extent}", user_location()
                )


def _diagonal(x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """x with each label once: repeated dims become their diagonal, as a sum over all but the elements on it."""
    while len(set(labels)) < len(labels):
        i, j = next((i, j) for i, a in enumerate(labels) for j in range(i + 1, len(labels)) if labels[j] == a)
        rows, columns = ([1] * x.ndim for _ in range(2))
        rows[i], columns[j] = x.shape[i], x.shape[j]
        on_it = iota(tuple(rows), i, device=x.device) == iota(tuple(columns), j, device=x.device)
        x, labels = sum_(where(on_it, x, 0), j).to(x.dtype), labels[:j] + labels[j + 1 :]
    return x, labels


def _multiply(a: Tensor, a_labels: Labels, b: Tensor, b_labels: Labels, needed: set[str]) -> tuple[Tensor, Labels]:
    """The product of two terms, summed over the labels that are not needed later."""
    a, a_labels = _sum_out(a, a_labels, needed.union(b_labels))
    b, b_labels = _sum_out(b, b_labels, needed.union(a_labels))
    common = [x for x in a_labels if x in b_labels]
    batch, summed = [x for x in common if x in needed], [x for x in common if x not in needed]
    rows, columns = [x for x in a_labels if x not in common], [x for x in b_labels if x not in common]
    a_extent, b_extent = dict(zip(a_labels, a.shape, strict=True)), dict(zip(b_labels, b.shape, strict=True))
    extent = {**b_extent, **a_extent, **{x: b_extent[x] for x in common if is_one(a_extent[x])}}
    dtype = common_dtype(a, b)
    a = _arranged(a.to(dtype), a_labels, (batch, rows, summed), extent)
    b = _arranged(b.to(dtype), b_labels, (batch, summed, columns), extent)
    labels = [*batch, *rows, *columns]
    return reshape(contract(a, b), tuple(extent[x] for x in labels)), labels


def _sum_out(x: Tensor, labels: Labels, kept: set[str]) -> tuple[Tensor, Labels]:
    gone = tuple(i for i, label in enumerate(labels) if label not in kept)
    return (sum_(x, gone).to(x.dtype) if gone else x), [label for label in labels if label in kept]


def _arranged(x: Tensor, labels: Labels, groups: tuple[Labels, Labels, Labels], extent: dict[str, Dim]) -> Tensor:
    """x with its dims in the order of the groups, and each group made one dim."""
    order = [label for group in groups for label in group]
    x = permute(x, tuple(labels.index(label) for label in order))
    x = broadcast_to(x, tuple(extent[label] for label in order))
    return reshape(x, tuple(product(extent[label] for label in group) for group in groups))
