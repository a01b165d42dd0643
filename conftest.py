"""This repository's pytest: the plugin of the benchmark suite. Its tests' own set-up is in tests/conftest.py."""

pytest_plugins = ["mnist_loop.measure.plugin"]
