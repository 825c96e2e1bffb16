"""Python functions of every construct that source rewriting touches, with arguments to call them with."""

# What is tested is odd code, unbound names and type errors among it: it stays as it is.
# ruff: noqa
# fmt: off
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportUndefinedVariable=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportAssignmentType=false
# pyright: reportIndexIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportInvalidTypeForm=false
# pyright: reportUnusedExpression=false, reportOptionalOperand=false
# pyright: reportRedeclaration=false, reportIncompatibleMethodOverride=false, reportUnhashable=false

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections import defaultdict, namedtuple
from dataclasses import dataclass

CASES: list[tuple] = []


def case(*calls):
    """Register a function with the arguments of some calls."""

    def register(fn):
        CASES.append((fn, calls))
        return fn

    return register


LIMIT = 3
HISTORY: list = []
Point = namedtuple("Point", "x y")


# Branches


@case((1,), (0,), (-1,))
def if_else(x):
    if x > 0:
        y = "positive"
    else:
        y = "other"
    return y


@case((1,), (0,), (-1,), (7,))
def elif_chain(x):
    if x > 5:
        y = 1
    elif x > 0:
        y = 2
    elif x == 0:
        y = 3
    else:
        y = 4
    return y, x


@case((1,), (0,))
def if_without_else(x):
    y = 0
    if x:
        y = 5
    return y


@case((1,), (0,))
def unbound_after_if(x):
    if x:
        y = 1
    return y


@case((1, 0), (0, 1), (1, 1))
def unbound_inside_branch(x, z):
    if x:
        y = 1
    if z:
        return y + 1
    return "none"


@case((3,), (0,))
def early_return(x):
    if x > 2:
        return "early"
    x += 1
    return x


@case((3,), (0,), (-5,))
def returns_in_both(x):
    if x > 2:
        return "a"
    else:
        return "b"


@case((3,), (0,), (-5,))
def returns_in_elif(x):
    if x > 2:
        return "a"
    elif x < 0:
        y = x
    else:
        return "b"
    return y * 2


@case((3,), (0,), (-5,))
def falls_off_the_end(x):
    if x > 2:
        return "a"
    if x < 0:
        return


@case((1, 1), (1, 0), (0, 1), (0, 0))
def nested_returns(a, b):
    if a:
        if b:
            return "ab"
        c = 1
    else:
        c = 2
    return c


@case((1, 1), (1, 0), (0, 1), (0, 0))
def return_that_may_fall_in_both(a, b):
    if a:
        if b:
            return 1
    else:
        if b:
            return 2
    a += 10
    if a > 10:
        return a
    return -a


@case((5,), (0,))
def code_behind_return(x):
    return x
    y = 1
    while True:
        pass


@case((0,), (1,))
def local_only_in_dead_code(x):
    if x:
        return LIMITS
    return 1
    LIMITS = 2


@case((0,), (1,))
def raises_in_branch(x):
    if x > 0:
        raise ValueError("positive", x)
    return x


@case(([],), ([1],), (None,))
def truthiness(x):
    if x:
        return "full"
    if x is None:
        return "none"
    if not x:
        return "empty"


class Loud:
    def __init__(self, truth):
        self.truth = truth

    def __bool__(self):
        if self.truth is None:
            raise RuntimeError("no truth")
        return self.truth

    def __eq__(self, other):
        return isinstance(other, Loud) and self.truth == other.truth

    def __repr__(self):
        return f"Loud({self.truth})"


@case((Loud(True),), (Loud(False),), (Loud(None),))
def truth_of_objects(x):
    if x:
        return 1
    return 2


@case((1,), ("a",), (None,), ([],))
def error_in_test(x):
    y = 1
    if x > 0:
        y = 2
    return y


# Loops


@case((0,), (1,), (5,))
def for_range(n):
    total = 0
    for i in range(n):
        total += i
    return total, n


@case((0,), (3,))
def variable_after_loop(n):
    for i in range(n):
        pass
    return i


@case(([1, 2, 3],), ([],))
def for_list(xs):
    out = []
    for x in xs:
        out.append(x * 2)
    return out


@case((3,), (8,), (0,))
def for_break(n):
    for i in range(n):
        if i == 4:
            break
    else:
        return "complete"
    return i


@case((6,), (0,))
def for_continue(n):
    out = []
    for i in range(n):
        if i % 2:
            continue
        out.append(i)
    return out


@case((6,), (1,))
def continue_in_the_middle(n):
    out = []
    for i in range(n):
        if i % 2:
            if i > 2:
                continue
            out.append("low")
        else:
            out.append("even")
        out.append(i)
    return out


@case((10, 5), (3, 5), (0, 0))
def for_return(n, stop):
    for i in range(n):
        if i == stop:
            return "found", i
    return "not found"


@case((4, 2, 1), (4, 9, 1), (0, 0, 0))
def return_from_nested_loops(n, a, b):
    for i in range(n):
        for j in range(n):
            if i == a and j == b:
                return i, j
        else:
            i += 100
    return "none", n


@case((5,), (0,))
def break_outer_by_flag(n):
    found = False
    for i in range(n):
        for j in range(n):
            if i * j == 6:
                found = True
                break
        if found:
            break
    else:
        return "no"
    return i, j


@case((10,), (0,))
def while_loop(n):
    total = 0
    while n > 0:
        total += n
        n -= 1
    return total


@case((10,), (3,))
def while_else(n):
    while n > 0:
        n -= 1
        if n == 5:
            break
    else:
        return "ran out"
    return n


@case((10,), (3,))
def while_true(n):
    while True:
        n -= 1
        if n % 4 == 0:
            break
        if n < -10:
            return "low"
    return n


@case((7,), (0,))
def while_true_returns(n):
    while True:
        if n > 10:
            return n
        n += 1


@case((10,),)
def while_continue(n):
    out = []
    while n:
        n -= 1
        if n % 3 == 0:
            continue
        out.append(n)
    else:
        out.append("end")
    return out


@case((4,))
def loops_in_loops(n):
    out = []
    for i in range(n):
        j = 0
        while j < n:
            j += 1
            if j == i:
                continue
            if j > i + 2:
                break
            for k in range(j):
                if k == 2:
                    break
                out.append((i, j, k))
    return out


@case(([(1, 2), (3, 4)],), ([(1,)],), ([1],))
def tuple_target(pairs):
    total = 0
    for a, b in pairs:
        total += a * b
    return total, a, b


@case(([(1, 2, 3), (4, 5)],), ([()],))
def starred_target(rows):
    out = []
    for first, *rest in rows:
        out.append((first, rest))
    return out


@case(([1, 2, 3],),)
def target_is_subscript(xs):
    d = {}
    for d["x"] in xs:
        pass
    return d


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __eq__(self, other):
        return self.__dict__ == other.__dict__

    def __repr__(self):
        return f"Holder({self.__dict__})"


@case((Holder(), [1, 2]), (Holder(), []))
def target_is_attribute(self, xs):
    for self.i in xs:
        if self.i > 1:
            self.last = self.i
    return self.last


@case(([1, 2, 3, 4],))
def loop_changes_its_list(xs):
    for x in xs:
        if x < 3 and len(xs) < 10:
            xs.append(x + 2)
    return xs


@case((5,), (None,))
def error_in_iterable(n):
    for i in range(n):
        pass
    return i


@case(([1, 0, 2],), ([1, 2],))
def error_in_body(xs):
    out = []
    for x in xs:
        y = 1
        out.append(10 / x)
    return out, y


@case(([3, 1, 2],))
def for_zip_enumerate(xs):
    out = []
    for i, (a, b) in enumerate(zip(xs, reversed(xs)), start=1):
        out.append((i, a, b))
    for c in "ab":
        out.append(c)
    for d in sorted(xs):
        out.append(d)
    return out


@case(({"a": 1, "b": 2},))
def for_dict(d):
    out = {}
    for k, v in d.items():
        if v > 1:
            out[k] = v
        else:
            out.setdefault("low", []).append(k)
    return out


@case((3,), (0,))
def iterator_state(n):
    it = iter(range(10))
    out = []
    for x in it:
        if x >= n:
            break
        out.append(next(it))
    return out, list(it)


@case(([1, 2, None, 3],), ([1],))
def literal_iterable(xs):
    out = []
    for a in (1, 2, 3):
        for b in [a, a + 1]:
            if b == 2:
                break
            out.append((a, b))
        else:
            continue
        out.append("broke")
    return out


@case((0,), (2,))
def return_from_literal_loop(x):
    for a in (1, 2, 3):
        if a == x:
            return "found"
    for name in ("a", "b"):
        if x is None:
            return name
    return "end"


@case((5,))
def loop_variable_is_shared(n):
    fs = []
    for i in range(n):
        if i % 2 == 0:
            fs.append(lambda: i)
    return [f() for f in fs]


@case((5,))
def unbound_then_bound_in_loop(n):
    for i in range(n):
        if i > 0:
            y = x + i
        x = i
    return y


@case((3,), (0,))
def reads_before_bound_in_loop(n):
    for i in range(n):
        total = total + i
    return total


@case((3,), (0,))
def augments_before_bound(n):
    for i in range(n):
        total += i
    return total


# Boolean operators, ternaries and comparisons


def log(calls, value):
    calls.append(value)
    return value


@case((1, 2), (0, 2), (1, 0), ([], ()))
def and_or(a, b):
    calls = []
    return [log(calls, a) and log(calls, b), log(calls, a) or log(calls, b), not a, not (a and b)], calls


@case((1, 0, 3), (0, 0, 0), (0, "x", 2))
def mixed_booleans(a, b, c):
    calls = []
    x = log(calls, a) and (log(calls, b) or log(calls, c)) or log(calls, "last")
    return x, calls


@case((1,), (0,))
def ternary(x):
    calls = []
    y = log(calls, "a") if log(calls, x) else log(calls, "b")
    return y, calls


@case((1,), (0,), (5,))
def ternary_nested(x):
    return "a" if x > 3 else "b" if x else "c"


@case((1, 2, 3), (3, 2, 1), (1, 1, 2), (1, None, 3), (5, 2, None))
def chained(a, b, c):
    calls = []
    return log(calls, a) < log(calls, b) <= log(calls, c), calls


@case((1, 2, 3, 4), (1, 3, 2, 2), (9, 1, 1, 1))
def long_chain(a, b, c, d):
    calls = []
    r = log(calls, a) < log(calls, b) != log(calls, c) < log(calls, d)
    return r, calls


@case((1, [1, 2]), (3, [3]), (5, []))
def chain_with_in(a, xs):
    return 0 < a in xs, a not in xs, a is not None is not xs


@case((1,), (0,))
def unbound_in_boolean(x):
    if x:
        y = 1
    return x or y


@case((0,), (1,))
def booleans_in_calls(x):
    return max(x and 5, x or 3, key=lambda v: -v if x else v)


@case((3, 0), (0, 0), (1, 1))
def booleans_in_tests(a, b):
    out = []
    while a > 0 and not (b and a == 1):
        a -= 1
        out.append(a)
    if a == 0 and b == 0 or b > 5:
        out.append("end")
    return out


# Assignments


@case(([1, 2, 3],), ([1],))
def unpacking(xs):
    a, *b = xs
    (c, d), e = (a, b), xs
    f = g = [a]
    f.append(1)
    if a:
        a, b = b, a
    return a, b, c, d, e, f, g


@case((1,), (0,))
def augmented(x):
    d = {"s": [0]}
    h = Holder(n=1)
    if x:
        d["s"] += [x]
        d["s"][0] += 5
        h.n += x
        x += 1
        x <<= 2
        x //= 3
    return d, h, x


@case((1,), (0,))
def annotated(x):
    y: int = 1
    z: "nothing"
    if x:
        y: int = 2
        z: str = "z"
        h = Holder()
        h.v: int = 3
        (w): undefined = 3
    return y, z


@case((3,), (-3,))
def walrus(x):
    if (y := x + 1) > 0:
        z = y
    else:
        z = -y
    while (y := y - 1) > 0:
        z += y
    return y, z


@case((3,), (0,), (-1,))
def walrus_in_boolean(x):
    r = x > 0 and (y := x * 2) > 2
    s = (w := x) or (w := 9)
    return r, s, w, y


@case((3,), (0,))
def walrus_in_loop_test(x):
    out = []
    while x > 0 and (half := x // 2) is not None:
        out.append(half)
        x -= 1
        if (t := x) == 1 or (t := x + 10) > 12:
            out.append(t)
    return out, half


@case(([1, 2, 3],), ([],))
def walrus_in_comprehension(xs):
    ys = [last := x for x in xs if (n := x) > 1 or x == 1]
    return ys, last, n


@case(([1, 2, 3, 4],), ([],))
def comprehensions(xs):
    k = 2
    a = [x if x > 1 else -x for x in xs if x % 2 == 0 or x > k]
    b = {x: y for x in xs for y in range(x) if 0 < y < 3}
    c = {x and k for x in xs}
    d = sum(x * k for x in xs if not x == 3)
    return a, b, c, d


@case((3,))
def comprehension_scope(x):
    ys = [x for x in range(x)]
    zs = [[x + y for y in range(2)] for x in ys]
    return x, ys, zs


@case((1,), (0,))
def unbound_in_comprehension(x):
    if x:
        k = 1
    return [k + i for i in range(2)]


@case(([3, 1, 2],))
def generator_expression(xs):
    g = (x for x in xs if x > 1)
    xs.append(9)
    k = next(g)
    return k, list(g), any(x > 8 for x in xs), all(x for x in xs)


@case((1,), (0,))
def delete(x):
    y = 1
    d = {"a": 1, "b": 2}
    if x:
        del y
        del d["a"]
    try:
        return y, d
    except UnboundLocalError:
        return "unbound", d


@case((1,), (0,))
def delete_unbound(x):
    if x:
        y = 1
    del y
    return x


# Functions


@case((3,), (0,))
def nested_function(x):
    def add(y, k=2):
        if y > 2:
            return y + x
        return y - x * k

    return add(x), add(x, k=5)


@case((3,))
def nonlocal_counter(n):
    count = 0

    def step():
        nonlocal count
        if count < 2:
            count += 1
        else:
            count += 10
        return count

    out = []
    for _ in range(n):
        out.append(step())
    return out, count


@case((5,), (1,))
def recursion(n):
    def fact(k):
        if k <= 1:
            return 1
        return k * fact(k - 1)

    return fact(n)


@case((6,), (0,))
def global_recursion(n):
    if n < 2:
        return n
    return global_recursion(n - 1) + global_recursion(n - 2)


@case((1,), (0,))
def function_defined_in_branch(x):
    if x:

        def f():
            return "a"

    else:
        f = lambda: "b"
    return f()


@case((1,), (0,))
def lambdas(x):
    f = lambda a, b=2, *c, **d: a if a > x else (b or c or d)
    g, h = lambda: x and 1, lambda: x or 2
    return f(0), f(5), f(0, 0), f(0, 0, 3), f(0, 0, k=1), g(), h(), (lambda: (lambda: not x)())()


@case((1, 2, 3), (0,), (1, 2))
def star_arguments(a, b=5, /, c=7, *args, **kwargs):
    if a:
        kwargs["seen"] = True
        args += (1,)
    return a, b, c, args, kwargs


@case((1,), (0,))
def calls_with_stars(x):
    pair = (1, 2)
    named = {"c": 3}
    if x:
        return star_arguments(*pair, **named)
    return star_arguments(x, *pair, c=4) if not x else None


def twice(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        result = f(*args, **kwargs)
        if isinstance(result, list):
            return result
        return f(*args, **kwargs) + result

    return wrapper


@twice
def decorated_helper(x):
    if x > 1:
        return x
    return -x


@case((3,), (0,))
def calls_decorated(x):
    return decorated_helper(x)


@case((3,), (0,))
def decorated_inside(x):
    @twice
    def f(y):
        return y if y else 5

    return f(x)


@case((3,), (1,))
def partial_functions(x):
    f = functools.partial(log, [])
    g = functools.partial(lambda a, b: a if a > b else b, x)
    return f(x), g(2)


@case(([3, 1, 2],), ([],))
def higher_order(xs):
    small = lambda v: v < 3 and v > 0
    return (
        list(map(lambda v: v if v > 1 else 0, xs)),
        list(filter(small, xs)),
        sorted(xs, key=lambda v: -v if v else v),
        functools.reduce(lambda a, b: a if a > b else b, xs, 0),
        list(itertools.takewhile(small, xs)),
        max(xs, key=lambda v: -v, default=None),
    )


@case(([3, 1, 2],))
def sort_in_place(xs):
    xs.sort(key=lambda v: v if v != 3 else 0)
    return xs


def count_up(n):
    for i in range(n):
        if i == 3:
            return
        yield i
        yield -i


@case((2,), (9,))
def helper_generator(n):
    out = []
    for x in count_up(n):
        if x < 0:
            continue
        out.append(x)
    return out, list(count_up(2))


@case((3,))
def inner_generator(n):
    def numbers():
        k = 0
        while k < n:
            if k == 2:
                k += 5
            sent = yield k
            k += 1

    return list(numbers()), [x for x in numbers() if x]


@case((1,), (0,))
def local_class(x):
    class Local:
        size = 3 if x else 4

        def get(self, y):
            if y > 3:
                return self.size + x
            return super().__repr__() and self.size

    return Local().get(5), Local().get(1), Local.size, Local.__qualname__


class Base:
    rate = 2

    def scale(self, x):
        if x > 3:
            return x * self.rate
        return x

    @classmethod
    def make(cls, x):
        return cls() if x else None

    @staticmethod
    def plus(x):
        return x + 1 if x else 0

    def __call__(self, x):
        return self.scale(x) if x else "zero"

    def __repr__(self):
        return type(self).__name__

    def __eq__(self, other):
        return type(self) is type(other)


class Derived(Base):
    __secret = 7

    def __init__(self, start=None):
        if start:
            self.start = start
        else:
            self.start = 1

    def scale(self, x):
        if x < 0:
            return super().scale(-x)
        for _ in range(2):
            if x > 100:
                return super().scale(x)
            x += self.__secret
        return super().scale(x) + self.__hidden(x)

    def __hidden(self, x):
        __local = 0
        if x:
            __local += self.__secret
        while __local < 10:
            __local += 4
        self.__mark = __local
        if x > 5:
            self.__mark += 1
        return self.__mark

    def comprehension(self, xs):
        return [self.plus(x) for x in xs if self.__secret > x]


@case((2,), (-5,), (200,))
def methods(x):
    d = Derived()
    return d.scale(x), d(x), Base.make(x), d.make(0), d.plus(x), Derived.plus(0), d.comprehension([1, 9]), d.__dict__


CASES.append((Derived.scale, ((Derived(), 2), (Derived(), -5), (Derived(), 200))))
CASES.append((Derived.comprehension, ((Derived(), [1, 2]),)))
CASES.append((Derived.__init__, ((Derived(), 5), (Derived(), None))))


@case((0,), (5,))
def makes_objects(x):
    return Derived(x).start, Derived(start=x).start, Point(1, x), Base()


@dataclass
class Record:
    n: int
    items: list

    def add(self, x):
        if x > self.n:
            self.items.append(x)
            return True
        return False

    @property
    def size(self):
        return len(self.items) if self.items else -1


@case((3,), (0,))
def dataclass_methods(x):
    r = Record(n=1, items=[])
    for i in range(x):
        if not r.add(i):
            r.n -= 1
    return r, r.size


@case((2,), (0,))
def attribute_state(x):
    h = Holder(a=Holder(b=1), xs=[])
    for i in range(x):
        h.a.b += i
        if i:
            h.xs.append(i)
            h.new = i
    return h


@case((1,), (0,))
def default_is_shared(x, seen=[]):
    if x:
        seen.append(x)
    return len(seen) > 0


make_outer = 10


def make(k):
    offset = k

    def inner(x, *, scale=k):
        if x > offset:
            return x * scale + make_outer
        return offset

    return inner


CASES.append((make(3), ((1,), (5,), (5,))))
CASES.append((lambda x: x + 1 if x > 2 else x and "low", ((3,), (0,), (1,))))
CASES.append((lambda x: (lambda y: y or x)(0), ((3,),)))
CASES += [(f, ((1,), (0,))) for f in (lambda x: x and 1, lambda x: x or 2, lambda x: not x)]


# global and nonlocal


@case((1,), (0,))
def global_list(x):
    HISTORY.clear()
    for i in range(3):
        if i >= x:
            HISTORY.append(i)
    return list(HISTORY)


@case((1,), (0,))
def global_assignment(x):
    global COUNTER
    COUNTER = 5
    if x:
        COUNTER += 1
    for _ in range(2):
        COUNTER *= 2
    return COUNTER


@case((1,), (0,))
def global_in_branch(x):
    if x:
        global LATER
        LATER = x
    else:
        LATER = "other"
    return LATER


@case((1,), (0,))
def missing_global(x):
    if x:
        return does_not_exist
    return "fine"


@case((1,), (0,))
def shadows_global(x):
    if x:
        LIMIT = 8
    return LIMIT


# Exceptions


@case((1,), (0,), ("a",))
def try_except(x):
    try:
        y = 1 / x
    except ZeroDivisionError:
        return "zero"
    except TypeError as e:
        y = str(e)
    return y


@case((1,), (0,), ("a",))
def try_else_finally(x):
    out = []
    try:
        out.append(1 / x)
    except ZeroDivisionError as e:
        out.append("zero")
    else:
        out.append("fine")
    finally:
        out.append("finally")
    return out


@case((1,), (0,), (2,))
def return_in_try(x):
    out = []
    for i in range(3):
        try:
            if x == i:
                return out, "found"
            if i == 1:
                continue
            out.append(6 // (x - 1))
        except ZeroDivisionError:
            out.append("zero")
            if i > 1:
                break
        else:
            out.append("else")
        finally:
            out.append(i)
    return out


@case((1,), (0,))
def return_in_finally(x):
    try:
        y = 1 // x
    finally:
        return "finally"


@case((1,), (0,))
def raise_in_try(x):
    try:
        if x:
            raise KeyError("a")
        z = 1
    except KeyError as e:
        if x:
            raise ValueError("b") from e
    return z


@case((1,), (0,))
def reraise(x):
    try:
        if not x:
            raise KeyError("k")
    except KeyError:
        if x == 0:
            raise
    return x


@case((1,), (0,))
def name_of_exception_goes(x):
    e = "before"
    try:
        1 / x
    except ZeroDivisionError as e:
        if x == 0:
            y = str(e)
    if x:
        return e
    return y, e


@case((1,), (0,))
def nested_try(x):
    out = []
    try:
        try:
            [][x]
        except KeyError:
            out.append("no")
        finally:
            if x:
                out.append("x")
    except IndexError:
        out.append("index")
    return out


@case((0,), (1,), (2,))
def except_in_loop(x):
    while True:
        try:
            x += 1
            if x > 4:
                break
            {}[x]
        except KeyError:
            if x == 3:
                return "three"
            continue
    return x


@case((0,), (1,))
def assertion(x):
    assert x < 5
    assert x, "x is zero"
    return x


@case((0,), (1,))
def assertion_message(x):
    y = [1]
    assert x or y[x], f"never {y[5]}"
    assert x and y, ("message", y)
    return x


@case((0,))
def missing_attribute(x):
    h = Holder()
    if x == 0:
        return h.nothing
    return 1


@case((0,), (2,))
def deep_error(x):
    def inner(v):
        for i in range(3):
            if i == x:
                return [1, 2][i + 1]
        return v

    return inner(
        inner(x),
    )


class Suppress:
    def __init__(self, log, suppress=False):
        self.log = log
        self.suppress = suppress

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.log.append(kind.__name__ if kind else "exit")
        return self.suppress


@case((0,), (1,), (2,))
def with_statement(x):
    out = []
    with Suppress(out) as s, Suppress(out, True):
        if x == 1:
            raise ValueError
        if x == 2:
            return out, "returned"
        out.append("body")
    return out, s.suppress


@case((0,), (1,))
def suppressed_return(x):
    out = []
    with Suppress(out, True):
        if x:
            return 1 / (x - 1)
        out.append("fell")
    if x:
        out.append("suppressed")
    return out


@case((0,), (3,))
def with_in_loop(n):
    out = []
    for i in range(n):
        with Suppress(out):
            if i == 1:
                continue
            if i == 2:
                break
            out.append(i)
        out.append("behind")
    else:
        out.append("else")
    return out


@contextlib.contextmanager
def managed(out):
    out.append("in")
    try:
        yield len(out)
    finally:
        out.append("out")


@case((0,), (1,))
def context_manager_function(x):
    out = []
    with managed(out) as n:
        if x:
            return out, n
    return out


# match


@case((1,), ([1, 2],), ([1, 2, 3, 4],), ({"k": 5, "z": 1},), (Point(0, 2),), ("other",), (None,))
def match_statement(x):
    match x:
        case 1 | None:
            y = "one or none"
        case [a, b] if a > 5:
            y = "large"
        case Point(x=0, y=v) if v and v > 1:
            y = ("point", v)
        case [a, b]:
            y = a + b
        case [first, *rest]:
            y = first, rest
        case {"k": value, **others}:
            if value > 3:
                return value, others
            y = value
        case str() as s:
            y = s * 2
    return y


@case((1,), (2,), (9,))
def match_in_loop(n):
    out = []
    for i in range(4):
        match i:
            case 0:
                continue
            case 1:
                if n == 1:
                    return "returned"
                out.append("one")
            case _ if i == n:
                break
            case other:
                out.append(other)
        out.append("behind")
    return out


# What looks at frames


@case((1,), (0,))
def uses_locals(x):
    if x:
        y = 2
    for i in range(2):
        z = i
    return dict(sorted(locals().items())), sorted(vars()), dir()


@case((1,), (0,))
def uses_eval(x):
    y = 3
    if x:
        z = eval("x + y")
    else:
        z = eval("y * a", {"a": 5, "y": 2})
    return z, "LIMIT" in globals()


@case((3.7,), (-2,), (True,))
def builtins_of_numbers(x):
    return (
        int(x), float(x), bool(x), abs(x), round(x), round(x, 1), divmod(x, 2), pow(x, 2), min(x, 1), max(x, 1, 2),
        min([x, 5]), sum([x, x]), isinstance(x, (int, str)), complex(x), math.floor(x), math.sqrt(abs(x)),
        math.log(8, 2), math.atan2(x, 1), math.isnan(x), any([0, x]), all([]), len([x]), list(range(1, 6, 2)),
        math.hypot(x, 1), str(x), type(x), callable(x), hash(x), repr(x), pow(3, 2, 5), int("12", 3),
    )  # fmt: skip


@case((0,), ("a",))
def builtin_errors(x):
    out = []
    for f in (lambda: int("q"), lambda: min([]), lambda: range(1.5), lambda: len(5), lambda: math.sqrt(-1), lambda: x()):
        try:
            f()
        except Exception as e:
            out.append((type(e), str(e)))
    return out


@case((1,), (0,))
def not_callable(x):
    f = 5
    if x:
        return f(x)
    return f


@case((3,))
def imports(n):
    import math as m
    from os.path import join, sep

    if n:
        import collections.abc

        return m.floor(2.5), join("a", "b") == "a" + sep + "b", collections.abc.Sequence.__name__


@case((2,))
def defaults_and_dicts(n):
    d = defaultdict(list)
    for i in range(n):
        d[i % 2].append(i)
        if i:
            d[i][0:1] = [7, 8]
    return dict(d)


@case((2,), (0,))
def formatted(x):
    return f"{x!r:>5} {x if x else 'none'} {x and 1}"


@case((6,))
def sieve(n):
    primes = []
    k = 2
    while len(primes) < n:
        for p in primes:
            if p * p > k:
                primes.append(k)
                break
            if k % p == 0:
                break
        else:
            primes.append(k)
        k += 1
    return primes


@case(("a(b)c",), ("((",), ("",), (")",))
def parser(text):
    depth = 0
    for i, c in enumerate(text):
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth < 0:
                return f"too many at {i}"
        else:
            continue
    if depth:
        return "open"
    return "fine"


@case(([5, 2, 9, 1],), ([],), ([1],))
def bubble_sort(xs):
    n = len(xs)
    while True:
        swapped = False
        for i in range(n - 1):
            if xs[i] > xs[i + 1]:
                xs[i], xs[i + 1] = xs[i + 1], xs[i]
                swapped = True
        if not swapped:
            return xs


@case((27,), (1,))
def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
        if steps > 1000:
            raise RuntimeError("endless")
    return steps


@case(([[1, 2], [3, 4]], 3), ([[1, 2], [3, 4]], 9))
def find_in_grid(grid, wanted):
    for r, row in enumerate(grid):
        for c, value in enumerate(row):
            if value == wanted:
                break
        else:
            continue
        break
    else:
        return None
    return r, c


@case((10, 2), (10, 100), (0, 0))
def jumps_of_all_kinds(n, k):
    out = []
    i = 0
    while i < n:
        i += 1
        if i % 2:
            if i % 3 == 0:
                out.append("skip")
                continue
            out.append(i)
        elif i > 6:
            for j in range(i):
                if j == k:
                    out.append("inner break")
                    break
                if j > 4:
                    return out, "returned"
            else:
                out.append("inner else")
        else:
            if i == k:
                break
        out.append("end")
    else:
        out.append("outer else")
    return out
