"""The ruler: rates that are those of the work it does."""

import pytest
import torch

from mnist_loop.bench import ruler

CPU = torch.device("cpu")


@pytest.fixture
def seconds(monkeypatch):
    """The clock shows what the work takes: this much for everything."""
    times = iter(range(10_000))
    monkeypatch.setattr(ruler.time, "perf_counter", lambda: 0.5 * next(times))
    monkeypatch.setitem(ruler.GEMM_SIZE, "cpu", 10)
    monkeypatch.setattr(ruler, "COPIED_BYTES", 4000)
    return 0.5


def test_rates_are_work_by_time(seconds):
    """Two operations a multiply-add, each byte read and written, and the seconds of one dispatch."""
    found = ruler.measure_ruler(CPU)
    assert found.gemm == 2 * 10**3 / seconds
    assert found.copy == 2 * 4000 / seconds
    assert found.dispatch == seconds / ruler.DISPATCHES


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
@pytest.mark.parametrize("seconds", [(2.0, 1.0), (1.0, 2.0)])
def test_the_faster_library_is_the_ruler(monkeypatch, seconds):
    """Of BLAS and oneDNN."""
    times = iter([*seconds, 1.0, 1.0])
    monkeypatch.setattr(ruler, "_seconds", lambda *_: next(times))
    assert ruler.measure_ruler(CPU).gemm == 2 * ruler.GEMM_SIZE["cpu"] ** 3


def test_one_disturbance_is_left_out(monkeypatch):
    """The median of the repeats counts."""
    times = iter([0.0, 1.0, 0.0, 9.0, 0.0, 1.0])
    monkeypatch.setattr(ruler.time, "perf_counter", lambda: next(times))
    assert ruler._seconds(lambda: None, CPU) == 1.0


def test_the_work_is_done(monkeypatch):
    """A product of the size that is counted, a copy of the bytes that are, additions as many as are: not skipped."""
    sizes = []
    monkeypatch.setattr(ruler, "_seconds", lambda work, _: sizes.append(work()) or 1.0)
    ruler.measure_ruler(CPU)
    *products, copied, nothing = sizes
    assert len(products) == 1 + torch.backends.mkldnn.is_available()
    assert all(product.shape == (ruler.GEMM_SIZE["cpu"],) * 2 for product in products)
    assert copied.numel() * copied.element_size() == ruler.COPIED_BYTES
    assert nothing is None
