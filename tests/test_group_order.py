"""Groups stay in an order in which they can run, whatever merges, and merge unless that makes a cycle."""

import random

import pytest

from tjit.codegen import group_order
from tjit.codegen.items import Group


def _reaches(start, goal):
    """Whether `start` needs `goal`, and whether it does by way of a third."""
    seen, stack = set(), [g for g in start.needs if g is not goal]
    while stack:
        group = stack.pop()
        if group not in seen:
            seen.add(group)
            stack += group.needs
    return goal in seen


@pytest.mark.parametrize("seed", range(8))
def test_random_merges(seed):
    draw = random.Random(seed)
    groups: list[Group] = []
    merged = refused = 0
    for number in range(120):
        group = Group([], [], "store")
        group_order.add(group, number, draw.sample(groups[-12:], min(len(groups), draw.randint(0, 3))))
        groups.append(group)
        for _ in range(2):
            a, b = draw.choice(groups), draw.choice(groups[-20:])
            if a is b:
                continue
            moved = group_order.between(a, b)
            assert (moved is None) == (_reaches(a, b) or _reaches(b, a))
            if moved is None:
                refused += 1
                continue
            wanted = (set(a.needs) | set(b.needs)) - {a, b}, (set(a.users) | set(b.users)) - {a, b}
            group_order.merge(a, b, moved)
            groups.remove(b)
            merged += 1
            assert (set(a.needs), set(a.users)) == wanted
        assert len({g.number for g in groups}) == len(groups)
        for g in groups:
            assert all(n.number < g.number and g in n.users for n in g.needs)
            assert all(u.number > g.number and g in u.needs for u in g.users)
    assert merged > 20
    assert refused > 5


def test_groups_far_apart_stay_apart():
    chain = []
    for number in range(400):
        group = Group([], [], "store")
        group_order.add(group, number, chain[-1:])
        chain.append(group)
    lone = Group([], [], "store")
    group_order.add(lone, len(chain), chain[-1:])

    assert group_order.between(chain[-2], chain[-1]) is not None
    assert group_order.between(chain[0], lone) is None
