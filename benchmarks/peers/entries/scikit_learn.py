"""scikit-learn: MLPClassifier with plain SGD, an epoch by each partial_fit on arrays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("scikit-learn",)
USED = "MLPClassifier.partial_fit, in memory"


def start(task: Task) -> EpochFunction:
    """Make the classifier, and put the task's weights in the place of its own."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    from ..task import CLASSES, HIDDEN

    settings = task.settings
    images, first = task.floats(), min(settings.batch_size, settings.images)
    classifier = MLPClassifier(
        hidden_layer_sizes=(HIDDEN,),
        activation="relu",
        solver="sgd",
        alpha=0.0,
        batch_size=first,
        learning_rate_init=settings.lr,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=settings.seed,
    )
    # Its weights are there after a first step alone; what that step did is overwritten.
    classifier.partial_fit(images[:first], task.labels[:first], classes=np.arange(CLASSES))
    for weights, initial in zip(classifier.coefs_, (task.w1.T, task.w2.T), strict=True):
        weights[:] = initial
    for biases, initial in zip(classifier.intercepts_, (task.b1, task.b2), strict=True):
        biases[:] = initial

    def epoch() -> float:
        classifier.partial_fit(images, task.labels)
        return float(classifier.loss_)

    return epoch
