"""skorch: a classifier with a valid split of its own."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from frameworks_data import net, report, train_set

torch.manual_seed(0)
np.random.seed(0)
classifier = NeuralNetClassifier(
    net(),
    max_epochs=2,
    lr=0.1,
    batch_size=8,
    iterator_train__shuffle=True,
    criterion=nn.CrossEntropyLoss,
    verbose=0,
)
inputs, labels = train_set().tensors
classifier.fit(inputs.numpy(), labels.numpy())
report(classifier.module_, [*classifier.history[:, "train_loss"], *classifier.history[:, "valid_loss"]])
