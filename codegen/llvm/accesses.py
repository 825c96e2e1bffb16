"""Elements of buffers to and from the lanes of a vector, by where the lanes' elements lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import llvmlite.ir as ir

from tjit.codegen.lanes import NEAR
from tjit.codegen.llvm.positions import Positions
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, masked_load, masked_store, numbers, poison, splat, stack, zeros
from tjit.codegen.run_on import MOST_WINDOWS, windows
from tjit.ir.dims import Dim, coefficient, substitute, symbols

__all__ = ["LINE", "Access", "Accesses", "both", "store_at"]

_NEAR = 4  # elements from lane to lane: the lines between are written anyway
LINE = 64  # bytes: buffers that are stored past the caches are aligned to as many


def both(b: ir.IRBuilder, x: ir.Value | None, y: ir.Value | None) -> ir.Value | None:
    """Whether two conditions hold; None is one that always does."""
    return y if x is None else x if y is None else b.and_(x, y)


def store_at(b: ir.IRBuilder, value: ir.Value, at: ir.Value, align: int, *, past_caches: bool) -> None:
    """Store where it is aligned to so many bytes: for a store past the caches, to all that it has or to a line."""
    stored = b.store(value, at, align=align)
    if past_caches:
        stored.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))


class Access(NamedTuple):
    """An element for each lane, `offset` elements beyond `pointer`, of `size` bytes.

    `turns`: how far from it those lie, its own included, that loads read which take turns with it (`interleaved`).
    """

    pointer: ir.Value
    offset: Dim
    element: ir.Type
    size: int
    turns: tuple[int, ...] = (0,)


class Accesses:
    """Loads and stores at index expressions, at the builder's position.

    Args:
        positions: the index expressions in every lane.
        pointers: of buffers, by name; the dummy's is added.

    Attributes:
        windows: whole vectors that loads which take turns pick from, by pointer, the first element that the turns
            read, what they read from there on, and where the vector is.
    """

    def __init__(self, target: Target, positions: Positions, pointers: dict[str, ir.Value]) -> None:
        self.b = positions.b
        self.target = target
        self.lanes = positions.lanes
        self.ints = positions.ints
        self.positions = positions
        self.pointers = pointers
        self.windows: dict[tuple[ir.Value, Dim, tuple[int, ...], int], ir.Value] = {}
        self._axes = positions.lanes.symbols

    def load(self, access: Access, valid: ir.Value | None, sure: ir.Value | None) -> ir.Value:
        """The active lanes' elements; the others are any.

        Args:
            valid: i1 (vector): lanes that may touch memory; None: all.
            sure: i1: whether any lane may; None: yes.
        """
        _, offset, element, size, _ = access
        width, lane = self.lanes.width, self.lanes.symbol
        k = 0 if lane is None else coefficient(offset, lane)
        mask = both(self.b, valid, self.lanes.mask)
        step = k if isinstance(k, int) and self.lanes.run is None else 0
        if width == 1 or step == 1 or (1 < step <= NEAR and (mask is None or self.target.masks)):
            at = self.address(access)
            sure = both(self.b, valid, sure) if width == 1 else sure
            # not masks that are all off: a processor takes long over those beyond the memory there is
            at = at if sure is None else self.b.select(sure, at, self._dummy())
            if width == 1:
                return self.b.load(at, typ=element, align=size)
            if mask is not None:
                return self._load_masked(at, element, step, size, mask)
            if step == 1:
                return self.b.load(at, typ=ir.VectorType(element, width), align=size)
            return self._load_near(access, at, step)
        mask = self.in_each(mask, sure)
        if step == -1 and mask is None:
            return self._load_near(access, self.address(access), step)
        if step == -1 and self.target.masks:
            return self._load_backwards(self.address(access), element, size, mask)
        return self.load_each(self._places(access), element, self.in_each(valid, sure))

    def _load_masked(self, at: ir.Value, element: ir.Type, step: int, size: int, mask: ir.Value) -> ir.Value:
        """Every `step`-th element where lanes are on: whole vectors under a mask."""
        b, width = self.b, self.lanes.width
        wide = ir.VectorType(element, step * (width - 1) + 1)
        if step == 1:
            return masked_load(b, at, mask, wide, size)
        loaded = masked_load(b, at, self._spread_mask(mask, step), wide, size)
        return b.shuffle_vector(loaded, poison(wide), numbers(tuple(range(0, wide.count, step))))

    def _load_backwards(self, last: ir.Value, element: ir.Type, size: int, mask: ir.Value) -> ir.Value:
        """The elements that end with the one at `last`, which is lane 0's, where lanes are on."""
        b, width = self.b, self.lanes.width
        kind, turned = ir.VectorType(element, width), numbers(tuple(range(width - 1, -1, -1)))
        loaded = masked_load(b, self._moved(last, 1 - width, element), b.shuffle_vector(mask, mask, turned), kind, size)
        return b.shuffle_vector(loaded, poison(kind), turned)

    def _load_near(self, access: Access, first: ir.Value, k: int) -> ir.Value:
        """Lanes `k` elements apart from `first` on, or backwards.

        They are picked out of whole vectors, the last of which ends with the last element that is read.
        """
        width, turns = self.lanes.width, access.turns
        span = (width - 1) * abs(k) + 1 + turns[-1] - turns[0]
        start = 1 - span if k < 0 else turns[0]
        places = [start + min(n * width, span - width) for n in range(abs(k))]
        result = poison(ir.VectorType(access.element, width))
        for n, place in enumerate(places):
            loaded = self._window(access, place, self._moved(first, place, access.element), None)
            inside = [(j * k - place, j * k >= start + n * width) for j in range(width)]
            picked = [width + i if new and 0 <= i < width else j for j, (i, new) in enumerate(inside)]
            result = self.b.shuffle_vector(result, loaded, numbers(tuple(picked)))
        return result

    def load_run(self, access: Access, inside: tuple[bool, ...], sure: ir.Value | None) -> ir.Value:
        """Lanes that run on from row to row: picked out of the vectors that hold those inside; the others are any.

        Args:
            sure: i1: whether any lane may touch memory; None: yes.
        """
        _, offset, element, size, turns = access
        steps, width, mask = self.lanes.steps(offset), self.lanes.width, self.lanes.mask
        assert steps is not None
        kind, at = ir.VectorType(element, width), self.address(access)

        def place(step: int) -> ir.Value:
            moved = self._moved(at, step, element)
            return moved if sure is None else self.b.select(sure, moved, self._dummy())

        if all(inside) and steps == tuple(range(steps[0], steps[0] + width)):
            at = place(steps[0])
            return self.b.load(at, typ=kind, align=size) if mask is None else masked_load(self.b, at, mask, kind, size)
        wanted = [s for s, on in zip(steps, inside, strict=True) if on]
        starts = windows([s + t for s in wanted for t in turns], width)
        if len(starts) > MOST_WINDOWS and len(turns) > 1:
            return self.load_run(access._replace(turns=(0,)), inside, sure)
        if len(starts) > MOST_WINDOWS or not self.target.masks:
            on = None if all(inside) else numbers(tuple(map(int, inside)), ir.IntType(1))
            return self.load_each(self._places(access), element, self.in_each(on, sure))
        if len(set(wanted)) == 1 and mask is None:
            return splat(self.b, self.b.load(place(wanted[0]), typ=element, align=size), width)
        result = poison(kind)
        for start in starts:
            places = [s - start if on else -1 for s, on in zip(steps, inside, strict=True)]
            taken = [[s - start + t for t in turns] if on else [] for s, on in zip(steps, inside, strict=True)]
            window = self._window(access, start, place(start), self._used(taken))
            picked = [width + p if 0 <= p < width else j for j, p in enumerate(places)]
            result = self.b.shuffle_vector(result, window, numbers(tuple(picked)))
        return result

    def _window(self, access: Access, place: int, at: ir.Value, mask: ir.Value | None) -> ir.Value:
        """A whole vector, `place` elements beyond an access: loaded once for all that take turns."""
        first = access.turns[0]  # those of other turns read other elements of a vector
        key = access.pointer, access.offset + first, tuple(t - first for t in access.turns), place - first
        found = self.windows.get(key) if len(access.turns) > 1 else None
        if found is None:
            kind = ir.VectorType(access.element, self.lanes.width)
            if mask is None:
                found = self.b.load(at, typ=kind, align=access.size)
            else:
                found = masked_load(self.b, at, mask, kind, access.size)
            self.windows[key] = found
        return found

    def _used(self, taken: Sequence[Sequence[int]]) -> ir.Value:
        """Which elements of a vector are read, given those that are read for each lane.

        Active lanes come first, so that an element is used if the first lane that takes it is active.
        """
        width, mask = self.lanes.width, self.lanes.mask
        first: dict[int, int] = {}
        for lane, places in enumerate(taken):
            for place in places:
                first.setdefault(place, lane)
        lanes = tuple(first.get(i, width) for i in range(width))
        if mask is None:
            return numbers(tuple(int(lane < width) for lane in lanes), ir.IntType(1))
        off = ir.Constant(ir.VectorType(ir.IntType(1), width), None)
        return self.b.shuffle_vector(mask, off, numbers(lanes))

    def load_each(self, places: Iterable[ir.Value], element: ir.Type, valid: ir.Value | None) -> ir.Value:
        """Lane by lane, from anywhere; lanes that must not touch memory read a dummy."""
        loaded = [self.b.load(at, typ=element) for at in self._guarded(places, both(self.b, valid, self.lanes.mask))]
        if self.lanes.width == 1:
            return loaded[0]
        result = poison(ir.VectorType(element, self.lanes.width))
        for j, value in enumerate(loaded):
            result = self.b.insert_element(result, value, ir.Constant(I32, j))
        return result

    def store(self, value: ir.Value, access: Access, *, past_caches: bool) -> None:
        """Write the active lanes of a value that is as it is to be in memory.

        Args:
            past_caches: the buffer is aligned then.
        """
        size = access.size
        width, symbol = self.lanes.width, self.lanes.symbol
        if width == 1:
            self.b.store(value, self.address(access), align=size)
            return
        k = coefficient(access.offset, symbol) if symbol is not None else 0
        if isinstance(k, int) and k == 1:
            at = self._moved(self.address(access), self.lanes.first, access.element)
            if self.lanes.mask is None:
                align = min(width * size, LINE) if past_caches else size
                store_at(self.b, value, at, align, past_caches=past_caches)
            else:
                masked_store(self.b, value, at, self.lanes.mask, size)
            return
        if isinstance(k, int) and 1 < k <= _NEAR and self.target.masks:
            self._store_near(value, self.address(access), k, size)
            return
        for n, at in enumerate(self._guarded(self._places(access), self.lanes.mask)):
            self.b.store(self.b.extract_element(value, ir.Constant(I32, n)), at)

    def _store_near(self, value: ir.Value, at: ir.Value, step: int, size: int) -> None:
        """Write every `step`-th element: whole vectors under a mask."""
        places = _spread_places(self.lanes.width, step)
        spread = self.b.shuffle_vector(value, poison(value.type), places)
        masked_store(self.b, spread, at, self._spread_mask(self.lanes.mask, step), size)

    def _spread_mask(self, mask: ir.Value | None, step: int) -> ir.Value:
        """Lanes `step` apart, those between are off."""
        kind = ir.VectorType(ir.IntType(1), self.lanes.width)
        mask = ir.Constant(kind, [1] * self.lanes.width) if mask is None else mask
        return self.b.shuffle_vector(mask, zeros(kind), _spread_places(self.lanes.width, step))

    def in_each(self, valid: ir.Value | None, sure: ir.Value | None) -> ir.Value | None:
        """A condition of each lane, and one of all of them, in each lane."""
        return valid if sure is None else both(self.b, valid, splat(self.b, sure, self.lanes.width))

    def address(self, access: Access) -> ir.Value:
        """Of lane 0's element; what no lane changes is added apart, so that it can be hoisted."""
        pointer, offset, element, *_ = access
        fixed = substitute(offset, {s: 0 for s in symbols(offset) if s in self._axes})
        base = self.b.gep(pointer, [self.ints.dim(fixed)], source_etype=element, inbounds=False)
        if fixed == offset:
            return base
        return self.b.gep(base, [self.ints.dim(offset - fixed)], source_etype=element, inbounds=False)

    def _moved(self, at: ir.Value, step: int, element: ir.Type) -> ir.Value:
        """The address `step` elements further."""
        return self.b.gep(at, [ir.Constant(I64, step)], source_etype=element) if step else at

    def _places(self, access: Access) -> Iterator[ir.Value]:
        """The address of each lane's element."""
        steps = self.lanes.steps(access.offset)
        if steps is None:
            yield from self.picked_places(access.pointer, self.positions(access.offset), access.element)
            return
        at = self.address(access)
        for step in steps:
            yield self._moved(at, step, access.element)

    def picked_places(self, pointer: ir.Value, offsets: ir.Value, element: ir.Type) -> Iterator[ir.Value]:
        """The address of each lane's element, given the offsets as a vector."""
        for n in range(self.lanes.width):
            offset = offsets if self.lanes.width == 1 else self.b.extract_element(offsets, ir.Constant(I32, n))
            yield self.b.gep(pointer, [offset], source_etype=element)

    def _guarded(self, places: Iterable[ir.Value], mask: ir.Value | None) -> Iterator[ir.Value]:
        """The addresses of the lanes that are on, and a dummy's for the others."""
        for n, at in enumerate(places):
            if mask is None:
                yield at
            else:
                on = mask if self.lanes.width == 1 else self.b.extract_element(mask, ir.Constant(I32, n))
                yield self.b.select(on, at, self._dummy())

    def _dummy(self) -> ir.Value:
        """Memory that may always be read and written."""
        name = "dummy"
        found = self.pointers.get(name)
        if found is None:
            kind = ir.VectorType(I64, NEAR * self.target.vector_bytes // 8)  # what one load reads at most
            with self.b.goto_block(self.b.function.entry_basic_block):
                found = stack(self.b, kind, align=16)
                # a load of memory never written would be undefined
                self.b.store(zeros(kind), found, align=16)
            self.pointers[name] = found
        return found


def _spread_places(width: int, step: int) -> ir.Constant:
    return numbers(tuple(i // step if i % step == 0 else width for i in range(step * (width - 1) + 1)))
