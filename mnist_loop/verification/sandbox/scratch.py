"""The scratch folder of a loop: it takes what the loop writes by relative paths, and no file of the user's changes.

The folder holds a view of the file system around the user's working folder, under the same names. Folders in the
working folder are folders, small files in them are copies, all else are links, which are replaced by copies when they
are written to. So relative paths, ``../x`` too, lead to what they led to before.

A write elsewhere, but for temporary folders, is refused. Python tells of its writes before they happen (audit events).
On Linux, Landlock refuses those of C++ and of other programs as well.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from os import fsdecode
from os.path import basename, dirname, isabs, isdir, isfile, islink, join, lexists, normpath, realpath
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from mnist_loop.errors import WriteRefused
from mnist_loop.support.authored import is_authored
from mnist_loop.support.leftovers import hold, release, remove, sweep
from mnist_loop.verification.sandbox import landlock

PREFIX = "mnist-loop-scratch-"
VIEW, TEMPORARY = "files", "tmp"
MARKS = ("__init__.py", "pyvenv.cfg")  # files of folders that are seldom written to: packages, environments
MOST_ENTRIES = 1000  # in all folders that are shown as folders; the others are links
SMALL_FILE = 2**20  # bytes: the largest file that is copied before it is written to
MOST_COPIED = 2**24  # bytes of all these copies
DEVICES = ("/dev", "/proc")  # nobody's files: written to by libraries, to share memory or to set up a GPU
SYSTEMS = "/tmp"  # noqa: S108  # the folder for temporary files where nobody has chosen another
MEMORY = "/dev/shm"  # noqa: S108  # a file system in memory, on Linux
ROOM_IN_MEMORY = 2**30  # bytes that must be free there
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_inside: Scratch | None = None  # that this process works in


@dataclass(frozen=True)
class Scratch:
    """A scratch folder.

    Attributes:
        folder: where it is.
        home: the working folder of the user, which is shown in it.
    """

    folder: str
    home: str

    @property
    def view(self) -> str:
        """What stands for the root of the file system."""
        return join(self.folder, VIEW)

    @property
    def temporary(self) -> str:
        """The folder for temporary files, where that of the system is the user's too."""
        return join(self.folder, TEMPORARY)


def make() -> tuple[Scratch, int]:
    """Make a scratch folder that shows the working folder.

    Folders that a killed process left behind are removed.

    Returns:
        The scratch folder, and a file descriptor: the folder is in use until it is closed.
    """
    place = best_place()
    sweep(place)
    folder = realpath(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    lock = -1
    try:
        lock = hold(folder)
        scratch = Scratch(folder, os.getcwd())
        os.mkdir(scratch.temporary)
        _show(scratch)
    except BaseException:
        release(lock)
        remove(folder)
        raise
    return scratch, lock


def best_place() -> str:
    """Return where scratch folders are made: in memory on Linux, else in the system's folder for temporary files.

    A view is some hundred links, which a disk may take a second for. The memory must have room for what a loop writes,
    as that of a container seldom has, and must run programs, as a loop may compile some. A user who sets ``TMPDIR``
    has chosen.
    """
    usual = tempfile.gettempdir()
    if not isdir(MEMORY) or usual != SYSTEMS:
        return usual
    room = os.statvfs(MEMORY)
    fits = room.f_bavail * room.f_frsize >= ROOM_IN_MEMORY and not room.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    return MEMORY if fits and os.access(MEMORY, os.W_OK | os.X_OK) else usual


def original(path: Path) -> Path:
    """Return the user's path of what the scratch folder shows; another path as it is."""
    if _inside is None or not _within(str(path), _inside.view):
        return path
    return Path("/", os.path.relpath(path, _inside.view))


def enter(scratch: Scratch) -> None:
    """Have this process work in the scratch folder for the rest of its life, and write nowhere else."""
    global _inside
    home = scratch.home
    users = str(original(Path(home)))  # another one if this process is in a scratch folder itself
    _inside = scratch
    sys.path[:] = [entry if isabs(entry) else normpath(join(home, entry)) for entry in sys.path]
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    temporary = {realpath(folder) for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp")}  # noqa: S108
    theirs = {folder for folder in temporary if _within(users, folder)}
    if realpath(tempfile.gettempdir()) in theirs:
        os.environ["TMPDIR"] = tempfile.tempdir = scratch.temporary
    os.chdir(scratch.view + home)
    os.environ["PWD"] = scratch.view + home
    writable = [scratch.folder, *(temporary - theirs), *DEVICES]
    refuses = landlock.restrict(writable)
    guard = _Guard(scratch, tuple(writable), refuses)
    os.chdir = guard.chdir
    torch._C.PyTorchFileWriter = guard.torch_writer()  # type: ignore[misc,assignment]  # C++, which tells nobody of its files
    sys.addaudithook(guard.hear)


def temporary() -> str | None:
    """Return the scratch folder's own folder for temporary files; None where this process works in none."""
    return None if _inside is None else _inside.temporary


def refusal(error: BaseException | None) -> WriteRefused | None:
    """Return the refused write that an error comes from; None where it comes from none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, WriteRefused):
            return error
        if _inside is not None and landlock.is_refusal(error):
            told = " ".join(str(error).split())
            return WriteRefused(f"the loop, or a program that it starts, changes a file of the user ({told}): {RULE}")
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


RULE = (
    "verify lets a loop write by relative paths, which lead to a scratch folder then, and in temporary folders; "
    "use one of these"
)


# -- the view ----------------------------------------------------------------------------------------------------------


def _show(scratch: Scratch) -> None:
    """Fill the view: the way to the working folder, with links to what stands beside it, and the folder itself."""
    parents = [str(parent) for parent in reversed(Path(scratch.home).parents)]
    os.mkdir(scratch.view)
    for parent, child in zip(parents, [*parents[1:], scratch.home], strict=True):
        for entry in _entries(parent):
            if entry.path != child:
                os.symlink(entry.path, scratch.view + entry.path)
        if child != "/":
            os.mkdir(scratch.view + child)
    room = _Room(MOST_ENTRIES, MOST_COPIED)
    folders = deque([scratch.home])
    while folders:
        folders += _fill(folders.popleft(), scratch.view, room)


@dataclass
class _Room:
    """What there is room for in the view: entries in folders, and bytes of copies."""

    entries: int = 0
    bytes: int = 0


def _fill(folder: str, view: str, room: _Room) -> list[str]:
    """Show what a folder holds; return the folders in it that are still empty."""
    empty = []
    for entry in _entries(folder):
        shown = view + entry.path
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), shown)
        elif entry.is_dir() and not _is_apart(entry, folder) and (size := len(_entries(entry.path))) <= room.entries:
            room.entries -= size
            os.mkdir(shown)
            empty.append(entry.path)
        elif not (entry.is_file() and _copy(entry, shown, room)):
            os.symlink(entry.path, shown)
    return empty


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(PREFIX)]
    except OSError:  # not to be listed
        return []


def _is_apart(entry: os.DirEntry[str], folder: str) -> bool:
    """Return whether a folder is Python's or a tool's, as .git is, or another file system, as /proc is."""
    of_tools = entry.name.startswith(".") or any(lexists(join(entry.path, mark)) for mark in MARKS)
    return of_tools or entry.stat().st_dev != os.stat(folder).st_dev


def _copy(entry: os.DirEntry[str], shown: str, room: _Room) -> bool:
    """Copy a small file, if there is room, but for a program; return whether it was copied."""
    size = entry.stat().st_size
    if entry.name.endswith(".py") or size > min(SMALL_FILE, room.bytes):
        return False
    try:
        shutil.copy2(entry.path, shown)
    except OSError:  # not to be read
        with suppress(FileNotFoundError):
            os.unlink(shown)
        return False
    room.bytes -= size
    return True


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


# -- the guard ---------------------------------------------------------------------------------------------------------


class _Busy(threading.local):
    on = False


class _Guard:
    """Sees each write of Python's before it happens: lets it go, gives it a copy to write to, or refuses it.

    Args:
        scratch: where this process works.
        writable: the folders that may be written in.
        others_refused: whether the kernel refuses what Python does not tell of.
    """

    def __init__(self, scratch: Scratch, writable: tuple[str, ...], others_refused: bool) -> None:
        self.scratch, self.writable, self.others_refused = scratch, writable, others_refused
        self.busy, self.lock = _Busy(), threading.RLock()
        self.go = os.chdir
        content, entry = self.content, self.entry
        self.checks: dict[str, Callable[..., object]] = {
            "open": self.opened,
            "sqlite3.connect": self.connected,
            "os.mkdir": lambda path, _mode, fd: entry(path, fd, there=False),
            "os.symlink": lambda _source, path, fd: entry(path, fd, there=False),
            "os.remove": lambda path, fd: entry(path, fd, there=True),
            "os.rmdir": lambda path, fd: self.folder(path, fd),
            "shutil.rmtree": lambda path, fd=None: self.folder(path, fd),
            "os.rename": lambda source, path, source_fd, fd: (entry(source, source_fd, there=True), entry(path, fd)),
            "os.link": lambda source, path, source_fd, fd: (content(source, source_fd), entry(path, fd)),
            "os.truncate": lambda path, _length: content(path),
            "os.chmod": lambda path, _mode, fd: content(path, fd),
            "os.chown": lambda path, _user, _group, fd: content(path, fd),
            "os.utime": lambda path, _times, _ns, fd: content(path, fd),
            "os.setxattr": lambda path, *_: content(path),
            "os.removexattr": lambda path, *_: content(path),
            "os.chflags": lambda path, *_: content(path),
        }

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Check an event of Python's."""
        check = self.checks.get(event)
        if check is None or self.busy.on:
            return
        self.busy.on = True
        try:
            with self.lock:
                check(*args)
        finally:
            self.busy.on = False

    def chdir(self, path: Any) -> None:
        """Go to a folder, as os.chdir; where it is the user's working folder or in it, to what shows it."""
        if not isinstance(path, int):
            folder = realpath(fsdecode(path))
            if _within(folder, self.scratch.home) and isdir(folder):
                path = self.scratch.view + folder
                self.folder(path)
        self.go(path)

    def torch_writer(self) -> type:
        """Return torch's writer of files in C++, which asks here first."""
        guard = self

        class PyTorchFileWriter(torch._C.PyTorchFileWriter):
            def __init__(self, file: Any, *args: Any, **options: Any) -> None:
                if isinstance(file, str | bytes | os.PathLike):
                    guard.hear("open", (file, "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                super().__init__(file, *args, **options)

        return PyTorchFileWriter

    # -- kinds of writes -----------------------------------------------------------------------------------------------

    def opened(self, path: Any, _mode: object, flags: int) -> None:
        if not flags & WRITES or isinstance(path, int):
            return
        if flags & os.O_CREAT:
            self.make_parent(path)
        if flags & os.O_CREAT and flags & os.O_EXCL:
            self.entry(path, there=False)
        elif flags & os.O_CREAT or lexists(path):
            self.content(path, keep=not flags & os.O_TRUNC)

    def make_parent(self, path: Any) -> None:
        """Make the folder of a new file in the view: whoever runs the loop has made it."""
        parent = dirname(self.full(path) or "")
        if parent and not lexists(parent) and _within(normpath(parent), self.scratch.view):
            os.makedirs(parent, exist_ok=True)

    def connected(self, database: Any) -> None:
        name = fsdecode(database)
        if name.startswith("file:"):
            name, _, query = name.removeprefix("file:").partition("?")
            if "mode=ro" in query or "mode=memory" in query or "immutable=1" in query:
                return
        if name in ("", ":memory:"):
            return
        path = self.settle(self.full(name) or name, copy=True)
        # SQLite opens a file that it may not write to for reading alone.
        if not self.allows(path) and not (self.others_refused and lexists(path)):
            self.refuse(path)

    def content(self, path: Any, fd: int | None = None, *, keep: bool = True) -> None:
        """Check a write to what a path leads to, and have it lead to a copy of its own."""
        full = self.full(path, fd)
        if full is not None:
            full = self.settle(full, copy=True, keep=keep)
            if not self.allows(full):
                self.refuse(full)

    def entry(self, path: Any, fd: int | None = None, *, there: bool | None = None) -> None:
        """Check that a name in a folder is made, replaced or removed.

        Args:
            path: the name.
            fd: the folder that it is in, if it is relative to another than the working folder.
            there: whether it must be there, or must not be, for anything to happen.
        """
        full = self.full(path, fd)
        if full is not None:
            full = self.settle(full)
            if not self.allows(full) and there in (None, lexists(full)):
                self.refuse(full)

    def folder(self, path: Any, fd: int | None = None) -> None:
        """Check that a folder is removed or worked in, and have it be a folder, where it is a link to one."""
        full = self.full(path, fd)
        if full is not None:
            own = self.settle(full)
            full = self.settle(full, copy=True) if isdir(full) and self.leads_out(own) else own
            if not self.allows(full) and lexists(full):
                self.refuse(full)

    # -- paths ---------------------------------------------------------------------------------------------------------

    def full(self, path: Any, fd: int | None = None) -> str | None:
        """Return the absolute path; None where there is none to check."""
        if isinstance(path, int):
            found = _path_of(path)
            return found if found is not None and lexists(found) else None
        try:
            text = fsdecode(path)
            base = os.getcwd() if fd in (None, -1) else _path_of(fd)
        except (TypeError, FileNotFoundError):  # no path, or a working folder that was removed: Python tells
            return None
        return None if base is None or "\0" in text or not text else join(base, text)

    def settle(self, path: str, *, copy: bool = False, keep: bool = True) -> str:
        """Return the true path of an entry, once each link out of the scratch folder on the way is a folder in it.

        Args:
            path: an absolute path.
            copy: replace the entry itself too, by a copy; otherwise a link is left as it is.
            keep: whether the content of a copied file matters.
        """
        true, parts = "/", deque(path.split("/"))
        while parts:
            part = parts.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                true = dirname(true)
                continue
            entry = join(true, part)
            last = not any(parts)
            if not islink(entry) or (last and not copy):
                true = entry
            elif not self.leads_out(entry):
                true = realpath(entry)
            else:
                self.replace(entry, keep=keep or not last)
                true = entry
        return true

    def leads_out(self, entry: str) -> bool:
        """Return whether an entry is a link from the view to the outside."""
        return islink(entry) and _within(entry, self.scratch.view) and not self.allows(realpath(entry))

    def replace(self, link: str, *, keep: bool) -> None:
        """Replace a link by what it leads to: a folder of links, or a copy."""
        target = realpath(link)
        if isdir(target):
            os.unlink(link)
            os.mkdir(link)
            for entry in _entries(target):
                os.symlink(entry.path, join(link, entry.name))
        elif isfile(target):
            part = f"{link}.part"
            if keep:
                shutil.copy2(target, part)
                os.replace(part, link)
            else:
                os.unlink(link)

    def allows(self, path: str) -> bool:
        return any(_within(path, folder) for folder in self.writable)

    def refuse(self, path: str) -> None:
        raise WriteRefused(f"{_writer(sys._getframe())} changes {path}: {RULE}")


def _path_of(fd: int | None) -> str | None:
    """Return the path of an open file; None where it has none."""
    try:
        if sys.platform == "darwin":
            raw: bytes = fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024))  # type: ignore[arg-type]
            return fsdecode(raw.rstrip(b"\0"))
        path = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    return path if path.startswith("/") else None


def _writer(frame: FrameType | None) -> str:
    """Return the line of the author's that writes: ``train.py:12``."""
    while frame is not None:
        file = frame.f_code.co_filename
        if is_authored(file) and not file.startswith("<frozen"):
            return f"{basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return "the loop"
