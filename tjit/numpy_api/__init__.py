"""NumPy's arrays while a function is captured: what a function written with `np.` computes on, with NumPy's meaning."""

from tjit.numpy_api import methods  # attaches the methods  # noqa: F401
