"""tjit.explain: what a call runs, and why."""

from __future__ import annotations

import tjit

SCALE = 2.0


def test_page_shows_phases_graph_kernels_and_guards():
    model = tjit.nn.Linear(8, 4)

    def predict(x):
        return tjit.relu(model(x)) * SCALE

    page = str(tjit.explain(predict, tjit.ones(3, 8)))

    assert page.startswith("predict: ")
    assert "  capture " in page
    assert "inputs: 1 arguments, 2 tensors that it uses, 0 of them written" in page
    assert "program predict: 3 nodes captured, " in page
    assert "test_explain.py:" in page
    assert "closure variable model.training is True" in page
    assert "calls: 0 ran a variant that was there, 1 captured" in page


def test_explain_does_not_run_the_function():
    x = tjit.zeros(3)

    def grow(x):
        x += 1
        return x

    tjit.explain(tjit.compile(grow), x)

    assert x.tolist() == [0, 0, 0]


def test_reasons_of_captures_are_told():
    @tjit.compile
    def double(x):
        return x * 2

    double(tjit.ones(3))
    double(tjit.ones(3, dtype=tjit.float64))

    found = tjit.explain(double, tjit.ones(3))
    assert found.calls.misses == 2
    assert "  captured again: x was f32[3] and is f64[3]\n    at test_explain.py:" in str(found)


def test_contraction_counts_two_operations_a_multiply_add():
    found = tjit.explain(lambda a, b: a @ b, tjit.ones(3, 5), tjit.ones(5, 7))

    (kernel,) = found.kernels
    assert kernel.operations == 2 * 3 * 5 * 7
    assert kernel.bytes == 4 * (3 * 5 + 5 * 7 + 3 * 7)


def test_elementwise_kernel_counts_its_ops_and_buffers():
    found = tjit.explain(lambda a, b: tjit.exp(a + b), tjit.ones(6), tjit.ones(6))

    (kernel,) = found.kernels
    assert kernel.operations == 12
    assert kernel.bytes == 4 * 18


def test_symbols_have_the_values_of_this_call():
    twice = tjit.compile(lambda x: x + x, dynamic=True)

    found = tjit.explain(twice, tjit.ones(5))

    assert found.symbols == {"s0": 5}
    assert found.kernels[0].operations == 5


def test_program_of_the_gradient_is_shown():
    found = tjit.explain(lambda x: x.exp().sum(), tjit.ones(4, requires_grad=True))

    assert len(found.programs) == 2
    assert "_backward: " in str(found)
