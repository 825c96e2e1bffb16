"""NumPy code with loops and branches over elements: compiled, it gives what NumPy gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy_oracle import check

rng = np.random.default_rng(0)
x50 = rng.random(50)
x50f = x50.astype(np.float32)
A = rng.random((30, 30))
z50 = x50 + 1j * rng.random(50)
i50 = rng.integers(0, 9, 50)
x40 = rng.random(40)
x40f = x40.astype(np.float32)
z40 = x40 + 1j * rng.random(40)
B = rng.random((20, 20))
bytes30 = rng.integers(0, 255, 30).astype(np.uint8)
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}


def case(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(fn: Callable[..., Any]) -> Callable[..., Any]:
        CASES[fn.__name__] = (fn, arguments)
        return fn

    return add


@case(x50)
def elements(x):
    y = np.empty_like(x)
    for i in range(len(x)):
        if x[i] > 0.5:
            y[i] = x[i] * 2
        else:
            y[i] = -x[i]
    return y


@case(x50f)
def f32(x):
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] * 0.5
    return s


@case(x50f)
def f32_acc(x):
    s = np.float64(0)
    m = np.inf
    for i in range(x.shape[0]):
        s = s + x[i]
        if x[i] < m:
            m = x[i]
    return (s, m)


@case(z50)
def complex_loop(z):
    s = 0j
    for i in range(len(z)):
        s += z[i] * 1j
    return s


@case(z50.copy())
def complex_write(z):
    for i in range(1, len(z)):
        z[i] = z[i] * 0.5 + z[i - 1]


@case(z50)
def complex_while(z):
    n = 0
    c = z[3]
    w = c
    while abs(w) < 100:
        w = w * w + c + 1
        n += 1
    return (n, w)


@case(x50)
def counter(x):
    s = 0.0
    for i in range(len(x)):
        s += np.sin(i * 0.1) + i / len(x) + np.sqrt(i) + float(i) * x[i] + i**2 + i % 3 * x[i]
    return s


@case(x50)
def negstep(x):
    y = np.zeros_like(x)
    for k in range(1, len(x)):
        y[k] = x[:k] @ x[k - 1 :: -1]
        y[:k] += 0.01 * y[k - 1 :: -1]
    return y


@case(A.copy())
def lower(A):
    for i in range(A.shape[0]):
        for j in range(i):
            A[i, j] -= A[i, :j] @ A[:j, j]
            A[i, j] /= A[j, j] + 1
        for j in range(i, A.shape[0]):
            A[i, j] -= A[i, :i] @ A[:i, j]


@case(A.copy())
def zeros_in_loop(A):
    out = np.zeros(A.shape[0])
    for i in range(A.shape[0]):
        tmp = np.zeros(5)
        tmp[1:3] = A[i, :2]
        tmp[0] += i
        out[i] = tmp.sum()
    return out


@case(x50.copy())
def masks_in_loop(x):
    for _ in range(20):
        m = x > 0.3
        x[m] = x[m] * 0.9
        x[~m] += 0.05
    return x.sum()


@case(i50, x50)
def index(idx, x):
    s = 0.0
    for i in range(len(idx)):
        s += x[idx[i]] * idx[i]
    return s


@case(i50)
def hist(idx):
    h = np.zeros(10, dtype=np.int64)
    for v in idx:
        h[v] += 1
    return h


@case(x50)
def argmax(x):
    best = -1
    bv = -1.0
    for i in range(len(x)):
        if x[i] > bv:
            bv = x[i]
            best = i
    return (best, bv)


@case(x50)
def early(x):
    for i in range(len(x)):
        if x[i] > 0.9:
            return (i, x[i])
    return (-1, 0.0)


@case(x50)
def breaks(x):
    s = 0.0
    for v in x:
        if v > 0.95:
            break
        s += v
    return s


@case(x50)
def whiles(x):
    i = 0
    while i < len(x) and x[i] < 0.9:
        i += 1
    return i


@case(x50)
def newton(x):
    y = x.copy()
    while np.max(np.abs(y * y - x)) > 1e-09:
        y = 0.5 * (y + x / y)
    return y


@case(x50)
def helper(x):

    def clampit(v, lo=0.2, hi=0.8):
        if v < lo:
            return lo
        if v > hi:
            return hi
        return v

    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = clampit(x[i])
    return out


@case(A)
def enumerated(A):
    s = np.zeros(A.shape[1])
    for i, row in enumerate(A):
        s += row * i
    return s


@case(A, x50[:30])
def zipped(A, x):
    s = 0.0
    for row, v in zip(A, x, strict=True):
        s += row.max() * v
    return s


@case(x50)
def range_step(x):
    s = 0.0
    for i in range(len(x) - 1, -1, -2):
        s = s * 0.5 + x[i]
    return s


@case(x50)
def list_append(x):
    out = []
    for i in range(len(x)):
        out.append(x[i] * 2)
    return np.array(out)


@case(x50)
def math_functions(x):
    s = 0.0
    for i in range(len(x)):
        s += math.sqrt(x[i]) + math.exp(-x[i]) + math.sin(i * 1.0)
    return s


@case(x50)
def minmax(x):
    lo = x[0]
    hi = x[0]
    for i in range(1, len(x)):
        lo = min(lo, x[i])
        hi = max(hi, x[i])
    return (lo, hi)


@case(x50)
def prefix(x):
    c = np.zeros(len(x) + 1)
    for i in range(len(x)):
        c[i + 1] = c[i] + x[i]
    return c


@case(i50)
def intops(a):
    s = 0
    for v in a:
        s = (s * 31 + int(v)) % 1000003
        s ^= s >> 3 & 255
    return s


@case(A.copy(), A.copy())
def matmul_loop(A, B):
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            for k in range(A.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return C


@case(A.copy())
def collatz(A):
    n = 27
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps + A[0, 0]


@case(x50)
def dtype_cast_loop(x):
    out = np.zeros(len(x), dtype=np.int32)
    for i in range(len(x)):
        out[i] = int(x[i] * 10)
    return out


@case(x50)
def ternary(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = x[i] if x[i] > 0.5 else 0.0
    return y


@case(x50)
def andor(x):
    c = 0
    for i in range(1, len(x) - 1):
        if x[i] > x[i - 1] and x[i] > x[i + 1]:
            c += 1
    return c


@case(x50)
def scan_vec(x):
    W = np.outer(x[:8], x[8:16])
    h = np.zeros(8)
    for t_ in range(20):
        h = np.tanh(W @ h + x[t_])
    return h


@case(x50)
def swap_sort(x):
    a = x.copy()
    n = len(a)
    for i in range(n):
        for j in range(n - 1 - i):
            if a[j] > a[j + 1]:
                a[j], a[j + 1] = (a[j + 1], a[j])
    return a


@case(z50, x50)
def mandel(c, x):
    out = np.zeros(len(c), dtype=np.int64)
    for i in range(len(c)):
        z = 0j
        n = 0
        while n < 30 and abs(z) < 2:
            z = z * z + c[i] * 2 - 1
            n += 1
        out[i] = n
    return out


@case(z50)
def dft(z):
    n = len(z)
    out = np.zeros(n, dtype=complex)
    for k in range(n):
        s = 0j
        for j in range(n):
            s += z[j] * np.exp(-2j * np.pi * k * j / n)
        out[k] = s
    return out


@case(A)
def norm_loop(A):
    v = np.ones(A.shape[0])
    for _ in range(30):
        w = A @ v
        v = w / np.linalg.norm(w)
    return (v, v @ (A @ v))


@case(A.copy())
def rowview(A):
    for i in range(1, A.shape[0]):
        row = A[i]
        row -= A[i - 1] * 0.1
        row[0] = i


@case(x40, 0.1, 3)
def params(x, dt, n):
    for _ in range(n):
        x = x + dt * np.sin(x)
    return (x, dt * n)


@case(B)
def argreduce(A):
    return (
        A.argmax(axis=1),
        np.unravel_index(A.argmax(), A.shape) if 0 else 0,
        A.max(axis=(0, 1)),
        np.min(A, initial=0.5),
    )


@case(x40)
def histogram_like(x):
    bins = np.linspace(0, 1, 11)
    c = np.zeros(10, dtype=int)
    for i in range(10):
        c[i] = np.sum((x >= bins[i]) & (x < bins[i + 1]))
    return c


@case(B.copy())
def lu_vec(A):
    n = A.shape[0]
    for k in range(n - 1):
        A[k + 1 :, k] /= A[k, k]
        A[k + 1 :, k + 1 :] -= np.outer(A[k + 1 :, k], A[k, k + 1 :])
    return A


@case(x40)
def tridiag(d):
    n = len(d)
    a = np.full(n, -1.0)
    b = np.full(n, 4.0)
    c = np.full(n, -1.0)
    cp = np.zeros(n)
    dp = np.zeros(n)
    r = np.zeros(n)
    cp[0] = c[0] / b[0]
    dp[0] = d[0] / b[0]
    for i in range(1, n):
        m = b[i] - a[i] * cp[i - 1]
        cp[i] = c[i] / m
        dp[i] = (d[i] - a[i] * dp[i - 1]) / m
    r[-1] = dp[-1]
    for i in range(n - 2, -1, -1):
        r[i] = dp[i] - cp[i] * r[i + 1]
    return r


@case(x40)
def rk4(y):

    def f(t, y):
        return -y * t + np.cos(t)

    h = 0.01
    tt = 0.0
    for _ in range(100):
        k1 = f(tt, y)
        k2 = f(tt + h / 2, y + h / 2 * k1)
        k3 = f(tt + h / 2, y + h / 2 * k2)
        k4 = f(tt + h, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        tt += h
    return (y, tt)


@case(bytes30)
def bytesum(b):
    a = np.uint32(1) if 0 else 1
    s = 0
    for v in b:
        a = (a + int(v)) % 65521
        s = (s + a) % 65521
    return s << 16 | a


@case(x40f)
def f32_weak(x):
    s = np.float32(0)
    for v in x:
        s += v * v
    return (np.sqrt(s), s / len(x))


@case(B)
def power_method(A):
    v = np.ones(A.shape[0]) / np.sqrt(A.shape[0])
    lam = 0.0
    for _ in range(100):
        w = A @ v
        nl = np.dot(v, w)
        if abs(nl - lam) < 1e-12:
            break
        lam = nl
        v = w / np.linalg.norm(w)
    return (lam, v)


@case(x40)
def while_any(x):
    y = x.copy()
    n = 0
    while np.any(y > 0.01):
        y *= 0.5
        n += 1
    return (n, y)


@case(B)
def life(A):
    g = (A > 0.5).astype(np.int8)
    for _ in range(5):
        n = sum(np.roll(np.roll(g, i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))
        g = ((n == 3) | (g == 1) & (n == 2)).astype(np.int8)
    return g


@case(z40)
def julia(z):
    n = np.zeros(z.shape, dtype=int)
    for _k in range(30):
        m = np.abs(z) < 2
        z = np.where(m, z * z + (-0.4 + 0.6j), z)
        n += m
    return n


@case(x40)
def mc(x):
    acc = 0
    for i in range(0, len(x) - 1, 2):
        if x[i] ** 2 + x[i + 1] ** 2 < 1:
            acc += 1
    return 4 * acc / (len(x) // 2)


@case(B)
def conv(A):
    K = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=np.float64)
    out = np.zeros_like(A)
    for i in range(1, A.shape[0] - 1):
        for j in range(1, A.shape[1] - 1):
            out[i, j] = np.sum(A[i - 1 : i + 2, j - 1 : j + 2] * K)
    return out


@case(B)
def pairwise(A):
    n = A.shape[0]
    D = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            D[i, j] = np.sqrt(np.sum((A[i] - A[j]) ** 2))
    return D


@case(x40)
def ema(x):
    out = np.empty(x.shape, x.dtype)
    out[0] = x[0]
    for i in range(1, x.size):
        out[i] = 0.3 * x[i] + (1 - 0.3) * out[i - 1]
    return out


@case(x40)
def fib(x):
    a, b = (0, 1)
    for _ in range(50):
        a, b = (b, a + b)
    return a * 1.0 + x


@case(x40)
def npfuncs_on_counter(x):
    y = np.zeros(len(x))
    for i in range(len(x)):
        y[i] = (
            np.cos(2 * np.pi * i / len(x))
            + np.power(i, 2)
            + np.maximum(i, 3)
            + np.abs(i - 5)
            + np.float64(i) / 3
            + np.exp(-0.1 * i)
        )
    return y


@case(B)
def sort_rows(A):
    s = 0.0
    for row in A:
        s += np.max(row) - np.min(row)
    return s


@case(B.copy())
def inplace_ops_on_rows(A):
    for i in range(len(A)):
        A[i] /= A[i].sum()
        A[i, :] = A[i, ::-1]
        A[:, i] *= 2


@case(x40)
def cond_arrays(x):
    y = x * 2 if x.sum() > 1 else x - 1
    return y


@case(x40)
def python_list_of_arrays(x):
    parts = [x * i for i in range(3)]
    return (np.concatenate(parts), np.stack(parts).sum(axis=0), sum(parts))


@case(x40)
def dict_state(x):
    st = {"a": x, "n": 0}
    for _ in range(3):
        st["a"] = st["a"] * 2
        st["n"] += 1
    return (st["a"], st["n"])


@case(x40)
def clipround(x):
    return (np.clip(np.round(x * 10), 2, 7).astype(int), np.floor(x * 3).astype(np.int64) % 2)


@case(x40)
def ints_in_float_arrays(x):
    n = 0
    for v in x:
        n += v > 0.5
    return n


@case(x40)
def boolcount(x):
    flags = np.zeros(len(x), dtype=bool)
    for i in range(len(x)):
        flags[i] = x[i] > 0.5 and x[i] < 0.9
    return (flags, flags.sum())


@case(B)
def diag_trace(A):
    t_ = 0.0
    for i in range(A.shape[0]):
        t_ += A[i, i]
    return (t_ - np.trace(A), A[range(3), range(3)], A[np.arange(20), np.arange(20)])


@case(x40)
def chained(x):
    c = 0
    for v in x:
        if 0.2 < v < 0.6:
            c += 1
    return c


@case(x40)
def nparr_loop_list(x):
    out = []
    for v in x[:5]:
        out.append(float(v) ** 2)
    return np.array(out)


@case(B)
def einsum_loop(A):
    B = np.zeros_like(A)
    for _ in range(3):
        B = B + np.einsum("ij,jk->ik", A, A)
    return B


@case(x40)
def complex_roots(x):
    r = np.exp(2j * np.pi * np.arange(4) / 4)
    p = np.ones(4, dtype=complex)
    for c in x[:5]:
        p = p * r + c
    return (p, np.abs(p).max())


@case(np.arange(24.0).reshape(2, 3, 4))
def three_d(a):
    b = np.zeros((4, 2, 3))
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            b[:, i, j] = a[i, j] * 2
    return (b, a.transpose(2, 0, 1).sum(axis=(1, 2)), a[..., 1], a[:, None].shape)


@pytest.mark.parametrize("name", CASES)
def test_loops(name):
    fn, arguments = CASES[name]

    check(fn, *arguments)
