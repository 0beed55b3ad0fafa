"""Files are whole or not there; a download is verified, and a failed one says why for every mirror."""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tinydl import files
from tinydl.files import DataError, DataFile, DownloadError, atomic_write, fetch, find

BODY = bytes(range(256)) * 1000
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def one_line(info: pytest.ExceptionInfo) -> str:
    message = str(info.value)
    assert "\n" not in message
    return message


class TestAtomicWrite:
    def test_bytes_and_text(self, tmp_path: Path) -> None:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"abc")
            assert not (tmp_path / "a").exists()
        with atomic_write(str(tmp_path / "b"), "w") as file:
            file.write("é")
        assert (tmp_path / "a").read_bytes() == b"abc"
        assert (tmp_path / "b").read_bytes() == "é".encode()
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_permissions_are_those_of_any_new_file(self, tmp_path: Path) -> None:
        with atomic_write(tmp_path / "a"):
            pass
        (tmp_path / "b").touch()
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, DataError])
    def test_an_exception_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        path = tmp_path / "result.json"
        path.write_bytes(b"old")

        def write() -> None:
            with atomic_write(path) as file:
                file.write(b"half of the n")
                raise error("stop")

        with pytest.raises(error, match="stop"):
            write()
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["result.json"]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_full_disk_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files.os, step, full)
        with pytest.raises(DataError) as info, atomic_write(tmp_path / "a") as file:
            file.write(BODY)
        assert one_line(info) == f"{tmp_path / 'a'}: not written: No space left on device"
        assert os.listdir(tmp_path) == []

    def test_a_real_limit_on_the_size_of_files(self, tmp_path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with (
                pytest.raises(DataError, match="not written: File too large") as info,
                atomic_write(tmp_path / "a") as file,
            ):
                file.writelines([BODY] * 10)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        one_line(info)
        assert os.listdir(tmp_path) == []

    def test_no_such_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "none" / "a"
        with pytest.raises(DataError) as info, atomic_write(path):
            pass
        assert one_line(info) == f"{path}: not written: No such file or directory"

    def test_something_else_than_a_file_is_refused_before_the_work(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not a regular file"), atomic_write(tmp_path):
            pytest.fail("the block ran")

    def test_a_symbolic_link_stays(self, tmp_path: Path) -> None:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "7").write_bytes(b"old")
        (tmp_path / "last").symlink_to("runs/7")
        (tmp_path / "next").symlink_to("runs/8")  # to what is not there yet
        for name, number in (("last", "7"), ("next", "8")):
            with atomic_write(tmp_path / name) as file:
                file.write(b"new")
            assert os.readlink(tmp_path / name) == f"runs/{number}"
            assert (tmp_path / "runs" / number).read_bytes() == b"new"
        assert sorted(os.listdir(tmp_path / "runs")) == ["7", "8"]

    def test_what_a_killed_writer_left_is_cleaned(self, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys\n"
            "from tinydl.files import atomic_write\n"
            "with atomic_write(sys.argv[1]) as file:\n"
            "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        path = tmp_path / "run"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        killed = subprocess.run([sys.executable, "-c", code, str(path)], env=environment)
        assert killed.returncode == -signal.SIGKILL
        (left,) = os.listdir(tmp_path)
        assert left.startswith(".run.")
        others = {".run.txt", ".run.0123.tmp", ".other.01234567.tmp", "run.01234567.tmp"}
        for name in others:
            (tmp_path / name).touch()
        with atomic_write(path) as file:
            file.write(b"whole")
        assert set(os.listdir(tmp_path)) == {"run", *others}

    def test_a_living_writers_file_is_not(self, tmp_path: Path) -> None:
        path = tmp_path / "run"
        with atomic_write(path) as outer:
            outer.write(b"outer")
            with atomic_write(path) as inner:
                inner.write(b"inner")
            assert path.read_bytes() == b"inner"
            assert len(os.listdir(tmp_path)) == 2
        assert path.read_bytes() == b"outer"
        assert os.listdir(tmp_path) == ["run"]

    def test_a_file_that_was_taken_for_stale_before_it_was_locked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flock, taken = files.fcntl.flock, []

        def other_first(file, operation: int) -> None:
            if operation == files.fcntl.LOCK_EX and not taken:
                taken.append(file.name)
                os.unlink(file.name)
            flock(file, operation)

        monkeypatch.setattr(files.fcntl, "flock", other_first)
        with atomic_write(tmp_path / "run") as file:
            file.write(b"whole")
        assert len(taken) == 1
        assert (tmp_path / "run").read_bytes() == b"whole"
        assert os.listdir(tmp_path) == ["run"]

    def test_many_writers_of_one_file(self, tmp_path: Path) -> None:
        """Each cleans while the others write: none loses its file, and none is left behind."""
        code = (
            "import sys\n"
            "from tinydl.files import atomic_write\n"
            "for _ in range(200):\n"
            "    with atomic_write(sys.argv[1]) as file:\n"
            "        file.write(sys.argv[2].encode() * 10_000)\n"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path / "run"), letter],
                env=environment,
                stderr=subprocess.PIPE,
            )
            for letter in "abc"
        ]
        errors = [writer.communicate()[1] for writer in writers]
        assert errors == [b"", b"", b""]
        assert os.listdir(tmp_path) == ["run"]
        content = (tmp_path / "run").read_bytes()
        assert content in {letter.encode() * 10_000 for letter in "abc"}

    def test_another_files_error_is_not_taken_for_ours(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="other"), atomic_write(tmp_path / "a"):
            (tmp_path / "other").read_bytes()


class TestFetch:
    def test_good_then_cached(self, mirror, tmp_path: Path) -> None:
        file = DataFile("set/a.gz", SHA256, (mirror.serve("/a.gz", BODY),))
        assert fetch(file, tmp_path) == (tmp_path / "set/a.gz", file.urls[0])
        assert fetch(file, tmp_path) == (tmp_path / "set/a.gz", "the cache")
        assert (tmp_path / "set/a.gz").read_bytes() == BODY
        assert mirror.requests == ["/a.gz"]
        assert os.listdir(tmp_path / "set") == ["a.gz"]

    def test_a_mirror_that_announces_no_length(self, mirror, tmp_path: Path) -> None:
        path, _ = fetch(DataFile("a", SHA256, (mirror.serve("/a", BODY, None),)), tmp_path)
        assert path.read_bytes() == BODY

    def test_md5(self, mirror, tmp_path: Path) -> None:
        file = DataFile("a", f"md5:{hashlib.md5(BODY).hexdigest()}", (mirror.serve("/a", BODY),))
        assert fetch(file, tmp_path)[0].read_bytes() == BODY

    def test_without_tqdm(self, mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *args, **kwargs):
            if name == "tqdm":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        assert fetch(DataFile("a", SHA256, (mirror.serve("/a", BODY),)), tmp_path)[0].read_bytes() == BODY

    def test_a_damaged_copy_in_the_cache_is_replaced(self, mirror, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(BODY[:-1])
        file = DataFile("a", SHA256, (mirror.serve("/a", BODY),))
        assert fetch(file, tmp_path) == (tmp_path / "a", file.urls[0])
        assert (tmp_path / "a").read_bytes() == BODY

    def test_a_damaged_copy_is_named_where_no_mirror_helps(self, mirror, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(BODY[:-1])
        with pytest.raises(DownloadError) as info:
            fetch(DataFile("a", SHA256, (mirror.address + "/a",)), tmp_path)
        assert f"{tmp_path / 'a'}: wrong checksum" in one_line(info)

    def test_mirrors_are_tried_in_turn(self, mirror, tmp_path: Path) -> None:
        bad = [
            mirror.address + "/missing",
            mirror.serve("/short", BODY[:1000], len(BODY)),
            mirror.serve("/wrong", BODY[::-1]),
        ]
        good = mirror.serve("/good", BODY)
        assert fetch(DataFile("a", SHA256, (*bad, good)), tmp_path) == (tmp_path / "a", good)
        assert mirror.requests == ["/missing", "/short", "/wrong", "/good"]

    def test_all_failed_names_the_file_each_mirror_and_each_reason(self, mirror, tmp_path: Path) -> None:
        with socket.socket() as unused:  # bound and not listening: refused
            unused.bind(("127.0.0.1", 0))
            urls = (
                mirror.address + "/missing",
                mirror.serve("/short", BODY[:1000], len(BODY)),
                mirror.serve("/wrong", BODY[::-1]),
                f"http://127.0.0.1:{unused.getsockname()[1]}/a",
            )
            with pytest.raises(DownloadError) as info:
                fetch(DataFile("set/a", SHA256, urls), tmp_path)
        message = one_line(info)
        assert message.startswith("set/a: could not be downloaded")
        reasons = [
            "HTTP 404",
            "truncated: expected 256000 bytes, got 1000",
            "wrong checksum: expected sha256",
            "refused",
        ]
        for url, reason in zip(urls, reasons, strict=True):
            assert reason in message.split(url)[1].split(";")[0]
        assert os.listdir(tmp_path / "set") == []

    def test_a_mirror_that_hangs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "TIMEOUT", 0.05)
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            pytest.raises(DownloadError, match="timed out"),
        ):
            fetch(DataFile("a", SHA256, (f"http://127.0.0.1:{silent.getsockname()[1]}/a",)), tmp_path)

    def test_a_full_disk_is_not_the_mirrors_fault(
        self, mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(DataError, match="No space left") as info:
            fetch(DataFile("a", SHA256, (mirror.serve("/a", BODY), mirror.serve("/b", BODY))), tmp_path)
        assert not isinstance(info.value, DownloadError)
        assert mirror.requests == ["/a"]
        assert os.listdir(tmp_path) == []

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs the modes of POSIX")
    def test_a_new_cache_is_closed_to_groups(self, mirror, tmp_path: Path) -> None:
        """Compiled kernels are kept in the same root, which must not be open to others."""
        mask = os.umask(0o002)
        try:
            fetch(DataFile("a", SHA256, (mirror.serve("/a", BODY),)), tmp_path / "root" / "data")
        finally:
            os.umask(mask)
        assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700

    def test_no_writable_cache(self, mirror, tmp_path: Path) -> None:
        (tmp_path / "taken").touch()  # a file where the folder should be: not even root can write there
        file = DataFile("a", SHA256, (mirror.serve("/a", BODY),))
        with pytest.warns(UserWarning, match="no writable cache"):
            path, _ = fetch(file, tmp_path / "taken")
        assert path.read_bytes() == BODY
        # kept for the process, and no second warning
        assert fetch(file, tmp_path / "taken") == (path, "the cache")


class TestResume:
    """A download that broke off goes on where it was."""

    HALF = 100_000

    def broken(self, mirror, folder: Path) -> DataFile:
        """Half a file has come."""
        file = DataFile("set/a", SHA256, (mirror.serve("/a", BODY[: self.HALF], len(BODY)),))
        with pytest.raises(DownloadError, match="truncated: expected 256000 bytes, got 100000"):
            fetch(file, folder)
        assert os.listdir(folder / "set") == [".a.partial"]
        mirror.requests.clear()
        mirror.starts.clear()
        mirror.ranges = True
        return file

    def test_from_where_it_was(self, mirror, tmp_path: Path) -> None:
        file = self.broken(mirror, tmp_path)
        mirror.serve("/a", BODY)
        assert fetch(file, tmp_path)[0].read_bytes() == BODY
        assert mirror.starts == [self.HALF]
        assert os.listdir(tmp_path / "set") == ["a"]

    def test_from_another_mirror(self, mirror, tmp_path: Path) -> None:
        file = self.broken(mirror, tmp_path)
        other = DataFile("set/a", SHA256, (mirror.address + "/gone", mirror.serve("/b", BODY)))
        assert fetch(other, tmp_path) == (tmp_path / "set/a", other.urls[1])
        assert mirror.starts == [self.HALF]
        assert (tmp_path / file.name).read_bytes() == BODY

    def test_within_one_call(self, mirror, tmp_path: Path) -> None:
        mirror.ranges = True
        short = mirror.serve("/short", BODY[: self.HALF], len(BODY))
        file = DataFile("a", SHA256, (short, mirror.serve("/good", BODY)))
        assert fetch(file, tmp_path)[0].read_bytes() == BODY
        assert mirror.starts == [0, self.HALF]

    def test_a_mirror_without_parts_begins_anew(self, mirror, tmp_path: Path) -> None:
        file = self.broken(mirror, tmp_path)
        mirror.ranges = False
        mirror.serve("/a", BODY)
        assert fetch(file, tmp_path)[0].read_bytes() == BODY
        assert mirror.requests == ["/a"]

    @pytest.mark.parametrize("left", [BODY[::-1][:100], BODY + b"x", BODY[::-1]])
    def test_what_is_left_of_another_file(self, mirror, tmp_path: Path, left: bytes) -> None:
        mirror.ranges = True
        (tmp_path / ".a.partial").write_bytes(left)
        file = DataFile("a", SHA256, (mirror.serve("/a", BODY),))
        assert fetch(file, tmp_path)[0].read_bytes() == BODY
        assert mirror.starts == [len(left), 0]
        assert os.listdir(tmp_path) == ["a"]

    def test_ctrl_c(self, mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        @contextlib.contextmanager
        def progress(*args, **settings):
            counts = []

            def advance(count: int) -> None:
                counts.append(count)
                if len(counts) == 3:
                    raise KeyboardInterrupt

            yield advance

        mirror.ranges = True
        file = DataFile("a", SHA256, (mirror.serve("/a", BODY),))
        with monkeypatch.context() as patch:
            patch.setattr(files, "progress", progress)
            with pytest.raises(KeyboardInterrupt):
                fetch(file, tmp_path)
        (left,) = os.listdir(tmp_path)
        assert left == ".a.partial"
        size = (tmp_path / left).stat().st_size
        assert 0 < size < len(BODY)
        assert fetch(file, tmp_path)[0].read_bytes() == BODY
        assert mirror.starts == [0, size]

    def test_two_at_once_download_once(self, mirror, tmp_path: Path) -> None:
        file = DataFile("a", SHA256, (mirror.serve("/a", BODY),))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: fetch(file, tmp_path)[0].read_bytes(), range(4)))
        assert found == [BODY] * 4
        assert mirror.requests == ["/a"]
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("length", [-1, None])
def test_a_mirror_that_sends_too_much(mirror, tmp_path: Path, length: int | None) -> None:
    """It is cut off at the published size, announced or not."""
    file = DataFile("a", SHA256, (mirror.serve("/a", BODY * 9, length),), size=len(BODY))
    with pytest.raises(DownloadError, match="too large: expected at most 256000 bytes, got"):
        fetch(file, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_size_that_is_not_published(mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 1000)
    with pytest.raises(DownloadError, match="too large: expected at most 1000 bytes, got 256000"):
        fetch(DataFile("a", SHA256, (mirror.serve("/a", BODY),)), tmp_path)


class TestFind:
    FILES = (DataFile("set/a.gz", SHA256, (), ("set/a",)), DataFile("set/b.gz", SHA256, (), ("set/b",)))

    def fill(self, folder: Path, *names: str) -> Path:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(BODY)
        return folder

    def test_order(self, tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given = self.fill(tmp_path / "given", "set/a", "set/b.gz")
        named = self.fill(tmp_path / "named", "set/a", "set/a.gz", "set/b")
        cache = self.fill(environment / "data", "set/a.gz", "set/b.gz")
        monkeypatch.setenv("TINYDL_DATA", str(named))
        assert find(self.FILES, given) == ([given / "set/a", given / "set/b.gz"], f"the folder {given}")
        assert find(self.FILES) == ([named / "set/a", named / "set/b"], f"the folder {named}")
        monkeypatch.setenv("TINYDL_DATA", str(tmp_path))  # a folder with nothing of this set
        assert find(self.FILES) == ([cache / "set/a.gz", cache / "set/b.gz"], f"the cache {cache}")
        monkeypatch.delenv("TINYDL_DATA")
        assert find(self.FILES)[1] == f"the cache {cache}"

    def test_download(self, mirror, environment: Path) -> None:
        wanted = [DataFile(f"set/{name}", SHA256, (mirror.serve(f"/set/{name}", BODY),)) for name in "ab"]
        source = f"a download from {mirror.address}/set, kept in {environment / 'data'}"
        assert find(wanted) == ([environment / "data/set/a", environment / "data/set/b"], source)
        assert find(wanted)[1] == f"the cache {environment / 'data'}"

    @pytest.mark.parametrize("given", [True, False])
    def test_a_bad_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
        self.fill(tmp_path, "file")
        for place, expected in ((tmp_path / "none", "got nothing there"), (tmp_path / "file", "got a file")):
            monkeypatch.setenv("TINYDL_DATA", str(place))
            with pytest.raises(DataError, match=expected) as info:
                find(self.FILES, place if given else None)
            assert one_line(info).startswith(f"{'data' if given else 'TINYDL_DATA'}={place}")

    def test_a_given_folder_without_the_files(self, tmp_path: Path, environment: Path) -> None:
        self.fill(environment / "data", "set/a.gz", "set/b.gz")  # no silent fall back to it
        with pytest.raises(DataError, match=r"expected the folder above set/.*not there: set/a.gz, set/b.gz"):
            find(self.FILES, tmp_path)

    def test_half_of_a_set_is_an_error_not_a_mixture(
        self, tmp_path: Path, environment: Path, monkeypatch
    ) -> None:
        self.fill(environment / "data", "set/a.gz", "set/b.gz")
        monkeypatch.setenv("TINYDL_DATA", str(self.fill(tmp_path / "named", "set/a.gz")))
        with pytest.raises(DataError, match=r"not there: set/b.gz"):
            find(self.FILES)

    def test_cache_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TINYDL_CACHE_DIR")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert files.cache_folder() == tmp_path / ".cache/tinydl/data"
