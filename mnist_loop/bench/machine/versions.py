"""Versions of the software, and how torch was built."""

from __future__ import annotations

import platform
import re
import sys

from mnist_loop import __version__
from mnist_loop.bench.machine.asking import Facts, told


def software() -> Facts:
    """Return the versions and build facts of this process's software.

    Keys: ``mnist_loop``, ``python``, ``implementation``, ``torch``, ``torch_git``, ``torchvision``,
    ``numpy``, ``triton``, ``cuda``, ``cudnn`` (an integer, as torch gives it), ``hip``, ``blas``, ``lapack``,
    ``mkl``, ``onednn``, ``openmp``, ``cpu_capability`` (the instructions that torch's kernels use),
    ``compiler``, ``build_type``, ``os``, ``os_release``, ``libc``. What torch was built without is None.
    """
    import torch

    config = torch.__config__.show()
    return {
        "mnist_loop": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "torch": str(torch.__version__),
        "torch_git": told(lambda: str(torch.version.git_version)),
        "torchvision": _installed("torchvision"),
        "numpy": _installed("numpy"),
        "triton": _installed("triton"),
        "cuda": torch.version.cuda,
        "cudnn": told(torch.backends.cudnn.version),
        "hip": torch.version.hip,
        "cpu_capability": told(torch.backends.cpu.get_cpu_capability),
        **_parse_build(config),
        "os": _os_version(),
        "os_release": platform.release() or None,
        "libc": " ".join(platform.libc_ver()).strip() or None,
    }


def _parse_build(config: str) -> Facts:
    """Return the facts in ``torch.__config__.show()``; None for each that is not there."""

    def find(pattern: str) -> str | None:
        match = re.search(pattern, config, re.MULTILINE)
        return " ".join(match[1].split()) if match else None

    return {
        "blas": find(r"\bBLAS_INFO=([\w.-]+)"),
        "lapack": find(r"\bLAPACK_INFO=([\w.-]+)"),
        "mkl": find(r"Math Kernel Library Version ([\w.]+)"),
        "onednn": find(r"(?:MKL-DNN|oneDNN) v([\w.]+)"),
        "openmp": find(r"a\.k\.a\. OpenMP ([\w.]+)"),
        "compiler": find(r"^\s*- ((?:GCC|clang|MSVC) [\w.]+)"),
        "build_type": find(r"\bBUILD_TYPE=(\w+)"),
    }


def _installed(package: str) -> str | None:
    from importlib import metadata  # slow to import

    # Not by importing it: torchvision fails to import where its build does not fit torch's.
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _os_version() -> str | None:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "win32":
        return f"Windows {platform.version()}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system() or None  # a container without an os-release file
