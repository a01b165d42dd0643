"""MNIST, or its stand-in `Digits`: found on disk, downloaded or drawn, and loaded in batches."""

from mnist_loop.data.mnist import MNIST, Data, download_mnist, load_data, make_loaders, normalisation, normalise

__all__ = ["MNIST", "Data", "download_mnist", "load_data", "make_loaders", "normalisation", "normalise"]
