"""Python values that a compiled function both reads and sets: its Python runs once a call, whatever is captured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import tjit

SCHEDULES = {
    "step": lambda o: tjit.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "cosine": lambda o: tjit.optim.lr_scheduler.CosineAnnealingLR(o, 4),
    "lambda": lambda o: tjit.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
}


def training(optimizer, after):
    """Parameters, their optimizer, and a step on x at whose end `after(optimizer)` runs."""
    w = tjit.nn.Parameter(tjit.ones(3, dtype=tjit.float64))
    o = optimizer([w])
    change = after(o)

    def step(x):
        o.zero_grad()
        loss = ((w * x - 1) ** 2).sum()
        loss.backward()
        o.step()
        change()
        return loss

    return w, o, step


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4), (4, 5, 6, 4, 5)], ids=["one size", "several sizes"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_schedules_step_inside_of_compiled_functions(optimizer, name, sizes):
    def make(params):
        return getattr(tjit.optim, optimizer)(params, lr=0.1)

    (w, o, step), (want, eager, plain) = (training(make, lambda o: SCHEDULES[name](o).step) for _ in range(2))
    compiled = tjit.compile(step)

    for n in sizes:
        x = tjit.linspace(0, 1, n * 3, dtype=tjit.float64).reshape(n, 3)
        compiled(x), plain(x)

        np.testing.assert_allclose(w.detach().numpy(), want.detach().numpy(), rtol=1e-12)
        assert o.param_groups[0]["lr"] == eager.param_groups[0]["lr"]


def test_a_rate_that_the_step_itself_changes_counts_from_there_on():
    def halved_between(o):
        def change():
            o.param_groups[0]["lr"] *= 0.5
            o.step()
            o.param_groups[0]["lr"] *= 2.0

        return change

    def make(params):
        return tjit.optim.SGD(params, lr=0.1)

    (w, o, step), (want, eager, plain) = (training(make, halved_between) for _ in range(2))
    compiled = tjit.compile(step)

    for lr in (0.1, 0.1, 0.05, 0.05):
        o.param_groups[0]["lr"] = eager.param_groups[0]["lr"] = lr
        compiled(tjit.ones(3)), plain(tjit.ones(3))

        np.testing.assert_allclose(w.detach().numpy(), want.detach().numpy(), rtol=1e-12)
    assert compiled.cache_info().reasons[0] == "the function changes Python values that it reads"


def test_a_rate_that_the_function_reads_beside_its_optimizer_is_the_one_of_the_call():
    w = tjit.nn.Parameter(tjit.ones(3))
    o = tjit.optim.SGD([w], lr=1.0)

    @tjit.compile
    def step(x):
        w.grad = x
        o.step()
        return x[0] * o.param_groups[0]["lr"]

    for lr in (1.0, 0.5, 0.25, 0.125):
        o.param_groups[0]["lr"] = lr

        assert step(tjit.ones(3)).item() == lr
    assert w.tolist() == [1 - 1.875] * 3


def test_values_that_come_back_to_what_they_were():
    def function(s):
        def f(x):
            s.up = not s.up
            s.n = (s.n + 1) % 3
            s.x = 0.0 if s.x > 1 else s.x + 0.5
            return x + s.n if s.up else x - s.n - s.x

        return f

    ours, plain = (SimpleNamespace(up=True, n=0, x=0.0) for _ in range(2))
    compiled, eager = tjit.compile(function(ours)), function(plain)

    for _ in range(9):
        assert compiled(tjit.zeros(())).item() == eager(tjit.zeros(())).item()
        assert ours == plain


def test_a_capture_that_is_tried_again_has_run_the_function_once():
    s = SimpleNamespace(n=0, scale=1.0)
    seen = []

    @tjit.compile
    def f(x):
        s.n += 1
        seen.append(s.n)
        return x.sum() * float(int(x.shape[0])) + s.n * (1 if s.scale > 0 else 2)

    for n, size in enumerate((2, 3, 4, 2), 1):
        s.scale = 1.0 / n

        assert f(tjit.zeros(size)).item() == n
    assert seen == [1, 2, 3, 4]


def test_a_call_of_a_size_that_the_general_program_does_not_take_runs_the_function_once():
    seen: list[int] = []

    @tjit.compile
    def f(x):
        seen.append(len(seen))
        return x[:3] * 2

    for n, size in enumerate((5, 6, 2, 1), 1):
        assert f(tjit.ones(size)).shape == (min(size, 3),)
        assert len(seen) == n


def test_a_schedule_inside_of_what_is_exported_is_refused(tmp_path):
    _, _, step = training(
        lambda params: tjit.optim.SGD(params, lr=0.1), lambda o: tjit.optim.lr_scheduler.ExponentialLR(o, 0.5).step
    )

    with pytest.raises(tjit.errors.CaptureError, match="changes a number that it gives its optimizer") as caught:
        tjit.export(step, (tjit.ones(3),), tmp_path / "step.tjit")

    assert caught.value.hint == "step the schedule outside of what is exported"


def _stepped(kind):
    """A training step that counts its calls, and what it does with the count."""
    w, s = tjit.nn.Parameter(tjit.ones(3)), SimpleNamespace(steps=0, on=True)
    o = tjit.optim.SGD([w], lr=0.1)
    schedule = tjit.optim.lr_scheduler.StepLR(o, 1000, 0.5)

    def step(x):
        o.zero_grad()
        s.steps += 1
        if kind == "warm-up":
            o.param_groups[0]["lr"] = 0.1 * min(1.0, s.steps / 1000)
        if kind == "branch" and s.steps > 1000:
            x = x * 2
        if kind == "toggle":
            s.on = not s.on
            x = x if s.on else -x
        loss = ((w * x) ** 2).sum()
        loss.backward()
        o.step()
        if kind == "schedule":
            schedule.step()
        return loss * s.steps if kind == "factor" else loss

    return step, s


@pytest.mark.parametrize("kind", ["warm-up", "branch", "toggle", "schedule", "factor"])
def test_what_goes_by_numbers_that_it_changes_is_not_exported(kind, tmp_path):
    step, s = _stepped(kind)

    with pytest.raises(tjit.errors.CaptureError, match="goes by Python values that it changes") as caught:
        tjit.export(step, (tjit.ones(3),), tmp_path / "step.tjit")

    assert "s.steps" in caught.value.message
    assert s == SimpleNamespace(steps=0, on=True)


def test_a_count_that_nothing_depends_on_is_left_out_of_what_is_exported(tmp_path):
    step, s = _stepped("none")

    package = tjit.export(step, (tjit.ones(3),), tmp_path / "step.tjit")

    assert s.steps == 0
    assert [package["step"](tjit.ones(3)).item() for _ in range(2)] == [step(tjit.ones(3)).item() for _ in range(2)]
