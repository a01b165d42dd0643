"""The facts of several results: those that all share, and those in which they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnist_loop.report.stored import ArmResult, Machine, Setting, SweepResult

UNKNOWN = "-"
WITHOUT_VERDICT = (
    "measured in fewer than two restarts"  # the fact that names the arms and batch sizes without a verdict
)
MOST_VALUES = 3  # of one fact in several runs
IMPLIED = ("torch_git",)  # by torch
# The most important facts come first; the others follow in the order of their appearance.
ORDER = ("machine", "GPU", "torch", "python", "device", "CPU threads", "dtype", "data", "model", "CPU")
# The first three are not chosen, and are in no label. A machine's name is long: it comes last.
LABEL_LAST = ("load average", "CPUs available", "CPU governor", "machine")


@dataclass(frozen=True)
class Facts:
    """Facts of several results.

    Attributes:
        shared: name to value, the same for all.
        differing: name to one value for each result, `UNKNOWN` where it has none.
        count: how many results there are.
    """

    shared: Mapping[str, str]
    differing: Mapping[str, tuple[str, ...]]
    count: int

    def labels(self) -> tuple[str, ...]:
        """Return a short name for each result, made of the fewest facts that distinguish the results.

        The names are empty where no fact differs.
        """
        names = [name for name in self.differing if name not in LABEL_LAST]
        names.sort(key=lambda name: UNKNOWN in self.differing[name])  # facts that all results have come first
        names += [name for name in self.differing if name == "machine"]
        rows = list(zip(*(self.differing[name] for name in names), strict=True)) if names else [()] * self.count
        taken: list[int] = []  # places in ``names``
        told = 1  # the number of results that they distinguish
        for place in range(len(names)):
            now = len({tuple(row[index] for index in (*taken, place)) for row in rows})
            if now > told:
                taken, told = [*taken, place], now
        return tuple(" · ".join(_named(names[index], row[index]) for index in taken) for row in rows)


def split_facts(results: Sequence[Mapping[str, str]]) -> Facts:
    """Separate the facts that all results share from those that differ or that some lack."""
    met = dict.fromkeys(name for facts in results for name in facts)
    names = sorted(met, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    shared, differing = {}, {}
    for name in names:
        values = tuple(facts.get(name, UNKNOWN) for facts in results)
        if len(set(values)) == 1:
            shared[name] = values[0]
        else:
            differing[name] = values
    return Facts(shared, differing, len(results))


def machine_facts(machine: Machine) -> dict[str, str]:
    """Return the known facts of a machine."""
    facts = {
        "machine": machine.name,
        "GPU": ", ".join(machine.gpus),
        "CPU": machine.cpu,
        "logical cores": machine.logical_cores,
        "memory": machine.memory_gib and f"{machine.memory_gib} GiB",
        "system": machine.system,
    }
    return {name: str(value) for name, value in facts.items() if value}


def sweep_facts(sweep: SweepResult) -> dict[str, str]:
    """Return the facts of a sweep: machine, software, data, settings and state."""
    workloads = [measurement.workload for measurement in sweep.measurements]
    settings = [measurement.setting for measurement in sweep.measurements]
    chosen = {
        "device": _several(setting.device for setting in settings),
        "dtype": _several(setting.dtype for setting in settings),
        "data": _several(workload.data for workload in workloads),
        "model": _several(workload.model for workload in workloads),
    }
    return machine_facts(sweep.machine) | _versions(sweep.software) | _known(chosen) | dict(sweep.facts)


def setting_facts(machine: Machine, software: Mapping[str, str], setting: Setting) -> dict[str, str]:
    """Return the facts of a setting: machine, software, device, dtype and threads."""
    chosen = {"device": setting.device, "dtype": setting.dtype, "CPU threads": str(setting.threads or "")}
    return machine_facts(machine) | _versions(software) | _known(chosen)


def common_run_facts(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the facts of several runs of one contender: each value once; of many values the first and the last."""
    values = {name: dict.fromkeys(run[name] for run in runs if name in run) for run in runs for name in run}
    return {
        name: ", ".join(found) if len(found) <= MOST_VALUES else f"{next(iter(found))} … {next(reversed(found))}"
        for name, found in values.items()
    }


def arm_facts(arm: ArmResult) -> dict[str, str]:
    """Return the facts of an arm: its software and its settings."""
    renamed = {"CPU threads" if name == "threads" else name: value for name, value in arm.settings.items()}
    return _versions(arm.software) | renamed


def _versions(software: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in software.items() if name not in IMPLIED}


def _several(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _known(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value}


def _named(name: str, value: str) -> str:
    """Write "torch 2.15.0"; values that need no name, such as a device, stand alone."""
    return value if name in ("machine", "GPU", "device", "dtype", "data") else f"{name} {value}"
