"""Shapes: pixels keep their order, logits are N x C, and what does not fit is refused before anything is trained."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.cases import cases, class_counts, image_shapes, sample_counts, seeds, widths


def one_step(loop, model, images, labels, loss_fn=None, device="cpu"):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return loop.train_one_epoch(model, [(images, labels)], loss_fn or nn.CrossEntropyLoss(), optimizer, device)


@given(samples=sample_counts, height=st.integers(1, 6), width=st.integers(1, 6), channels=st.integers(1, 3))
def test_shaping_keeps_the_order_of_the_pixels(loop, models, samples, height, width, channels):
    """N x C x H x W becomes N x CHW: row by row, image by image, no value moved to another image."""
    images = torch.arange(samples * channels * height * width).reshape(samples, channels, height, width)
    size = channels * height * width
    shaped = loop.shape_input(images, models.MLP(size, 1, 2))
    assert shaped.shape == (samples, size)
    for number in range(samples):
        expected = [
            int(images[number, channel, row, column])
            for channel in range(channels)
            for row in range(height)
            for column in range(width)
        ]
        assert shaped[number].tolist() == expected, f"the pixels of image {number} are in another order"


@given(samples=sample_counts)
def test_the_lesson_maps_images_to_ten_logits(loop, models, samples):
    """N x 1 x 28 x 28 becomes N x 784, and the lesson's MLP maps that to N x 10."""
    model = models.MLP()
    shaped = loop.shape_input(torch.zeros(samples, 1, 28, 28), model)
    assert shaped.shape == (samples, 784)
    assert model(shaped).shape == (samples, 10)


@given(case=cases)
def test_logits_have_a_row_an_image_and_a_column_a_class(loop, device, case):
    """Both models map N images to N x C logits, whatever the shape of an image."""
    images, _ = next(iter(case.loader()))
    for model in (case.model(device), case.probe(device).eval()):
        logits = model(loop.shape_input(images, model).to(device))
        assert logits.shape == (len(images), case.classes)


@given(samples=st.integers(1, 8), seed=seeds)
def test_a_model_without_an_input_shape_gets_the_images_as_they_are(loop, device, samples, seed):
    """A convolutional network, which names no input shape, trains on N x 1 x 28 x 28."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 2, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10)).to(device)
    before = [parameter.clone() for parameter in model.parameters()]
    loss = one_step(loop, model, torch.randn(samples, 1, 28, 28), torch.randint(10, (samples,)), device=device)
    assert math.isfinite(loss)
    assert not all(map(torch.equal, before, model.parameters())), "the step changed no parameter"


WRONG = {
    # what is wrong: (images, labels, what the error says)
    "too few pixels": (torch.zeros(4, 1, 27, 28), torch.zeros(4, dtype=torch.long), "shape '\\[4, 784\\]' is invalid"),
    "three channels": (torch.zeros(4, 3, 28, 28), torch.zeros(4, dtype=torch.long), "shape '\\[4, 784\\]' is invalid"),
    "labels in a column": (torch.zeros(4, 784), torch.zeros(4, 1, dtype=torch.long), "multi-target not supported"),
    "fewer labels than images": (torch.zeros(4, 784), torch.zeros(3, dtype=torch.long), "batch_size"),
    "labels of type float": (torch.zeros(4, 784), torch.zeros(4), "expected scalar type Long|Expected floating|dtype"),
    "a label above the classes": (torch.zeros(4, 784), torch.tensor([0, 1, 2, 10]), "Target 10 is out of bounds"),
    "a label below zero": (torch.zeros(4, 784), torch.tensor([0, 1, 2, -1]), "Target -1 is out of bounds"),
    "images of type uint8": (torch.zeros(4, 784, dtype=torch.uint8), torch.zeros(4, dtype=torch.long), "dtype"),
    "images of type float64": (torch.zeros(4, 784, dtype=torch.float64), torch.zeros(4, dtype=torch.long), "dtype"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("task", ["train", "evaluate"])
def test_what_does_not_fit_is_refused_and_trains_nothing(loop, models, what, task):
    """Wrong width, channels, label shape, type or range end in torch's error, and no parameter has changed."""
    images, labels, message = WRONG[what]
    with torch.random.fork_rng():
        model = models.MLP()
    before = [parameter.clone() for parameter in model.parameters()]
    run = {
        "train": lambda: one_step(loop, model, images, labels),
        "evaluate": lambda: loop.evaluate(model, [(images, labels)], nn.CrossEntropyLoss(), "cpu"),
    }[task]
    with pytest.raises((RuntimeError, ValueError, IndexError), match=message):
        run()
    assert all(map(torch.equal, before, model.parameters())), "a parameter changed before the error"


@given(shape=image_shapes, hidden=widths, classes=class_counts)
def test_an_empty_loader_is_an_error(loop, models, shape, hidden, classes):
    """No batch is no result: training and evaluation say so, and return no zero."""
    model = models.MLP(math.prod(shape), hidden, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="yielded no batch"):
        loop.train_one_epoch(model, [], nn.CrossEntropyLoss(), optimizer, "cpu")
    with pytest.raises(ValueError, match="yielded no batch"):
        loop.evaluate(model, [], nn.CrossEntropyLoss(), "cpu")
