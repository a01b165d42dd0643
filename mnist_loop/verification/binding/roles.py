"""The roles: what a loop can be handed, and the parameter names that mean it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import Any, Literal

Use = Literal["train", "evaluate", "checkpoint"]


@dataclass(frozen=True)
class Role:
    """A kind of value that a loop can be handed.

    Attributes:
        name: the key of its value.
        meaning: what the value is, a phrase for the table in the docs.
        names: the parameter names that mean it; case and underscores do not count.
    """

    name: str
    meaning: str
    names: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phase(phases: str, things: str) -> tuple[str, ...]:
    """Return each phase with each thing, in both orders: train_loader and loader_train."""
    pairs = list(product(phases.split(), things.split()))
    return tuple(f"{phase}_{thing}" for phase, thing in pairs) + tuple(f"{thing}_{phase}" for phase, thing in pairs)


LOADER = "loader dataloader data_loader dl iter iterator batches generator gen loaders dataloaders"
SET = "set dataset data_set ds"
TRAIN = "train training trn tr"
VALIDATION = "val valid validation dev eval"
TEST = "test testing tst te holdout"
SOURCE, TARGET = "src source", "tar target tgt"  # of an adaptation to another domain, in loaders by name

ROLES = (
    Role(
        "model",
        "the model, a torch.nn.Module on the device",
        ("model", "net", "network", "module", "neural_net", "neural_network", "nn_model", "classifier", "mlp", "cnn"),
    ),
    Role("train_loader", "yields batches of the training data", _phase(TRAIN, LOADER)),
    Role("val_loader", "yields batches of the validation data", _phase(VALIDATION, LOADER)),
    Role("test_loader", "yields batches of the test data", _phase(TEST, LOADER)),
    Role("train_set", "the training data, a Dataset", _phase(TRAIN, SET)),
    Role("val_set", "the validation data, a Dataset", _phase(VALIDATION, SET)),
    Role("test_set", "the test data, a Dataset", _phase(TEST, SET)),
    Role(
        "loss_fn",
        "maps outputs and labels to the mean loss over the batch",
        _words(
            "loss_fn loss criterion criteria crit loss_func loss_function loss_f lossfun loss_criterion "
            "loss_module objective objective_fn objective_function cost cost_fn cost_function train_loss_fn "
            "train_criterion"
        ),
    ),
    Role(
        "optimizer",
        "the optimizer, with the parameters of the model in it",
        _words("optimizer optimiser optim opt optimizor opti optmizer train_optimizer"),
    ),
    Role(
        "scheduler",
        "the learning rate scheduler of the optimizer",
        _words(
            "scheduler lr_scheduler sched lr_sched schedule lr_schedule schedular learning_rate_scheduler "
            "train_scheduler exp_lr_scheduler step_lr_scheduler"
        ),
    ),
    Role("scaler", "a torch GradScaler", _words("scaler grad_scaler gradient_scaler amp_scaler")),
    Role("device", "the device, a torch.device", _words("device dev torch_device train_device")),
    Role(
        "epochs",
        "how many epochs to train",
        _words(
            "epochs num_epochs n_epochs max_epochs nb_epochs no_epochs total_epochs number_of_epochs "
            "epochs_num num_epoch n_epoch max_epoch nb_epoch total_epoch epoch_count train_epochs "
            "training_epochs num_train_epochs num_training_epochs n_train_epochs epochs_count"
        ),
    ),
    Role(
        "epoch",
        "which epoch this is, from 1",
        _words("epoch epoch_num epoch_number epoch_idx epoch_index epoch_id epoch_i cur_epoch current_epoch ep"),
    ),
    Role(
        "batch_size",
        "samples in a batch",
        _words(
            "batch_size bs mini_batch_size train_batch_size train_bs per_device_train_batch_size "
            "test_batch_size test_bs val_batch_size valid_batch_size eval_batch_size"
        ),
    ),
    Role(
        "lr",
        "the learning rate",
        _words("lr learning_rate base_lr init_lr initial_lr base_learning_rate initial_learning_rate"),
    ),
    Role("seed", "seeds the generators", _words("seed random_seed rng_seed manual_seed random_state")),
    Role(
        "classes",
        "how many classes there are",
        _words("num_classes n_classes nb_classes num_class n_class nb_class class_num number_of_classes nclasses"),
    ),
    Role(
        "class_names",
        "the names of the classes, in a list",
        _words("class_names classnames names_of_classes label_names labels_name category_names"),
    ),
    Role(
        "accumulate",
        "batches whose gradients make one step",
        _words(
            "accumulate accumulation accumulate_steps accumulation_steps accum_steps accum_iter grad_accum "
            "grad_accum_steps grad_accumulation_steps gradient_accumulation gradient_accumulation_steps "
            "gradient_accumulate_steps accumulate_grad_batches iters_to_accumulate n_accum num_accum_steps "
            "accumulate_batches"
        ),
    ),
    Role(
        "clip",
        "the largest norm of a gradient, or None",
        _words(
            "clip max_norm clip_norm grad_clip clip_grad max_grad_norm clip_grad_norm grad_clip_norm "
            "grad_norm_clip gradient_clip gradient_clipping grad_max_norm clip_max_norm max_gradient_norm "
            "gradient_clip_norm gradient_clip_val grad_norm"
        ),
    ),
    Role(
        "mixed",
        "whether mixed precision is on: each setting is tried, in float64, on which it has no effect",
        _words("amp use_amp enable_amp amp_enabled with_amp mixed_precision use_mixed_precision"),
    ),
    Role(
        "path",
        "the file of a checkpoint",
        _words(
            "path file filename file_name filepath file_path fname save_path save_file save_to "
            "checkpoint_path checkpoint_file ckpt_path ckpt_file ckpt checkpoint model_path model_file "
            "load_path load_from out_path output_path"
        ),
    ),
    Role(
        "args",
        "the settings as attributes or keys: lr, epochs, batch_size, ..., log_interval, dry_run",
        _words(
            "args arguments config cfg conf configs hparams hyperparams hyperparameters hparam hps settings "
            "options opts flags configuration training_args train_args train_config train_cfg"
        ),
    ),
    Role(
        "loaders",
        "the loaders by name: a dict with train and val",
        _words("loaders dataloaders data_loaders dls dataloaders_dict loaders_dict dataloader_dict"),
    ),
    Role(
        "sizes",
        "the numbers of samples by name: a dict with train and val",
        _words("dataset_sizes data_sizes dset_sizes sizes_dict"),
    ),
)


# Names whose meaning depends on the other parameters: the first of these roles that none of them takes.
PHASES = (("train", TRAIN), ("val", VALIDATION), ("test", TEST))
SEVERAL = {
    **{f"{word}_data": (f"{phase}_loader", f"{phase}_set") for phase, words in PHASES for word in words.split()},
    "opt": ("optimizer", "args"),
    "classes": ("class_names", "classes"),
}
# Names of data without a phase: the training data for a loop that trains, the test data for one that evaluates.
OPEN = {
    **dict.fromkeys(_words("loader dataloader data_loader dl data_iter data_iterator iterator batches"), ("loader",)),
    **dict.fromkeys(_words("dataset data_set ds"), ("set",)),
    "data": ("loader", "set"),
}
# Writers, loggers and progress bars, which take each call; files for a log, and schedules of a warm-up, among them.
TAKE_EVERY_CALL = _words(
    "writer tb_writer summary_writer log_writer tensorboard tensorboard_writer tensorboard_logger logger tb_logger "
    "train_logger training_logger pbar prog_bar progress_bar vis viz visdom visualizer log_file logfile wandb "
    "warmup_scheduler scheduler_warmup warmup_lr_scheduler"
)
# Counters of steps that a loop goes on with.
COUNTERS = _words("global_step global_steps iteration n_iter iter_num cur_iter current_step step_count total_iters")
# What there may be none of, where it is iterated over alone.
NONE_OF = _words("metrics metric_ftns metric_fns metric_functions callbacks hooks")
SHARED = frozenset({"batch_size"})  # for several parameters at once: train_batch_size and test_batch_size
SETS = frozenset(f"{phase}_set" for phase, _ in PHASES)
DATA = frozenset(f"{phase}_{kind}" for phase, _ in PHASES for kind in ("loader", "set"))


def _key(name: str) -> str:
    return name.replace("_", "").lower()


_ROLE_OF = {_key(name): role.name for role in ROLES for name in role.names}
_SEVERAL = {_key(name): roles for name, roles in SEVERAL.items()}
_OPEN = {_key(name): kinds for name, kinds in OPEN.items()}
_SPELLING = {_key(name): name for name in (*OPEN, *SEVERAL, *(name for role in ROLES for name in role.names))}


def meanings(name: str, use: Use) -> tuple[str, ...]:
    """Return the roles that a parameter of this name may mean, the likeliest first; none for an unknown name."""
    key = _key(name)
    if key in _OPEN:
        phase = "test" if use == "evaluate" else "train"
        return tuple(f"{phase}_{kind}" for kind in _OPEN[key])
    if key in _SEVERAL:
        return _SEVERAL[key]
    return (_ROLE_OF[key],) if key in _ROLE_OF else ()


_TAKE_EVERY_CALL = frozenset(map(_key, TAKE_EVERY_CALL))


def takes_every_call(name: str) -> bool:
    """Return whether a parameter of this name is a writer, a logger or a progress bar."""
    return _key(name).rstrip("0123456789") in _TAKE_EVERY_CALL


_COUNTERS, _NONE_OF = frozenset(map(_key, COUNTERS)), frozenset(map(_key, NONE_OF))


def is_counter(name: str) -> bool:
    """Return whether a parameter of this name counts steps."""
    return _key(name) in _COUNTERS


def may_be_none_of(name: str) -> bool:
    """Return whether a parameter of this name holds what a loop can do without."""
    return _key(name) in _NONE_OF


def nearest(name: str) -> str | None:
    """Return the known name that is closest to ``name``, if one is close."""
    for known in ([role.name for role in ROLES], _SPELLING.values()):  # the names of the roles first
        keys = {_key(word): word for word in known}
        near = difflib.get_close_matches(_key(name), keys, n=1, cutoff=0.75)
        if near:
            return keys[near[0]]
    return None


# Settings beside the roles, as in the official MNIST example, for a loop that reads or takes them.
SETTINGS: Mapping[str, Any] = {
    "log_interval": 10,
    "print_freq": 10,
    "dry_run": False,
    "save_model": False,
    "no_cuda": True,
    "no_mps": True,
    "no_accel": True,
    "use_cuda": False,
    "cuda": False,
    "gamma": 0.7,
    "distributed": False,
    "world_size": 1,
    "rank": 0,
    "local_rank": 0,
    "verbose": False,
    "workers": 0,
    "num_workers": 0,
    "start_epoch": 1,
    "momentum": 0.0,
    "weight_decay": 0.0,
}


class LoopArgs(SimpleNamespace):
    """The ``args`` of a loop: each role and each of `SETTINGS`, as attribute and as key, in any usual spelling."""

    def __getattr__(self, name: str) -> Any:
        roles = () if name.startswith("__") else meanings(name, "train")
        for role in roles:
            if role in vars(self):
                return vars(self)[role]
        raise AttributeError(f"these settings have no {name!r}, expected with --give args.{name}=VALUE")

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(str(error)) from error

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and hasattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def keys(self) -> Iterator[str]:
        """Iterate over the names, as of a dict."""
        return iter(vars(self))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over names and values, as of a dict."""
        return iter(vars(self).items())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of ``name``, or ``default``, as of a dict."""
        return getattr(self, name, default)


class Loaders(dict[str, Any]):
    """The loaders by name: ``train`` and ``val``; a look-up takes any other usual name of a phase too."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__({phase: self._of(values, phase) for phase in ("train", "val")})
        self._test = self._of(values, "test") if "test_loader" in values else None

    @staticmethod
    def _of(values: Mapping[str, Any], phase: str) -> Any:
        return values[f"{phase}_loader"]

    def __missing__(self, name: str) -> Any:
        for phase, words in (("train", SOURCE), *PHASES, ("test", TARGET)):
            if name.lower() in words.split():
                return self._test if phase == "test" else self[phase]
        raise KeyError(name)


class Sizes(Loaders):
    """The numbers of samples by name, as `Loaders`."""

    @staticmethod
    def _of(values: Mapping[str, Any], phase: str) -> int:
        return len(values[f"{phase}_loader"].dataset)
