"""What each script of the corpus finds: a seed, data of the right layout whatever its checksum, an end after N steps.

Python imports this by itself before the script. It counts steps and takes their digest with and without `check`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
from importlib.abc import Loader
from pathlib import Path

TOLD = (1, 2, 5, 10, 20, 50)  # steps after which a digest is taken


class _Finder:
    def __init__(self, name, call):
        self.name, self.call = name, call

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                spec.loader = _Calling(spec.loader, self.call)
                return spec
        return None


class _Calling(Loader):
    def __init__(self, loader, call):
        self.loader, self.call = loader, call

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        module.__spec__.loader = module.__loader__ = self.loader
        self.call(module)


def seed(torch):
    """Seed what a script draws from, such that two runs can be compared."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def any_checksum(utils):
    """Let torchvision take a file that is there for the right one."""
    utils.check_integrity = lambda fpath, md5=None: Path(fpath).is_file()


def digest(torch, optimizer):
    """Return a hash of an optimizer's parameters and of the random generators."""
    import numpy as np

    found = hashlib.sha256()
    for group in optimizer.param_groups:
        for one in group["params"]:
            found.update(one.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    found.update(torch.get_rng_state().numpy().tobytes())
    found.update(repr((random.getstate(), np.random.get_state()[1].tolist())).encode())
    return found.hexdigest()[:16]


def count(torch, report, stop):
    """Write to a file when steps were taken and what they left; end the script after the last."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    seen = {"steps": 0, "began": time.perf_counter(), "times": {}, "digests": {}}

    def stepped(optimizer, *_):
        seen["steps"] += 1
        steps = seen["steps"]
        if steps in TOLD:
            seen["times"][steps] = time.perf_counter()
            seen["digests"][steps] = digest(torch, optimizer)
            report.write_text(json.dumps(seen))
        if stop and steps >= TOLD[-1]:
            raise SystemExit(0)

    register_optimizer_step_post_hook(stepped)


def begin(torch):
    """Put all in, now that torch is there."""
    seed(torch)
    report = os.environ.pop("CORPUS_REPORT", None)  # child processes do not count
    if report is not None:
        count(torch, Path(report), os.environ.pop("CORPUS_STOP", "") == "1")


sys.meta_path.insert(0, _Finder("torch", begin))
sys.meta_path.insert(0, _Finder("torchvision.datasets.utils", any_checksum))
