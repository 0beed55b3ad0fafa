"""tinydl beside PyTorch, JAX, NumPy and ONNX Runtime in one run: `python -m benchmarks`.

    python -m benchmarks                        everything, about half an hour
    python -m benchmarks conv steps             some families
    python -m benchmarks steps --match lenet    cases whose names match an expression
    python -m benchmarks --quick                one small case per family: does everything work?
    python -m benchmarks --list                 the cases

Families: conv, matmul, norm, pool, loss, dropout, adam (kernels), steps (training steps, eager and
recorded), inference (a forward pass in eval mode), penalties (tinydl's own: recorded steps with each penalty,
in turns with the plain one), start (import and first step, from an empty and from a full cache) and memory
(high water of training steps over the import).

How it is measured. Each framework has one process and as many threads as there are processors. The processes
take turns: while one works the others sleep, because the thread pools of different frameworks spin against
each other. In each round every contender has one turn for a case, and the order rotates; a turn's time is the
median of its calls. All get the same arrays, drawn from a seed, and what they return is compared. Ratios are
taken within a round, so slow drifts of the machine cancel; tables and the JSON have their median over the
rounds, the range of the times, and the least time of all.

What is compared. The kernel families call the lowest public layer of each side: tinydl's kernel operations,
ATen's operators, a function under `jax.jit`, NumPy's matmul (OpenBLAS). Packing the weights is part of a
call. A rate is the least work over the
time: 2 flops a multiply-add, or each input read once and each output written once. Its share is that of the
peak that the same run has measured: fused multiply-adds in registers, or a copy, on all threads. The steps
are what a user writes: forward, mean cross-entropy, penalty, backward, Adam. Their gradient penalties share
the forward pass, and SpectReg's r is given, not drawn, so that the losses of the first steps can be compared.
PyTorch's Adam runs as it comes, and fused. ONNX Runtime infers from the file that tinydl exports.
`--frameworks tinydl torch torch-compile` adds plain steps of PyTorch compiled, which takes long.

What it leaves. A table on the screen; `results.json` with every median, the versions
and the machine; `ratios.png`; `penalties.md`, the page of what penalties cost.

A framework that is not installed is left out, with a line that says so. One that crashes or hangs
loses the case, not the run. Run it on an idle machine: a framework whose threads spin until all have
arrived, as OpenMP's do, is slowed down manyfold by any other process, and its ratios are worth
nothing then. `--threads 1` stands more, and most with `--processor-time`, which counts what this process
alone used of the processor.

`--avx2` holds the sides to vectors of 8 numbers, by the settings in turns.py.

Transforms of images have a program of their own, `python -m benchmarks.transforms`; so have the whole set of
optimizers, `python -m benchmarks.optimizers`, and the cost of the Trainer beside the bare loop,
`python -m benchmarks.training`.

Reading order: cases.py and penalties.py (what), worker.py (one side's process), turns.py (how they
alternate), with_*.py and models_*.py (the same in each framework), machine.py (the peaks), report.py.
"""
