"""Device functions that a text defines above its kernel when it calls them."""

__all__ = ["HELPERS"]

HELPERS = {
    "combine_sum": """
def combine_sum(a, b):
    return a + b
""",
    "combine_prod": """
def combine_prod(a, b):
    return a * b
""",
    "combine_max": """
def combine_max(a, b):  # nan if either is
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "combine_min": """
def combine_min(a, b):  # nan if either is
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
""",
    "combine_any": """
def combine_any(a, b):
    return a | b
""",
    "combine_all": """
def combine_all(a, b):
    return a & b
""",
    "combine_argmax": """
def combine_argmax(a, i, b, j):  # nan is the largest, the first of equals wins
    wins = (a > b) | ((a != a) & (b == b))
    ties = (a == b) | ((a != a) & (b != b))
    first = wins | (ties & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)
""",
    "combine_argmin": """
def combine_argmin(a, i, b, j):  # nan is the smallest, the first of equals wins
    wins = (a < b) | ((a != a) & (b == b))
    ties = (a == b) | ((a != a) & (b != b))
    first = wins | (ties & (i < j))
    return tl.where(first, a, b), tl.where(first, i, j)
""",
    "floor_div": """
def floor_div(x, y):  # // of Triton rounds to zero
    q = x // y
    return tl.where((x % y != 0) & ((x < 0) != (y < 0)), q - 1, q)
""",
    "floor_mod": """
def floor_mod(x, y):  # % of Triton has the sign of x
    r = x % y
    return tl.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)
""",
    "floor_fmod": """
def floor_fmod(x, y):  # the sign of y, for zeros too
    r = libdevice.fmod(x, y)
    return tl.where(r == 0.0, libdevice.copysign(r, y), tl.where((r < 0.0) != (y < 0.0), r + y, r))
""",
    "uint_pow": """
def uint_pow(x, y, BITS: tl.constexpr):
    base = x
    left = y
    power = x - x + 1
    for _ in range(BITS):
        power = tl.where((left & 1) != 0, power * base, power)
        base = base * base
        left = left >> 1
    return power
""",
    "int_pow": """
def int_pow(x, y, BITS: tl.constexpr):
    negative = tl.where(x == 1, x, tl.where(x == -1, tl.where((y & 1) != 0, x, -x), x - x))  # 1 / x**-y, truncated
    base = x
    left = y
    power = x - x + 1
    for _ in range(BITS):
        power = tl.where((left & 1) != 0, power * base, power)
        base = base * base
        left = left >> 1
    return tl.where(y < 0, negative, power)
""",
}
