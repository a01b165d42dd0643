"""Engines: ways to run the lesson's loop, each the same training as `mnist_loop.loop`, most of them faster.

An engine is a module with what `mnist_loop.engines.contract.Engine` lists. Their names are here, where torch is not
imported: ``mnist-loop --help`` must not wait for it.
"""

IN_ONE_PROCESS = ("reference", "resident", "handwritten", "native", "compiled", "graphed")
NAMES = (*IN_ONE_PROCESS, "distributed")
CUDA_ONLY = ("graphed",)
