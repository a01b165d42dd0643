"""Bugs of shape: pixels in another order, samples mixed, misfits accepted."""

import pytest

from tests.loops.patches import Mutant

NOT_RAISED = pytest.fail.Exception
SHAPED = "    return images.reshape(len(images), *input_shape)\n"
ORDER = "test_shapes.test_shaping_keeps_the_order_of_the_pixels"
REFUSED = "test_shapes.test_what_does_not_fit_is_refused_and_trains_nothing"
EMPTY = "    if count == 0:\n"

MUTANTS = [
    Mutant("pixels-transposed", SHAPED, SHAPED.replace("images.re", "images.mT.re"), ORDER, "in another order"),
    Mutant(
        "mixes-samples", SHAPED, SHAPED.replace("images.re", "images.transpose(0, 1).re"), ORDER, "in another order"
    ),
    Mutant(
        "mixes-samples",
        SHAPED,
        "    return images.reshape(-1, *input_shape)\n",
        REFUSED,
        "Expected regex|pattern did not match|Regex",
        case={"what": "three channels", "task": "train"},
    ),
    Mutant(
        "loss-broadcast",
        "        loss = loss_fn(outputs, labels)\n",
        "        loss = loss_fn(outputs, labels.flatten())\n",
        REFUSED,
        "DID NOT RAISE",
        error=NOT_RAISED,
        case={"what": "labels in a column", "task": "train"},
    ),
    Mutant(
        "loss-wrong-target",
        "        loss = loss_fn(outputs, labels)\n",
        "        loss = loss_fn(outputs, labels.long())\n",
        REFUSED,
        "DID NOT RAISE",
        error=NOT_RAISED,
        case={"what": "labels of type float", "task": "train"},
    ),
    Mutant(
        "steps-before-the-loss",
        "        outputs = model(images)\n        loss =",
        "        outputs = model(images)\n        outputs.sum().backward()\n        optimizer.step()\n"
        "        outputs = model(images)\n        loss =",
        REFUSED,
        "a parameter changed before the error",
        case={"what": "a label above the classes", "task": "train"},
    ),
    Mutant(
        "images-lost",
        SHAPED,
        SHAPED.replace("_shape)", "_shape)[:1]"),
        "test_shapes.test_logits_have_a_row_an_image_and_a_column_a_class",
        "torch.Size",
    ),
    Mutant(
        "flattens-everything",
        'getattr(model, "input_shape", images.shape[1:])',
        "(images[0].numel(),)",
        "test_shapes.test_a_model_without_an_input_shape_gets_the_images_as_they_are",
        "Expected 3D",
        error=RuntimeError,
    ),
    Mutant(
        "no-batches",
        EMPTY,
        EMPTY + "        return 0.0\n    if count < 0:\n",
        "test_shapes.test_an_empty_loader_is_an_error",
        "DID NOT RAISE",
        error=NOT_RAISED,
    ),
]

MODEL_MUTANTS = [
    Mutant(
        "one-logit",
        "self.fc2 = nn.Linear(hidden_size, output_size)",
        "self.fc2 = nn.Linear(hidden_size, 1)",
        "test_shapes.test_the_lesson_maps_images_to_ten_logits",
        "torch.Size",
    ),
]
