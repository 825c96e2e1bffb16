"""The models of the rows, each written once for tjit and PyTorch, whose `nn` have the same names: `lenet(torch)`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["bottleneck", "cell", "draw_parameters", "gpt", "lenet", "lstm", "set_parameters", "vgg16"]


def lenet(framework: Any) -> Any:
    """LeNet-5 for images [b, 1, 28, 28] of ten classes."""
    nn = framework.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def vgg16(framework: Any, width: int = 64, size: int = 224, classes: int = 1000) -> Any:
    """VGG-16 for images [b, 3, size, size]; the classic has width 64 and size 224."""
    nn = framework.nn
    layers, channels = [], 3
    for factor, convolutions in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.ReLU()]
            channels = factor * width
        layers.append(nn.MaxPool2d(2))
    flat, hidden = channels * (size // 32) ** 2, 64 * width
    layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


def bottleneck(framework: Any, channels: int, inner: int) -> Any:
    """A residual block of ResNet-50: 1x1, 3x3 and 1x1 convolutions with batch norm, [b, channels, h, w] to the same."""
    nn = framework.nn

    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv2, self.norm2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
            self.conv3, self.norm3 = nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)

        def forward(self, x: Any) -> Any:
            y = framework.relu(self.norm1(self.conv1(x)))
            y = framework.relu(self.norm2(self.conv2(y)))
            return framework.relu(x + self.norm3(self.conv3(y)))

    return Bottleneck()


def gpt(
    framework: Any, layers: int = 4, width: int = 128, heads: int = 4, vocabulary: int = 256, context: int = 128
) -> Any:
    """A transformer that tells the next token, without dropout: tokens [b, t] to logits [b, t, vocabulary]."""
    nn = framework.nn
    attend = nn.functional.scaled_dot_product_attention

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gelu = nn.GELU(approximate="tanh")

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            y = attend(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, width)
            x = x + self.out(y)
            return x + self.down(self.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return GPT()


def lstm(framework: Any, width: int = 128, classes: int = 10) -> Any:
    """An LSTM whose cell and loop are written by hand: x [t, b, width] to logits [b, classes] of the last state."""
    nn = framework.nn

    class LSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(framework.empty(width, 4 * width))
            self.u = nn.Parameter(framework.empty(width, 4 * width))
            self.b = nn.Parameter(framework.empty(4 * width))
            self.v = nn.Parameter(framework.empty(width, classes))

        def forward(self, x: Any) -> Any:
            h = framework.zeros(x.shape[1], width, dtype=x.dtype)
            c = framework.zeros(x.shape[1], width, dtype=x.dtype)
            for t in range(x.shape[0]):
                h, c = cell(framework, x[t] @ self.w + h @ self.u + self.b, c)
            return h @ self.v

    return LSTM()


def cell(framework: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """The next (h, c) of an LSTM from its four gates [b, 4 * width]."""
    i, f, g, o = gates.chunk(4, 1)
    c = framework.sigmoid(f) * c + framework.sigmoid(i) * framework.tanh(g)
    return framework.sigmoid(o) * framework.tanh(c), c


def draw_parameters(rng: np.random.Generator, model: Any) -> list[np.ndarray]:
    """A value for each parameter of a model: of unit gain for matrices and kernels, near 1 for a norm's weights."""
    drawn = []
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        value = rng.standard_normal(shape, np.float32)
        if len(shape) == 1:
            drawn.append(np.float32(0.1) * value + np.float32("norm" in name and name.endswith("weight")))
        else:
            drawn.append(value / np.float32(math.sqrt(math.prod(shape[1:]))))
    return drawn


def set_parameters(framework: Any, model: Any, values: Sequence[Any]) -> Any:
    """The model, with these values as its parameters."""
    with framework.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return model
