"""torchvision, or an error that says why it does not load."""

from __future__ import annotations

from importlib import metadata

from mnist_loop.errors import DataError

# Each torch release needs its own torchvision: https://github.com/pytorch/vision#installation has the pairs.
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def explain(error: Exception) -> str:
    """Turn an error of torchvision's import into a sentence that says what to install."""
    found = f"torch {_version('torch')} beside torchvision {_version('torchvision')}"
    # Older releases have the second message for the same problem.
    if "torchvision::nms" in str(error) or "has no attribute 'extension'" in str(error):
        return (
            f"torchvision does not load: {found} come from different builds "
            "(such as one for CUDA and one for the CPU alone). "
            f"Install both from one index: pip install --force-reinstall torch torchvision, "
            f"or, for the CPU alone, the same with --index-url {_CPU_INDEX}"
        )
    return (
        f"torchvision does not load: found {found}, and it says: {' '.join(str(error).split())}. "
        "Install the pair that belongs together: pip install --upgrade torch torchvision"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


try:
    from torchvision import datasets, transforms
except (ImportError, RuntimeError, AttributeError) as error:
    raise DataError(explain(error)) from error

__all__ = ["datasets", "transforms"]
