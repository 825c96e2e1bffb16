"""Programs as users of PyTorch write them: eager and compiled agree, and both with PyTorch where it is installed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import tjit

# A program takes the module (tjit or torch), the decorator (tjit.compile or nothing) and a batch size, and returns
# tensors and numbers.
Program = Callable[[Any, Any, int], list[Any]]
PROGRAMS: list[Program] = []


def program(fn: Program) -> Program:
    PROGRAMS.append(fn)
    return fn


def _array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _filled(torch: Any, model: Any, seed: int = 3) -> Any:
    """The model with parameters that do not depend on a library's generator."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(0.3 * rng.standard_normal(tuple(p.shape)).astype(np.float32)))
    return model


@program
def linear_regression_by_hand(torch, compiled, n):
    x = torch.from_numpy(_array(0, n, 3))
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3
    w, b = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)

    @compiled
    def step(x, y):
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad.zero_()
        return loss

    return [*(step(x, y).item() for _ in range(10)), w, b]


@program
def logistic_regression(torch, compiled, n):
    x = torch.from_numpy(_array(1, n, 5))
    y = (x[:, 0] > 0).float()
    model = _filled(torch, torch.nn.Linear(5, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3, nesterov=True)
    criterion = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0]))

    @compiled
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses = [float(step(x, y)) for _ in range(5)]
    accuracy = ((torch.sigmoid(model(x)).squeeze(1) > 0.5) == y.bool()).float().mean()
    return [*losses, model.weight, accuracy]


_ACTIVATIONS = ("ReLU", "GELU", "SiLU", "ELU", "LeakyReLU", "Softplus", "Mish", "Hardswish", "PReLU", "LogSigmoid")
_LOSSES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
_OPTIMIZERS = (
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01}),
    ("AdamW", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.05}),
)


@program
def perceptrons_of_all_kinds(torch, compiled, n):
    nn, results = torch.nn, []
    x, y = torch.from_numpy(_array(4, n, 6)), torch.from_numpy(_array(5, n, 2))
    for i, activation in enumerate(_ACTIVATIONS):
        model = _filled(torch, nn.Sequential(nn.Linear(6, 9), getattr(nn, activation)(), nn.Linear(9, 2)))
        name, options = _OPTIMIZERS[i % len(_OPTIMIZERS)]
        optimizer = getattr(torch.optim, name)(model.parameters(), **options)
        criterion = getattr(nn, _LOSSES[i % len(_LOSSES)])()

        def step(x, y, model=model, optimizer=optimizer, criterion=criterion):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        call = compiled(step)
        results += [call(x, y).item(), call(x, y).item(), model[0].weight]
    return results


@program
def transformer_block(torch, compiled, n):
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            self.dropout = nn.Dropout(0.0)
            self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

        def forward(self, x):
            batch, length, width = x.size()
            q, k, v = (
                a.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
                for a in self.qkv(self.norm1(x)).split(width, dim=2)
            )
            scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))
            scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
            y = self.dropout(F.softmax(scores, dim=-1)) @ v
            x = x + self.out(y.transpose(1, 2).contiguous().view(batch, length, width))
            return x + self.mlp(self.norm2(x))

    block, x = _filled(torch, Block(12, 3)), torch.from_numpy(_array(6, n, 7, 12))
    optimizer = torch.optim.AdamW(block.parameters(), lr=1e-3)

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = (block(x) - x.roll(1, dims=1)).pow(2).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimizer.step()
        return loss, norm

    return [*step(x), *step(x), compiled(block)(x), block.qkv.weight]


@program
def character_model(torch, compiled, n):
    nn = torch.nn
    text = "hello world, this is a tiny corpus for a tiny model. " * 3
    letters = sorted(set(text))
    data = torch.tensor([letters.index(c) for c in text])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(len(letters), 8), nn.Linear(32, len(letters))

        def forward(self, x, y=None):
            logits = self.head(torch.tanh(self.embedding(x).flatten(1)))
            return logits, None if y is None else nn.functional.cross_entropy(logits, y)

    model = _filled(torch, Model())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    @compiled
    def step(x, y):
        _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for start in range(3):
        i = torch.arange(n) * 3 + start
        losses.append(step(torch.stack([data[j : j + 4] for j in i]), data[i + 4]))
    logits, nothing = compiled(model)(data[None, :4])
    assert nothing is None
    return [*losses, model.embedding.weight, logits, logits.argmax(-1)]


@program
def k_means(torch, compiled, n):
    points = torch.from_numpy(_array(7, 20 * n, 2))

    @compiled
    def step(points, centres):
        nearest = ((points[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        members = torch.nn.functional.one_hot(nearest, 3).float()
        return (members.T @ points) / members.sum(0).clamp(min=1)[:, None], nearest

    centres, nearest = points[:3].clone(), None
    for _ in range(4):
        centres, nearest = step(points, centres)
    return [centres, nearest]


@program
def principal_component_by_power_iteration(torch, compiled, n):
    @compiled
    def component(x):
        x = x - x.mean(0, keepdim=True)
        covariance = x.T @ x / (x.shape[0] - 1)
        v = torch.ones(5) / 5**0.5
        for _ in range(10):
            v = covariance @ v
            v = v / v.norm()
        return v, v @ covariance @ v

    return list(component(torch.from_numpy(_array(8, 10 * n, 5))))


@program
def kalman_filter(torch, compiled, n):
    f, h = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])

    @compiled
    def step(x, p, z):
        x, p = f @ x, f @ p @ f.T + 0.01 * torch.eye(2)
        gain = p @ h.T / (h @ p @ h.T + 0.5)
        return x + gain @ (z - h @ x), (torch.eye(2) - gain @ h) @ p

    x, p = torch.zeros(2, 1), torch.eye(2)
    for z in _array(9, n + 2):
        x, p = step(x, p, torch.tensor([[float(z)]]))
    return [x, p]


@program
def n_bodies(torch, compiled, n):
    mass = torch.ones(n + 1, dtype=torch.float64)

    @compiled
    def step(p, v, dt=0.01):
        d = p.unsqueeze(0) - p.unsqueeze(1)
        inverse = (d.pow(2).sum(-1) + 1e-3).rsqrt() ** 3
        v = v + dt * torch.einsum("ijk,ij,j->ik", d, inverse, mass)
        return p + dt * v, v

    p = torch.from_numpy(_array(10, n + 1, 3)).double()
    v = torch.zeros_like(p)
    for _ in range(3):
        p, v = step(p, v)
    return [p, v]


@program
def mandelbrot(torch, compiled, n):
    @compiled
    def steps(cr, ci):
        zr, zi = torch.zeros_like(cr), torch.zeros_like(ci)
        count = torch.zeros(cr.shape, dtype=torch.int32)
        for _ in range(12):
            zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
            count += zr * zr + zi * zi <= 4
        return count

    y, x = torch.meshgrid(torch.arange(n + 3) / 4 - 0.9, torch.arange(7) / 3 - 1.8, indexing="ij")
    return [steps(x, y)]


@program
def heat_equation(torch, compiled, n):
    u = torch.from_numpy(_array(11, n + 4, 8))

    @compiled
    def heat(u):
        u = u.clone()
        for _ in range(6):
            laplacian = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
            u[1:-1, 1:-1] += 0.1 * laplacian
        return u

    return [heat(u), u]


@program
def running_statistics(torch, compiled, n):
    mean, var, count = torch.zeros(4), torch.ones(4), torch.tensor(0)

    @compiled
    def normalize(x):
        mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        var.lerp_(x.var(0, unbiased=False), 0.1)
        count.add_(1)
        return (x - mean) / torch.sqrt(var + 1e-5)

    return [*(normalize(torch.from_numpy(_array(seed, n, 4))) for seed in range(3)), mean, var, count]


@program
def gradients_accumulated_over_calls(torch, compiled, n):
    model = _filled(torch, torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @compiled
    def micro(x, y):
        loss = torch.nn.functional.mse_loss(model(x), y) / 2
        loss.backward()
        return loss

    @compiled
    def update():
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    results = []
    for i in range(6):
        results.append(micro(torch.from_numpy(_array(i, n, 4)), torch.from_numpy(_array(i + 9, n, 2))))
        if i % 2:
            results.append(update())
    return [*results, model.weight]


@program
def average_of_weights(torch, compiled, n):
    model = _filled(torch, torch.nn.Linear(4, 2))
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    @compiled
    def step(x):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.copy_(0.9 * a + 0.1 * p)
        return loss

    losses = [step(torch.from_numpy(_array(seed, n, 4))) for seed in range(3)]
    return [*losses, *average.parameters()]


@program
def learning_rate_schedules(torch, compiled, n):
    schedules, results = torch.optim.lr_scheduler, []
    for make in (
        lambda o: schedules.StepLR(o, 2, 0.5),
        lambda o: schedules.CosineAnnealingLR(o, 6),
        lambda o: schedules.LambdaLR(o, lambda epoch: 1 / (epoch + 1)),
    ):
        model = _filled(torch, torch.nn.Linear(3, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
        schedule = make(optimizer)

        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            optimizer.step()
            return loss

        call = compiled(step)
        for _ in range(4):
            results.append(call(torch.from_numpy(_array(16, n, 3))))
            schedule.step()
        results += [model.weight, *schedule.get_last_lr()]
        assert not hasattr(call, "cache_info") or call.cache_info().misses <= 2  # the rate is an input
    return results


@program
def modules_with_buffers_and_dicts(torch, compiled, n):
    nn = torch.nn

    class Norm(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(width))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            if self.training:
                self.steps += 1
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.norm = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)]), Norm(4)

        def forward(self, x, *, scale=1.0):
            for layer in self.layers:
                x = torch.relu(layer(self.norm(x))) + x
            return {"out": x * scale, "mean": x.mean()}

    net = _filled(torch, Net())
    call, x = compiled(net), torch.from_numpy(_array(17, n, 4))
    first, second = call(x), call(x, scale=2.0)
    net.eval()
    third = call(x, scale=0.5)
    third["mean"].backward()
    return [first["out"], second["out"], third["mean"], net.norm.steps, net.norm.scale.grad, net.layers[0].weight.grad]


@program
def second_derivatives(torch, compiled, n):
    @compiled
    def products(x, v):
        y = (x.sin() * x**3).sum() + torch.exp(-x.square()).sum()
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad((g * v).sum(), x)[0]

    x = torch.from_numpy(_array(19, n)).double().requires_grad_(True)
    return [products(x, torch.ones(n, dtype=torch.float64))]


@program
def jacobian_row_by_row(torch, compiled, n):
    w = torch.from_numpy(_array(20, 3, n))

    @compiled
    def jacobian(x):
        y = torch.tanh(w @ x)
        return torch.stack([torch.autograd.grad(y[i], x, retain_graph=True)[0] for i in range(3)])

    return [jacobian(torch.from_numpy(_array(21, n)).requires_grad_())]


@program
def indexing_puzzles(torch, compiled, n):
    x, f = torch.arange(n * 12).reshape(n, 3, 4), torch.from_numpy(_array(23, n, 3, 4))

    @compiled
    def read(x, f):
        i = torch.tensor([0, 2, 1])
        rows = torch.arange(x.shape[0])
        return [
            x[..., -1],
            x[:, None, 1:, ::2],
            x[:, [2, 0]],
            x[:, i[:, None], i[None, :]],
            x[rows, rows % 3],
            *f.max(1),
        ]

    @compiled
    def written(f):
        f = f.clone()
        f[:, 0] = 1
        f[:, 1, 2:] *= 2
        f[0, :, 0] = torch.tensor([7.0, 8.0, 9.0])
        f[f < 0] = 0
        f[:, torch.tensor([2, 1]), 3] += 1
        return f

    return [*read(x, f), written(f)]


@program
def gather_and_scatter(torch, compiled, n):
    x, i = torch.from_numpy(_array(24, n, 5)), torch.arange(3 * n).reshape(n, 3) % 5

    @compiled
    def step(p, i):
        picked = p.gather(1, i)
        spread = torch.zeros(n, 5).scatter_add(1, i, picked)
        counts = torch.zeros(5).index_add_(0, i.flatten(), torch.ones(3 * n))
        (picked * spread.sum(1, keepdim=True)).sum().backward()
        return picked.detach(), spread.detach(), counts, torch.nn.functional.one_hot(i, 5)

    p = x.clone().requires_grad_()
    return [*step(p, i), p.grad]


@program
def integers(torch, compiled, n):
    @compiled
    def table(a, b):
        return [
            *(
                a // b,
                a % b,
                a / b,
                a * 2.5,
                torch.div(a, b, rounding_mode="trunc"),
                a**2,
                a & 3,
                a << 1,
                ~a,
                a.fmod(4),
            ),
            *(a.to(torch.uint8), a.to(torch.int8) + 100, (a > 0) | (a < -3), a.clamp(-2, 2), a.argmax()),
            *(a.float().mean(), a.double() / 7),
        ]

    return table(torch.arange(-6, 5 * n - 6), torch.tensor(3))


@program
def two_networks_two_optimizers(torch, compiled, n):
    nn = torch.nn
    g = _filled(torch, nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)))
    d = _filled(torch, nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), 9)
    g_step, d_step = (torch.optim.Adam(m.parameters(), 1e-2, betas=(0.5, 0.9)) for m in (g, d))
    criterion = nn.functional.binary_cross_entropy_with_logits

    @compiled
    def step(real, noise):
        fake, ones = g(noise), torch.ones(real.shape[0], 1)
        d_loss = criterion(d(real), ones) + criterion(d(fake.detach()), torch.zeros_like(ones))
        d_step.zero_grad()
        d_loss.backward()
        d_step.step()
        g_loss = criterion(d(fake), ones)
        g_step.zero_grad()
        g_loss.backward()
        g_step.step()
        return d_loss, g_loss

    losses = [x for s in range(2) for x in step(torch.from_numpy(_array(s, n, 3)), torch.from_numpy(_array(s, n, 2)))]
    return [*losses, g[0].weight, d[0].weight]


def _numbers(result: Any) -> np.ndarray:
    return np.asarray(result.detach().numpy() if hasattr(result, "detach") else result)


def _assert_agree(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(map(_numbers, found), map(_numbers, expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        tolerance = 1e-11 if a.dtype == np.float64 and len(a.shape) else 2e-5
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_compiled_agrees_with_eager(program: Program):
    for n in (4, 1, 7):
        _assert_agree(program(tjit, tjit.compile, n), program(tjit, lambda fn: fn, n))


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_eager_agrees_with_torch(program: Program):
    import torch

    for n in (4, 1, 7):
        _assert_agree(program(tjit, lambda fn: fn, n), program(torch, lambda fn: fn, n))
