"""Engines: ways to run the lesson's loop, each the same training as `mnist_loop.loop`, most of them faster.

An engine is a module with the four functions of `mnist_loop.engines.contract.Engine`.
"""
