"""The benchmark suite: one file a part of training. `mnist_loop.measure` says how they are measured."""
