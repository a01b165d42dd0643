"""The sweeps and settings that a plot shows side by side, named by their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_loop.report.plots.words import shorten
from mnist_loop.report.stored import Measurement, RulerResult, Setting, SweepResult

PARTS = ("step", "end to end", "input pipeline", "evaluation")  # in the order of importance


@dataclass(frozen=True)
class Configuration:
    """One setting of one sweep.

    Attributes:
        sweep: what it was stored in.
        setting: how it was run.
        parts: the measurements of each part, by rising batch size.
    """

    sweep: SweepResult
    setting: Setting
    parts: Mapping[str, Sequence[Measurement]]

    @property
    def ruler(self) -> RulerResult | None:
        """The ruler of the device, where it was measured."""
        return self.sweep.ruler.get(self.setting.device)

    @property
    def torch(self) -> str:
        """The version of torch."""
        return self.sweep.software.get("torch", "unknown")


def version_key(version: str) -> tuple[int, ...]:
    """Return the sort key of a version: 2.9.1 before 2.15.0; other texts come first."""
    release = version.partition("+")[0].split(".")
    return tuple(int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0 for number in release)


def subjects(sweeps: Sequence[SweepResult]) -> dict[tuple[str, str], list[Configuration]]:
    """Group the measurements by data and model into configurations, the oldest torch first."""
    found: dict[tuple[str, str], dict[tuple[int, Setting], dict[str, dict[int, Measurement]]]] = {}
    for number, sweep in enumerate(sweeps):
        for measured in sweep.measurements:
            work = measured.workload
            parts = found.setdefault((work.data, work.model), {}).setdefault((number, measured.setting), {})
            parts.setdefault(work.part, {})[work.batch_size] = measured
    return {
        subject: sorted(
            (
                Configuration(sweeps[number], setting, {part: _by_size(sizes) for part, sizes in parts.items()})
                for (number, setting), parts in configurations.items()
            ),
            key=lambda one: (one.setting.device, one.sweep.machine.name, version_key(one.torch), one.sweep.when),
        )
        for subject, configurations in found.items()
    }


def _by_size(sizes: Mapping[int, Measurement]) -> list[Measurement]:
    return [sizes[size] for size in sorted(sizes)]


def names(configurations: Sequence[Configuration]) -> list[str]:
    """Name each configuration by its version of torch and the facts that distinguish it from the others."""
    facts = [_facts(one) for one in configurations]
    if len({one["torch"] for one in facts}) == len({one["build"] for one in facts}):
        for one in facts:
            one["build"] = one["torch"]  # the build adds no distinction
    chosen = ["build"]
    for key in ("device", "machine", "threads", "dtype", "python", "when"):
        different = len({one[key] for one in facts}) > 1
        together = len({tuple(one[known] for known in chosen) for one in facts})
        if different and (key in ("device", "threads", "dtype") or together < len(facts)):
            chosen.append(key)
    return [shorten(" \N{MIDDLE DOT} ".join(filter(None, (one[key] for key in chosen)))) for one in facts]


def _facts(one: Configuration) -> dict[str, str]:
    threads = one.setting.threads
    return {
        "torch": f"torch {one.torch.partition('+')[0]}",
        "build": f"torch {one.torch}",
        "device": one.setting.device,
        "machine": one.sweep.machine.name,
        "threads": "" if threads is None else f"{threads} thread{'' if threads == 1 else 's'}",
        "dtype": one.setting.dtype,
        "python": f"Python {one.sweep.software.get('python', 'unknown')}",
        "when": one.sweep.when[:16].replace("T", " "),
    }
