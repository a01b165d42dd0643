"""MNIST from disk or download, or the stand-in `Digits`, and the lesson's DataLoaders."""

from mnist_loop.data.mnist import MNIST, Data, download_mnist, load_data, make_loaders, normalisation, normalise

__all__ = ["MNIST", "Data", "download_mnist", "load_data", "make_loaders", "normalisation", "normalise"]
