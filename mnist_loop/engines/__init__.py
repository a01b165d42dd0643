"""Engines: other ways to run the lesson's loop, with the same result; most are faster.

An engine is a module with the functions of `mnist_loop.engines.contract.Engine`. This file has only their names, so
that ``mnist-loop --help`` does not import torch.
"""

IN_ONE_PROCESS = ("reference", "resident", "handwritten", "native", "compiled", "graphed")
NAMES = (*IN_ONE_PROCESS, "distributed")
CUDA_ONLY = ("graphed",)
