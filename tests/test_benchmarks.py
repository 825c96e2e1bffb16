"""The benchmarks measure what they say: every row is right in every framework, at tiny sizes. No time is asserted."""

from __future__ import annotations

import math
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the benchmarks are not installed

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import bits, chart, harness, memory, sweep, table  # noqa: E402
from benchmarks.frameworks import FRAMEWORKS, environment  # noqa: E402
from benchmarks.harness import Figure, Outcome, Plan, Worker, WorkerError  # noqa: E402
from benchmarks.rows import Floor, Row, all_rows, by_inputs, extent, normal, outputs_of, swept_rows  # noqa: E402
from benchmarks.worker import Job, compare  # noqa: E402
from tjit.profiler.machine import Limits  # noqa: E402

ROWS = all_rows()
SCALE = 0.02
FLOOR = Floor("memory", streamed=4e6)
LIMITS = Limits(triad=40, read=50, peak=200, peak_one_core=100)


def cases(frameworks: set[str]) -> list:
    """Every row in every one of these frameworks that has it."""
    return [
        pytest.param(row, name, id=f"{name}: {row.name}")
        for row in ROWS
        for name in FRAMEWORKS
        if name in frameworks and name in row.build
    ]


def available(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own affair
        pytest.importorskip(FRAMEWORKS[name].module)


@pytest.mark.parametrize(("row", "name"), cases({"tjit", "torch", "jax", "numpy"}))
def test_rows_agree_with_numpy(row, name):
    available(name)
    job = Job(name, 1, row, SCALE)

    job.first()

    assert job.check(row.expected(row.inputs(SCALE))) <= row.tolerance


@pytest.mark.parametrize("name", ["tjit", "torch"])
@pytest.mark.parametrize("part", ["dx", "dw"])
@pytest.mark.parametrize("kind", ["7x7 stride 2", "1x1 stride 2", "3x3 stride 2, depthwise"])
def test_each_gradient_of_swept_convolutions_agrees_with_numpy(kind, part, name):
    available(name)
    row = next(row for row in swept_rows() if kind in row.name and row.name.endswith(part))
    job = Job(name, 1, row, SCALE)

    job.first()

    assert job.check(row.expected(row.inputs(SCALE))) <= row.tolerance


@pytest.mark.parametrize(("row", "name"), cases({"numba"}))
def test_numba_loops_agree_with_numpy_when_run_as_python(row, name):
    inputs = row.inputs(0.0005)
    expected = row.expected(inputs)
    function, arguments = row.build[name](lambda fn: fn, inputs)

    results = [outputs_of(function(*arguments)) for _ in range(row.steps or 1)]

    outputs = [np.stack([r[0] for r in results])] if row.steps else results[0]
    assert compare(outputs, expected, row.tolerance) <= row.tolerance


@pytest.mark.parametrize("name", ["gelu of 1 M", "digits 64-128-10, batch 32: training step"])
def test_numba_compiles_its_loops_and_keeps_them(name, tmp_path):
    available("numba")
    worker = Worker("numba", 1, str(tmp_path))
    try:
        worker.ask("build", name)
        assert worker.ask("first") > 0
    finally:
        worker.close()

    assert list((tmp_path / "numba").rglob("*.nbc"))


def test_rows_have_names_of_their_own_and_all_run_in_tjit():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all("tjit" in row.build for row in ROWS)
    assert {name for row in ROWS for name in row.build} <= {f.rows for f in FRAMEWORKS.values()}


def test_inputs_are_the_same_in_every_process():
    for row in ROWS:
        for a, b in zip(row.inputs(SCALE), row.inputs(SCALE), strict=True):
            np.testing.assert_array_equal(a, b)


def test_extents_never_vanish():
    assert extent(1000, 0.5) == 500
    assert extent(1000, 0) == 2


def test_a_floor_is_the_longest_of_its_parts():
    assert Floor("memory", streamed=40e6, flops=2e6).microseconds(LIMITS) == pytest.approx(1000)
    assert Floor("reads", read=50e6).microseconds(LIMITS) == pytest.approx(1000)
    assert Floor("arithmetic", flops=2e8).microseconds(LIMITS) == pytest.approx(1000)
    assert Floor("one core", flops=2e8, one_core=True).microseconds(LIMITS) == pytest.approx(2000)
    assert Floor("a call", us=3).microseconds(LIMITS) == 3


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.ones(3, np.float32), "output 0 is float32[3], not f32[2]"),
        (np.ones(2), "output 0 is float64[2], not f32[2]"),
        (np.array([1, 1.1], np.float32), "output 0 is off by 1.0e-01, 1e-05 is allowed"),
        (np.array([1, math.nan], np.float32), "output 0 is off by nan, 1e-05 is allowed"),
    ],
    ids=["shape", "dtype", "value", "nan"],
)
def test_wrong_answers_are_named(output, message):
    with pytest.raises(ValueError, match="wrong answer") as caught:
        compare([output], [np.ones(2)], 1e-5)

    assert str(caught.value) == f"wrong answer: {message}"


# -- what is printed ---------------------------------------------------------------------------------------------------


def outcome(name: str, **figures: Figure) -> Outcome:
    return Outcome(Row(name, normal(2), lambda x: x, by_inputs(), Floor("memory", streamed=4e6)), figures)


OUTCOMES = [
    outcome(
        "one", tjit=Figure(us=200, first_ms=50.25, disk_ms=4.5), jax=Figure(us=400, first_ms=61), torch=Figure(us=1600)
    ),
    outcome("two", tjit=Figure(us=0.5), jax=Figure(failure="jax is not installed"), torch=Figure(us=4)),
    outcome("three", tjit=Figure(failure="TypeRuleError: no"), torch=Figure(us=12_345.6)),
]


def test_table_text():
    text = table.align(table.table(OUTCOMES, LIMITS, ["jax"]))

    assert text.splitlines() == [
        "row    tjit us    best peer us  ratio  floor us  distance  first ms  disk ms  jax us (first ms)",
        "-" * 95,
        "one        200       400 (jax)   2.00       100      2.00      50.2     4.50         400 (61.0)",
        "two       0.50    4.00 (torch)   8.00       100      0.01         -        -                  -",
        "three        -  12,346 (torch)      -       100         -         -        -                  -",
    ]


def test_a_sweep_has_a_column_for_every_framework():
    text = table.align(sweep.lines_of(OUTCOMES, ["torch", "jax"]))

    assert text.splitlines() == [
        "row    tjit us  torch us  jax us  ratio",
        "-" * 39,
        "one        200     1,600     400   2.00",
        "two       0.50      4.00       -   8.00",
        "three        -    12,346       -      -",
    ]


def test_swept_rows_have_names_of_their_own():
    rows = swept_rows()

    assert len({row.name for row in rows}) == len(rows)


def test_a_sweep_of_no_row_is_not_success(capsys):
    assert sweep.sweep("contractions", None, swept_rows(), ("torch",), ["--rows", "no such row"]) == 2
    assert capsys.readouterr().out == "no row matches 'no such row'\n"


def test_markdown_has_the_same_cells():
    lines = table.markdown(table.table(OUTCOMES[:1], LIMITS)).splitlines()

    assert lines[0] == "| row | tjit us | best peer us | ratio | floor us | distance | first ms | disk ms |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2] == "| one | 200 | 400 (jax) | 2.00 | 100 | 2.00 | 50.2 | 4.50 |"


def test_summary_and_failures():
    assert table.summary(OUTCOMES) == "geometric mean of the ratios 4.00; ahead of the best peer in 2 of 2 rows"
    assert table.summary(OUTCOMES[2:]) == "no row has both tjit and a peer"
    assert table.failures(OUTCOMES) == ["jax, two: jax is not installed", "tjit, three: TypeRuleError: no"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("<!-- benchmarks -->", "<!-- /benchmarks -->"),
        ("<!-- benchmarks: begin, by me -->", "<!-- benchmarks: end -->"),
    ],
)
def test_readme_block_is_replaced_and_its_markers_stay(start, end):
    assert table.replace_block(f"a\n{start}\nold\n{end}\nb", "new\n") == f"a\n{start}\nnew\n{end}\nb"


def test_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="no <!-- benchmarks -->"):
        table.replace_block("nothing", "new")


def test_json_holds_everything():
    found = table.as_json(OUTCOMES, LIMITS, {"threads": 2})

    assert found["threads"] == 2
    assert found["limits"]["triad"] == 40
    assert found["geometric_mean"] == pytest.approx(4)
    assert [row["best_peer"] for row in found["rows"]] == ["jax", "torch", "torch"]
    assert found["rows"][2]["figures"]["tjit"]["failure"] == "TypeRuleError: no"


# -- the command and its processes -------------------------------------------------------------------------------------


def test_list_prints_the_rows_that_match(capsys):
    assert command.main(["--list", "--rows", "softmax"]) == 0
    assert capsys.readouterr().out == "softmax 3000 x 1000\n"


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--frameworks", "tensorflow"], ["--rows", "("]])
def test_wrong_options_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)

    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_no_row_is_not_success(capsys):
    assert command.main(["--rows", "no such row"]) == 2
    assert capsys.readouterr().out == "no row matches 'no such row'\n"


def test_workers_share_threads_and_leave_the_users_caches_alone(tmp_path):
    env = environment(3, str(tmp_path))

    assert {env[name] for name in ("TJIT_NUM_THREADS", "OMP_NUM_THREADS", "NPROC")} == {"3"}
    assert env["TJIT_CACHE_DIR"].startswith(str(tmp_path))


def test_a_worker_times_a_row_and_reports_its_failures(tmp_path):
    plan = Plan.quick(1)
    worker = Worker("numpy", plan.threads, str(tmp_path))
    try:
        worker.ask("build", "x + y of 8 elements, NumPy arrays")
        assert worker.ask("first") > 0
        assert worker.ask("warm") > 0
        assert worker.ask("batch", 0.001) > 0
        with pytest.raises(WorkerError, match=r"KeyError: 'no such row'"):
            worker.ask("build", "no such row")
    finally:
        worker.close()


def test_a_worker_that_dies_says_so(tmp_path):
    worker = Worker("numpy", 1, str(tmp_path))
    try:
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="the process died: exit status -9"):
            worker.ask("build", ROWS[0].name)
    finally:
        worker.close()


def test_a_worker_that_hangs_is_ended(tmp_path):
    worker = Worker("numpy", 1, str(tmp_path))

    with pytest.raises(WorkerError, match=r"no answer to 'build' in 0\.001 s"):
        worker.ask("build", ROWS[0].name, seconds=0.001)

    assert not worker.alive()


# -- short runs --------------------------------------------------------------------------------------------------------


def kept_plan(folder: Path) -> Plan:
    return Plan(1, rounds=1, batch_seconds=0.001, first_samples=1, fresh=False, seconds=1, kept=str(folder))


def test_short_runs_leave_out_what_there_is_no_time_to_compile(tmp_path):
    row = next(row for row in ROWS if row.name == "MLP 32-64-8, batch 1")
    plan = kept_plan(tmp_path)
    available("torch")

    (found,) = harness.run([row], ["torch.compile", "numpy"], plan, lambda line: None)

    assert found.figures["torch.compile"].failure == harness.LEFT_OUT
    assert found.figures["numpy"].us


def test_answers_are_kept_for_short_runs_of_the_same_benchmarks(tmp_path):
    row = next(row for row in ROWS if row.name == "MLP 32-64-8, batch 1")

    harness.run([row], ["numpy"], kept_plan(tmp_path), lambda line: None)
    (kept,) = (tmp_path / "expected").iterdir()
    first = kept.stat().st_mtime_ns
    harness.run([row], ["numpy"], kept_plan(tmp_path), lambda line: None)

    assert kept.stat().st_mtime_ns == first
    assert (tmp_path / "compiled").is_dir()


def test_answers_of_other_benchmarks_make_room(tmp_path, monkeypatch):
    row = next(row for row in ROWS if row.name == "MLP 32-64-8, batch 1")
    harness.run([row], ["numpy"], kept_plan(tmp_path), lambda line: None)
    before = {*(tmp_path / "expected").iterdir()}

    monkeypatch.setattr(harness, "_version", lambda name: "newer")
    harness.run([row], ["numpy"], kept_plan(tmp_path), lambda line: None)

    (after,) = (tmp_path / "expected").iterdir()
    assert after not in before


def test_quick_rows_are_those_of_the_table_and_few_more(capsys):
    command.main(["--list", "--quick"])

    quick = capsys.readouterr().out.splitlines()
    assert 20 <= len(quick) <= 32
    assert "matmul 1024 cubed" in quick
    assert "matmul 2048 cubed" not in quick


# -- bits, memory and the chart ----------------------------------------------------------------------------------------


def test_equal_runs_are_one_digest_and_those_with_state_one_each():
    assert len(bits.repeat(lambda: np.ones(3), False, 10, None).digests) == 1
    counter = iter(range(10))
    found = bits.repeat(lambda: np.array(next(counter)), True, 10, None)

    assert found.runs == 10
    assert len(set(found.digests)) == 10


def test_a_run_with_other_bits_is_named():
    signs = iter([0.0, 0.0, -0.0])

    with pytest.raises(ValueError, match="run 3 gave other bits than the first"):
        bits.repeat(lambda: np.array(next(signs)), False, 3, None)


def test_the_last_bit_of_any_output_counts():
    last = np.array([1, 2], np.float32)
    outputs = iter([(np.ones(3), last), (np.ones(3), np.nextafter(last, np.array([1, 3], np.float32)))])

    with pytest.raises(ValueError, match="run 2"):
        bits.repeat(lambda: next(outputs), False, 2, None)


def test_runs_that_reuse_an_outputs_memory_are_compared_with_what_the_first_gave():
    out = np.zeros(2)

    def run():
        np.add(out, 1, out=out)
        return out.T

    with pytest.raises(ValueError, match="run 2"):
        bits.repeat(run, False, 2, None)


def test_runs_end_with_their_time():
    assert bits.repeat(lambda: np.ones(3), False, 10**9, 0).runs == 2


def test_answers_of_fewer_threads_are_compared_run_by_run():
    two = bits.Answers(("a", "b", "c"), 3)

    assert bits.Answers(("a", "b"), 2).beside(two).problem is None
    assert str(bits.Answers(("a", "x"), 2).beside(two)) == "other bits than with more threads, first in run 2"
    assert bits.Answers(problem="it died").beside(two).problem == "it died"


def test_bits_are_compared_between_numbers_of_threads(monkeypatch):
    row = next(row for row in ROWS if row.name == "digits 64-128-10, batch 32: training step")
    monkeypatch.setattr(bits, "RUNS", 5)
    lines = []

    assert bits.compare_bits([row], (1, 2), None, lines.append)
    assert lines == [
        f"{row.name}, threads: 2: the same bits in 5 runs",
        f"{row.name}, threads: 1: the same bits in 5 runs",
        "1 of 1 rows give the same bits",
    ]


def test_memory_is_measured_of_rows_that_there_are():
    assert set(memory.ROWS) <= {row.name for row in ROWS}


def test_memory_rises_by_what_a_step_needs():
    row = Row("big", normal(1000), lambda x: x, by_inputs(torch=lambda compile: lambda x: np.ones(10_000_000)), FLOOR)

    available("torch")

    assert memory.measure("torch", 1, row).step == pytest.approx(76, abs=20)


def test_the_chart_is_in_units_of_our_time():
    assert chart.points(OUTCOMES[0], LIMITS) == {"jax": 2.0, "torch": 8.0, "floor": 0.5}
    assert chart.points(OUTCOMES[2], LIMITS) == {}


def test_the_chart_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")

    chart.draw(OUTCOMES, LIMITS, tmp_path / "chart.png", "a machine")

    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
