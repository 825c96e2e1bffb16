"""Modules: registration, walking, state, modes, printing; layers are PyTorch's."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import tjit
from tjit import nn
from tjit.capture.trace import Trace, tracing
from tjit.errors import ArgumentError, DTypeError, TypeRuleError
from tjit.ir.graph import GraphBuilder


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 3)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(3, 2, bias=False)
        self.register_buffer("scale", tjit.ones(1))
        self.factor = 2.0

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x))) * self.scale * self.factor


def test_parameters_have_dotted_names_in_the_order_of_assignment():
    net = Net()

    assert [n for n, _ in net.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight"]
    assert [n for n, _ in net.named_buffers()] == ["scale"]
    assert [n for n, _ in net.named_modules()] == ["", "fc1", "act", "fc2"]
    assert [n for n, _ in net.named_children()] == ["fc1", "act", "fc2"]
    assert len(list(net.parameters())) == 3
    assert list(net.state_dict()) == ["scale", "fc1.weight", "fc1.bias", "fc2.weight"]


def test_printed_form_is_pytorchs():
    assert repr(Net()) == (
        "Net(\n"
        "  (fc1): Linear(in_features=4, out_features=3, bias=True)\n"
        "  (act): ReLU()\n"
        "  (fc2): Linear(in_features=3, out_features=2, bias=False)\n"
        ")"
    )


def test_a_parameter_prints_as_pytorchs():
    assert repr(nn.Parameter(tjit.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"


PRINTED = (
    lambda m: m.Sequential(m.Linear(2, 3), m.Sequential(m.ReLU(inplace=True), m.Dropout(0.1))),
    lambda m: m.ModuleDict({"a": m.Tanh(), "b": m.ModuleList([m.Identity(), m.ELU(0.5)])}),
    lambda m: m.ModuleList(),
    lambda m: m.ModuleList([m.ReLU(), m.ReLU(), m.Linear(2, 3), m.ReLU(), m.Linear(2, 3), m.Linear(2, 3)]),
    lambda m: m.BatchNorm1d(3, momentum=None, affine=False),
    lambda m: m.LayerNorm((3, 4), eps=1e-3),
    lambda m: m.LayerNorm(3, elementwise_affine=False),
    lambda m: m.RMSNorm(3),
    lambda m: m.GroupNorm(2, 4),
    lambda m: m.InstanceNorm2d(3, affine=True),
    lambda m: m.Embedding(5, 3, padding_idx=-1),
    lambda m: m.Flatten(),
    lambda m: m.Unflatten(1, (2, 3)),
    lambda m: m.Bilinear(2, 3, 4, bias=False),
    lambda m: m.LeakyReLU(0.2, inplace=True),
    lambda m: m.Hardtanh(-2.0, 2.0),
    lambda m: m.ReLU6(),
    lambda m: m.PReLU(3),
    lambda m: m.Threshold(0.1, 20),
    lambda m: m.Softplus(2.0),
    lambda m: m.CELU(0.5),
    lambda m: m.GLU(1),
    lambda m: m.GELU("tanh"),
    lambda m: m.Softmax(dim=1),
    lambda m: m.LogSoftmax(1),
    lambda m: m.Hardshrink(0.3),
    lambda m: m.CrossEntropyLoss(),
    lambda m: m.MSELoss(),
)


@pytest.mark.parametrize("make", PRINTED)
def test_modules_print_as_pytorchs(make):
    torch = pytest.importorskip("torch")

    assert repr(make(nn)) == repr(make(torch.nn))


def test_replacing_a_module_keeps_its_place_and_registers_the_new_one():
    net = Net()
    net.fc1 = nn.Linear(4, 3, bias=False)

    assert [n for n, _ in net.named_parameters()] == ["fc1.weight", "fc2.weight"]


def test_attributes_change_kind():
    net: Any = Net()
    net.factor = nn.Parameter(tjit.ones(1))
    assert "factor" in dict(net.named_parameters())
    net.act = None
    assert net.act is None
    del net.fc2
    assert not hasattr(net, "fc2")
    net.buffer = nn.Buffer(tjit.zeros(2), persistent=False)
    assert "buffer" in dict(net.named_buffers())
    assert "buffer" not in net.state_dict()


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda n: n.register_parameter("a.b", None), KeyError, "contain"),
        (lambda n: n.register_parameter("", None), KeyError, "be empty string"),
        (lambda n: n.register_parameter("fc1", None), KeyError, "attribute 'fc1' already exists"),
        (lambda n: n.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
        (lambda n: n.register_parameter("p", tjit.ones(1)), DTypeError, "object to parameter 'p'"),
        (lambda n: n.register_buffer("b", 3), DTypeError, "object to buffer 'b'"),
        (lambda n: n.register_module("m", 3), DTypeError, "int is not a Module subclass"),
        (lambda n: setattr(n.fc1, "weight", tjit.ones(1)), DTypeError, "cannot assign 'Tensor' as parameter 'weight'"),
        (lambda n: setattr(n, "fc1", 3), DTypeError, "cannot assign 'int' as module 'fc1'"),
        (lambda n: n.missing, AttributeError, "'Net' object has no attribute 'missing'"),
        (lambda n: n.to(tjit.int64), DTypeError, "only accepts floating point dtypes"),
        (
            lambda n: nn.Module()(1),
            NotImplementedError,
            r'Module \[Module\] is missing the required "forward" function',
        ),
    ],
)
def test_messages(act, error, message):
    with pytest.raises(error, match=message):
        act(Net())


def test_assignment_before_init_is_refused():
    class Early(nn.Module):
        def __init__(self):
            self.p = nn.Parameter(tjit.ones(1))

    with pytest.raises(AttributeError, match="before Module"):
        Early()


def test_state_dict_shares_memory_and_loads_into_it():
    a, b = Net(), Net()
    weight = b.fc1.weight

    result = b.load_state_dict(a.state_dict())

    assert b.fc1.weight is weight
    assert repr(result) == "<All keys matched successfully>"
    np.testing.assert_array_equal(weight.detach().numpy(), a.fc1.weight.detach().numpy())
    assert np.shares_memory(a.state_dict()["fc1.weight"].numpy(), a.fc1.weight.detach().numpy())


def test_load_state_dict_lists_all_that_does_not_match():
    net = Net()
    state = OrderedDict(net.state_dict())
    del state["fc1.bias"]
    state["extra"] = tjit.ones(1)
    state["fc2.weight"] = tjit.ones(2, 4)

    with pytest.raises(TypeRuleError) as error:
        net.load_state_dict(state)

    assert error.value.message == (
        "Error(s) in loading state_dict for Net:\n"
        '\tUnexpected key(s) in state_dict: "extra". \n'
        '\tMissing key(s) in state_dict: "fc1.bias". \n'
        "\tsize mismatch for fc2.weight: copying a param with shape torch.Size([2, 4]) from checkpoint, "
        "the shape in current model is torch.Size([2, 3])."
    )


def test_load_state_dict_may_be_lenient():
    net = Net()

    result = net.load_state_dict({"fc1.bias": tjit.zeros(3), "extra": tjit.ones(1)}, strict=False)

    assert result.missing_keys == ["scale", "fc1.weight", "fc2.weight"]
    assert result.unexpected_keys == ["extra"]
    assert net.fc1.bias.tolist() == [0.0, 0.0, 0.0]


def test_state_of_torchs_module_loads(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
    ours = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    x = rng.standard_normal((5, 4)).astype(np.float32)

    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})

    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_close(ours(tjit.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), 10)
    assert_close(ours[1].running_var.numpy(), theirs[1].running_var.numpy(), 10)
    assert_close(ours.eval()(tjit.tensor(x)).detach().numpy(), theirs.eval()(torch.tensor(x)).detach().numpy(), 10)


def test_train_and_eval_reach_every_module():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))

    assert all(m.training for m in net.modules())
    assert not any(m.training for m in net.eval().modules())
    x = tjit.ones(4, 4)
    assert net(x) is x


def test_conversion_reaches_parameters_and_buffers():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    net.double()

    assert {t.dtype for t in net.parameters()} == {tjit.float64}
    assert net[1].running_mean.dtype is tjit.float64
    assert net[1].num_batches_tracked.dtype is tjit.int64
    assert net.to(tjit.float16)[0].weight.dtype is tjit.float16
    assert net.to("cpu").float()[0].weight.dtype is tjit.float32


def test_gradients_reach_parameters_and_are_dropped():
    net = Net()
    net(tjit.ones(2, 4)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())

    net.zero_grad()

    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(tjit.ones(2, 4)).requires_grad


def test_apply_visits_children_first():
    seen = []

    Net().apply(lambda m: seen.append(type(m).__name__))

    assert seen == ["Linear", "ReLU", "Linear", "Net"]


def test_hooks_see_and_replace():
    net = nn.Linear(2, 2)
    before = net.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    after = net.register_forward_hook(lambda m, args, y: y + 1)

    y = net(tjit.ones(1, 2))

    np.testing.assert_allclose(y.detach().numpy()[0], net.bias.detach().numpy() + 1, rtol=1e-6)
    before.remove()
    after.remove()
    assert not np.allclose(net(tjit.ones(1, 2)).detach().numpy(), y.detach().numpy())


def test_a_shared_parameter_is_listed_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight

    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(net.state_dict()) == 4


def test_modules_copy_and_pickle():
    net = Net()

    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other.fc1.weight, nn.Parameter)
        assert other.fc1.weight is not net.fc1.weight
        np.testing.assert_array_equal(other.fc1.weight.detach().numpy(), net.fc1.weight.detach().numpy())
        assert not np.shares_memory(other.fc1.weight.detach().numpy(), net.fc1.weight.detach().numpy())


def test_containers():
    net = nn.Sequential(OrderedDict(a=nn.Identity(), b=nn.ReLU()))
    assert net.b is net[1] is net[-1]
    assert len(net) == 2
    assert isinstance(net[:1], nn.Sequential)
    net.append(nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Identity", "ReLU", "Tanh"]
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.extend([nn.Linear(2, 3)]).insert(0, nn.Identity())
    assert [n for n, _ in layers.named_parameters()] == ["1.weight", "1.bias", "2.weight", "2.bias"]
    named = nn.ModuleDict({"x": nn.Linear(1, 1)})
    named["y"] = nn.Identity()
    assert list(named) == ["x", "y"]
    assert "x" in named
    params = nn.ParameterList([tjit.ones(2), nn.Parameter(tjit.ones(3))])
    assert [tuple(p.shape) for p in params] == [(2,), (3,)]
    assert len(list(params.parameters())) == 2
    by_name = nn.ParameterDict({"w": tjit.ones(2)})
    assert list(by_name.state_dict()) == ["w"]
    with pytest.raises(IndexError, match="index 3 is out of range"):
        net[3]


LAYERS = (
    (lambda m: m.Linear(4, 3), (5, 4)),
    (lambda m: m.LayerNorm(4), (5, 4)),
    (lambda m: m.RMSNorm(4), (5, 4)),
    (lambda m: m.GroupNorm(2, 4), (5, 4, 3)),
    (lambda m: m.BatchNorm1d(4), (5, 4)),
    (lambda m: m.BatchNorm1d(4, momentum=None), (5, 4, 3)),
    (lambda m: m.BatchNorm2d(4, track_running_stats=False), (5, 4, 3, 2)),
    (lambda m: m.InstanceNorm1d(4, affine=True), (5, 4, 3)),
    (lambda m: m.PReLU(4), (5, 4)),
    (lambda m: m.Flatten(), (5, 4, 3)),
    (lambda m: m.Unflatten(1, (2, 2)), (5, 4)),
    (lambda m: m.Softmax2d(), (2, 3, 4, 5)),
    (lambda m: m.Sequential(m.Linear(4, 8), m.GELU(), m.Linear(8, 2), m.LogSoftmax(1)), (5, 4)),
)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_layers_are_pytorchs(make, shape, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn).double(), make(torch.nn).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = rng.standard_normal(shape)
    mine, torchs = tjit.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)

    ours(mine)  # running statistics move twice
    theirs(torchs)
    y, t = ours(mine), theirs(torchs)
    (y * y).sum().backward()
    (t * t).sum().backward()

    assert_close(y.detach().numpy(), t.detach().numpy(), 10)
    assert_close(mine.grad.numpy(), torchs.grad.numpy(), 1000)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(p.grad.numpy(), q.grad.numpy(), 1000)
    for name, value in theirs.state_dict().items():
        assert_close(ours.state_dict()[name].numpy(), value.numpy(), 10)


LOSSES = (
    ("MSELoss", {}, "pair"),
    ("L1Loss", {"reduction": "sum"}, "pair"),
    ("SmoothL1Loss", {"beta": 0.5}, "pair"),
    ("HuberLoss", {"delta": 0.5}, "pair"),
    ("BCEWithLogitsLoss", {}, "pair"),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, "classes"),
    ("NLLLoss", {}, "classes"),
    ("MultiMarginLoss", {"p": 2}, "classes"),
    ("HingeEmbeddingLoss", {}, "pair"),
    ("PoissonNLLLoss", {}, "pair"),
)


@pytest.mark.parametrize(("name", "options", "target"), LOSSES, ids=str)
def test_loss_modules_are_pytorchs(name, options, target, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((5, 4))
    t = rng.integers(0, 4, 5) if target == "classes" else rng.uniform(0, 1, (5, 4))

    mine = getattr(nn, name)(**options)(tjit.tensor(x), tjit.tensor(t))

    assert_close(mine.numpy(), getattr(torch.nn, name)(**options)(torch.tensor(x), torch.tensor(t)).numpy(), 10)


def test_initial_values_have_the_ranges_they_say():
    tjit.manual_seed(0)
    linear = nn.Linear(100, 200)
    w = tjit.empty(100, 200)

    assert abs(linear.weight.detach().numpy()).max() <= 0.1
    assert linear.weight.detach().numpy().std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    assert abs(linear.bias.detach().numpy()).max() <= 0.1
    assert nn.init.xavier_uniform_(w).numpy().std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)
    assert nn.init.xavier_normal_(w).numpy().std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)
    assert nn.init.kaiming_normal_(w, nonlinearity="relu").numpy().std() == pytest.approx(0.1, rel=0.02)
    assert nn.init.kaiming_uniform_(w, mode="fan_out").numpy().std() == pytest.approx(np.sqrt(2 / 100), rel=0.02)
    assert abs(nn.init.trunc_normal_(w, a=-1, b=1).numpy()).max() <= 1
    assert (nn.init.constant_(w, 3.0).numpy() == 3).all()
    np.testing.assert_allclose((lambda q: q @ q.T)(nn.init.orthogonal_(w).numpy()), np.eye(100), atol=1e-5)
    assert nn.init.eye_(w).numpy()[5, 5] == 1


def test_calculate_gain_is_pytorchs():
    torch = pytest.importorskip("torch")

    for name, param in (
        ("linear", None),
        ("relu", None),
        ("leaky_relu", 0.2),
        ("tanh", None),
        ("selu", None),
        ("conv2d", None),
    ):
        assert nn.init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_clip_grad_norm_is_pytorchs(norm_type, rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    ours, theirs = [nn.Parameter(tjit.tensor(a)) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    for params in (ours, theirs):
        total: Any = sum((p * p * p).sum() for p in params)
        total.backward()

    norms = nn.utils.clip_grad_norm_(ours, 0.5, norm_type), torch.nn.utils.clip_grad_norm_(theirs, 0.5, norm_type)

    assert_close(norms[0].numpy(), norms[1].numpy(), 10)
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p.grad.numpy(), q.grad.numpy(), 10)


def test_parameters_become_a_vector_and_again_parameters():
    net = nn.Linear(2, 3)

    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(tjit.arange(9.0), net.parameters())

    assert tuple(vector.shape) == (9,)
    assert net.bias.tolist() == [6.0, 7.0, 8.0]


def test_a_captured_module_lifts_its_parameters_under_their_names():
    net = Net()
    nn.name_parameters(net)
    trace = Trace(GraphBuilder("f"))

    with tracing(trace):
        net(tjit.tensor(np.ones((2, 4), np.float32)))

    assert [v.name for v in trace.builder.inputs if v.name] == ["fc1.weight", "fc1.bias", "fc2.weight", "scale"]


def test_a_dropout_out_of_range_is_refused():
    with pytest.raises(ArgumentError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        nn.Dropout(1.5)


def test_a_compiled_batch_norm_takes_any_batch(rng):
    ours, eager = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    forward = tjit.compile(lambda x: ours(x))

    for batch in (4, 7, 12, 5):  # the second size makes the dim symbolic
        x = tjit.tensor(rng.standard_normal((batch, 3)))
        assert_close(forward(x).detach().numpy(), eager(x).detach().numpy(), 10)

    for name, value in eager.state_dict().items():
        assert_close(ours.state_dict()[name].numpy(), value.numpy(), 10)
