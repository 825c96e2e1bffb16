"""Optimizers: twenty steps give PyTorch's values for every option; captured steps; groups, state and schedules."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tolerances import assert_close

import tjit
from tjit import optim
from tjit.capture.trace import Trace, tracing
from tjit.errors import ArgumentError, DTypeError
from tjit.ir.graph import GraphBuilder
from tjit.nn import Parameter

STEPS = 20
OPTIONS = (
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.99), "eps": 1e-4, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "centered": True, "alpha": 0.9}),
    ("RMSprop", {"lr": 0.05, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {"lr": 0.5, "weight_decay": 0.1}),
)


def start(rng, dtype=np.float64):
    """Two parameters, and a target that their gradients lead to."""
    return [rng.standard_normal(s).astype(dtype) for s in ((3, 4), (4,), (3, 4), (4,))]


def run(optimizer, params, targets, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((params[0] - targets[0]) ** 2).sum() + ((params[1] - targets[1]) ** 2).sum()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_twenty_steps_are_torchs(name, options, dtype, rng):
    torch = pytest.importorskip("torch")
    arrays = start(rng, dtype)
    ours, theirs = [Parameter(a.copy()) for a in arrays[:2]], [torch.tensor(a, requires_grad=True) for a in arrays[:2]]

    run(getattr(optim, name)(ours, **options), ours, [tjit.tensor(a) for a in arrays[2:]], STEPS)
    run(getattr(torch.optim, name)(theirs, **options), theirs, [torch.tensor(a) for a in arrays[2:]], STEPS)

    factor = 1e6 if name == "NAdam" and dtype is np.float64 else 100  # PyTorch keeps NAdam's product in f32
    for p, t in zip(ours, theirs, strict=True):
        assert_close(p.detach().numpy(), t.detach().numpy(), factor)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_a_captured_step_lifts_parameters_and_state_and_writes_them(name, options, rng):
    arrays = start(rng)
    params = [Parameter(a) for a in arrays[:2]]
    optimizer = getattr(optim, name)(params, **options)
    before = [p.numpy().copy() for p in (q.detach() for q in params)]
    state = {id(t) for s in optimizer.state.values() for t in s.values()}
    trace = Trace(GraphBuilder("step"))

    with tracing(trace):
        run(optimizer, params, [tjit.tensor(a) for a in arrays[2:]], 1)

    written = {id(t) for t in trace.writes()}
    assert written == {id(p) for p in params} | state
    for p, a in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), a)  # capturing changes nothing


def test_parameters_of_a_group_share_the_count_of_steps():
    params = [Parameter(tjit.ones(2)) for _ in range(3)]

    optimizer = optim.Adam(params)

    assert len({id(optimizer.state[p]["step"]) for p in params}) == 1


def test_a_parameter_without_a_gradient_misses_the_step(rng):
    torch = pytest.importorskip("torch")
    a, b = rng.standard_normal(3), rng.standard_normal(3)

    def train(tensor, optimizer):
        p, q = (tensor(x, requires_grad=True) for x in (a, b))
        o = optimizer([p, q], lr=0.1)
        for i in range(6):
            o.zero_grad()
            loss = (p * p).sum() if i % 3 else (p * p).sum() + (q * q * q).sum()
            loss.backward()
            o.step()
        return p.detach().numpy(), q.detach().numpy()

    for mine, torchs in zip(train(tjit.tensor, optim.Adam), train(torch.tensor, torch.optim.Adam), strict=True):
        assert_close(mine, torchs, 10)


def test_groups_have_options_of_their_own():
    p, q = Parameter(tjit.ones(1)), Parameter(tjit.ones(1))
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)

    (p.sum() + q.sum()).backward()
    optimizer.step()

    np.testing.assert_allclose([p.item(), q.item()], [0.9, 0.5], rtol=1e-6)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]


def test_step_returns_what_the_closure_does():
    p = Parameter(tjit.ones(1))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    np.testing.assert_allclose(p.item(), 0.8, rtol=1e-6)


def test_lr_may_be_a_tensor():
    p = Parameter(tjit.ones(1))
    optimizer = optim.SGD([p], lr=tjit.tensor(0.25))

    p.sum().backward()
    optimizer.step()

    assert p.item() == 0.75


def test_zero_grad_drops_or_zeros():
    p = Parameter(tjit.ones(2))
    optimizer = optim.SGD([p])
    p.sum().backward()
    grad = p.grad

    optimizer.zero_grad(set_to_none=False)

    assert grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("dampening", [0, 0.3])
def test_state_dict_goes_on_where_it_was_saved(dampening, rng):
    arrays = start(rng)
    targets = [tjit.tensor(a) for a in arrays[2:]]

    def fresh():
        params = [Parameter(a.copy()) for a in arrays[:2]]
        return params, optim.SGD(params, lr=0.1, momentum=0.9, dampening=dampening)

    whole, one = fresh()
    run(one, whole, targets, 10)
    first, two = fresh()
    run(two, first, targets, 4)
    second, three = fresh()
    for p, q in zip(second, first, strict=True):
        p.detach().copy_(q.detach())

    three.load_state_dict(copy.deepcopy(two.state_dict()))
    run(three, second, targets, 6)

    for p, q in zip(whole, second, strict=True):
        assert_close(p.detach().numpy(), q.detach().numpy())


def test_state_dict_of_adam_keeps_counts_that_differ():
    p, q = Parameter(tjit.ones(1)), Parameter(tjit.ones(1))
    optimizer = optim.Adam([p, q])
    p.sum().backward()
    optimizer.step()
    other = optim.Adam([Parameter(tjit.ones(1)), Parameter(tjit.ones(1))])

    other.load_state_dict(optimizer.state_dict())

    assert [s["step"].item() for s in other.state.values()] == [1.0, 0.0]


def test_printed_form():
    assert repr(optim.SGD([Parameter(tjit.ones(1))], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    lr: 0.1\n    maximize: False\n    momentum: 0\n"
        "    nesterov: False\n    weight_decay: 0\n)"
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda p: optim.SGD(tjit.nn.Identity()),
            DTypeError,
            "params argument given to the optimizer should be an iterable of Tensors or dicts, but got Identity()",
        ),
        (lambda p: optim.SGD([]), ArgumentError, "optimizer got an empty parameter list"),
        (lambda p: optim.SGD([p], lr=-1), ArgumentError, "Invalid learning rate: -1"),
        (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ArgumentError, "Invalid beta parameter at index 0: 1.0"),
        (
            lambda p: optim.SGD([p], nesterov=True),
            ArgumentError,
            "Nesterov momentum requires a momentum and zero dampening",
        ),
        (
            lambda p: optim.SGD([p, p]),
            ArgumentError,
            "some parameters appear in more than one parameter group, or twice in one",
        ),
        (lambda p: optim.SGD([p * 2]), ArgumentError, "can't optimize a non-leaf Tensor"),
        (
            lambda p: optim.SGD(p),
            DTypeError,
            "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor",
        ),
        (
            lambda p: optim.SGD([1]),
            DTypeError,
            "optimizer can only optimize Tensors, but one of the params is <class 'int'>",
        ),
    ],
)
def test_messages(make, error, message):
    with pytest.raises(error) as raised:
        make(Parameter(tjit.ones(1)))

    assert raised.value.message == message


SCHEDULES = (
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5]}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 4}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 3}),
)


@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.filterwarnings("ignore:Detected call")
def test_schedules_are_torchs(name, options):
    torch = pytest.importorskip("torch")
    ours = optim.SGD([{"params": [Parameter(tjit.ones(1))]}, {"params": [Parameter(tjit.ones(1))], "lr": 1.0}], lr=0.5)
    theirs = torch.optim.SGD([{"params": [torch.ones(1)]}, {"params": [torch.ones(1)], "lr": 1.0}], lr=0.5)
    a, b = (
        getattr(optim.lr_scheduler, name)(ours, **options),
        getattr(torch.optim.lr_scheduler, name)(theirs, **options),
    )

    for _ in range(12):
        np.testing.assert_allclose(a.get_last_lr(), b.get_last_lr(), rtol=1e-12)
        assert [g["lr"] for g in ours.param_groups] == a.get_last_lr()
        a.step()
        b.step()


@pytest.mark.parametrize("options", [{}, {"mode": "max"}, {"threshold_mode": "abs", "cooldown": 2, "min_lr": 0.01}])
def test_reduce_on_plateau_is_torchs(options, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = optim.SGD([Parameter(tjit.ones(1))], lr=0.5), torch.optim.SGD([torch.ones(1)], lr=0.5)
    a = optim.lr_scheduler.ReduceLROnPlateau(ours, patience=2, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=2, **options)

    for metric in np.concatenate([np.linspace(1, 0.5, 6), np.full(12, 0.5), rng.uniform(0, 1, 12)]):
        a.step(metric)
        b.step(metric)
        np.testing.assert_allclose(ours.param_groups[0]["lr"], theirs.param_groups[0]["lr"], rtol=1e-12)


def test_a_schedule_goes_on_from_its_state_dict():
    optimizer = optim.SGD([Parameter(tjit.ones(1))], lr=0.5)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    schedule.step()
    other = optim.lr_scheduler.StepLR(optim.SGD([Parameter(tjit.ones(1))], lr=0.5), 2)

    other.load_state_dict(schedule.state_dict())
    other.step()

    np.testing.assert_allclose(other.get_last_lr(), [0.05])


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_a_compiled_step_is_the_eager_one(name, options, rng):
    arrays = start(rng)
    x, y = (tjit.tensor(a) for a in arrays[2:])

    def train(compiled):
        params = [Parameter(a.copy()) for a in arrays[:2]]
        optimizer = getattr(optim, name)(params, **options)

        def step(x, y):
            run(optimizer, params, (x, y), 1)

        step = tjit.compile(step) if compiled else step
        for _ in range(4):
            optimizer.param_groups[0]["lr"] *= 0.9  # an input of the graph, not a constant
            step(x, y)
        return [p.detach().numpy() for p in params]

    for mine, eager in zip(train(compiled=True), train(compiled=False), strict=True):
        assert_close(mine, eager, 10)
