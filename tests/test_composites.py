"""Composites: values and gradients are PyTorch's; shapes at the edges; what a captured graph looks like."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerances import assert_close

import tjit
import tjit.nn.functional as F
from tjit.autograd.tape import grad
from tjit.capture.trace import trace_graph
from tjit.dtypes import f32, i64
from tjit.errors import ArgumentError, DimensionError, TypeRuleError
from tjit.ir.types import TensorType

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:reduction. .mean. divides the total loss:UserWarning")
TF = torch.nn.functional


def compare(ours, theirs, *arrays, factor=10.0):
    """Value and gradients of `ours(*tensors)` are those of `theirs(*tensors)`, in f64."""
    xs = [tjit.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    ts = [torch.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert_close(y.detach().numpy(), t.detach().numpy(), factor)
    weights = np.random.default_rng(1).standard_normal(y.shape)
    (y * tjit.tensor(weights)).sum().backward()
    (t * torch.tensor(weights)).sum().backward()
    for x, r in zip(xs, ts, strict=True):
        if r.grad is None:
            assert x.grad is None or not x.grad.numpy().any()
        else:
            assert_close(x.grad.numpy(), r.grad.numpy(), factor)


ACTIVATIONS = (
    ("celu", (0.5,)),
    ("elu", (0.7,)),
    ("gelu", ()),
    ("glu", (1,)),
    ("hardshrink", (0.3,)),
    ("hardswish", ()),
    ("hardtanh", (-0.5, 2.0)),
    ("leaky_relu", (0.2,)),
    ("logsigmoid", ()),
    ("mish", ()),
    ("relu", ()),
    ("relu6", ()),
    ("selu", ()),
    ("silu", ()),
    ("softplus", (2.0, 5.0)),
    ("softshrink", (0.3,)),
    ("softsign", ()),
    ("tanhshrink", ()),
    ("threshold", (0.1, -3.0)),
)


@pytest.mark.parametrize(("name", "args"), ACTIVATIONS, ids=lambda a: a if isinstance(a, str) else "")
def test_activations_are_torchs(name, args, rng):
    x = rng.standard_normal((6, 20)) * 4

    compare(lambda x: getattr(F, name)(x, *args), lambda x: getattr(TF, name)(x, *args), x)


def test_hardsigmoid_is_torchs(rng):
    x = rng.standard_normal((6, 20)) * 4

    # PyTorch's gradient is 1 / 6 rounded to f32
    compare(F.hardsigmoid, TF.hardsigmoid, x, factor=1e6)


@pytest.mark.parametrize("name", [a[0] for a in ACTIVATIONS if a[0] not in ("glu",)])
def test_activations_have_finite_gradients_of_large_numbers(name):
    x = tjit.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    args = dict(ACTIVATIONS)[name]

    (first,) = grad(getattr(F, name)(x, *args).sum(), x, create_graph=True)

    assert np.isfinite(first.detach().numpy()).all()
    if first.requires_grad:
        (second,) = grad(first.sum(), x)
        assert np.isfinite(second.numpy()).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_row_functions_are_torchs(name, dim, rng):
    x = rng.standard_normal((3, 5, 4)) * 30

    compare(lambda x: getattr(F, name)(x, dim), lambda x: getattr(TF, name)(x, dim), x)


def test_softmax_of_edges():
    assert F.softmax(tjit.tensor(3.0), 0).item() == 1.0
    assert tuple(F.softmax(tjit.zeros(0, 3), 0).shape) == (0, 3)
    assert F.softmax(tjit.tensor([1e30, 1e30]), 0).tolist() == [0.5, 0.5]
    assert np.isnan(F.softmax(tjit.full((2,), float("-inf")), 0).numpy()).all()
    assert F.softmax(tjit.tensor([1, 2]), 0, dtype=tjit.float64).dtype is tjit.float64


def test_softmax_without_a_dim_warns():
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax has been deprecated"):
        y = F.softmax(tjit.ones(2, 2))

    assert y.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_softmax_is_one_node():
    graph = trace_graph("f", lambda x: F.softmax(x, -1), [TensorType(f32, (3, 4))])

    assert [n.op.name for n in graph.nodes] == ["softmax"]


SHAPES = (((6, 5), (6,)), ((2, 5, 3), (2, 3)), ((2, 5, 3, 2), (2, 3, 2)), ((5,), ()))


@pytest.mark.parametrize(("shape", "target"), SHAPES, ids=str)
@pytest.mark.parametrize(
    "options", [*itertools.product(("mean", "sum", "none"), (0.0, 0.2), (False, True), (-100, 2))], ids=str
)
def test_cross_entropy_is_torchs(shape, target, options, rng):
    reduction, smoothing, weighted, ignored = options
    x, t = rng.standard_normal(shape) * 3, rng.integers(0, 5, target)
    t = np.where(t == 2, 3, t) if len(shape) == 1 else t  # PyTorch: all ignored gives nan
    weight = rng.uniform(0.5, 2, 5)

    def call(functional, tensor):
        w = tensor(weight) if weighted else None
        return lambda x, t: functional(x, t, w, ignore_index=ignored, reduction=reduction, label_smoothing=smoothing)

    compare(call(F.cross_entropy, tjit.tensor), call(TF.cross_entropy, torch.tensor), x, t)


@pytest.mark.parametrize("options", [*itertools.product(("mean", "sum", "none"), (0.0, 0.2), (False, True))], ids=str)
def test_cross_entropy_of_probabilities_is_torchs(options, rng):
    reduction, smoothing, weighted = options
    x, p = rng.standard_normal((4, 5, 3)), rng.uniform(0, 1, (4, 5, 3))
    weight = rng.uniform(0.5, 2, 5)

    def call(functional, tensor):
        w = tensor(weight) if weighted else None
        return lambda x, t: functional(x, t, w, reduction=reduction, label_smoothing=smoothing)

    compare(call(F.cross_entropy, tjit.tensor), call(TF.cross_entropy, torch.tensor), x, p)


def test_cross_entropy_with_everything_ignored_is_nan():
    y = F.cross_entropy(tjit.zeros(2, 3), tjit.tensor([-100, -100]))

    assert np.isnan(y.item())


def test_cross_entropy_refuses_a_class_out_of_range():
    with pytest.raises(DimensionError, match=r"Target 3 is out of bounds\.") as error:
        F.cross_entropy(tjit.zeros(2, 3), tjit.tensor([0, 3]))

    assert "hint: classes are 0 to 2" in str(error.value)


@pytest.mark.parametrize("bad", [3, -1, 2**40])
def test_compiled_cross_entropy_refuses_a_class_out_of_range(bad):
    loss = tjit.compile(F.cross_entropy)
    x = tjit.zeros(4, 3)

    assert loss(x, tjit.tensor([0, 1, 2, -100])).item() == pytest.approx(np.log(3))
    with pytest.raises(IndexError, match="index out of range"):
        loss(x, tjit.tensor([0, bad, 2, -100]))


def test_cross_entropy_and_its_gradient_gather_no_logits():
    types = [TensorType(f32, (8, 10)), TensorType(i64, (8,))]

    def both(x, t):
        from tjit.ops.cross_entropy import CROSS_ENTROPY

        attrs = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
        y = CROSS_ENTROPY.decompose(x, t, **attrs)
        dx, _ = CROSS_ENTROPY.vjp(y, y, x, t, **attrs)
        return y, dx

    graph = trace_graph("f", both, types)

    assert not {n.op.name for n in graph.nodes} & {"gather", "scatter", "scatter_add", "index_add"}
    # the one read at computed places is the check of the classes
    assert [n.operands[0].type.shape for n in graph.nodes if n.op.name == "take"] == [(10,)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_loss_is_torchs(reduction, weighted, rng):
    x, t, weight = rng.standard_normal((6, 5)), rng.integers(0, 5, 6), rng.uniform(0.5, 2, 5)

    def call(functional, tensor):
        return lambda x, t: functional(x, t, tensor(weight) if weighted else None, ignore_index=1, reduction=reduction)

    compare(call(F.nll_loss, tjit.tensor), call(TF.nll_loss, torch.tensor), x, t)


PAIR_LOSSES = (
    ("mse_loss", {}, (-3, 3), (-3, 3)),
    ("l1_loss", {}, (-3, 3), (-3, 3)),
    ("smooth_l1_loss", {"beta": 0.7}, (-3, 3), (-3, 3)),
    ("smooth_l1_loss", {"beta": 0.0}, (-3, 3), (-3, 3)),
    ("huber_loss", {"delta": 0.7}, (-3, 3), (-3, 3)),
    ("binary_cross_entropy", {}, (0.01, 0.99), (0, 1)),
    ("binary_cross_entropy_with_logits", {}, (-9, 9), (0, 1)),
    ("kl_div", {}, (-3, 0), (0.1, 1)),
    ("kl_div", {"log_target": True}, (-3, 0), (-3, 0)),
    ("poisson_nll_loss", {"full": True}, (-2, 2), (0.1, 5)),
    ("poisson_nll_loss", {"log_input": False}, (0.1, 3), (0.1, 5)),
)


@pytest.mark.parametrize(("name", "options", "x_range", "t_range"), PAIR_LOSSES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_pairs_are_torchs(name, options, x_range, t_range, reduction, rng):
    x, t = rng.uniform(*x_range, (4, 5)), rng.uniform(*t_range, (4, 5))

    def call(functional):
        return lambda x, t: getattr(functional, name)(x, t, reduction=reduction, **options)

    compare(call(F), call(TF), x, t)


def test_weights_of_binary_cross_entropy(rng):
    x, t, w, pw = rng.uniform(-3, 3, (4, 5)), rng.uniform(0, 1, (4, 5)), rng.uniform(0, 2, 5), rng.uniform(0.5, 2, 5)

    def call(functional):
        return lambda x, t, w, pw: functional.binary_cross_entropy_with_logits(x, t, w.detach(), pos_weight=pw.detach())

    compare(call(F), call(TF), x, t, w, pw)


def test_binary_cross_entropy_clamps_its_logarithms():
    y = F.binary_cross_entropy(tjit.tensor([0.0, 1.0]), tjit.tensor([1.0, 1.0]), reduction="none")

    assert y.tolist() == [100.0, 0.0]


def test_binary_cross_entropy_refuses_what_is_no_probability():
    with pytest.raises(TypeRuleError, match="all elements of input should be between 0 and 1"):
        F.binary_cross_entropy(tjit.tensor([1.5]), tjit.tensor([1.0]))


def test_mse_loss_of_two_shapes_warns_and_broadcasts():
    with pytest.warns(UserWarning, match="Using a target size"):
        y = F.mse_loss(tjit.zeros(3, 2), tjit.ones(2))

    assert y.item() == 1.0


def test_kl_div_of_a_batch(rng):
    x, t = rng.uniform(-3, 0, (4, 5)), rng.uniform(0, 1, (4, 5))

    compare(
        lambda x, t: F.kl_div(x, t, reduction="batchmean"), lambda x, t: TF.kl_div(x, t, reduction="batchmean"), x, t
    )


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ArgumentError, match="maen is not a valid value for reduction"):
        F.mse_loss(tjit.ones(2), tjit.ones(2), reduction="maen")


MARGIN_LOSSES = (
    ("margin_ranking_loss", {"margin": 0.3}, 2, "sign"),
    ("hinge_embedding_loss", {"margin": 0.8}, 1, "sign"),
    ("cosine_embedding_loss", {"margin": 0.1}, 2, "rows"),
    ("triplet_margin_loss", {"margin": 0.5}, 3, None),
    ("soft_margin_loss", {}, 1, "sign"),
    ("triplet_margin_loss", {"swap": True}, 3, None),
    ("multilabel_soft_margin_loss", {}, 1, "bits"),
    ("multi_margin_loss", {"margin": 0.7}, 1, "classes"),
    ("multi_margin_loss", {"p": 2}, 1, "classes"),
)


@pytest.mark.parametrize(("name", "options", "inputs", "target"), MARGIN_LOSSES, ids=str)
def test_margin_losses_are_torchs(name, options, inputs, target, rng):
    arrays = [rng.standard_normal((6, 5)) for _ in range(inputs)]
    targets = {
        "sign": rng.choice([-1, 1], (6, 5)),
        "rows": rng.choice([-1, 1], 6),
        "bits": rng.integers(0, 2, (6, 5)),
        "classes": rng.integers(0, 5, 6),
    }
    arrays += [targets[target]] if target else []

    compare(lambda *xs: getattr(F, name)(*xs, **options), lambda *xs: getattr(TF, name)(*xs, **options), *arrays)


def test_gaussian_nll_loss_is_torchs(rng):
    x, t, v = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)), rng.uniform(0.1, 2, (4, 5))

    compare(lambda *xs: F.gaussian_nll_loss(*xs, full=True), lambda *xs: TF.gaussian_nll_loss(*xs, full=True), x, t, v)


@pytest.mark.parametrize("affine", [0, 1, 2])
@pytest.mark.parametrize("rows", [(5,), (4, 5)])
def test_layer_norm_is_torchs(affine, rows, rng):
    arrays = [rng.standard_normal((3, 4, 5)), *(rng.standard_normal(rows) for _ in range(affine))]

    compare(lambda x, *p: F.layer_norm(x, rows, *p), lambda x, *p: TF.layer_norm(x, rows, *p), *arrays)


def test_layer_norm_with_only_a_bias_is_torchs(rng):
    x, b = rng.standard_normal((3, 5)), rng.standard_normal(5)

    compare(lambda x, b: F.layer_norm(x, (5,), None, b), lambda x, b: TF.layer_norm(x, (5,), None, b), x, b)


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norm_is_torchs(eps, rng):
    x, w = rng.standard_normal((3, 5)), rng.standard_normal(5)

    compare(lambda x, w: F.rms_norm(x, (5,), w, eps), lambda x, w: TF.rms_norm(x, (5,), w, eps), x, w)


def test_group_and_instance_norm_are_torchs(rng):
    x, w, b = rng.standard_normal((2, 6, 4, 3)), rng.standard_normal(6), rng.standard_normal(6)

    compare(lambda x, w, b: F.group_norm(x, 3, w, b), lambda x, w, b: TF.group_norm(x, 3, w, b), x, w, b)
    compare(
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        lambda x, w, b: TF.instance_norm(x, weight=w, bias=b),
        x,
        w,
        b,
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
def test_batch_norm_and_its_running_statistics_are_torchs(training, shape, rng):
    x, w, b = rng.standard_normal(shape), rng.standard_normal(4), rng.standard_normal(4)
    mean, var = rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    ours, theirs = (tjit.tensor(mean), tjit.tensor(var)), (torch.tensor(mean), torch.tensor(var))

    compare(
        lambda x, w, b: F.batch_norm(x, *ours, w, b, training),
        lambda x, w, b: TF.batch_norm(x, *theirs, w, b, training),
        x,
        w,
        b,
    )

    for mine, torchs in zip(ours, theirs, strict=True):
        assert_close(mine.numpy(), torchs.numpy())


@pytest.mark.parametrize("p", [1, 2, 3, float("inf")])
def test_normalize_is_torchs(p, rng):
    x = rng.standard_normal((3, 5))

    compare(lambda x: F.normalize(x, p), lambda x: TF.normalize(x, p), x)


def test_normalize_of_a_zero_row_has_a_finite_gradient():
    x = tjit.zeros(1, 3, requires_grad=True)

    F.normalize(x).sum().backward()

    assert np.isfinite(x.grad.numpy()).all()


def test_distances_are_torchs(rng):
    a, b = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))

    compare(F.cosine_similarity, TF.cosine_similarity, a, b)
    compare(F.pairwise_distance, TF.pairwise_distance, a, b)


def test_bilinear_is_torchs(rng):
    x, y, w, b = (rng.standard_normal(s) for s in ((2, 3, 4), (2, 3, 5), (6, 4, 5), (6,)))

    compare(F.bilinear, TF.bilinear, x, y, w, b)


MASKS = ("none", "causal", "bool", "float", "blind")


@pytest.mark.parametrize("mask", MASKS)
def test_attention_is_torchs(mask, rng):
    q, k, v = (rng.standard_normal(s) for s in ((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 6)))
    sees = rng.uniform(size=(4, 5)) < 0.7
    sees[:, 0] = True
    if mask == "blind":
        sees[1] = False
    masks = {"bool": sees, "blind": sees, "float": np.where(sees, rng.standard_normal((4, 5)), -np.inf)}

    def call(functional, tensor):
        attn_mask = tensor(masks[mask]) if mask in masks else None
        return lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=mask == "causal")

    compare(call(F, tjit.tensor), call(TF, torch.tensor), q, k, v)


def test_grouped_query_attention_is_torchs(rng):
    q, k, v = (rng.standard_normal(s) for s in ((2, 6, 4, 8), (2, 3, 5, 8), (2, 3, 5, 8)))

    compare(
        lambda *x: F.scaled_dot_product_attention(*x, enable_gqa=True),
        lambda *x: TF.scaled_dot_product_attention(*x, enable_gqa=True),
        q,
        k,
        v,
    )


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding_is_torchs(padding, rng):
    w, i = rng.standard_normal((5, 3)), rng.integers(0, 5, (4, 6))

    compare(lambda i, w: F.embedding(i, w, padding), lambda i, w: TF.embedding(i, w, padding), i, w)


def test_dropout_zeros_the_share_it_says_and_scales_the_rest():
    tjit.manual_seed(0)
    x = tjit.ones(100, 100, requires_grad=True)

    y = F.dropout(x, 0.25)
    y.sum().backward()

    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert F.dropout(x, 0.25, training=False) is x
    assert not F.dropout(x, 1.0).detach().numpy().any()


def test_dropout2d_drops_whole_channels():
    tjit.manual_seed(0)

    y = F.dropout2d(tjit.ones(50, 20, 3, 3), 0.5).numpy()

    assert ((y == 0).all((2, 3)) | (y == 2).all((2, 3))).all()
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.5) < 0.06
