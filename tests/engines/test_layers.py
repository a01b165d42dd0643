"""Which models are linear layers with ReLU between them."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from mnist_loop.engines.layers import Layers, layers_of
from mnist_loop.model import MLP, ProbeNet


@pytest.fixture(autouse=True)
def generators(no_leak):
    with torch.random.fork_rng():
        yield


def written(forward, *widths):
    """A model with layers ``a``, ``b`` and so on, and a forward pass of its own."""
    names = "abc"[: len(widths) - 1]
    layers = {name: nn.Linear(*sides) for name, sides in zip(names, itertools.pairwise(widths), strict=True)}
    made = type("Written", (nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(made, name, layer)
    return made


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


class Other(nn.Linear):
    """A layer that computes something else."""

    def forward(self, images):
        return 2 * super().forward(images)


def drawing(self, images):
    torch.rand(())
    return self.a(images)


def counting(self, images):
    self.calls = getattr(self, "calls", 0) + 1
    return self.a(images)


LAYERS = {
    "the lesson's": (MLP(6, 4, 3), Layers(("fc1", "fc2"), flatten=False)),
    "one": (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), Layers(("1",), flatten=True)),
    "nested": (
        nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Linear(5, 3)),
        Layers(("0.0", "1"), flatten=False),
    ),
    "written out": (
        written(lambda self, x: self.b(functional.relu(self.a(torch.flatten(x, 1)))), 4, 5, 3),
        Layers(("a", "b"), flatten=True),
    ),
    "by methods": (
        written(lambda self, x: self.b(self.a(x.flatten(start_dim=1)).relu()), 4, 5, 3),
        Layers(("a", "b"), flatten=True),
    ),
    "drawing": (written(drawing, 4, 3), Layers(("a",), flatten=False)),
    "counting": (written(counting, 4, 3), None),
    "with BatchNorm": (ProbeNet(), None),
    "another activation": (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), None),
    "ReLU at the end": (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), None),
    "no ReLU": (nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), None),
    "Flatten of all": (nn.Sequential(nn.Flatten(0), nn.Linear(4, 3)), None),
    "another layer": (nn.Sequential(Other(4, 3)), None),
    "tied weights": (tied(), None),
    "a layer used twice": (written(lambda self, x: self.b(self.a(self.a(x).relu()).relu()), 4, 4, 3), None),
    "a layer not used": (written(lambda self, x: self.a(x), 4, 3, 3), None),
    "a sum": (written(lambda self, x: self.a(x) + x, 4, 4), None),
    "skipping": (written(lambda self, x: self.b((self.a(x), x)[1]), 4, 4, 3), None),
    "a tuple": (written(lambda self, x: (self.a(x),), 4, 3), None),
    "branching": (written(lambda self, x: self.a(x) if x.sum() > 0 else x, 4, 4), None),
    "weight norm": (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))), None),
    "nothing": (nn.Sequential(), None),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_is_seen_as_it_computes(name):
    """And nothing is drawn."""
    model, expected = LAYERS[name]
    before = torch.get_rng_state()
    assert layers_of(model) == expected
    assert layers_of(model) == expected
    assert torch.equal(torch.get_rng_state(), before)
    if expected is not None:
        assert all(type(layer) is nn.Linear for layer in expected.of(model))


def test_what_was_changed_is_looked_at_again():
    """A module, and an option of a module."""
    model = written(lambda self, x: self.a(x) if self.plain else 2 * self.a(x), 4, 3)
    model.plain = True
    assert layers_of(model) == Layers(("a",), flatten=False)
    model.plain = False
    assert layers_of(model) is None
    model.plain = True
    model.a = Other(4, 3)
    assert layers_of(model) is None
