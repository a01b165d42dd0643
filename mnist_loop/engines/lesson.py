"""The checks of engines that train only some models, losses and optimizers."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer

from mnist_loop.engines.contract import hooked, unsuitable
from mnist_loop.loop import LossFunction
from mnist_loop.model import MLP

PLAIN = {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


def check(engine: str, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> None:
    """Check that model, loss and optimizer are the lesson's.

    Raises:
        Unsuitable: they are not. The message names ``engine``.
    """
    group = optimizer.param_groups[0]
    if type(model) is not MLP:
        raise unsuitable(engine, f"the model is {type(model).__name__}, expected the lesson's MLP")
    if type(optimizer) is not SGD or any(group[name] != value for name, value in PLAIN.items()):
        raise unsuitable(engine, "the optimizer is another one than the lesson's SGD(lr)")
    check_rest(engine, model, loss_fn, optimizer)


def check_rest(engine: str, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> None:
    """Check that the loss is the lesson's, and that the optimizer trains all of the model, without hooks.

    Raises:
        Unsuitable: it is not so.
    """
    where = hooked(model, optimizer)
    if not _is_cross_entropy(loss_fn):
        wrong = "the loss is another one than the lesson's CrossEntropyLoss()"
    elif [list(map(id, group["params"])) for group in optimizer.param_groups] != [list(map(id, model.parameters()))]:
        wrong = "the optimizer holds other parameters than those of the model"
    elif not all(parameter.requires_grad for parameter in model.parameters()):
        wrong = "some parameters are frozen"
    elif where is not None:
        wrong = f"{where} has hooks, which would not be called"
    else:
        return
    raise unsuitable(engine, wrong)


def _is_cross_entropy(loss_fn: LossFunction) -> bool:
    plain = nn.CrossEntropyLoss()
    return (
        type(loss_fn) is nn.CrossEntropyLoss
        and loss_fn.weight is None
        and (loss_fn.reduction, loss_fn.label_smoothing, loss_fn.ignore_index)
        == (plain.reduction, plain.label_smoothing, plain.ignore_index)
    )
