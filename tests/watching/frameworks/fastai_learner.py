"""fastai: a Learner that is trained by one cycle."""

import fastai.callback.schedule  # it adds fit_one_cycle
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn
from torch.utils.data import DataLoader

from frameworks_data import net, report, test_set, train_set

torch.manual_seed(0)
loaders = DataLoaders(
    DataLoader(train_set(), batch_size=8, shuffle=True), DataLoader(test_set(), batch_size=8), device="cpu"
)
learner = Learner(loaders, net(), loss_func=nn.CrossEntropyLoss())
with learner.no_bar(), learner.no_logging():
    learner.fit_one_cycle(2, 1e-2)
report(learner.model, [float(loss) for loss in learner.recorder.losses])
