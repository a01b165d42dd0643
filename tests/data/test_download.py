"""MNIST is downloaded whole or not at all. The server, its archives and their checksums are this machine's own."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mnist_loop.data import download_mnist, idx, load_data
from mnist_loop.data import mnist as data_module
from mnist_loop.data.vision import datasets
from mnist_loop.errors import DataError
from mnist_loop.support.leftovers import OURS, STALE_AFTER_S
from tests import small_mnist

ARCHIVES = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in small_mnist.contents().items()}
FIRST, *_, LAST = ARCHIVES
ROOT = Path("data")

Answer = Callable[["Request", bytes], None]


class Request(BaseHTTPRequestHandler):
    """A request for an archive, which its mirror answers in its own way."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer as told."""
        mirror, name = self.path.strip("/").split("/")
        self.close_connection = True
        self.server.asked_for.append(self.path)
        self.server.answers[mirror](self, ARCHIVES[name])

    def send(self, body: bytes, length: int | None = None, *, status: int = 200) -> None:
        """Send a body, and say that it has ``length`` bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """Two mirrors of the archives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.closing = threading.Event()
        self.asked_for: list[str] = []
        self.answers: dict[str, Answer] = {"first": whole, "second": whole}

    def handle_error(self, *_: object) -> None:
        """Be quiet when a client goes away: torchvision asks for each file twice and reads it once."""


# How a mirror answers


def whole(request: Request, archive: bytes) -> None:
    request.send(archive)


def missing(request: Request, _archive: bytes) -> None:
    request.send(b"", status=404)


def failing(request: Request, _archive: bytes) -> None:
    request.send(b"", status=500)


def corrupt(request: Request, archive: bytes) -> None:
    request.send(archive[:-1] + bytes([archive[-1] ^ 1]))


def portal(request: Request, _archive: bytes) -> None:
    request.send(b"<!DOCTYPE html><p>Please log in to this network.</p>")


def cut(request: Request, archive: bytes) -> None:
    request.send(archive[: len(archive) // 2], len(archive))


def cut_chunk(request: Request, archive: bytes) -> None:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n" % len(archive) + archive[: len(archive) // 2])


def silent(request: Request, _archive: bytes) -> None:
    request.server.closing.wait(10)


def silent_halfway(request: Request, archive: bytes) -> None:
    request.send(archive[: len(archive) // 2], len(archive))
    request.server.closing.wait(10)


def gibberish(request: Request, _archive: bytes) -> None:
    request.wfile.write(b"What do you want?\r\n\r\n")


def astray(request: Request, _archive: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", "http://[nowhere/")
    request.send_header("Content-Length", "0")
    request.end_headers()


def hang_up(_request: Request, _archive: bytes) -> None:
    pass


def at_last(answer: Answer) -> Answer:
    """All is well until the last file."""

    def answer_last(request: Request, archive: bytes) -> None:
        (answer if archive == ARCHIVES[LAST] else whole)(request, archive)

    return answer_last


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose two mirrors torchvision asks; no request leaves this machine."""
    with Server() as found:
        serving = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        mirrors = [f"http://127.0.0.1:{found.server_port}/{mirror}/" for mirror in found.answers]
        monkeypatch.setattr(datasets.MNIST, "mirrors", mirrors)
        monkeypatch.setenv("no_proxy", "*")
        yield found
        found.closing.set()
        found.shutdown()
        serving.join()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder, no variable set, and small data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_LOOP_DATA", raising=False)
    resources = [(name, small_mnist.md5(archive)) for name, archive in ARCHIVES.items()]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(data_module, "MNIST_CHECKSUMS", small_mnist.checksums())
    monkeypatch.setattr(data_module, "Digits", small_mnist.Digits)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even where pytest runs in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def found_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def assert_published(root: Path) -> None:
    """The four files are there and right, and nothing else is."""
    raw = root / "MNIST" / "raw"
    assert found_in(root) == ["MNIST", "MNIST/raw", *sorted(f"MNIST/raw/{name}" for name in idx.ALL_FILES)]
    assert {name: (raw / name).read_bytes() for name in idx.ALL_FILES} == small_mnist.contents()


# A mirror's answer -> what is said of it
FAILURES: dict[str, tuple[Answer, str]] = {
    "not found": (missing, "HTTP Error 404: Not Found"),
    "server error": (failing, "HTTP Error 500: Internal Server Error"),
    "wrong checksum": (corrupt, "File not found or corrupted."),
    "a network that wants a log-in": (portal, "File not found or corrupted."),
    "connection cut": (cut, "File not found or corrupted."),
    "connection cut in a chunk": (cut_chunk, "IncompleteRead("),
    "no answer": (silent, "timed out"),
    "no answer after half a file": (silent_halfway, "timed out"),
    "no HTTP": (gibberish, "What do you want?"),
    "sent to no address": (astray, "Invalid IPv6 URL"),
    "hung up": (hang_up, "Remote end closed connection without response"),
}


# What works


def test_what_is_downloaded_is_whole_and_alone(server: Server) -> None:
    """The four files are there, unpacked; no archive and no folder of the download stays."""
    data = load_data("mnist")
    assert (data.name, data.note) == ("MNIST", "data: MNIST from data (downloaded)")
    assert_published(ROOT)
    assert {path.split("/")[1] for path in server.asked_for} == {"first"}, "the first mirror was enough"


def test_what_is_there_is_not_downloaded_again(server: Server) -> None:
    """The second time, no mirror is asked."""
    load_data("mnist")
    server.asked_for.clear()
    assert load_data("mnist").note == "data: MNIST from data (default)"
    assert server.asked_for == []


def test_nothing_is_in_its_place_before_all_is(server: Server) -> None:
    """While the last file is on its way, nothing of the others can be taken for MNIST."""
    seen: list[str] = []

    def look(request: Request, archive: bytes) -> None:
        seen.extend(path.name for path in ROOT.iterdir())
        whole(request, archive)

    server.answers["first"] = at_last(look)
    download_mnist(ROOT)
    assert seen
    assert all(OURS.fullmatch(name) for name in seen), seen


@pytest.mark.parametrize("last", [False, True], ids=["first file", "last file"])
@pytest.mark.parametrize("what", FAILURES)
def test_the_second_mirror_helps_out(server: Server, monkeypatch: pytest.MonkeyPatch, what: str, last: bool) -> None:
    """Whatever the first mirror does, the second is asked for what is missing, and the first no more."""
    answer, reason = FAILURES[what]
    server.answers["first"] = at_last(answer) if last else answer
    monkeypatch.setattr(data_module, "DOWNLOAD_TIMEOUT_S", 0.15 if reason == "timed out" else 5)
    load_data("mnist")
    assert_published(ROOT)
    mirrors = [path.split("/")[1] for path in server.asked_for]
    assert mirrors == sorted(mirrors), "the first mirror was asked again"
    assert {path for path in server.asked_for if "second" in path} == {
        f"/second/{name}" for name in ([LAST] if last else ARCHIVES)
    }


def test_what_torchvision_prints_is_kept_from_stdout(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results, such as those of --json. Some releases of torchvision print there."""
    server.answers["first"] = missing
    download_mnist(ROOT)
    assert capsys.readouterr().out == ""


# What fails


def assert_fails(reason: str) -> None:
    """Asked for MNIST, it is an error; else the stand-in is taken and says why; nothing of the download stays."""
    with pytest.raises(DataError) as caught:
        load_data("mnist")
    said = str(caught.value)
    before = "no MNIST in data (default), and the download to data failed ("
    after = "): give its folder, or --data digits"
    assert said.startswith(before)
    assert said.endswith(after)
    assert reason in said[len(before) : -len(after)]
    assert "\n" not in said
    assert found_in(ROOT) == [], "something of the download stayed"

    data = load_data()
    assert data.name == "Digits"
    assert data.note.startswith(f"data: Digits, the built-in stand-in, from data; {before}")
    assert reason in data.note
    assert "\n" not in data.note
    assert {path.split("/")[0] for path in found_in(ROOT)} == {"Digits"}, "something of the download stayed"


@pytest.mark.parametrize("last", [False, True], ids=["first file", "last file"])
@pytest.mark.parametrize("what", FAILURES)
def test_a_failed_download_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, what: str, last: bool
) -> None:
    """Whatever the mirrors do, and whichever file they do it to, it is one sentence, and no part stays."""
    answer, reason = FAILURES[what]
    for mirror in server.answers:
        server.answers[mirror] = at_last(answer) if last else answer
    monkeypatch.setattr(data_module, "DOWNLOAD_TIMEOUT_S", 0.15 if reason == "timed out" else 5)
    assert_fails(reason)


def test_the_reasons_of_all_mirrors_are_told(server: Server) -> None:
    """The sentence says what became of each mirror."""
    server.answers |= {"first": missing, "second": corrupt}
    with pytest.raises(DataError) as caught:
        download_mnist(ROOT)
    assert str(caught.value) == (
        "the download to data failed (HTTP Error 404: Not Found; File not found or corrupted.)"
    )


def test_the_same_reason_is_told_once(server: Server) -> None:
    """Without a network, each mirror fails for the same reason."""
    server.answers |= {"first": missing, "second": missing}
    with pytest.raises(DataError) as caught:
        download_mnist(ROOT)
    assert str(caught.value) == "the download to data failed (HTTP Error 404: Not Found)"


def test_a_server_that_refuses_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, that is said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    monkeypatch.setenv("no_proxy", "*")
    assert_fails("Connection refused")


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_said(server: Server, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A file in the folder's place: the stand-in is taken, or it is an error; the file stays."""
    Path("file").write_bytes(b"mine")
    monkeypatch.setenv("MNIST_LOOP_DATA", where)
    reason = rf"and the download to {where} failed \(.*(File exists|Not a directory): '{where}'\)"
    with pytest.raises(DataError, match=reason):
        load_data("mnist")
    data = load_data()
    assert data.name == "Digits"
    with pytest.raises(DataError, match=reason):
        raise DataError(data.note)
    assert Path("file").read_bytes() == b"mine"
    assert server.asked_for == []


def test_a_full_disk_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the files are to take their place."""

    def rename(path: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "replace", rename)
    assert_fails("No space left on device")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_nothing(server: Server) -> None:
    """Ctrl-C in the middle of the last file ends the download at once, and no part stays."""

    def interrupt(request: Request, archive: bytes) -> None:
        if server.asked_for.count(request.path) == 1:
            whole(request, archive)  # torchvision's question where the file is
            return
        request.send(archive[: len(archive) // 2], len(archive))
        while not list(ROOT.glob(f"*/{LAST}")):
            time.sleep(0.01)
        time.sleep(0.1)  # until the reader waits for the rest: anywhere else, Python may lose sight of an open file
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        server.closing.wait(10)

    server.answers["first"] = at_last(interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        load_data()
    assert time.monotonic() - started < data_module.DOWNLOAD_TIMEOUT_S, "it waited for the server"
    assert found_in(ROOT) == []


def test_what_a_killed_download_left_is_swept(server: Server) -> None:
    """The next download removes what a killed one left long ago, and leaves one alone that may still go on."""
    names = {".mnist-loop-staging-killed00": STALE_AFTER_S * 2, ".mnist-loop-staging-going_on": STALE_AFTER_S / 2}
    for name, age in names.items():
        staging = ROOT / name
        small_mnist.write(staging / "MNIST" / "raw", {FIRST: ARCHIVES[FIRST]})
        then = time.time() - age
        os.utime(staging, (then, then))
    load_data("mnist")
    assert sorted(path.name for path in ROOT.iterdir()) == [".mnist-loop-staging-going_on", "MNIST"]


def test_a_download_to_the_home_folder_goes_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde in the variable is the home folder for torchvision and for us alike."""
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    monkeypatch.setenv("MNIST_LOOP_DATA", "~/mnist")
    load_data("mnist")
    assert_published(Path("home/mnist"))
    assert not Path("~").exists()
