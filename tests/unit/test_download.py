"""Downloads against a server on this machine: whole, resumed, wrong, refused; archives that try to escape."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from engram.data import download
from engram.data.download import Remote, cache_folder, fetch, unpack
from engram.errors import UserError

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()

UNPACKS = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Python 3.11.0 to 3.11.3 does not unpack; another test sees to that"
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, with or without ranges; `server.stop_at` breaks the connection off."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        if server.status != 200:
            self.send_error(server.status)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        if start:
            self.send_response(206)
            claimed = start + server.shift
            self.send_header("Content-Range", f"bytes {claimed}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        piece = server.content[start : server.stop_at]
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(piece)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.ranges, made.stop_at, made.status, made.shift, made.requests = CONTENT, True, None, 200, 0, []
    made.home = f"http://127.0.0.1:{made.server_address[1]}/files/"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def remote(*homes, content=CONTENT):
    return Remote("data.bin", homes, hashlib.sha256(content).hexdigest(), len(content))


def closed_port():
    """An address where nobody listens."""
    probe = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    port = probe.server_address[1]
    probe.server_close()
    return f"http://127.0.0.1:{port}/"


def test_a_fresh_download(server, tmp_path):
    told = []
    path = fetch(remote(server.home), tmp_path / "new" / "folder", lambda done, total: told.append((done, total)))
    assert path == tmp_path / "new" / "folder" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/files/data.bin", None)]
    assert told[-1] == (300_000, 300_000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not (path.parent / "data.bin.part").exists()


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    fetch(remote(server.home), tmp_path)
    fetch(remote(server.home), tmp_path)
    assert len(server.requests) == 1


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.stop_at = 100_000
    with pytest.raises(UserError, match=r"broke off|IncompleteRead|100,000|more expected") as error:
        fetch(remote(server.home), tmp_path)
    assert "run again to resume" in error.value.then
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:100_000]
    assert not (tmp_path / "data.bin").exists()
    server.stop_at = None
    assert fetch(remote(server.home), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/files/data.bin", "bytes=100000-")


def test_a_server_without_ranges_starts_afresh(server, tmp_path):
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(remote(server.home), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/files/data.bin", "bytes=1000-")]


def test_a_server_that_resumes_elsewhere_is_not_believed(server, tmp_path):
    server.shift = 5
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(UserError):
        fetch(remote(server.home), tmp_path)
    server.shift = 0
    assert fetch(remote(server.home), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_needs_no_server(tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert fetch(remote(closed_port()), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"of another file", CONTENT + b"more", b"x" * len(CONTENT)])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, part):
    (tmp_path / "data.bin.part").write_bytes(part)
    assert fetch(remote(server.home), tmp_path).read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_nothing_is_left(server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=r"data\.bin could not be downloaded: .*the file there has another SHA-256"):
        fetch(remote(server.home), tmp_path)
    assert not (tmp_path / "data.bin").exists()
    assert not (tmp_path / "data.bin.part").exists()


def test_more_than_announced_is_not_taken(server, tmp_path):
    server.content = CONTENT * 2
    with pytest.raises(UserError, match="it sends more than 300,000 bytes"):
        fetch(remote(server.home), tmp_path)


def test_the_next_address_is_tried(server, tmp_path):
    assert fetch(remote(closed_port(), server.home), tmp_path).read_bytes() == CONTENT


def test_the_next_address_goes_on_with_the_part(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    fetch(remote(closed_port(), server.home), tmp_path)
    assert server.requests == [("/files/data.bin", "bytes=1000-")]


def test_connection_refused_says_where_to_put_the_file(tmp_path):
    home = closed_port()
    with pytest.raises(UserError) as error:
        fetch(remote(home), tmp_path)
    assert error.value.given == f"data.bin could not be downloaded: {home}: Connection refused"
    assert f"get {home}data.bin elsewhere and put it at {tmp_path / 'data.bin'}" in error.value.then
    assert "300,000 bytes" in error.value.allowed


def test_not_found(server, tmp_path):
    server.status = 404
    with pytest.raises(UserError, match="the server answered 404 Not Found"):
        fetch(remote(server.home), tmp_path)
    assert len(server.requests) == 1


def test_a_server_that_falls_silent(server, tmp_path, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    monkeypatch.setattr(Handler, "do_GET", lambda self: hang.wait(5))
    with pytest.raises(UserError, match="no answer"):
        fetch(remote(server.home), tmp_path)
    hang.set()


def test_a_wrong_file_that_someone_put_there(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"data\.bin is not data\.bin: its SHA-256 is not") as error:
        fetch(remote(closed_port()), tmp_path)
    assert f"delete {tmp_path / 'data.bin'}" in error.value.then


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory") as error:
        fetch(remote(server.home), tmp_path / "file" / "folder")
    assert "ENGRAM_CACHE" in error.value.then


def test_no_space_left(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        fetch(remote(server.home), tmp_path)


def test_two_at_once_share_one_download(server, tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(remote(server.home), tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"ENGRAM_CACHE": "/data/cache"}, "/data/cache"),
        ("linux", {"ENGRAM_CACHE": "~/cache"}, "/home/someone/cache"),
        ("linux", {}, "/home/someone/.cache/engram"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/engram"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/someone/Library/Caches/engram"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/engram/Cache"),
        ("win32", {}, "/home/someone/AppData/Local/engram/Cache"),
    ],
)
def test_cache_folder(monkeypatch, platform, variables, expected):
    for name in ("ENGRAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/someone", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download.sys, "platform", platform)
    assert cache_folder() == Path(expected)


# ------------------------------------------------------------------------------------------------ archives


def archive(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@UNPACKS
def test_an_archive_is_unpacked(tmp_path):
    path = archive(tmp_path / "a.tar.gz", (member("set/one"), b"1"), (member("set/two"), b"22"))
    folder = unpack(path, tmp_path / "cache" / "unpacked")
    assert (folder / "set" / "two").read_bytes() == b"22"
    assert sorted(one.name for one in folder.parent.iterdir()) == ["unpacked"]


@UNPACKS
def test_what_is_unpacked_already_stays(tmp_path):
    path = archive(tmp_path / "a.tar.gz", (member("one"), b"1"))
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "mine").touch()
    assert [one.name for one in unpack(path, tmp_path / "unpacked").iterdir()] == ["mine"]


@UNPACKS
def test_an_archive_that_cannot_be_unpacked_there(tmp_path):
    path = archive(tmp_path / "a.tar.gz", (member("one"), b"1"))
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "unpacked", tmp_path / "file"):
        with pytest.raises(UserError, match=r"cannot be written: (Not a directory|File exists)"):
            unpack(path, folder)


def test_an_old_python_does_not_unpack(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with pytest.raises(UserError, match="cannot unpack archives safely"):
        unpack(archive(tmp_path / "a.tar.gz", (member("one"), b"1")), tmp_path / "unpacked")


@UNPACKS
@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("set/../../escaped"),
        member("link", tarfile.SYMTYPE, "../../escaped"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.LNKTYPE, "../escaped"),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.linkname}",
)
def test_an_archive_cannot_write_outside(tmp_path, hostile):
    path = archive(tmp_path / "a.tar.gz", (member("set/one"), b"1"), (hostile, b""))
    with pytest.raises(UserError, match="is not safe to unpack"):
        unpack(path, tmp_path / "cache" / "unpacked")
    assert list((tmp_path / "cache").iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


@UNPACKS
def test_absolute_names_stay_inside(tmp_path):
    target = tmp_path / "outside"
    path = archive(tmp_path / "a.tar.gz", (member(str(target)), b"1"))
    folder = unpack(path, tmp_path / "cache" / "unpacked")
    assert not target.exists()
    assert [one.read_bytes() for one in folder.rglob("outside")] == [b"1"]


@UNPACKS
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_damaged_archives(tmp_path, share):
    path = archive(tmp_path / "a.tar.gz", (member("set/one"), CONTENT))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"a\.tar\.gz is damaged") as error:
        unpack(path, tmp_path / "unpacked")
    assert f"delete {path}" in error.value.then
    assert not (tmp_path / "unpacked").exists()


@UNPACKS
def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"words")
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "unpacked")
