"""Stored results, read and told: tables, plots, a page, and exports. No torch, and nothing of `mnist_loop.bench`."""
