"""Devices: a name becomes a device that is there, or one sentence."""

from __future__ import annotations

import pytest
import torch

from mnist_loop.errors import UserError
from mnist_loop.support.device import resolve_device, synchronise

EXPECTED = "expected auto, cpu, cuda, cuda:N or mps"


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, built: bool = True, mps: bool = False) -> None:
    """Make torch say that there are ``cuda`` CUDA devices, that it is built for them, and whether there is MPS."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (2, True, "cuda")]
)
def test_auto_is_the_fastest_that_is_there(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, device: str) -> None:
    """CUDA before MPS before the CPU."""
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device() == resolve_device("auto") == torch.device(device)


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_given(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On a machine that has everything, each name leads to its device."""
    pretend(monkeypatch, cuda=2, mps=True)
    assert resolve_device(name) == torch.device(name)


# torch keeps eight bits of the index: 255 becomes -1, 256 becomes 0.
@pytest.mark.parametrize("name", ["cuda:2", "cuda:3", "cuda:255", "cuda:256", "cuda:99999999999999999999"])
def test_an_index_beyond_the_last_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of two CUDA devices the last is cuda:1."""
    pretend(monkeypatch, cuda=2)
    with pytest.raises(UserError) as caught:
        resolve_device(name)
    assert str(caught.value) == (f"device {name!r}: not on this machine (2 CUDA devices found), expected auto or cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:255"])
@pytest.mark.parametrize(
    ("built", "why"), [(True, "0 CUDA devices found"), (False, "this torch is built without CUDA")]
)
def test_cuda_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, built: bool, why: str
) -> None:
    """The sentence says whether it is the machine or the build of torch."""
    pretend(monkeypatch, built=built)
    with pytest.raises(UserError) as caught:
        resolve_device(name)
    assert str(caught.value) == f"device {name!r}: not on this machine ({why}), expected auto or cpu"


def test_mps_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS is on Apple's machines alone."""
    pretend(monkeypatch, cuda=1)
    with pytest.raises(UserError) as caught:
        resolve_device("mps")
    assert str(caught.value) == "device 'mps': not on this machine, expected auto or cpu"


UNKNOWN = ["", " cpu", "CPU", "cpu\n", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1.0", "cuda:٣", "cuda:0:1", "cuda0"]
OTHERS = ["cpu:1", "mps:1", "meta", "xpu", "mkldnn", "privateuseone"]


@pytest.mark.parametrize("name", [*UNKNOWN, *OTHERS], ids=ascii)
def test_another_name_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Names that torch does not know, and devices that the loop was never tried on, are refused."""
    pretend(monkeypatch, cuda=2, mps=True)
    with pytest.raises(UserError) as caught:
        resolve_device(name)
    assert str(caught.value) == f"device {name!r}: not supported, {EXPECTED}"


@pytest.mark.parametrize(("name", "waited_for"), [("cpu", []), ("cuda:1", [torch.device("cuda:1")]), ("mps", ["mps"])])
def test_the_device_itself_is_waited_for(monkeypatch: pytest.MonkeyPatch, name: str, waited_for: list[object]) -> None:
    """CUDA's wait is for the device that is meant, not for the current one. The CPU needs none."""
    waits: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waits.append("mps"))
    synchronise(torch.device(name))
    assert waits == waited_for
