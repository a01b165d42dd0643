"""``pytest --watch``: a test whose training has a bug fails, by the bug's name; others are as without it."""

import pytest
import torch

TESTS = """
    import pytest
    import torch
    from torch.nn.functional import cross_entropy


    def fit(clear, steps=6):
        with torch.random.fork_rng():
            model = torch.nn.Linear(4, 3)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(steps):
                if clear:
                    optimizer.zero_grad()
                cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,))).backward()
                optimizer.step()


    @pytest.fixture
    def trained_before():
        fit(clear=False)


    def test_right():
        fit(clear=True)


    def test_wrong():
        fit(clear=False)


    def test_wrong_in_its_fixture(trained_before):
        pass


    def test_fails_by_itself():
        fit(clear=False)
        assert 1 == 2


    def test_trains_nothing():
        assert torch.ones(2).sum() == 2
"""


@pytest.fixture
def project(pytester):
    pytester.makepyfile(test_own=TESTS)
    return pytester


def test_a_training_with_a_bug_fails_its_test(project):
    """With the bug's name, its line and what was watched; a test that fails by itself fails by its own error."""
    result = project.runpytest_inprocess("--watch", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*_ test_wrong _*",
            "zero-grad-missing: *",
            "*test_own.py:13: *backward()",
            "watched: 6 steps of SGD on Linear (2 parameters)*",
            "*_ test_wrong_in_its_fixture _*",
            "zero-grad-missing: *",
            "*_ test_fails_by_itself _*",
            "E * assert 1 == 2",
            "*watched training*",
            "zero-grad-missing: *",
            "*= watched trainings =*",
            "test_own.py::test_wrong: zero-grad-missing",
            "test_own.py::test_wrong_in_its_fixture: zero-grad-missing",
            "test_own.py::test_fails_by_itself: zero-grad-missing",
            "4 tests trained, 3 of them with a bug",
        ]
    )


def test_without_it_nothing_is_watched(project):
    """The tests run as they are, and torch is left as it is, during and after a session that watches."""
    before = (torch.autograd.backward, torch.nn.functional.cross_entropy, torch.optim.Optimizer.zero_grad)
    project.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=4, failed=1)
    project.runpytest_inprocess("--watch", "-p", "no:cacheprovider", "-k", "test_right").assert_outcomes(
        passed=1, deselected=4
    )
    assert (torch.autograd.backward, torch.nn.functional.cross_entropy, torch.optim.Optimizer.zero_grad) == before
