"""A fixed share of the random graphs with control flow; more on request (see tests/random_graphs.py)."""

from __future__ import annotations

import pytest
from random_graphs import check, main, random_graph

from tjit.ir.printer import print_graph


@pytest.mark.parametrize("seed", range(2000, 2060))
def test_text_and_passes_keep_what_a_graph_computes(seed):
    check(seed)


def test_a_seed_gives_one_graph():
    assert print_graph(random_graph(7)) == print_graph(random_graph(7))


def test_failures_are_reported_with_their_seeds(capsys):
    assert main(["--count", "3"]) == 0
    assert "0 of 3 failed" in capsys.readouterr().out
