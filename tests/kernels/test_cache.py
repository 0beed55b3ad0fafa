"""What the cache takes and what it refuses: folders of others, places that cannot be used, damaged files."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels import emulator
from tinydl_kernels.cpu import cache, lazy
from tinydl_kernels.cpu.compiler import kernel
from tinydl_kernels.emulator import build

owned = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")


@pytest.fixture(autouse=True)
def _fresh():
    """Folders are made with the usual mode, and every refusal is heard."""
    mask = os.umask(0o022)
    cache._refuse.cache_clear()
    yield
    cache._refuse.cache_clear()
    os.umask(mask)


@pytest.fixture
def caches(monkeypatch, tmp_path):
    """Two caches, the first to be preferred."""
    both = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(cache, "_candidates", lambda: iter(both))
    return both


def chosen():
    return next(cache.folders("build"), None)


def test_new_folders_are_private(caches):
    assert chosen() == caches[0] / "build"
    if hasattr(os, "getuid"):
        assert [folder.stat().st_mode & 0o777 for folder in (caches[0], caches[0] / "build")] == [
            0o700,
            0o700,
        ]


@owned
@pytest.mark.parametrize("name", [".", "build"])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o720, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(caches, name, mode):
    chosen()
    (caches[0] / name).chmod(mode)
    with pytest.warns(
        UserWarning, match=f"not safe: others may write to .*first.* \\(mode {mode:o}\\)"
    ) as heard:
        assert chosen() == caches[1] / "build"
    assert chosen() == caches[1] / "build"  # without another warning
    assert len(heard) == 1
    (caches[0] / name).chmod(0o755)  # others may read
    assert chosen() == caches[0] / "build"


@owned
def test_a_folder_of_another_user_is_refused(caches, monkeypatch):
    chosen()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.warns(UserWarning, match="belongs to another user") as heard:
        assert chosen() is None
    assert [
        f"{folder} belongs to another user ({user})" in str(w.message)
        for folder, w in zip(caches, heard, strict=True)
    ]


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, who may give files away"
)
@pytest.mark.parametrize("name", [".", "build"])
def test_what_was_given_to_another_user_is_refused(caches, name):
    chosen()
    os.chown(caches[0] / name, 12345, -1)
    with pytest.warns(UserWarning, match=r"belongs to another user \(12345\)"):
        assert chosen() == caches[1] / "build"


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, who may give files away"
)
def test_a_link_that_another_user_made_is_refused(caches, tmp_path):
    (tmp_path / "mine").mkdir()
    caches[0].symlink_to(tmp_path / "mine")
    assert chosen() == caches[0] / "build"
    os.chown(caches[0], 12345, -1, follow_symlinks=False)
    with pytest.warns(UserWarning, match=r"first belongs to another user \(12345\)"):
        assert chosen() == caches[1] / "build"


@owned
def test_code_in_a_folder_that_is_not_safe_does_not_run(tmp_path):
    program = "from tinydl_kernels.cpu import threads; print(threads.share(10, 1, 2))"
    places = {"TINYDL_CACHE_DIR": str(tmp_path / "open"), "XDG_CACHE_HOME": str(tmp_path)}
    environment = {**os.environ, **places, "PYTHONPATH": str(Path(cache.__file__).parents[2])}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.stdout == "5\n", done.stderr
        return done.stderr

    assert run() == ""
    [file] = (tmp_path / "open").rglob("share-*.nbc")
    file.write_bytes(cache.with_checksum(pickle.dumps(Evil(str(tmp_path / "ran")))))
    file.parent.chmod(0o777)
    assert (
        run().count(
            "UserWarning: tinydl: no compiled kernels are kept in, nor taken from, a folder that is not safe"
        )
        == 1
    )
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "tinydl").rglob("*.nbc"))
    file.parent.chmod(0o700)
    run()
    assert (tmp_path / "ran").exists()  # it was a file that would have run


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("place", ["a file", "below a file", "a long name", "a long path"])
def test_a_place_that_cannot_be_used_is_passed_over(monkeypatch, tmp_path, place):
    (tmp_path / "file").write_text("")
    names = {
        "a file": "file",
        "below a file": "file/below",
        "a long name": "x" * 5000,
        "a long path": "/".join(["x" * 100] * 60),
    }
    monkeypatch.setenv("TINYDL_CACHE_DIR", str(tmp_path / names[place]))
    monkeypatch.setattr(cache, "_user_cache", lambda: tmp_path / "home")
    assert chosen() == tmp_path / "home" / "tinydl" / "build"


def test_a_home_that_cannot_be_searched_is_passed_over(caches, monkeypatch):
    def forbidden(call):
        def guarded(path, *args, **keywords):
            if str(path).startswith(str(caches[0])):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *args, **keywords)

        return guarded

    for name in ("mkdir", "stat", "lstat"):
        monkeypatch.setattr(os, name, forbidden(getattr(os, name)))
    assert chosen() == caches[1] / "build"


def test_a_folder_that_is_there_need_not_be_writable(caches, monkeypatch):
    chosen()

    def fail(path, *_, **__):
        raise (
            FileExistsError(17, "File exists", str(path))
            if Path(path).exists()
            else PermissionError(13, "no", str(path))
        )

    monkeypatch.setattr(os, "mkdir", fail)
    assert chosen() == caches[0] / "build"
    assert next(cache.folders("other"), None) is None


def test_no_place_for_temporary_files_and_no_home(monkeypatch):
    def fail(*_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TINYDL_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", fail)
    monkeypatch.setattr(cache, "_user_cache", homeless)
    assert list(cache._candidates()) == []


def test_every_damaged_byte_is_noticed_and_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "build_directory", lambda: tmp_path)

    def half(x):
        return x / 2

    first, again = kernel(half), kernel(half)
    assert first(7.0) == 3.5
    [file] = tmp_path.glob("*.nbc")
    whole, store = file.read_bytes(), first.store()
    cache.checked(whole)
    signature, context = (lazy.nb.float64,), lazy.Module("numba.core.registry").cpu_target.target_context
    for place in [0, -1, *np.random.default_rng(0).integers(0, len(whole), 300).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        assert store.load_overload(signature, context) is None
    for length in (0, 10, 32, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert store.load_overload(signature, context) is None
    assert again(7.0) == 3.5
    assert again.dispatcher.stats.cache_hits.total() == 0
    cache.checked(file.read_bytes())  # kept anew


@owned
@pytest.mark.parametrize("name", [".", "emulator"])
def test_the_emulator_refuses_folders_too(caches, name):
    directory = build._directory.__wrapped__
    assert directory() == caches[0] / "emulator"
    (caches[0] / name).chmod(0o777)
    with pytest.warns(UserWarning, match="a folder that is not safe"):
        assert directory() == caches[1] / "emulator"


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_a_damaged_library_is_built_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_directory", lambda: tmp_path)
    source = tmp_path / "seven.cpp"
    source.write_text('extern "C" int seven() { return 7; }')

    def built():
        return build._build("seven", ("-fPIC",), [source], [], ["seven"])

    path = built()
    whole, inode = path.read_bytes(), path.stat().st_ino
    assert ctypes.CDLL(str(path)).seven() == 7
    assert built().stat().st_ino == inode  # the same file
    for damaged in (whole[: len(whole) // 2] + b"\xff" + whole[len(whole) // 2 + 1 :], whole[:-1], b""):
        (tmp_path / "damaged").write_bytes(damaged)
        (tmp_path / "damaged").replace(path)  # another file: this process has mapped the old one
        assert built() == path
        assert path.read_bytes() == whole
