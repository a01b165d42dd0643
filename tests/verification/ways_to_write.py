"""Ways in which a loop changes files, each in a folder of its own; the loops of test_scratch.py import them.

A folder has file.bin, which is large enough to be a link in the scratch folder, small.bin, sub/inner.txt and empty/.
"""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import torch

NEW = b"new"


def append(name):
    with open(name, "ab") as file:
        file.write(NEW)


def patch(name):
    with open(name, "r+b") as file:
        file.write(NEW)


def low_level(name):
    file = os.open(name, os.O_WRONLY)
    os.write(file, NEW)
    os.close(file)


def database(name):
    connection = sqlite3.connect(name)
    connection.execute("create table new (column)")
    connection.commit()
    connection.close()


def hard_link(folder):
    os.link(f"{folder}/file.bin", f"{folder}/linked.bin")
    append(f"{folder}/linked.bin")


def rename_then_write(folder):
    os.rename(f"{folder}/file.bin", f"{folder}/renamed.bin")
    append(f"{folder}/renamed.bin")


def memory_map(name):
    np.memmap(name, mode="r+", shape=3)[:] = 1


def touch_open_file(name):
    with open(name, "rb") as file:
        os.utime(file.fileno(), (1, 1))


def shell(command, folder):
    subprocess.run(["/bin/sh", "-c", command], cwd=folder, check=True, capture_output=True)


def native(name):
    torch.from_file(name, shared=True, size=2).fill_(1)


# Ways that Python tells of before they happen.
TOLD = {
    "open to write": lambda folder: Path(folder, "file.bin").open("wb").close(),
    "open to append": lambda folder: append(f"{folder}/file.bin"),
    "open to read and write": lambda folder: patch(f"{folder}/file.bin"),
    "open a new file": lambda folder: append(f"{folder}/new.bin"),
    "open one in a folder": lambda folder: append(f"{folder}/sub/inner.txt"),
    "os.open": lambda folder: low_level(f"{folder}/file.bin"),
    "pathlib": lambda folder: Path(folder, "file.bin").write_bytes(NEW),
    "touch": lambda folder: Path(folder, "new").touch(),
    "torch.save": lambda folder: torch.save({"new": torch.ones(2)}, f"{folder}/file.bin"),
    "torch.save to a Path": lambda folder: torch.save({"new": torch.ones(2)}, Path(folder, "new.pt")),
    "numpy.save": lambda folder: np.save(f"{folder}/new.npy", np.ones(2)),
    "numpy.memmap": lambda folder: memory_map(f"{folder}/file.bin"),
    "sqlite3": lambda folder: database(f"{folder}/new.db"),
    "os.rename": rename_then_write,
    "os.replace": lambda folder: os.replace(f"{folder}/file.bin", f"{folder}/small.bin"),
    "os.remove": lambda folder: os.remove(f"{folder}/file.bin"),
    "os.rmdir": lambda folder: os.rmdir(f"{folder}/empty"),
    "os.makedirs": lambda folder: os.makedirs(f"{folder}/new/newer"),
    "os.symlink": lambda folder: os.symlink("file.bin", f"{folder}/new"),
    "os.link": hard_link,
    "os.chmod": lambda folder: os.chmod(f"{folder}/file.bin", 0o600),
    "os.utime": lambda folder: os.utime(f"{folder}/file.bin", (1, 1)),
    "os.truncate": lambda folder: os.truncate(f"{folder}/file.bin", 1),
    "shutil.rmtree": lambda folder: shutil.rmtree(folder),
    "shutil.move": lambda folder: shutil.move(f"{folder}/sub", f"{folder}/moved"),
    "shutil.copy": lambda folder: shutil.copy(f"{folder}/small.bin", f"{folder}/file.bin"),
}
# Ways that are refused by a relative path too: a file that is open to be read is the user's own.
OPEN = {"os.utime of an open file": lambda folder: touch_open_file(f"{folder}/file.bin")}
# Ways that only the kernel sees.
UNTOLD = {
    "another program": lambda folder: shell("echo new >> small.bin && mkdir new && rm -r sub && mv empty new/", folder),
    "C++": lambda folder: native(f"{folder}/small.bin"),
    "os.mkfifo": lambda folder: os.mkfifo(f"{folder}/new"),
}
WAYS = TOLD | OPEN | UNTOLD


def lay_out(root, *ways):
    """Make a folder for each way, by default for all."""
    for way in ways or WAYS:
        for name in ("sub", "empty"):
            (root / way / name).mkdir(parents=True)
        (root / way / "file.bin").write_bytes(bytes(200))
        (root / way / "small.bin").write_bytes(bytes(20))
        (root / way / "sub" / "inner.txt").write_text("inner" * 40)


def state(root):
    """Return the kind, content, permissions and modification time of all that a folder holds."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = status.st_mode, content, status.st_mtime_ns
    return found
