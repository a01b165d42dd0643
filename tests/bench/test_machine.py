"""The machine that results come from: its hash is of the hardware alone, and what is not told is None."""

import json
import os
import random
import re
import subprocess
import sys
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import psutil
import pynvml
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_loop.bench import machine
from mnist_loop.bench.machine import asking, cpus, fingerprint, gpus, state, versions

MIB = 2**20
H200 = {
    "name": "NVIDIA H200",
    "uuid": "GPU-1f1a2b3c-0000-1111-2222-333344445555",
    "memory_mib": 143771,
    "capability": (9, 0),
}
OTHER_H200 = H200 | {"uuid": "GPU-77777777-0000-1111-2222-333344445555"}
L4 = {
    "name": "NVIDIA L4",
    "uuid": "GPU-9e9e9e9e-0000-1111-2222-333344445555",
    "memory_mib": 23034,
    "capability": (8, 9),
}


class FakeNvml(ModuleType):
    """``pynvml`` as it answers for ``cards``, idle; each question in ``refused`` is not supported."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, cards, refused=(), driver="570.133.20"):
        super().__init__("pynvml")
        self.open = 0  # nvmlInit counts up, nvmlShutdown down
        self.cards = list(cards)
        clocks, highest = {self.NVML_CLOCK_SM: 345, self.NVML_CLOCK_MEM: 3201}, 1980
        answers = {
            "nvmlSystemGetDriverVersion": lambda: driver,
            "nvmlDeviceGetCount": lambda: len(self.cards),
            "nvmlDeviceGetHandleByIndex": self.handle,
            "nvmlDeviceGetName": lambda card: card["name"],
            "nvmlDeviceGetUUID": lambda card: card["uuid"],
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=card["memory_mib"] * MIB, used=600 * MIB),
            "nvmlDeviceGetCudaComputeCapability": lambda card: card["capability"],
            "nvmlDeviceGetClockInfo": lambda _, clock: clocks[clock],
            "nvmlDeviceGetMaxClockInfo": lambda *_: highest,
            "nvmlDeviceGetPerformanceState": lambda _: 0,
            "nvmlDeviceGetPowerState": lambda _: 0,
            "nvmlDeviceGetPowerUsage": lambda _: 76510,
            "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700000,
            "nvmlDeviceGetTemperatureV": lambda *_: 31,
            "nvmlDeviceGetTemperature": lambda *_: 31,
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=7, memory=0),
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x1,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x1,
        }
        for question, answer in answers.items():
            setattr(self, question, self.not_supported if question in refused else answer)

    def handle(self, index):
        if self.cards[index] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.cards[index]

    def not_supported(self, *_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlInit(self):  # noqa: N802  # the name in NVML
        if self.cards == ["no driver"]:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802  # the name in NVML
        self.open -= 1


@pytest.fixture(autouse=True)
def _no_real_gpu(monkeypatch):
    """The tests say the same on a machine with GPUs as on one without."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def nvml(monkeypatch):
    """Put a made-up NVML in place; each session that was opened is closed at the end."""
    fakes = []

    def install(*cards, **options):
        fakes.append(FakeNvml(cards, **options))
        monkeypatch.setitem(sys.modules, "pynvml", fakes[-1])

    yield install
    assert not any(fake.open for fake in fakes)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Put made-up files of /proc and /sys in the place of the system's."""

    def plant(files, folder="root"):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        monkeypatch.setattr(asking, "ROOT", tmp_path / folder)

    return plant


# Identity and its hash


def test_all_three_survive_json(nvml):
    """What is stored is what was found."""
    nvml(H200)
    for facts in (machine.identity(), machine.software(), machine.current_state()):
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts


CHANGES = {
    "cpu": lambda patch: patch.setattr(fingerprint, "_cpu_model", lambda: "Another CPU"),
    "architecture": lambda patch: patch.setattr("platform.machine", lambda: "sparc"),
    "system": lambda patch: patch.setattr("platform.system", lambda: "Plan 9"),
    "physical_cores": lambda patch: patch.setattr(psutil, "cpu_count", lambda logical: 7331 + logical),
    "logical_cores": lambda patch: patch.setattr(fingerprint, "logical_cores", lambda: 7331),
    "memory_gib": lambda patch: patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=7331 << 30)),
    "gpus": lambda patch: patch.setitem(sys.modules, "pynvml", FakeNvml([H200, H200])),
    "gpu_driver": lambda patch: patch.setitem(sys.modules, "pynvml", FakeNvml([H200], driver="580.1")),
}


def test_other_hardware_has_another_hash(nvml, monkeypatch):
    """A machine that differs in one field differs in that field and in the hash, whichever field it is."""
    nvml(H200)
    before = machine.identity()
    assert set(CHANGES) == set(before) - {"hash"}, "a field without a test"
    for field, change in CHANGES.items():
        with monkeypatch.context() as patch:
            change(patch)
            after = machine.identity()
        differing = {key for key in before if before[key] != after[key]}
        assert {field, "hash"} <= differing <= {field, "hash", "logical_cores"}, field


ELSEWHERE = """
import json, os, sys, types
from mnist_loop.bench import machine
heavy = sorted({"torch", "numpy", "cpuinfo", "pynvml", "pytest"} & {*sys.modules})

# No torch, which takes seconds to import, and no GPU.
sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
sys.modules["pynvml"] = None
found = [[machine.identity(), machine.available_cpus()]]
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", LANG="C", HOME="/nowhere", HOSTNAME="elsewhere")
found.append([machine.identity(), machine.available_cpus()])
print(json.dumps([heavy, *found]))
"""


def test_the_identity_does_not_follow_the_state():
    """Affinity and environment change the CPUs that may be used, not the identity; and no slow import is needed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    heavy, (first, _), (second, available) = json.loads(done.stdout)
    assert heavy == []
    assert first == second
    if sys.platform == "linux":
        assert available == 1


def test_memory_is_what_is_built_in(monkeypatch):
    """The kernel shows less than is there: it is the next whole GiB."""
    for shown, built_in in ((15.4, 16), (15.6, 16), (23.54, 24), (8.0, 8)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda shown=shown: SimpleNamespace(total=int(shown * 2**30)))
        assert machine.identity()["memory_gib"] == built_in


def test_cores_are_those_that_are_built_in(root, monkeypatch):
    """A core that is off counts too; where the kernel's list is missing or strange, psutil counts."""
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 12 if logical else 6)
    for present, cores in (("0-3,6\n", 5), ("", 12), ("what?", 12)):
        root({"sys/devices/system/cpu/present": present, "sys/devices/system/cpu/online": "0\n"})
        assert machine.identity()["logical_cores"] == cores
    root({}, folder="empty")
    assert machine.identity()["logical_cores"] == 12


def _may_not_start_a_process():
    raise PermissionError


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        (lambda: {"brand_raw": "  AMD EPYC  7763 "}, "AMD EPYC 7763"),
        (dict, "from platform"),  # a processor that py-cpuinfo does not know
        (_may_not_start_a_process, "from platform"),
    ],
)
def test_the_model_comes_from_cpuinfo_or_platform(answer, model, monkeypatch):
    """py-cpuinfo names the model; where it cannot, platform does."""
    monkeypatch.setitem(sys.modules, "cpuinfo", SimpleNamespace(get_cpu_info=answer))
    monkeypatch.setattr("platform.processor", lambda: "from platform")
    monkeypatch.setattr(fingerprint, "_cpu_model", fingerprint._cpu_model.__wrapped__)  # which keeps no answer
    assert machine.identity()["cpu"] == model


def test_nothing_to_ask_is_no_error(root, monkeypatch):
    """On a system that answers nothing, what is not known is None."""

    def refuse(*_, **__):
        raise OSError("not here")

    for function in ("cpu_count", "cpu_freq", "cpu_times", "virtual_memory"):
        monkeypatch.setattr(psutil, function, refuse)
    monkeypatch.setattr(os, "getloadavg", refuse, raising=False)
    monkeypatch.setattr("platform.freedesktop_os_release", refuse)
    root({})
    facts, now = machine.identity(), machine.current_state()
    assert machine.software()["torch"] == torch.__version__
    for key in ("physical_cores", "logical_cores", "memory_gib", "gpu_driver"):
        assert facts[key] is None, key
    assert facts["gpus"] == []
    for key in ("load_average", "quota_cpus", "governor", "current_mhz", "max_mhz", "steal_s", "cpu_s"):
        assert now["cpu"][key] is None, key
    assert now["memory_mib"] is None
    assert machine.available_cpus() >= 1
    assert re.fullmatch(r"[a-z0-9-]+", machine.label())


def leaves(value):
    """Return all single values in nested lists and dicts."""
    if isinstance(value, dict):
        return leaves(list(value.values()))
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def test_no_name_and_no_path_is_written(nvml, monkeypatch):
    """A result can be published: it names neither host nor user, no folder, and no card's serial number."""
    nvml(H200)
    for variable in ("HOME", "USERPROFILE", "PWD", "OLDPWD", "PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(variable, str(Path("/home/zaphod")))
    for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME", "COMPUTERNAME"):
        monkeypatch.setenv(variable, "zaphod")
    monkeypatch.setenv("LD_PRELOAD", "/home/zaphod/lib/libjemalloc.so.2 /opt/zaphod/libtcmalloc.so")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", H200["uuid"])
    monkeypatch.setattr("platform.node", lambda: "zaphod")
    monkeypatch.setattr("socket.gethostname", lambda: "zaphod")
    found = [machine.identity(), machine.software(), machine.current_state()]
    assert found[2]["preload"] == ["libjemalloc.so.2", "libtcmalloc.so"]
    assert found[2]["gpus"][0]["cuda_device"] == 0
    texts = [leaf for leaf in leaves(found) if isinstance(leaf, str)]
    assert len(texts) > 20
    for text in texts:
        assert "zaphod" not in text
        assert "1f1a2b3c" not in text
        assert not re.search(r"(^|[\s=:'\"(])(/|~|\\|[A-Za-z]:[\\/])", text), f"{text!r} looks like a path"


# Names


@given(st.text())
@example("con")
@example("../../etc")
def test_a_name_fits_every_file_system(model):
    """Lower-case letters, digits and single hyphens between them, whatever the model is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "_cpu_model", lambda: model)
        found = machine.label()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found)
    assert len(found) < 100


def test_names_say_what_was_measured(nvml, monkeypatch):
    """The model, the number of CPUs or the device, and the start of the hash."""
    nvml(H200, L4)
    monkeypatch.setattr(fingerprint, "logical_cores", lambda: 2)
    for model, device, words in (
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "cpu", "intel-core-i7-8650u-2cpu"),
        ("Apple M2 Pro", "mps", "apple-m2-pro-mps"),
        (None, "cpu", "cpu-2cpu"),
        ("龍芯", "cpu", "cpu-2cpu"),
        (None, "cuda", "nvidia-h200"),
        (None, "cuda:1", "nvidia-l4"),
        (None, "cuda:2", "gpu"),
    ):
        monkeypatch.setattr(fingerprint, "_cpu_model", lambda model=model: model)
        assert machine.label(device) == f"{words}-{machine.identity()['hash'][:6]}"


def test_a_gpu_is_named_as_torch_counts_it(nvml, monkeypatch):
    """Torch and NVML may order cards differently: the run is on torch's."""
    nvml(H200, L4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: ["NVIDIA L4", "NVIDIA H200"][number])
    assert machine.label("cuda").startswith("nvidia-l4-")
    assert machine.label("cuda:1").startswith("nvidia-h200-")


# CPUs: affinity and quota

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
V1_BOX = {
    "proc/self/cgroup": GROUPS_V1.format(group="/box"),
    "proc/self/mountinfo": MOUNT_V1.format(root="/"),
    f"{V1}/box/cpu.cfs_period_us": "100000\n",
    # No such files are there; a reader that takes cpuset for cpu would find them.
    "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1000\n",
    "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000\n",
}
CONTAINER = {"proc/self/mountinfo": MOUNT_V2.format(root="/"), "sys/fs/cgroup/cpu.max": "200000 100000"}
LEAF, ABOVE = "sys/fs/cgroup/app/worker/cpu.max", "sys/fs/cgroup/app/cpu.max"
QUOTAS = {
    "v2": (V2_LEAF, 1.5),
    "v2, unlimited": (V2_LEAF | {LEAF: "max 100000\n"}, None),
    "v2, only the group above is limited": (V2_LEAF | {LEAF: "max 100000\n", ABOVE: "400000 100000"}, 4.0),
    "v2, the least of both": (V2_LEAF | {ABOVE: "50000 100000"}, 0.5),
    "v2, in a container with its own view": (CONTAINER | {"proc/self/cgroup": "0::/\n"}, 2.0),
    "v2, in a container with the host's names": (
        {
            "proc/self/cgroup": "0::/docker/4f5e/inner\n",
            "proc/self/mountinfo": MOUNT_V2.format(root="/docker/4f5e"),
            "sys/fs/cgroup/inner/cpu.max": "300000 100000",
        },
        3.0,
    ),
    "v2, moved out of its view": (
        CONTAINER | {"proc/self/cgroup": "0::/../other\n", "sys/fs/other/cpu.max": "1000 100000"},
        2.0,
    ),
    "v1": (V1_BOX | {f"{V1}/box/cpu.cfs_quota_us": "250000\n"}, 2.5),
    "v1, unlimited": (V1_BOX | {f"{V1}/box/cpu.cfs_quota_us": "-1\n"}, None),
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
    "nonsense": (V2_LEAF | {LEAF: "many\n", ABOVE: "1 0\n", "sys/fs/cgroup/cpu.max": ""}, None),
    "nonsense mounts": (V2_LEAF | {"proc/self/mountinfo": "\n - \n1 2 3 4 5 - \nwhat\n"}, None),
    "nonsense groups": (V2_LEAF | {"proc/self/cgroup": "what\n::\n"}, None),
}


def test_a_quota_is_read_from_control_groups(root, monkeypatch):
    """The quota in CPUs, from either version, whichever group sets it; None where none does."""
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: list(range(8)))
    for case, (files, expected) in QUOTAS.items():
        root(files, folder=case)
        assert machine.current_state()["cpu"]["quota_cpus"] == expected, case
        assert machine.available_cpus() == (8 if expected is None else max(1, int(expected))), case


def test_available_is_affinity_within_quota(monkeypatch):
    """The smaller of both, in whole CPUs, at least one; where there is no affinity, all CPUs count."""
    for affinity, quota, available in (
        ([0, 1, 5], None, 3),
        ([0, 1, 5], 16.0, 3),
        ([0, 1, 5], 2.9, 2),  # a third thread would be stopped in every period
        ([0, 1, 5], 0.2, 1),
        (None, None, os.cpu_count()),
    ):
        monkeypatch.setattr(cpus, "allowed_cpus", lambda affinity=affinity: affinity)
        monkeypatch.setattr(cpus, "cgroup_quota", lambda quota=quota: quota)
        assert machine.available_cpus() == available


# GPUs


def test_clock_events_are_those_of_nvml():
    """The bits mean what nvml.h says."""
    for bit, name in gpus.CLOCK_EVENTS.items():
        constant = "nvmlClocksEventReason" + "".join(word.capitalize() for word in name.split("_"))
        assert getattr(pynvml, constant) == bit


def test_an_h200_is_described(nvml, monkeypatch):
    """What stays is in the identity, what moves in the state, each in its unit."""
    nvml(H200)
    facts = machine.identity()
    assert facts["gpus"] == [{"name": "NVIDIA H200", "memory_mib": 143771, "compute_capability": "9.0"}]
    assert facts["gpu_driver"] == "570.133.20"
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetCurrentClocksEventReasons", lambda _: 0x4044)
    assert machine.current_state()["gpus"] == [
        {
            "cuda_device": 0,
            "index": 0,
            "sm_mhz": 345,
            "sm_max_mhz": 1980,
            "memory_mhz": 3201,
            "memory_max_mhz": 1980,
            "performance_state": 0,
            "power_w": 76.51,
            "power_limit_w": 700.0,
            "temperature_c": 31,
            "utilisation_percent": 7,
            "memory_used_mib": 600,
            "clock_events": ["sw_power_cap", "hw_thermal_slowdown", "0x4000"],
        }
    ]


EMPTIED = {
    "nvmlSystemGetDriverVersion": {"gpu_driver"},
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": set(),
    "nvmlDeviceGetMemoryInfo": {"memory_mib", "memory_used_mib"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetClockInfo": {"sm_mhz", "memory_mhz"},
    "nvmlDeviceGetMaxClockInfo": {"sm_max_mhz", "memory_max_mhz"},
    "nvmlDeviceGetPerformanceState": set(),  # the older name answers
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetTemperatureV": set(),  # the older name answers
    "nvmlDeviceGetUtilizationRates": {"utilisation_percent"},
    "nvmlDeviceGetCurrentClocksEventReasons": set(),  # the older name answers
    "nvmlDeviceGetPerformanceState nvmlDeviceGetPowerState": {"performance_state"},
    "nvmlDeviceGetTemperatureV nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons": {"clock_events"},
}


def test_one_question_refused_leaves_the_others(nvml):
    """What a card does not support is None, and all else is as it was; an older name answers for a newer one."""
    for refused, empty in EMPTIED.items():
        nvml(H200, refused=refused.split())
        facts, gpu = machine.identity(), machine.current_state()["gpus"][0]
        answers = facts["gpus"][0] | gpu | {"gpu_driver": facts["gpu_driver"]}
        assert {key for key, value in answers.items() if value is None} == empty, refused


def test_a_lost_card_does_not_hide_the_others(nvml):
    """A card without a handle is left out; the others keep their index."""
    nvml(None, H200)
    assert [gpu["name"] for gpu in machine.identity()["gpus"]] == ["NVIDIA H200"]
    assert [gpu["index"] for gpu in machine.current_state()["gpus"]] == [1]


def test_without_a_driver_there_are_no_gpus(nvml):
    """NVML that does not start is no error."""
    nvml("no driver")
    assert (machine.identity()["gpus"], machine.current_state()["gpus"]) == ([], [])


def test_without_nvml_torch_is_asked(monkeypatch):
    """What torch tells of its devices is taken; CUDA is not started for the state."""
    gpu = SimpleNamespace(name="AMD Instinct MI300X", total_memory=196592 * MIB + 5, major=9, minor=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 * MIB, 350 * MIB))
    expected = [{"name": "AMD Instinct MI300X", "memory_mib": 196592, "compute_capability": "9.4"}]
    assert machine.identity()["gpus"] == expected
    assert machine.current_state()["gpus"] == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert machine.current_state()["gpus"] == [{"index": None, "cuda_device": 0, "memory_used_mib": 250}]


VISIBLE = (
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
)


def cuda_devices():
    return [gpu["cuda_device"] for gpu in machine.current_state()["gpus"]]


def test_cuda_numbers_follow_the_variable(nvml, monkeypatch):
    """Where torch tells no UUID, CUDA_VISIBLE_DEVICES decides."""
    nvml(H200, OTHER_H200)
    for visible, numbers in VISIBLE:
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert cuda_devices() == numbers, visible


def test_cuda_numbers_of_unlike_cards_need_an_order(nvml, monkeypatch):
    """CUDA puts the fastest first unless told otherwise: no number is better than a wrong one."""
    nvml(L4, H200)
    assert cuda_devices() == [None, None]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert cuda_devices() == [0, 1]


def test_cuda_numbers_go_by_uuid(nvml, monkeypatch):
    """Once CUDA is started, torch says which card is which, without NVML's prefix."""
    nvml(L4, H200, OTHER_H200)
    seen = [SimpleNamespace(uuid=str(card["uuid"]).removeprefix("GPU-")) for card in (H200, L4)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(seen))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: seen[number])
    assert cuda_devices() == [1, 0, None]


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


def test_build_facts_are_parsed():
    """What torch says of its build, whatever the compiler; what it does not say is None."""
    macos, windows = versions._parse_build(MACOS_BUILD), versions._parse_build(WINDOWS_BUILD)
    assert (macos["blas"], macos["lapack"]) == ("accelerate", "accelerate")
    assert (macos["mkl"], macos["onednn"], macos["openmp"]) == (None, None, None)
    assert (windows["blas"], windows["mkl"], windows["onednn"]) == ("mkl", "2024.2.1", "3.5.3")
    assert (windows["compiler"], windows["build_type"]) == ("MSVC 192930154", "Release")


def test_software_is_what_is_loaded():
    """The versions are those that this process runs."""
    found = machine.software()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert f"BLAS_INFO={found['blas']}" in torch.__config__.show()


def test_state_is_of_now(monkeypatch):
    """Time, threads, switches and settings are those of this process at this moment."""
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    now = machine.current_state()
    written = datetime.fromisoformat(now["time"])
    assert abs(written - datetime.now(written.tzinfo)) < timedelta(minutes=1)
    assert written.utcoffset() == timedelta(0)
    assert now["settings"]["KMP_AFFINITY"] == "compact"
    assert "MKL_NUM_THREADS" not in now["settings"]
    assert now["torch"]["threads"] == torch.get_num_threads()
    assert now["torch"]["float32_matmul_precision"] == "medium"
    assert now["torch"]["deterministic_algorithms"] is True
    assert now["cpu"]["available_cpus"] == machine.available_cpus()


def test_a_switch_that_torch_will_not_read_is_none(monkeypatch):
    """Torch 2.9 refuses the older question after the newer switch was set, and may warn."""

    def refuse():
        warnings.warn("an old name", DeprecationWarning, stacklevel=2)
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    assert machine.current_state()["torch"]["float32_matmul_precision"] is None


def test_frequency_and_governor_are_read(root, monkeypatch):
    """Governors of the CPUs that may be used, each once; a highest frequency of zero is not known."""
    governors = ["powersave", "performance", "performance", "schedutil"]
    root({f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor": f"{one}\n" for n, one in enumerate(governors)})
    monkeypatch.setattr(state, "allowed_cpus", lambda: [0, 1, 2])
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2300.0, min=0.0, max=0.0))
    cpu = machine.current_state()["cpu"]
    assert (cpu["governor"], cpu["current_mhz"], cpu["max_mhz"]) == ("performance,powersave", 2300.0, None)


def test_steal_is_a_share_of_all_cpu_time(monkeypatch):
    """In which a guest's time is counted once."""
    times = {"user": 30.0, "guest": 20.0, "guest_nice": 5.0, "idle": 60.0, "steal": 10.0}
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: times))
    assert machine.current_state()["cpu"]["steal_share_since_boot"] == 0.1


def test_looking_changes_nothing(nvml):
    """Random numbers, threads, environment and warning filters are as they were."""
    nvml(H200)

    def seen():
        numpys = str(np.random.get_state(legacy=False))
        generators = torch.get_rng_state().tolist(), random.getstate(), numpys
        return generators, torch.get_num_threads(), dict(os.environ), list(warnings.filters)

    before = seen()
    machine.identity(), machine.software(), machine.current_state(), machine.label("cuda")
    assert seen() == before
