"""The benchmark suite: one file a part of training; `mnist_loop.bench` measures them."""
