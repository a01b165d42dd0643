"""The data, beyond the laws: the partial batch too, an order that the seed alone decides, pixels from -1 to 1."""

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.cases import batch_sizes, seeds

sizes = st.integers(1, 40)


class Numbered(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A data set whose images are their own positions, and whose labels are those positions plus a thousand."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, position):
        return torch.tensor([float(position)]), position + 1000


def loaders(loading, size, batch_size, seed=0):
    data = SimpleNamespace(train=Numbered(size), test=Numbered(size))
    return loading.make_loaders(data, batch_size, generator=torch.Generator().manual_seed(seed))


def order(loader):
    return [int(position) for images, _ in loader for position in images]


@given(size=sizes, batch_size=batch_sizes, seed=seeds)
def test_each_sample_comes_once_an_epoch(loading, size, batch_size, seed):
    """An epoch of training, and one of testing, has each sample once, the partial last batch with it.

    The laws let a loop drop that one.
    """
    for loader in loaders(loading, size, batch_size, seed):
        assert sorted(order(loader)) == list(range(size)), "samples are missing or come twice"


@given(size=sizes, batch_size=batch_sizes, seed=seeds)
def test_batches_have_the_size_asked_for(loading, size, batch_size, seed):
    """All batches but the last have ``batch_size`` samples."""
    for loader in loaders(loading, size, batch_size, seed):
        lengths = [len(labels) for _, labels in loader]
        full, rest = divmod(size, batch_size)
        assert lengths == [batch_size] * full + [rest] * (rest > 0)


def test_a_batch_of_the_lesson_has_64_samples(loading):
    """Where no other size is asked for."""
    data = SimpleNamespace(train=Numbered(70), test=Numbered(70))
    for loader in loading.make_loaders(data, generator=torch.Generator()):
        assert [len(labels) for _, labels in loader] == [64, 6]


@given(size=sizes, batch_size=batch_sizes, seed=seeds, epochs=st.integers(1, 3))
def test_the_same_seed_gives_the_same_order(loading, size, batch_size, seed, epochs):
    """Two loaders of one seed agree in every epoch, whatever has been drawn from torch's global generator.

    Of the law not-reproducible, two runs draw the same from it.
    """
    first, _ = loaders(loading, size, batch_size, seed)
    second, _ = loaders(loading, size, batch_size, seed)
    for epoch in range(epochs):
        here = order(first)
        torch.rand(3)
        assert here == order(second), f"epoch {epoch}: the same seed gave another order"


@given(size=st.integers(20, 40), batch_size=batch_sizes, seed=seeds)
def test_without_a_generator_the_global_seed_decides(loading, size, batch_size, seed):
    """As in the lesson: ``torch.manual_seed`` decides the order where no generator is given."""
    data = SimpleNamespace(train=Numbered(size), test=Numbered(size))
    orders = []
    for seeded in (seed, seed, seed + 1):
        torch.manual_seed(seeded)
        orders.append(order(loading.make_loaders(data, batch_size)[0]))
    assert orders[0] == orders[1], "the same global seed gave another order"
    assert orders[0] != orders[2], "another global seed gave the same order"


@given(size=sizes, batch_size=batch_sizes, seed=seeds)
def test_a_pass_over_the_test_set_draws_nothing(loading, size, batch_size, seed):
    """The test set comes in its own order, and without a number from torch's global generator."""
    _, test = loaders(loading, size, batch_size, seed)
    before = torch.get_rng_state()
    assert order(test) == list(range(size)), "the test set is shuffled"
    assert torch.equal(torch.get_rng_state(), before), "iterating the test set drew from torch's global generator"


@given(seed=seeds)
def test_pixels_lie_between_minus_one_and_one(loading, seed):
    """Black becomes -1, white 1, and each value v in between exactly (v / 255 - 0.5) / 0.5 in float32."""
    pixels = np.random.RandomState(seed).randint(0, 256, (28, 28)).astype(np.uint8)
    pixels[0, :2] = 0, 255
    image = loading.normalisation()(Image.fromarray(pixels))
    values = pixels.astype(np.float32)
    expected = (values / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.float32
    assert (float(image[0, 0, 0]), float(image[0, 0, 1])) == (-1.0, 1.0), "black and white are not -1 and 1"
    assert np.array_equal(image[0].numpy(), expected), "a pixel is not (v / 255 - 0.5) / 0.5"
    at_once = loading.normalise(torch.from_numpy(np.stack([pixels, pixels, pixels])))
    assert torch.equal(at_once, image.expand(3, 1, 28, 28)), "normalise() differs from the transform"


def test_train_and_test_images_enter_alike(loading, digits):
    """The same pixels reach the model as the same tensor, be they in the training set or in the test set.

    The law normalised-differently is of what a loop does to them; this is of the transform.
    """
    data = loading.load_data("digits")
    image = Image.fromarray(digits.train.data[0].numpy())
    assert torch.equal(data.train.transform(image), data.test.transform(image)), "train and test enter differently"
