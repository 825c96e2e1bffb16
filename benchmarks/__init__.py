"""tjit timed beside its peers: `python -m benchmarks`. Not installed with tjit.

rows.py says what a row is; elementwise.py, reductions.py, contractions.py, convolutions.py, networks.py, training.py
(models.py and jax_models.py are its models), optimizers.py and small.py hold the rows. frameworks.py knows each peer,
worker.py is the process that runs one, harness.py lets them take turns, table.py prints what came out, chart.py draws
it; tjit.profiler.machine measures what the floors are reckoned from. bits.py compares bits run by run; memory.py
(`python -m benchmarks.memory`) measures peak memory; sweep.py makes tables of many shapes of one operation:
`python -m benchmarks.contractions`, `python -m benchmarks.convolutions`.

numpy_kernels/ are whole NumPy programs with loops, timed beside NumPy and Numba: `python -m benchmarks.numpy_kernels`.
"""
