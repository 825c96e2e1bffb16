"""Multi-head attention and transformers: PyTorch's outputs, gradients, weights, names and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import tjit
from tjit import nn
from tjit.errors import ArgumentError

BATCH, HEADS, QUERIES, KEYS, WIDTH = 3, 2, 9, 11, 8
SIZES = {"dim_feedforward": 12, "dropout": 0.0}
HOW = pytest.mark.parametrize("compile", [lambda fn: fn, tjit.compile], ids=["eager", "compiled"])


def pair(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A module of tjit's and PyTorch's of the same parameters, none of them zero."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*args, **options).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    ours = getattr(nn, name)(*args, **options).double()
    ours.load_state_dict({k: tjit.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def trained(
    framework: Any,
    module: Any,
    inputs: list[np.ndarray],
    masks: dict[str, Any],
    compile: Any = lambda fn: fn,
    **rest: Any,
) -> list[Any]:
    """What a module gives, and the gradients of its parameters and inputs."""
    tensors = [framework.from_numpy(x.copy()).requires_grad_() for x in inputs]
    given = {name: framework.from_numpy(mask) for name, mask in masks.items()}

    def run(*tensors: Any, **given: Any) -> Any:
        found = module(*tensors, **given, **rest)
        results = [r for r in (found if isinstance(found, tuple) else (found,)) if r is not None]
        loss: Any = sum((r * r).sum() for r in results)
        loss.backward()
        return results

    results = compile(run)(*tensors, **given)
    gradients = [t.grad for t in (*module.parameters(), *tensors)]
    return [r.detach().numpy() for r in results] + [g.numpy() for g in gradients if g is not None]


def check(ours: Any, theirs: Any, inputs: list[np.ndarray], masks: dict[str, Any], compile: Any, **rest: Any) -> None:
    import torch

    expected = trained(torch, theirs, inputs, masks, **rest)

    found = trained(tjit, ours, inputs, masks, compile, **rest)

    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 50)


def causal(n: int) -> np.ndarray:
    return np.triu(np.full((n, n), -np.inf), 1)


def hidden(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Positions that are not seen; each row sees the last."""
    found = rng.random(shape) < 0.4
    found[..., -1] = False
    return found


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False, "batch_first": True},
    {"kdim": 5, "vdim": 6},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
)


@HOW
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_attention_gives_pytorchs_outputs_weights_and_gradients(options, compile, rng):
    ours, theirs = pair("MultiheadAttention", WIDTH, HEADS, **options)
    widths = WIDTH, options.get("kdim", WIDTH), options.get("vdim", WIDTH)
    inputs = [rng.standard_normal((n, BATCH, w)) for n, w in zip((QUERIES, KEYS, KEYS), widths, strict=True)]
    inputs = [x.swapaxes(0, 1) for x in inputs] if options.get("batch_first") else inputs
    added = np.where(hidden(rng, BATCH * HEADS, QUERIES, KEYS), -np.inf, rng.standard_normal(KEYS))
    for masks, rest in (
        ({}, {}),
        ({"attn_mask": hidden(rng, QUERIES, KEYS)}, {"need_weights": False}),
        ({"attn_mask": added}, {"average_attn_weights": False}),
        ({"key_padding_mask": hidden(rng, BATCH, KEYS)}, {"need_weights": False}),
        ({"attn_mask": hidden(rng, QUERIES, KEYS), "key_padding_mask": hidden(rng, BATCH, KEYS)}, {}),
    ):
        for module in (ours, theirs):
            module.zero_grad()
        check(ours, theirs, inputs, masks, compile, **rest)


@HOW
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_of_a_sequence_to_itself(need_weights, compile, rng):
    ours, theirs = pair("MultiheadAttention", WIDTH, HEADS, batch_first=True)
    for shape in ((BATCH, QUERIES, WIDTH), (QUERIES, WIDTH)):
        for module in (ours, theirs):
            module.zero_grad()
        x = rng.standard_normal(shape)

        def itself(module: Any) -> Any:
            return Itself(module, need_weights)

        check(itself(ours), itself(theirs), [x], {"mask": causal(QUERIES)}, compile)


class Itself:
    def __init__(self, attention: Any, need_weights: bool) -> None:
        self.attention, self.parameters, self.need_weights = attention, attention.parameters, need_weights

    def __call__(self, x: Any, mask: Any) -> Any:
        return self.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=self.need_weights)


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_query_that_sees_nothing_is_pytorchs(need_weights, rng):
    ours, theirs = pair("MultiheadAttention", WIDTH, HEADS)
    mask = hidden(rng, QUERIES, KEYS)
    mask[2] = True
    inputs = [rng.standard_normal((n, BATCH, WIDTH)) for n in (QUERIES, KEYS, KEYS)]

    def output(framework: Any, module: Any) -> np.ndarray:
        operands = map(framework.from_numpy, inputs)
        found = module(*operands, attn_mask=framework.from_numpy(mask), need_weights=need_weights)
        return found[0].detach().numpy()

    assert_close(output(tjit, ours), output(pytest.importorskip("torch"), theirs), 10)


def test_a_causal_hint_needs_no_mask_in_memory():
    attention = nn.MultiheadAttention(64, 4, batch_first=True).eval()

    @tjit.compile
    def run(x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]

    passes = run.lower(tjit.ones(2, 32, 64)).passes()

    (node,) = (n for n in passes.nodes if n.op.name == "scaled_dot_product_attention")
    assert node.attrs["is_causal"]
    assert len(node.operands) == 3


def test_dropout_of_weights_is_for_training_only():
    attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=1.0)
    x = tjit.ones(QUERIES, 1, WIDTH)

    for need_weights in (True, False):
        assert not attention.train()(x, x, x, need_weights=need_weights)[0].detach().numpy().any()
        assert attention.eval()(x, x, x, need_weights=need_weights)[0].detach().numpy().any()


LAYERS: tuple[dict[str, Any], ...] = (
    {},
    {"norm_first": True, "batch_first": True, "activation": "gelu"},
    {"bias": False, "layer_norm_eps": 1e-3},
)


@HOW
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_encoders_give_pytorchs_outputs_and_gradients(options, compile, rng):
    pytest.importorskip("torch")
    ours, theirs = pair("TransformerEncoderLayer", WIDTH, HEADS, **SIZES, **options)
    x = rng.standard_normal((BATCH, QUERIES, WIDTH) if options.get("batch_first") else (QUERIES, BATCH, WIDTH))

    check(ours, theirs, [x], {"src_mask": causal(QUERIES)}, compile, is_causal=True)


@HOW
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_decoders_give_pytorchs_outputs_and_gradients(options, compile, rng):
    ours, theirs = pair("TransformerDecoderLayer", WIDTH, HEADS, **SIZES, **options)
    x, memory = rng.standard_normal((QUERIES, BATCH, WIDTH)), rng.standard_normal((KEYS, BATCH, WIDTH))
    inputs = [x.swapaxes(0, 1), memory.swapaxes(0, 1)] if options.get("batch_first") else [x, memory]
    masks = {"tgt_mask": causal(QUERIES), "memory_key_padding_mask": hidden(rng, BATCH, KEYS)}

    check(ours, theirs, inputs, masks, compile)


@HOW
def test_a_whole_transformer_gives_pytorchs_outputs_and_gradients(compile, rng):
    ours, theirs = pair("Transformer", WIDTH, HEADS, 2, 2, batch_first=True, **SIZES)
    inputs = [rng.standard_normal((BATCH, n, WIDTH)) for n in (KEYS, QUERIES)]
    masks = {"tgt_mask": causal(QUERIES), "src_key_padding_mask": hidden(rng, BATCH, KEYS)}

    check(ours, theirs, inputs, masks, compile)


def test_layers_differ_in_what_training_drops(rng):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.5)
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH))
    x = tjit.from_numpy(rng.standard_normal((QUERIES, BATCH, WIDTH), np.float32))

    assert not np.allclose(stack(x).detach().numpy(), stack(x).detach().numpy())
    np.testing.assert_array_equal(stack.eval()(x).detach().numpy(), stack(x).detach().numpy())
    assert stack.layers[0].linear1.weight is not stack.layers[1].linear1.weight


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.MultiheadAttention(4, 2, kdim=3, add_bias_kv=True),
        lambda m: m.TransformerEncoder(m.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False),
        lambda m: m.Transformer(4, 2, 1, 1, 8, batch_first=True),
    ],
)
def test_names_and_printed_forms_are_pytorchs(make):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn), make(torch.nn)

    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")


def _attend(*shapes: tuple[int, ...], **rest: Any) -> Any:
    query, key, value = (tjit.ones(*shape) for shape in shapes)
    return nn.MultiheadAttention(4, 2)(query, key, value, **rest)


X = (3, 1, 4)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: nn.MultiheadAttention(5, 2), "embed_dim must be divisible by num_heads, not 5 by 2"),
        (lambda: nn.MultiheadAttention(0, 2), "embed_dim and num_heads must be greater than 0, got embed_dim=0"),
        (lambda: _attend(X, X, X, is_causal=True), "Need attn_mask if specifying the is_causal hint"),
        (lambda: _attend((4,), X, X), r"takes query, key and value of 3 dims, or of 2, not f32\[4\], f32\[3, 1, 4\]"),
        (lambda: _attend((3, 1, 5), X, X), "was expecting 4 columns of query, but got 5"),
        (lambda: _attend(X, X, (4, 1, 4)), r"key shape .*\[3, 1, 4\]\) does not match value shape .*\[4, 1, 4\]\)"),
        (lambda: _attend((3, 2, 4), X, X), r"one batch: dim 1 of f32\[3, 2, 4\] is not that of f32\[3, 1, 4\]"),
        (
            lambda: _attend(X, X, X, attn_mask=tjit.ones(2, 2)),
            r"shape of the attn_mask is \(2, 2\), but should be \(3, 3\) or \(2, 3, 3\)",
        ),
        (
            lambda: _attend(X, X, X, key_padding_mask=tjit.ones(2, 2)),
            r"shape of the key_padding_mask is \(2, 2\), but should be \(1, 3\) or \(3,\)",
        ),
        (
            lambda: _attend(X, X, X, attn_mask=tjit.ones(3, 3, dtype=tjit.int64)),
            "attn_mask has to be of bool or of floats, not",
        ),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), "activation should be relu/gelu, not sin"),
        (
            lambda: nn.Transformer(4, 2, 1, 1, 8)(tjit.ones(3, 1, 4), tjit.ones(3, 2, 4)),
            "the batch number of src and tgt must be equal, not 1 and 2",
        ),
        (
            lambda: nn.Transformer(4, 2, 1, 1, 8)(tjit.ones(3, 1, 4), tjit.ones(3, 1, 5)),
            "the feature number of src and tgt must be equal to d_model, 4, not 4 and 5",
        ),
    ],
)
def test_messages(act, message):
    with pytest.raises(ArgumentError, match=message):
        act()
