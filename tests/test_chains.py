"""Kernels that go on with the same rows run part by part in one fork-join; what needs other rows waits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from on_threads import assert_same_bits

import tjit
from tjit.codegen.grids import GridAxis, Slabs
from tjit.codegen.kernel import Axis, Buffer, Load, Loop, LoopKernel, Store
from tjit.codegen.launches import launches
from tjit.codegen.steps import Placed, Schedule, Step
from tjit.dtypes import f32
from tjit.ir.dims import Dim, Symbol, evaluate
from tjit.nn import functional as F

ROWS, COLUMNS = 256, 64
P0, P1 = Symbol("p0", 0, 15), Symbol("p1", 0, 7)


def _assert_near(found, expected, off=0.0):
    """Check f32 results of sums in two orders: a few roundings of the largest number apart, and `off`."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= off + 16 * 2**-24 * np.abs(expected).max()


def _array(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _chains(plan: Schedule) -> list[list[Step]]:
    """The chains of a schedule."""
    found = ([s for s in launch if isinstance(s, Step)] for launch in launches(plan.steps))
    return [steps for steps in found if steps and steps[0].chain]


def _written(step: Step) -> list[Placed]:
    pairs = zip(step.kernel.buffers, step.arguments, strict=True)
    return [placed for buffer, placed in pairs if buffer in step.kernel.outputs]


# -- what a task touches -----------------------------------------------------------------------------------------------

READS: dict[str, tuple[Callable[[Dim, Dim], tuple[Dim, Dim]], int]] = {
    "the same rows": (lambda i, j: (i, j), 16),
    "the same rows backwards": (lambda i, j: (i, 7 - j), 16),
    "every other element": (lambda i, j: (i, j // 2 * 2), 16),
    "one column": (lambda i, j: (i, 3), 16),
    "pairs of rows exchanged": (lambda i, j: (i // 2 * 2 + (1 - i % 2), j), 1),
    "the next row": (lambda i, j: ((i + 1) % 16, j), 1),
    "one element on": (lambda i, j: (i, j + 1), 1),
    "rows from the last to the first": (lambda i, j: (15 - i, j), 1),
    "one row for all": (lambda i, j: (5, j), 1),
    "transposed": (lambda i, j: (j * 2, i % 8), 1),
    "half of the rows": (lambda i, j: (i // 2, j), 1),
    "columns as rows": (lambda i, j: (j + j, i // 2), 1),
}


def _reader(index: tuple[Dim, Dim]) -> LoopKernel:
    read, out = (Buffer(name, f32, (16, 8), (8, 1)) for name in ("x", "out"))
    axes = Axis(P0, 16), Axis(P1, 8)
    body = (Store(out, (P0.dim, P1.dim), Load(read, index)),)
    return LoopKernel("reader", (read, out), (out,), axes, (Loop((), body),), axes[1])


@pytest.mark.parametrize("name", READS)
def test_slabs_are_of_reads_that_stay_within_the_tasks_rows(name):
    index, slabs = READS[name]

    found = Slabs(_reader(index(P0.dim, P1.dim)), (GridAxis(P0, 16),))

    assert found.pieces == 16
    assert found.buffers == (slabs, 16)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("grid", [(GridAxis(P0, 16),), (GridAxis(P0, 4, 4),), (GridAxis(P0, 16), GridAxis(P1, 2, 4))])
def test_no_task_touches_a_slab_of_another(name, grid):
    """By going through every element."""
    place = READS[name][0](P0.dim, P1.dim)

    slabs = Slabs(_reader(place), grid).buffers[0]

    for i, j in product(range(16), range(8)):
        row, column = (evaluate(d, {"p0": i, "p1": j}) for d in place)
        piece = 0
        for axis in grid:
            piece = piece * axis.count + (i if axis.symbol == P0 else j) // axis.step
        pieces = np.prod([axis.count for axis in grid], dtype=int)
        assert slabs == 1 or (row * 8 + column) * slabs // 128 == piece * slabs // pieces


def test_blocks_of_columns_are_no_slabs_of_rows():
    grid = GridAxis(P1, 2, 4), GridAxis(P0, 16)

    for index in ((P0.dim, P1.dim), (P1.dim * 2, P0.dim * 4)):
        assert Slabs(_reader(index), grid).buffers == (1, 1)


def test_a_condition_keeps_a_read_within_its_row():
    read = Buffer("x", f32, (16, 8), (8, 1))
    kernel = _reader((P0.dim, P1.dim + 1))
    load = Load(read, (P0.dim, P1.dim + 1), (), ((P1.dim + 1, 8),))
    store = Store(kernel.outputs[0], (P0.dim, P1.dim), load)
    kept = LoopKernel("kept", (read, *kernel.outputs), kernel.outputs, kernel.parallel, (Loop((), (store,)),), None)

    assert Slabs(kernel, (GridAxis(P0, 16),)).buffers == (1, 16)
    assert Slabs(kept, (GridAxis(P0, 16),)).buffers == (16, 16)


def test_padded_rows_are_no_slabs_of_what_they_lie_in():
    kernel = _reader((P0.dim, P1.dim))
    (out,) = kernel.outputs
    padded = Buffer("x", f32, (16, 8), (10, 1))
    body = (Store(out, (P0.dim, P1.dim), Load(padded, (P0.dim, P1.dim))),)
    kernel = LoopKernel("padded", (padded, out), (out,), kernel.parallel, (Loop((), body),), None)

    assert Slabs(kernel, (GridAxis(P0, 16),)).buffers == (1, 16)


# -- what runs in a chain ----------------------------------------------------------------------------------------------


def test_layers_of_a_network_are_one_chain(rng):
    x, *ws = (tjit.tensor(_array(rng, ROWS if n == 0 else COLUMNS, COLUMNS)) for n in range(4))

    @tjit.compile
    def network(x, a, b, c):
        return F.softmax(F.relu(F.relu(x @ a.T) @ b) @ c, -1)

    plan = network.lower(x, *ws).schedule()
    text = str(plan)

    assert [len(steps) for steps in _chains(plan)] == [len(plan.steps)]
    assert f" in {_chains(plan)[0][0].chain} parts " in text
    assert text.count(" then ") == len(plan.steps) - 1


ROW_WISE: dict[str, Callable] = {
    "product": lambda x, w: x @ w,
    "product of the transposed": lambda x, w: x @ w.T,
    "softmax": lambda x, w: F.softmax(x, -1),
    "norm": lambda x, w: F.layer_norm(x, (COLUMNS,)) + w[0],
    "sums": lambda x, w: tjit.cumsum(x, 1) / 8.0,
    "reversed": lambda x, w: tjit.flip(F.softmax(x * w[1], -1), (1,)),
    "halves": lambda x, w: tjit.cumsum(x.reshape(2 * ROWS, COLUMNS // 2), 1).reshape(ROWS, COLUMNS) / 4.0,
    "heads": lambda x, w: (x.reshape(ROWS // 32, 32, 4, 16).transpose(1, 2) @ w[:16, :16]).reshape(ROWS, COLUMNS) / 4.0,
}


@pytest.mark.parametrize("seed", range(24))
def test_chains_compute_what_their_kernels_do(seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(list(ROW_WISE), 6)
    x, w = _array(rng, ROWS, COLUMNS), _array(rng, COLUMNS, COLUMNS) / np.float32(8)

    def program(x, w):
        for name in names:
            x = ROW_WISE[name](x, w)
        return x

    (found,) = assert_same_bits(tjit.compile(program), tjit.tensor(x), tjit.tensor(w))

    wide = program(tjit.tensor(x.astype(np.float64)), tjit.tensor(w.astype(np.float64))).numpy()
    eager = program(tjit.tensor(x), tjit.tensor(w)).numpy()
    _assert_near(found, wide, 4 * np.abs(eager - wide).max())  # some programs cancel: f32 itself is as far off


def test_most_random_programs_have_a_chain():
    """Else the test above would show little."""
    chained = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        names = rng.choice(list(ROW_WISE), 6)
        args = tjit.tensor(_array(rng, ROWS, COLUMNS)), tjit.tensor(_array(rng, COLUMNS, COLUMNS))

        def program(x, w, names=names):
            for name in names:
                x = ROW_WISE[name](x, w)
            return x

        chained += any(len(steps) > 1 for steps in _chains(tjit.compile(program).lower(*args).schedule()))
    assert chained >= 12


OTHER_ROWS: dict[str, Callable] = {
    "the next row": lambda y: F.softmax(tjit.roll(y, 1, 0), -1),
    "rows backwards": lambda y: F.softmax(tjit.flip(y, (0,)), -1),
    "transposed": lambda y: F.softmax(y.T, -1),
    "one row for all": lambda y: F.softmax(y * y[5], -1),
    "sums of columns": lambda y: F.softmax(y - y.sum(0), -1),
    "rows shifted into padding": lambda y: F.softmax(F.pad(y, (0, 0, 1, 0))[:ROWS], -1),
    "another order of rows": lambda y: F.softmax(y.reshape(16, 16, ROWS).transpose(0, 1).reshape(ROWS, ROWS), -1),
}


@pytest.mark.parametrize("name", OTHER_ROWS)
def test_who_reads_other_rows_waits_for_them(rng, name):
    x, w = tjit.tensor(_array(rng, ROWS, ROWS)), tjit.tensor(_array(rng, ROWS, ROWS) / np.float32(16))

    def program(x, w):
        y = x @ w
        return OTHER_ROWS[name](y), y

    compiled = tjit.compile(program)
    plan = compiled.lower(x, w).schedule()
    found = assert_same_bits(compiled, x, w)

    made = next(s for s in plan.steps if isinstance(s, Step))
    (y,) = _written(made)
    for steps in _chains(plan):
        assert made not in steps or not any(y in step.arguments for step in steps if step is not made)
    # softmax passes on by how much its operands differ: by a few roundings of a column's sum, in two orders
    off = 8 * 2**-24 * np.abs(found[1].sum(0)).max() if name == "sums of columns" else 0.0
    for actual, expected in zip(found, program(x, w), strict=True):
        _assert_near(actual, expected.numpy(), off)


def test_what_is_overwritten_later_was_read_before(rng):
    """The reader of all rows stands before the writer."""
    x, w = _array(rng, ROWS, COLUMNS), _array(rng, COLUMNS, COLUMNS)

    def program(x, w):
        first = x[0] @ w
        x.copy_(F.softmax(x @ w, -1))
        return first

    def run(x, w):
        x = tjit.tensor(x.copy())
        first = compiled(x, w)
        return first, x

    compiled = tjit.compile(program)
    found = assert_same_bits(run, x, tjit.tensor(w))
    eager = tjit.tensor(x.copy())
    first = program(eager, tjit.tensor(w))

    _assert_near(found[0], first.numpy())
    _assert_near(found[1], eager.numpy())


def test_images_are_parts_of_a_convolutional_network(rng):
    images, kernels, weights = _array(rng, 16, 3, 12, 12), _array(rng, 8, 3, 3, 3), _array(rng, 10, 8 * 6 * 6)

    def network(x, k, w):
        y = F.max_pool2d(F.relu(F.conv2d(x, k, padding=1)), 2)
        return F.relu(y.reshape(16, 8 * 6 * 6)) @ w.T

    args = [tjit.tensor(a) for a in (images, kernels, weights)]
    compiled = tjit.compile(network)

    assert [len(steps) for steps in _chains(compiled.lower(*args).schedule())] == [3]
    (found,) = assert_same_bits(compiled, *args)
    _assert_near(found, network(*args).numpy())


@pytest.mark.parametrize(("images", "size"), [(16, 12), (6, 7), (5, 20)])
def test_depthwise_convolutions_in_chains(rng, images, size):
    x, k, p = _array(rng, images, 32, size, size), _array(rng, 32, 1, 3, 3), _array(rng, 48, 32, 1, 1)

    def network(x, k, p):
        y = F.relu6(F.conv2d(x, k, padding=1, groups=32))
        return F.max_pool2d(F.relu(F.conv2d(y, p)), 2)

    args = [tjit.tensor(a) for a in (x, k, p)]

    (found,) = assert_same_bits(tjit.compile(network), *args)
    _assert_near(found, network(*args).numpy())


def test_samples_are_parts_of_an_attention(rng):
    x, w, out = _array(rng, 8, 32, 64), _array(rng, 64, 192) / np.float32(8), _array(rng, 64, 64)

    def layer(x, w, out):
        q, k, v = (x @ w).reshape(8, 32, 3, 4, 16).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(8, 32, 64)
        return F.layer_norm(x + y @ out, (64,))

    args = [tjit.tensor(a) for a in (x, w, out)]
    compiled = tjit.compile(layer)

    chains = _chains(compiled.lower(*args).schedule())
    assert sum(len(steps) for steps in chains) == 4
    assert all(len({id(step.scratch) for step in steps if step.scratch is not None}) == 1 for steps in chains)
    (found,) = assert_same_bits(compiled, *args)
    _assert_near(found, layer(*args).numpy())


def test_chains_inside_a_loop(rng):
    x, w = _array(rng, ROWS, COLUMNS), _array(rng, COLUMNS, COLUMNS) / np.float32(8)

    @tjit.compile
    def steps(x, w, n):
        for _ in range(n):
            x = tjit.cumsum(F.softmax(x @ w, -1), 1)
        return x

    (found,) = assert_same_bits(steps, tjit.tensor(x), tjit.tensor(w), tjit.tensor(9))

    expected = x.astype(np.float64)
    for _ in range(9):
        y = np.exp(expected @ w - (expected @ w).max(1, keepdims=True))
        expected = np.cumsum(y / y.sum(1, keepdims=True), 1)
    _assert_near(found, expected)


def test_sizes_that_are_not_known_have_no_chain(rng):
    w = tjit.tensor(_array(rng, COLUMNS, COLUMNS))

    @tjit.compile
    def network(x, w):
        return F.softmax(F.softmax(x @ w, -1) @ w, -1)

    for rows in (96, 128, 160, 64):
        x = tjit.tensor(_array(rng, rows, COLUMNS))
        (found,) = assert_same_bits(network, x, w)
        _assert_near(found, F.softmax(F.softmax(x @ w, -1) @ w, -1).numpy())


def test_who_checks_indices_is_in_no_chain(rng):
    x, w = tjit.tensor(_array(rng, ROWS, COLUMNS)), tjit.tensor(_array(rng, COLUMNS, COLUMNS))
    at = tjit.tensor(rng.integers(0, COLUMNS, (ROWS, COLUMNS)))

    @tjit.compile
    def picked(x, w, at):
        return F.softmax(tjit.gather(x @ w, 1, at), -1)

    assert not _chains(picked.lower(x, w, at).schedule())
    with pytest.raises(IndexError):
        picked(x, w, at + 1)


@pytest.mark.parametrize("rows", [1, 2, 7, 97, 250])
def test_any_number_of_rows(rng, rows):
    x, w = tjit.tensor(_array(rng, rows, COLUMNS)), tjit.tensor(_array(rng, COLUMNS, COLUMNS) / np.float32(8))

    def network(x, w):
        for _ in range(4):
            x = tjit.cumsum(F.relu(x @ w), 1) / 8.0
        return x

    (found,) = assert_same_bits(tjit.compile(network), x, w)

    _assert_near(found, network(x, w).numpy())


def test_temps_of_a_chain_share_memory_part_by_part_only(rng):
    """Its parts are at different steps at the same time: temps are one memory, as long as they are, or apart."""
    x, *ws = (tjit.tensor(_array(rng, ROWS if n == 0 else COLUMNS, COLUMNS)) for n in range(6))

    @tjit.compile
    def network(x, *ws):
        for w in ws:
            x = F.softmax(x @ w, -1)
        return x

    (chain,) = _chains(network.lower(x, *ws).schedule())
    written = [p for step in chain for p in _written(step) if p.kind == "temp"]
    spans = sorted((int(str(p.offset)), int(str(p.offset)) + int(str(p.type.nbytes))) for p in set(written))

    assert len(spans) <= 3 < len(written)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert_same_bits(network, x, *ws)
