"""The profiler: what ran, how often and where, in tables and traces; results and later calls are what they were."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest

import tjit
from tjit import recording
from tjit.errors import ArgumentError
from tjit.profiler import profile, record_function
from tjit.profiler.machine import Limits
from tjit.runtime import profiled

FILE = Path(__file__).name
LIMITS = Limits(triad=40, read=50, peak=200, peak_one_core=100)


def line_of(text: str) -> str:
    """`test_profiler.py:N` of the first line of this file that ends with a comment of this text."""
    lines = Path(__file__).read_text().splitlines()
    return f"{FILE}:{1 + next(n for n, line in enumerate(lines) if line.endswith(f'# {text}'))}"


@pytest.fixture
def x() -> tjit.Tensor:
    return tjit.arange(512, dtype=tjit.float32).reshape(8, 64)


def test_kernels_are_counted_at_the_users_line(x):
    @tjit.compile
    def softmax(x):
        return tjit.softmax(x * 2, dim=1)  # softmax

    softmax(x)
    with profile() as prof:
        for _ in range(3):
            softmax(x)

    (line,) = [a for a in prof.key_averages() if a.kind == "kernel"]
    assert (line.calls, line.program, line.line) == (3, "softmax", line_of("softmax"))
    assert line.bytes == 3 * 2 * x.numel() * 4
    assert line.operations
    assert line.ns > 0


def test_first_calls_are_recorded_too(x):
    @tjit.compile
    def double(x):
        return x * 2

    with profile() as prof:
        y = double(x)

    np.testing.assert_array_equal(y.numpy(), 2 * x.numpy())
    assert [a.calls for a in prof.key_averages() if a.kind == "kernel"] == [1]
    assert {a.name for a in prof.key_averages() if a.kind == "range"} == {
        "compile double",
        "build double for the profile",
    }


def test_kernels_in_loops_are_counted_by_trips(x):
    @tjit.compile
    def grow(x, n):
        w = x.T.contiguous()
        for _ in range(n):
            x = tjit.tanh(x @ w) @ x  # grow
        return x

    with profile() as prof:
        grow(x, 5)

    inside = [a.calls for a in prof.key_averages() if a.line == line_of("grow")]
    assert inside
    assert set(inside) == {5}


def test_a_kernel_whose_size_the_program_computes_has_no_bytes_but_a_time():
    @tjit.compile
    def head(x, n):
        return tjit.exp(x[:n]).sum()

    x = tjit.ones(100)
    with profile() as prof:
        total = head(x, tjit.tensor(7))

    assert float(total) == pytest.approx(7 * np.e)
    assert all(a.ns > 0 for a in prof.key_averages() if a.kind == "kernel")
    assert "-" in prof.table(limits=LIMITS)


def test_eager_ops_are_recorded(x):
    weight = tjit.ones(64, 3)

    with profile() as prof:
        y = x @ weight  # product
        y.add_(1)  # write

    found = {a.name: a for a in prof.key_averages()}
    assert found["matmul"].line == line_of("product")
    assert found["matmul"].operations == 2 * 8 * 64 * 3
    assert found["matmul"].bytes == 4 * (8 * 64 + 64 * 3 + 8 * 3)
    assert found["copy_"].line == line_of("write")


def test_gradients_from_outside_are_recorded(x):
    @tjit.compile
    def loss(x):
        return tjit.exp(x / 512).sum()

    x.requires_grad_()
    with profile() as prof:
        loss(x).backward()

    programs = [e.name for e in prof.events() if e.kind == "program"]
    assert len(programs) == 2
    assert x.grad is not None


def test_a_training_step_is_the_same_in_a_profile():
    def losses(profiles: bool) -> list[float]:
        tjit.manual_seed(0)
        model = tjit.nn.Sequential(tjit.nn.Linear(20, 30), tjit.nn.ReLU(), tjit.nn.Dropout(), tjit.nn.Linear(30, 4))
        optimizer = tjit.optim.Adam(model.parameters())
        x, labels = tjit.rand(16, 20), tjit.arange(16) % 4

        @tjit.compile
        def step():
            optimizer.zero_grad()
            loss = tjit.nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        found = [float(step()) for _ in range(2)]
        if profiles:
            with profile():
                found += [float(step()) for _ in range(2)]
        return found + [float(step()) for _ in range(4 if not profiles else 2)]

    assert losses(True) == losses(False)


def test_later_calls_go_through_the_native_entry_again(x):
    @tjit.compile
    def double(x):
        return x * 2

    for _ in range(3):
        double(x)
    with profile() as prof:
        double(x)
    double(x)
    before = double._native.hits
    double(x)

    assert double._native.hits == before + 1
    assert len([e for e in prof.events() if e.kind == "program"]) == 1
    assert recording.active is None


def test_programs_outside_of_a_profile_have_no_clock(x):
    @tjit.compile
    def double(x):
        return x * 2

    with profile():
        double(x)

    assert "clock_gettime" not in double.lower(x).text("llvm")


def test_programs_from_the_disk_cache_are_profiled(x, tmp_path, monkeypatch):
    monkeypatch.setenv("TJIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TJIT_CACHE", "1")

    def double(x):
        return x * 2

    tjit.compile(double)(x)
    again = tjit.compile(double)
    with profile() as prof:
        again(x)

    assert [a.calls for a in prof.key_averages() if a.kind == "kernel"] == [1]


def test_a_failing_program_fails_as_it_does_outside():
    @tjit.compile
    def pick(x, i):
        return x[i]

    x, i = tjit.arange(4), tjit.tensor([9])
    with pytest.raises(IndexError) as outside:
        pick(x, i)
    with profile(), pytest.raises(IndexError) as inside:
        pick(x, i)

    assert str(inside.value).splitlines()[0] == str(outside.value).splitlines()[0]


def test_other_threads_are_recorded(x):
    @tjit.compile
    def double(x):
        return x * 2

    for _ in range(4):
        double(x)
    with profile() as prof:
        thread = threading.Thread(target=double, args=(x,))
        thread.start()
        thread.join()
        double(x)

    assert len({e.thread for e in prof.events() if e.kind == "kernel"}) == 2


def test_one_profile_at_a_time():
    with profile(), pytest.raises(ArgumentError) as caught, profile():
        pass

    assert "a profile is open already" in str(caught.value)
    assert "hint: leave the first one, or stop() it" in str(caught.value)
    assert recording.active is None


def test_an_error_inside_closes_the_profile():
    with pytest.raises(KeyError), profile():
        raise KeyError("user")

    assert recording.active is None


def test_a_full_log_loses_events_but_no_counts(x, monkeypatch, tmp_path):
    @tjit.compile
    def grow(x):
        w = x.T.contiguous()
        for _ in range(50):
            x = tjit.tanh(x @ w) @ x
        return x

    monkeypatch.setattr(profiled, "MOST_EVENTS", 7)
    with profile() as prof:
        grow(x)

    kernels = [a for a in prof.key_averages() if a.kind == "kernel"]
    total = sum(a.calls for a in kernels)
    assert max(a.calls for a in kernels) == 50
    assert len([e for e in prof.events() if e.kind == "kernel"]) == 7
    assert f"{total - 7:,} kernel runs are counted here, but are not in the trace" in prof.table(limits=LIMITS)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_says_what_share_of_the_machine_was_used(x):
    with profile() as prof:
        _ = x + x
        tjit.exp(x)

    text = prof.table(limits=LIMITS)

    headings, rule, *lines = text.splitlines()
    columns = ["kernel or op", "calls", "total ms", "time", "mean us", "GB/s", "GFLOP/s", "of limit", "line"]
    assert [headings.find(c) >= 0 for c in columns] == [True] * len(columns)
    assert set(rule) == {"-"}
    assert {line.split()[0] for line in lines[:2]} == {"add", "exp"}
    assert "in eager ops" in text
    assert text.endswith("limits measured: 40.0 GB/s, 200 GFLOP/s of f32")


def test_the_share_is_of_the_slower_limit():
    bound_by_memory = tjit.profiler.Average("a", "kernel", "", "", 1, 1000, bytes=40_000, operations=2)
    bound_by_work = tjit.profiler.Average("b", "kernel", "", "", 1, 1000, bytes=4, operations=100_000)
    doubles = tjit.profiler.Average("c", "kernel", "", "", 1, 1000, bytes=4, operations=100_000, itemsize=8)

    assert bound_by_memory.share(LIMITS) == pytest.approx(1)
    assert bound_by_work.share(LIMITS) == pytest.approx(0.5)
    assert doubles.share(LIMITS) == pytest.approx(1)
    assert tjit.profiler.Average("d", "kernel", "", "", bytes=None).share(LIMITS) is None


@pytest.mark.parametrize("order", ["total", "mean", "calls", "bytes", "share", "name"])
def test_tables_are_sorted_and_cut(x, order):
    with profile() as prof:
        _ = x + x
        tjit.exp(x)
        tjit.exp(x)

    text = prof.table(sort_by=order, row_limit=1, limits=LIMITS)

    assert "and 2 more" in text


def test_unknown_orders_are_refused():
    with profile() as prof:
        pass

    with pytest.raises(ArgumentError, match="no order 'speed'"):
        prof.table(sort_by="speed", limits=LIMITS)


def test_gathers_are_charged_for_the_rows_that_they_read():
    @tjit.compile
    def rows(table, tokens):
        return tjit.nn.functional.embedding(tokens, table)

    table, tokens = tjit.ones(1000, 16), tjit.arange(8)
    with profile() as prof:
        rows(table, tokens)

    moved = sum(a.bytes or 0 for a in prof.key_averages() if a.kind == "kernel")
    assert moved < 8 * 16 * 4 * 4


# -- the trace ---------------------------------------------------------------------------------------------------------


def test_the_trace_is_in_the_trace_event_format(x, tmp_path):
    @tjit.compile
    def norm(x):
        return tjit.softmax(x, dim=1) @ x.T

    with profile() as prof:
        with record_function("twice"):
            norm(x)
            norm(x)
        tjit.exp(x)
    path = tmp_path / "trace.json"
    prof.export_chrome_trace(path)

    trace = json.loads(path.read_text())
    events = trace["traceEvents"]
    complete = [e for e in events if e["ph"] == "X"]
    assert {e["ph"] for e in events} == {"X", "M"}
    assert {e["name"] for e in events if e["ph"] == "M"} == {"process_name", "thread_name"}
    for e in complete:
        assert {"name", "cat", "ts", "dur", "pid", "tid", "args"} <= e.keys()
        assert e["ts"] >= 0
        assert e["dur"] >= 0
        assert isinstance(e["name"], str)
        assert isinstance(e["pid"], int)
        assert isinstance(e["tid"], int)
    assert [e["cat"] for e in complete].count("program") == 2
    assert {e["cat"] for e in complete} == {"program", "kernel", "op", "range"}
    assert [e["ts"] for e in complete] == sorted(e["ts"] for e in complete)


def test_kernels_lie_inside_of_their_program_and_ranges_around_it(x):
    @tjit.compile
    def norm(x):
        return tjit.softmax(x, dim=1) @ x.T

    with profile() as prof, record_function("outer"):
        norm(x)

    (outer,) = [e for e in prof.events() if e.name == "outer"]
    (program,) = [e for e in prof.events() if e.kind == "program"]
    kernels = [e for e in prof.events() if e.kind == "kernel"]
    assert outer.start <= program.start
    assert program.end <= outer.end
    assert all(program.start <= e.start <= e.end <= program.end for e in kernels)
    assert all(a.end <= b.start for a, b in itertools.pairwise(kernels))


def test_ranges_outside_of_a_profile_do_nothing():
    with record_function("alone"):
        pass

    assert recording.active is None
