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
    for row, v in zip(A, x):
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


@pytest.mark.parametrize("name", CASES)
def test_loops(name):
    fn, arguments = CASES[name]

    check(fn, *arguments)
