"""The guard in conftest.py: a test that leaves global state changed fails, and the next one starts clean."""

import pytest

LEAKS = {
    "torch's generator": "torch.rand(1)",
    "Python's generator": "random.random()",
    "NumPy's generator": "numpy.random.rand()",
    "number of threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "gradients enabled": "torch.set_grad_enabled(False)",
    "anomaly detection": "torch.autograd.set_detect_anomaly(True, check_nan=False)",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "matmul precision": "torch.set_float32_matmul_precision('medium')",
    "cudnn.benchmark": "torch.backends.cudnn.benchmark = True",
    "global module hooks": "torch.nn.modules.module.register_module_forward_hook(print)",
    "socket timeout": "socket.setdefaulttimeout(1)",
    "working folder": "os.chdir('/')",
    "environment": "os.environ['LEAKED'] = '1'",
    "handler of Ctrl-C": "signal.signal(signal.SIGINT, signal.SIG_DFL)",
    "garbage collection": "gc.disable()",
}


@pytest.fixture
def guarded(pytester, request):
    """A pytest of its own, with this repository's guard."""
    guard = (request.config.rootpath / "conftest.py").read_text().replace('"pytester"', "")
    # It runs in this process, where torch's generator is registered already.
    guard = guard.replace("hypothesis.register_random(TORCH_GENERATOR)", "")
    pytester.makeconftest(guard)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    return pytester


def test_each_leak_is_told_by_its_name(guarded):
    """A test that changes one part of the global state fails with the name of that part, and the next one passes."""
    tests = ["import gc, os, random, signal, socket, warnings, numpy, pytest, torch"]
    for number, leak in enumerate(LEAKS.values()):
        tests.append(f"@pytest.mark.filterwarnings('ignore')\ndef test_{number}_leaks():\n    {leak}")
        tests.append(f"def test_{number}_then():\n    pass")
    guarded.makepyfile("\n".join(tests))
    result = guarded.runpytest_inprocess("-q")
    result.assert_outcomes(passed=2 * len(LEAKS), errors=len(LEAKS))
    for number, part in enumerate(LEAKS):
        result.stdout.fnmatch_lines([f"*ERROR at teardown of test_{number}_leaks*", f"E *did not put it back: {part}"])


def test_what_is_put_back_is_no_leak(guarded):
    """State that a test changes and puts back, or changes through a fixture that does, passes."""
    guarded.makepyfile(
        """
        import torch

        def test_fork():
            with torch.random.fork_rng():
                torch.rand(1)

        def test_monkeypatch(monkeypatch, tmp_path):
            monkeypatch.setenv("LEAKED", "1")
            monkeypatch.chdir(tmp_path)
        """
    )
    guarded.runpytest_inprocess("-q").assert_outcomes(passed=2)


def test_hypothesis_puts_torch_back(guarded):
    """A property that draws from torch's generator sees the same numbers at each example, and leaves no trace."""
    guarded.makepyfile(
        """
        import torch
        from hypothesis import given, strategies as st

        seen = set()

        @given(st.integers())
        def test_property(number):
            seen.add(torch.rand(1).item())
            assert len(seen) == 1
        """
    )
    guarded.runpytest_inprocess("-q").assert_outcomes(passed=1)
