"""The machine fingerprint: its hash is of the hardware alone, and no answer is no error."""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pynvml
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_loop.bench import machine
from mnist_loop.bench.machine import MIB, Facts

linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity and control groups are Linux's")

H200 = {
    "name": "NVIDIA H200",
    "uuid": "GPU-1f1a2b3c-0000-1111-2222-333344445555",
    "memory_mib": 143771,
    "capability": (9, 0),
}
L4 = {
    "name": "NVIDIA L4",
    "uuid": "GPU-9e9e9e9e-0000-1111-2222-333344445555",
    "memory_mib": 23034,
    "capability": (8, 9),
}


class FakeNvml(ModuleType):
    """``pynvml`` as it answers for ``cards``, idle; each question in ``refused`` is not supported."""

    def __init__(
        self, cards: Iterable[dict[str, Any]], refused: Iterable[str] = (), driver: str = "570.133.20"
    ) -> None:
        super().__init__("pynvml")
        self.open = 0  # nvmlInit counts up, nvmlShutdown down
        self.cards = list(cards)
        self.NVMLError = pynvml.NVMLError
        self.NVML_CLOCK_SM, self.NVML_CLOCK_MEM = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
        self.NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
        clocks = {self.NVML_CLOCK_SM: 345, self.NVML_CLOCK_MEM: 3201}
        highest = {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 3201}
        answers: dict[str, Callable[..., Any]] = {
            "nvmlSystemGetDriverVersion": lambda: driver,
            "nvmlDeviceGetCount": lambda: len(self.cards),
            "nvmlDeviceGetHandleByIndex": lambda index: self.cards[index],
            "nvmlDeviceGetName": lambda handle: handle["name"],
            "nvmlDeviceGetUUID": lambda handle: handle["uuid"],
            "nvmlDeviceGetMemoryInfo": lambda handle, version=None: SimpleNamespace(
                total=handle["memory_mib"] * MIB, free=(handle["memory_mib"] - 600) * MIB, used=600 * MIB
            ),
            "nvmlDeviceGetCudaComputeCapability": lambda handle: handle["capability"],
            "nvmlDeviceGetClockInfo": lambda _, type: clocks[type],  # noqa: A006 - as in NVML
            "nvmlDeviceGetMaxClockInfo": lambda _, type: highest[type],  # noqa: A006 - as in NVML
            "nvmlDeviceGetPerformanceState": lambda _: 0,
            "nvmlDeviceGetPowerState": lambda _: 0,
            "nvmlDeviceGetPowerUsage": lambda _: 76510,
            "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700000,
            "nvmlDeviceGetTemperatureV": lambda _, sensor, version=1: 31 + sensor,
            "nvmlDeviceGetTemperature": lambda _, sensor: 31 + sensor,
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=7, memory=0),
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x1,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x1,
        }
        for function, answer in answers.items():
            setattr(self, function, self._guarded(answer, refused=function in set(refused)))
        self.questions = sorted(answers)

    def _guarded(self, answer: Callable[..., Any], refused: bool) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            if self.open < 1:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
            if refused:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return answer(*arguments)

        ask.__signature__ = inspect.signature(answer)  # type: ignore[attr-defined]  # what inspect looks for
        return ask

    def nvmlInit(self) -> None:  # noqa: N802 - the name in NVML
        """Open a session."""
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802 - the name in NVML
        """Close a session."""
        self.open -= 1


@pytest.fixture(autouse=True)
def _no_real_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests say the same on a machine with GPUs as on one without."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Return a function that puts a made-up NVML in place."""

    def install(*cards: dict[str, Any], **options: Any) -> FakeNvml:
        fake = FakeNvml(cards, **options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


def leaves(value: Any) -> list[Any]:
    """Return all single values in nested lists and dicts."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def variants(value: Any) -> list[Any]:
    """Return copies of ``value`` with one leaf changed in each, and with one part missing in each."""
    if isinstance(value, dict):
        changed = [value | {key: part} for key, old in value.items() for part in variants(old)]
        return changed + [{k: v for k, v in value.items() if k != gone} for gone in value]
    if isinstance(value, list):
        others = [[*value[:i], new, *value[i + 1 :]] for i, old in enumerate(value) for new in variants(old)]
        return [*others, [*value, "more"]]
    return [f"not {value}"]


def run_python(code: str, **environment: str) -> Any:
    """Run ``code`` in a new process and return what it prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Identity and its hash


def test_all_three_survive_json(nvml: Callable[..., FakeNvml]) -> None:
    """What is stored is what was found."""
    nvml(H200)
    for facts in (machine.identity(), machine.software(), machine.state()):
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_the_hash_covers_every_fact(nvml: Callable[..., FakeNvml]) -> None:
    """No field of the identity can change, come or go without the hash changing."""
    nvml(H200, L4)
    facts = machine.identity()
    stated = facts.pop("hash")
    assert re.fullmatch(r"[0-9a-f]{12}", stated)
    assert machine._digest(dict(reversed(facts.items()))) == stated
    others = variants(facts)
    assert len(others) > len(leaves(facts))
    assert len({stated, *map(machine._digest, others)}) == len(others) + 1


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "cpu": lambda patch: patch.setattr(machine, "_cpu_model", lambda: "Another CPU"),
    "architecture": lambda patch: patch.setattr("platform.machine", lambda: "sparc"),
    "system": lambda patch: patch.setattr("platform.system", lambda: "Plan 9"),
    "physical_cores": lambda patch: patch.setattr(psutil, "cpu_count", lambda logical: 7331 + logical),
    "logical_cores": lambda patch: patch.setattr(machine, "_logical_cores", lambda: 7331),
    "memory_gib": lambda patch: patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=7331 << 30)),
    "gpus": lambda patch: patch.setitem(sys.modules, "pynvml", FakeNvml([H200, H200])),
    "gpu_driver": lambda patch: patch.setitem(sys.modules, "pynvml", FakeNvml([H200], driver="580.1")),
}


@pytest.mark.parametrize("field", CHANGES)
def test_other_hardware_has_another_hash(
    field: str, nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that differs in one field differs in that field and in the hash."""
    nvml(H200)
    before = machine.identity()
    CHANGES[field](monkeypatch)
    after = machine.identity()
    differing = {key for key in before if before[key] != after[key]}
    assert {field, "hash"} <= differing <= {field, "hash", "logical_cores"}
    assert set(CHANGES) == set(before) - {"hash"}, "a field without a test"


FAKE_PYNVML = """
class NVMLError(Exception): pass
def nvmlInit(): raise NVMLError
"""

STEADY = """
import json, os, sys, threading, time, types
from mnist_loop.bench import machine

# No torch: there is no GPU to ask for, and it takes seconds to import.
sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))

def look():
    machine._cpu_model.cache_clear()
    return machine.identity(), machine.available_cpus()

first = look()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", LANG="C",
                  TZ="Asia/Tokyo", HOME="/nowhere", HOSTNAME="elsewhere")
os.getloadavg = lambda: (99.0, 99.0, 99.0)
now = time.time
time.time = lambda: now() + 1e8
stop = threading.Event()
def burn():
    while not stop.is_set(): pass
busy = threading.Thread(target=burn)
busy.start()
second = look()
stop.set()
busy.join()
print(json.dumps([first, second, machine._cgroup_quota()]))
"""


def test_the_hash_does_not_change_with_the_state(tmp_path: Path) -> None:
    """Load, affinity, time and environment variables leave the identity as it was."""
    (tmp_path / "pynvml.py").write_text(FAKE_PYNVML)
    folders = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    (first, _), (second, cpus), _ = run_python(STEADY, PYTHONPATH=folders)
    assert first == second
    assert first["hash"]
    if sys.platform == "linux":
        assert cpus == 1  # the affinity did change


def test_a_quota_leaves_the_identity_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are the machine's, not the control group's; a core that is off still counts."""
    cores = {"sys/devices/system/cpu/present": "0-3,6\n", "sys/devices/system/cpu/online": "0\n"}
    plant(tmp_path, V2_LEAF | cores)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine._cgroup_quota() == 1.5
    assert machine.identity()["logical_cores"] == 5


@pytest.mark.parametrize(("shown", "built_in"), [(15.4, 16), (15.6, 16), (23.54, 24), (8.0, 8)])
def test_memory_is_what_is_built_in(shown: float, built_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel shows less than is there, by an amount of its own: the next whole GiB stays."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=int(shown * 2**30)))
    assert machine.identity()["memory_gib"] == built_in


@pytest.mark.parametrize("present", [None, "", "what?"])
def test_cores_are_counted_without_the_kernels_list(
    present: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the list of cores is missing or strange, psutil counts."""
    if present is not None:
        plant(tmp_path, {"sys/devices/system/cpu/present": present})
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 12 if logical else 6)
    assert machine.identity()["logical_cores"] == 12


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        (lambda: {"brand_raw": "  AMD EPYC  7763 "}, "AMD EPYC 7763"),
        (dict, "from platform"),  # a processor that py-cpuinfo does not know
        (lambda: json.loads(""), "from platform"),  # its process printed nothing
        (lambda: (_ for _ in ()).throw(PermissionError()), "from platform"),  # it may not start a process
    ],
)
def test_the_model_comes_from_cpuinfo_or_platform(
    answer: Callable[[], Facts], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """py-cpuinfo names the model; where it cannot, platform does."""
    fake = ModuleType("cpuinfo")
    fake.get_cpu_info = answer  # type: ignore[attr-defined]  # a made-up module
    monkeypatch.setitem(sys.modules, "cpuinfo", fake)
    monkeypatch.setattr("platform.processor", lambda: "from platform")
    assert machine._cpu_model.__wrapped__() == model


def test_nothing_to_ask_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system that answers nothing, what is not known is None."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("not here")

    for function in ("cpu_count", "cpu_freq", "cpu_times", "virtual_memory"):
        monkeypatch.setattr(psutil, function, refuse)
    monkeypatch.setattr(os, "getloadavg", refuse, raising=False)
    monkeypatch.setattr("platform.freedesktop_os_release", refuse)
    monkeypatch.setattr("platform.release", lambda: "")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    facts, build, now = machine.identity(), machine.software(), machine.state()
    for key in ("physical_cores", "logical_cores", "memory_gib", "gpu_driver"):
        assert facts[key] is None, key
    assert facts["gpus"] == []
    assert build["os_release"] is None
    assert build["libc"] is None
    cpu = now["cpu"]
    for key in ("load_average", "quota_cpus", "governor", "current_mhz", "max_mhz", "steal_s", "cpu_s"):
        assert cpu[key] is None, key
    assert cpu["steal_share_since_boot"] is None
    assert now["memory_mib"] is None
    assert machine.available_cpus() >= 1
    assert re.fullmatch(r"[a-z0-9-]+", machine.name())


# Privacy


def test_no_name_and_no_path_is_written(nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    """A result can be published: it names neither host nor user, no folder, and no card's serial number."""
    fake = nvml(H200)
    for variable in ("HOME", "USERPROFILE", "PWD", "OLDPWD", "PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(variable, str(Path("/home/zaphod")))
    for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME", "COMPUTERNAME"):
        monkeypatch.setenv(variable, "zaphod")
    monkeypatch.setenv("LD_PRELOAD", "/home/zaphod/lib/libjemalloc.so.2 /opt/zaphod/libtcmalloc.so")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", fake.cards[0]["uuid"])
    monkeypatch.setattr("platform.node", lambda: "zaphod")
    monkeypatch.setattr("socket.gethostname", lambda: "zaphod")
    found = [machine.identity(), machine.software(), machine.state()]
    assert found[2]["preload"] == ["libjemalloc.so.2", "libtcmalloc.so"]
    assert found[2]["gpus"][0]["cuda_device"] == 0
    texts = [leaf for facts in found for leaf in leaves(facts) if isinstance(leaf, str)]
    assert len(texts) > 20
    for text in texts:
        assert "zaphod" not in text
        assert "1f1a2b3c" not in text
        assert not re.search(r"(^|[\s=:'\"(])(/|~|\\|[A-Za-z]:[\\/])", text), f"{text!r} looks like a path"


# Names


@given(st.text())
@example("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz")
@example("con")
@example("../../etc")
@settings(deadline=None)  # a busy machine is no error
def test_a_slug_fits_every_file_system(text: str) -> None:
    """Lower-case letters, digits and single hyphens between them: legal, and one name, on every system."""
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", machine._slug(text))


@pytest.mark.parametrize(
    ("model", "device", "words"),
    [
        ("Intel(R) Xeon(R) Processor", "cpu", "intel-xeon-processor-2cpu"),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "cpu", "intel-core-i7-8650u-2cpu"),
        ("Apple M2 Pro", "mps", "apple-m2-pro-mps"),
        (None, "cpu", "cpu-2cpu"),
        ("龍芯", "cpu", "cpu-2cpu"),
        ("x" * 300, "cpu", "x" * 48 + "-2cpu"),
        (None, "cuda", "nvidia-h200"),
        (None, "cuda:1", "nvidia-l4"),
        (None, "cuda:2", "gpu"),
    ],
)
def test_names_say_what_was_measured(
    model: str | None, device: str, words: str, nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model, the number of CPUs or the device, and the start of the hash."""
    nvml(H200, L4)
    monkeypatch.setattr(machine, "_cpu_model", lambda: model)
    monkeypatch.setattr(machine, "_logical_cores", lambda: 2)
    assert machine.name(device) == f"{words}-{machine.identity()['hash'][:6]}"


def test_a_gpu_is_named_as_torch_counts_it(nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch and NVML may order cards differently: the run is on torch's."""
    nvml(H200, L4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: ["NVIDIA L4", "NVIDIA H200"][number])
    assert machine.name("cuda").startswith("nvidia-l4-")
    assert machine.name("cuda:1").startswith("nvidia-h200-")


# CPUs: affinity and quota


def plant(folder: Path, files: dict[str, str]) -> None:
    """Write made-up files of /proc and /sys under ``folder``."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


MOUNT_V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = (
    "25 23 0:21 / /sys rw - sysfs sysfs rw\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
GROUPS_V1 = "9:name=systemd:/a:b\n5:cpuset:/box\n4:cpu,cpuacct:{group}\n0::/\n"
V1 = "sys/fs/cgroup/cpu,cpuacct"
V2_LEAF = {
    "proc/self/cgroup": "0::/app/worker\n",
    "proc/self/mountinfo": MOUNT_V2.format(root="/"),
    "sys/fs/cgroup/app/worker/cpu.max": "150000 100000\n",
}
QUOTAS: dict[str, tuple[dict[str, str], float | None]] = {
    "v2": (V2_LEAF, 1.5),
    "v2, unlimited": (V2_LEAF | {"sys/fs/cgroup/app/worker/cpu.max": "max 100000\n"}, None),
    "v2, only the group above is limited": (
        V2_LEAF
        | {
            "sys/fs/cgroup/app/worker/cpu.max": "max 100000\n",
            "sys/fs/cgroup/app/cpu.max": "400000 100000",
        },
        4.0,
    ),
    "v2, the least of both": (V2_LEAF | {"sys/fs/cgroup/app/cpu.max": "50000 100000"}, 0.5),
    "v2, in a container with its own view": (
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": MOUNT_V2.format(root="/"),
            "sys/fs/cgroup/cpu.max": "200000 100000",
        },
        2.0,
    ),
    "v2, in a container with the host's names": (
        {
            "proc/self/cgroup": "0::/docker/4f5e/inner\n",
            "proc/self/mountinfo": MOUNT_V2.format(root="/docker/4f5e"),
            "sys/fs/cgroup/inner/cpu.max": "300000 100000",
        },
        3.0,
    ),
    "v2, moved out of its view": (
        {
            "proc/self/cgroup": "0::/../other\n",
            "proc/self/mountinfo": MOUNT_V2.format(root="/"),
            "sys/fs/other/cpu.max": "1000 100000",  # beside the mount: not of this tree
            "sys/fs/cgroup/cpu.max": "200000 100000",
        },
        2.0,
    ),
    "v1": (
        {
            "proc/self/cgroup": GROUPS_V1.format(group="/box"),
            "proc/self/mountinfo": MOUNT_V1.format(root="/"),
            f"{V1}/box/cpu.cfs_quota_us": "250000\n",
            f"{V1}/box/cpu.cfs_period_us": "100000\n",
            # No such files are there; a reader that takes cpuset for cpu would find them.
            "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1000\n",
            "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "v1, unlimited": (
        {
            "proc/self/cgroup": GROUPS_V1.format(group="/box"),
            "proc/self/mountinfo": MOUNT_V1.format(root="/"),
            f"{V1}/box/cpu.cfs_quota_us": "-1\n",
            f"{V1}/box/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "v1, in a container with names from outside": (
        {
            "proc/self/cgroup": GROUPS_V1.format(group="/docker/4f5e"),
            "proc/self/mountinfo": MOUNT_V1.format(root="/kubepods/4f5e"),
            f"{V1}/cpu.cfs_quota_us": "50000\n",
            f"{V1}/cpu.cfs_period_us": "50000\n",
        },
        1.0,
    ),
    "no files": ({}, None),
    "groups but no mounts": ({"proc/self/cgroup": "0::/\n"}, None),
    "mounts but no groups": ({"proc/self/mountinfo": MOUNT_V2.format(root="/")}, None),
    "no limit file": ({k: v for k, v in V2_LEAF.items() if "cpu.max" not in k}, None),
    "nonsense": (
        V2_LEAF
        | {
            "sys/fs/cgroup/app/worker/cpu.max": "many\n",
            "sys/fs/cgroup/app/cpu.max": "1 0\n",
            "sys/fs/cgroup/cpu.max": "",
        },
        None,
    ),
    "nonsense mounts": (V2_LEAF | {"proc/self/mountinfo": "\n - \n1 2 3 4 5 - \nwhat\n"}, None),
    "nonsense groups": (V2_LEAF | {"proc/self/cgroup": "what\n::\n"}, None),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_quota_is_read_from_control_groups(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota in CPUs, from either version, whichever group sets it; None where none does."""
    files, expected = QUOTAS[case]
    plant(tmp_path, files)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine._cgroup_quota() == expected
    monkeypatch.setattr(machine, "_affinity", lambda: list(range(8)))
    assert machine.available_cpus() == (8 if expected is None else max(1, int(expected)))
    assert machine.state()["cpu"]["quota_cpus"] == expected


@pytest.mark.parametrize(
    ("affinity", "quota", "cpus"),
    [
        ([0, 1, 5], None, 3),
        ([0, 1, 5], 16.0, 3),
        ([0, 1, 5], 2.9, 2),  # a third thread would be stopped in every period
        ([0, 1, 5], 0.2, 1),
        ([4], 4.0, 1),
    ],
)
def test_available_is_affinity_within_quota(
    affinity: list[int], quota: float | None, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller of both, in whole CPUs, at least one."""
    monkeypatch.setattr(machine, "_affinity", lambda: affinity)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda: quota)
    assert machine.available_cpus() == cpus


def test_without_affinity_all_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no affinity."""
    monkeypatch.setattr(machine, "_affinity", lambda: None)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda: None)
    assert machine.available_cpus() == os.cpu_count()


AVAILABLE = """
import json, os, sys
all_cpus = sorted(os.sched_getaffinity(0))
from mnist_loop.bench import machine
machine._cgroup_quota = lambda: None
before = machine.available_cpus()
os.sched_setaffinity(0, {all_cpus[-1]})
heavy = sorted({"torch", "numpy", "cpuinfo", "pynvml", "pytest"} & set(sys.modules))
after = machine.available_cpus()
print(json.dumps([len(all_cpus), before, after, machine._affinity() == all_cpus[-1:], heavy]))
"""


@linux
def test_available_cpus_follow_the_affinity_and_are_quick_to_know() -> None:
    """A process that is bound to one CPU has one; to know it takes none of the slow imports."""
    count, before, after, bound, heavy = run_python(AVAILABLE)
    assert before == count
    assert after == 1
    assert bound
    assert heavy == []


# GPUs


def test_the_fake_asks_what_nvml_answers() -> None:
    """Each function of the fake exists in nvidia-ml-py and takes the same arguments."""
    for question in FakeNvml([]).questions:
        ours, real = (inspect.signature(getattr(module, question)) for module in (FakeNvml([]), pynvml))
        assert len(ours.parameters) == len(real.parameters), question


def test_clock_events_are_those_of_nvml() -> None:
    """The bits mean what nvml.h says."""
    for bit, name in machine.CLOCK_EVENTS.items():
        constant = "nvmlClocksEventReason" + "".join(word.capitalize() for word in name.split("_"))
        assert getattr(pynvml, constant) == bit
    assert machine._clock_events(0) == []
    assert machine._clock_events(0x44) == ["sw_power_cap", "hw_thermal_slowdown"]
    assert machine._clock_events(0x4001) == ["gpu_idle", "0x4000"]


def test_an_h200_is_described(nvml: Callable[..., FakeNvml]) -> None:
    """What stays is in the identity, what moves in the state, each in its unit."""
    fake = nvml(H200)
    facts = machine.identity()
    assert facts["gpus"] == [{"name": "NVIDIA H200", "memory_mib": 143771, "compute_capability": "9.0"}]
    assert facts["gpu_driver"] == "570.133.20"
    assert machine.state()["gpus"] == [
        {
            "cuda_device": 0,
            "index": 0,
            "sm_mhz": 345,
            "sm_max_mhz": 1980,
            "memory_mhz": 3201,
            "memory_max_mhz": 3201,
            "performance_state": 0,
            "power_w": 76.51,
            "power_limit_w": 700.0,
            "temperature_c": 31,
            "utilisation_percent": 7,
            "memory_used_mib": 600,
            "clock_events": ["gpu_idle"],
        }
    ]
    assert fake.open == 0


EMPTIED = {
    "nvmlSystemGetDriverVersion": {"gpu_driver"},
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": set[str](),
    "nvmlDeviceGetMemoryInfo": {"memory_mib", "memory_used_mib"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetClockInfo": {"sm_mhz", "memory_mhz"},
    "nvmlDeviceGetMaxClockInfo": {"sm_max_mhz", "memory_max_mhz"},
    "nvmlDeviceGetPerformanceState": set[str](),  # the older name answers
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetTemperatureV": set[str](),  # the older name answers
    "nvmlDeviceGetUtilizationRates": {"utilisation_percent"},
    "nvmlDeviceGetCurrentClocksEventReasons": set[str](),  # the older name answers
    "nvmlDeviceGetPerformanceState nvmlDeviceGetPowerState": {"performance_state"},
    "nvmlDeviceGetTemperatureV nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons": {"clock_events"},
}


@pytest.mark.parametrize("refused", EMPTIED)
def test_one_question_refused_leaves_the_others(refused: str, nvml: Callable[..., FakeNvml]) -> None:
    """What a card does not support is None; all else is as it was, and the session is closed."""
    fake = nvml(H200, refused=refused.split())
    facts, gpu = machine.identity(), machine.state()["gpus"][0]
    told = facts["gpus"][0] | gpu | {"gpu_driver": facts["gpu_driver"]}
    assert {key for key, value in told.items() if value is None} == EMPTIED[refused]
    assert fake.open == 0


def test_an_older_binding_is_asked_by_its_names(nvml: Callable[..., FakeNvml]) -> None:
    """nvidia-ml-py 12.535 has no function for the newer names."""
    fake = nvml(H200)
    for newer in ("EventReasons", "TemperatureV", "PerformanceState"):
        for question in [question for question in fake.questions if question.endswith(newer)]:
            delattr(fake, question)
    gpu = machine.state()["gpus"][0]
    assert (gpu["clock_events"], gpu["temperature_c"], gpu["performance_state"]) == (["gpu_idle"], 31, 0)


def test_a_lost_card_does_not_hide_the_others(nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without a handle is left out; the others keep their index."""
    fake = nvml(L4, H200)

    def handle(index: int) -> dict[str, Any]:
        if index == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return fake.cards[index]

    monkeypatch.setattr(fake, "nvmlDeviceGetHandleByIndex", handle)
    assert [gpu["name"] for gpu in machine.identity()["gpus"]] == ["NVIDIA H200"]
    assert [gpu["index"] for gpu in machine.state()["gpus"]] == [1]


def test_nvml_is_closed_when_something_else_fails(
    nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is not NVML's passes, after the session was closed."""
    fake = nvml(H200)
    monkeypatch.setattr(fake, "nvmlDeviceGetName", lambda handle: handle["no such key"])
    with pytest.raises(KeyError):
        machine.identity()
    assert fake.open == 0


def test_without_a_driver_there_are_no_gpus(nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML that does not start, or is not installed, is no error."""
    fake = nvml(H200)

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(fake, "nvmlInit", fail)
    assert (machine.identity()["gpus"], machine.state()["gpus"]) == ([], [])
    assert fake.open == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert (machine.identity()["gpus"], machine.state()["gpus"]) == ([], [])


def test_without_nvml_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch tells of its devices is taken; CUDA is not started for the state."""
    gpu = SimpleNamespace(name="AMD Instinct MI300X", total_memory=196592 * MIB + 5, major=9, minor=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 * MIB, 350 * MIB))
    expected = [{"name": "AMD Instinct MI300X", "memory_mib": 196592, "compute_capability": "9.4"}]
    assert machine.identity()["gpus"] == expected
    assert machine.state()["gpus"] == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert machine.state()["gpus"] == [{"index": None, "cuda_device": 0, "memory_used_mib": 250}]


OTHER_H200 = H200 | {"uuid": "GPU-77777777-0000-1111-2222-333344445555"}


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        (None, [0, 1]),
        ("", [None, None]),
        ("1", [None, 0]),
        ("1, 0", [1, 0]),
        ("1,5,0", [None, 0]),  # the first that is not there ends the list
        ("0,-1,1", [0, None]),
        ("1,1", [None, None]),  # twice the same: none
        ("GPU-77777777", [None, 0]),
        ("GPU-77777777,GPU-1f1a2b3c-0000-1111-2222-333344445555", [1, 0]),
        ("GPU-0bad", [None, None]),
        ("GPU-", [None, None]),  # fits both
        ("MIG-1f1a2b3c-0000-1111-2222-333344445555", [None, None]),
    ],
)
def test_cuda_numbers_follow_the_variable(
    visible: str | None,
    numbers: list[int | None],
    nvml: Callable[..., FakeNvml],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before CUDA is started, or where torch tells no UUID, CUDA_VISIBLE_DEVICES decides."""
    nvml(H200, OTHER_H200)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu["cuda_device"] for gpu in machine.state()["gpus"]] == numbers
    # torch 2.4 has no uuid
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="NVIDIA H200"))
    assert [gpu["cuda_device"] for gpu in machine.state()["gpus"]] == numbers


def test_cuda_numbers_of_unlike_cards_need_an_order(
    nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA puts the fastest first unless told otherwise: no number is better than a wrong one."""
    nvml(L4, H200)
    assert [gpu["cuda_device"] for gpu in machine.state()["gpus"]] == [None, None]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [gpu["cuda_device"] for gpu in machine.state()["gpus"]] == [0, 1]


def test_cuda_numbers_go_by_uuid(nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once CUDA is started, torch says which card is which, without NVML's prefix."""
    nvml(L4, H200, OTHER_H200)
    seen = [SimpleNamespace(uuid=str(card["uuid"]).removeprefix("GPU-")) for card in (H200, L4)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(seen))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: seen[number])
    assert [gpu["cuda_device"] for gpu in machine.state()["gpus"]] == [1, 0, None]


# Software and state

MACOS_BUILD = """PyTorch built with:
  - GCC 4.2
  - C++ Version: 201703
  - clang 15.0.0
  - LAPACK is enabled (usually provided by MKL)
  - NNPACK is enabled
  - CPU capability usage: NO AVX
  - Build settings: BLAS_INFO=accelerate, BUILD_TYPE=Release, CXX_COMPILER=/Applications/Xcode.app/clang++, \
LAPACK_INFO=accelerate, TORCH_VERSION=2.6.0, USE_MKL=OFF, USE_MKLDNN=OFF,
"""
WINDOWS_BUILD = """PyTorch built with:
  - C++ Version: 201703
  - MSVC 192930154
  - Intel(R) oneAPI Math Kernel Library Version 2024.2.1-Product Build 20240722 for Intel(R) 64 architecture
  - Intel(R) MKL-DNN v3.5.3 (Git Hash 66f0cb9eb66affd2da3bf5f8d897376f04aae6af)
  - OpenMP 2019
  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, CXX_COMPILER=C:/actions-runner/cl.exe, LAPACK_INFO=mkl,
"""


def test_build_facts_are_parsed() -> None:
    """What torch says of its build, whatever the compiler; what it does not say is None."""
    macos, windows = machine._parse_build(MACOS_BUILD), machine._parse_build(WINDOWS_BUILD)
    assert (macos["blas"], macos["lapack"]) == ("accelerate", "accelerate")
    assert (macos["mkl"], macos["onednn"], macos["openmp"]) == (None, None, None)
    assert (windows["blas"], windows["mkl"], windows["onednn"]) == ("mkl", "2024.2.1", "3.5.3")
    assert (windows["compiler"], windows["build_type"]) == ("MSVC 192930154", "Release")
    assert set(machine._parse_build("").values()) == {None}


def test_software_is_what_is_loaded() -> None:
    """The versions are those that this process runs."""
    found = machine.software()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["cuda"] == torch.version.cuda
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["blas"]
    assert found["compiler"]
    assert f"BLAS_INFO={found['blas']}" in torch.__config__.show()


def test_what_is_not_installed_is_none() -> None:
    """A package that is not there is no error."""
    assert machine._installed("no-such-package-as-this") is None
    assert machine._installed("numpy") == np.__version__


def test_state_is_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, threads, switches and settings are those of this process at this moment."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    now = machine.state()
    written = datetime.fromisoformat(now["time"])
    assert written.utcoffset() == timedelta(0)
    assert abs(written - datetime.now(written.tzinfo)) < timedelta(minutes=1)
    assert now["settings"]["OMP_NUM_THREADS"] == "3"
    assert now["settings"]["KMP_AFFINITY"] == "compact"
    assert "MKL_NUM_THREADS" not in now["settings"]
    assert now["torch"]["threads"] == torch.get_num_threads()
    assert now["torch"]["interop_threads"] == torch.get_num_interop_threads()
    assert now["torch"]["float32_matmul_precision"] == "medium"
    assert now["torch"]["deterministic_algorithms"] is True
    assert now["torch"]["cudnn_benchmark"] is False
    assert now["cpu"]["available_cpus"] == machine.available_cpus()


def test_a_switch_that_torch_will_not_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.9 refuses the older question after the newer switch was set, and may warn."""

    def refuse() -> str:
        warnings.warn("an old name", DeprecationWarning, stacklevel=2)
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    assert machine.state()["torch"]["float32_matmul_precision"] is None


def test_frequency_and_governor_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Governors of the CPUs that may be used, each once; a highest frequency of zero is not known."""
    plant(
        tmp_path,
        {
            f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": f"{governor}\n"
            for cpu, governor in enumerate(["powersave", "performance", "performance", "schedutil"])
        },
    )
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "_affinity", lambda: [0, 1, 2])
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2300.0, min=0.0, max=0.0))
    cpu = machine.state()["cpu"]
    assert (cpu["governor"], cpu["current_mhz"], cpu["max_mhz"]) == ("performance,powersave", 2300.0, None)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert machine.state()["cpu"]["current_mhz"] is None


def test_steal_is_a_share_of_all_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steal over all time, in which a guest's is counted once; between two states by their difference."""

    def at(steal: float, idle: float) -> Facts:
        times = {"user": 30.0, "guest": 20.0, "guest_nice": 5.0, "idle": idle, "steal": steal}
        monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: times))
        return machine.state()

    first, last = at(steal=10.0, idle=60.0), at(steal=13.0, idle=69.0)
    assert first["cpu"]["steal_share_since_boot"] == 0.1
    assert machine.steal_share(first, last) == 0.25
    assert machine.steal_share(first, first) is None
    nothing = {"cpu": {"steal_s": None, "cpu_s": 5.0}}
    assert machine.steal_share(nothing, last) is None
    assert machine.steal_share({"cpu": {"steal_s": None, "cpu_s": None}}, nothing) is None


def test_looking_changes_nothing(nvml: Callable[..., FakeNvml]) -> None:
    """Random numbers, threads, environment and warning filters are as they were."""
    nvml(H200)

    def seen() -> list[Any]:
        generator = np.random.get_state(legacy=False)
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            str(generator),
            torch.get_num_threads(),
            dict(os.environ),
            list(warnings.filters),
            torch.are_deterministic_algorithms_enabled(),
        ]

    before = seen()
    machine.identity(), machine.software(), machine.state(), machine.name("cuda")
    assert seen() == before
