"""Files: written whole or not at all, and data sets found in a folder, in the cache
or on their canonical mirrors.

    atomic_write   temporary name in the same folder, fsync, rename: a reader sees the old file or the new
                   one, never a half; what killed writers left is cleaned
    fetch          one file from the first mirror that gives it, held against its published checksum; what a
                   break left is gone on with
    find           the files of one data set, all from one place: a given folder, TINYDL_DATA, the cache, the
                   mirrors, in turn

Every failure is a `DataError` of one line. `DownloadError` is the kind that a missing network causes: a
caller may then have something else to offer.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import http.client
import os
import re
import secrets
import shutil
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tinydl_kernels.machine.errors import TinydlError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: the lock is the file
    fcntl = None  # type: ignore[assignment]

TIMEOUT = 20.0  # seconds without a byte, after which a mirror counts as dead
PIECE = 1 << 16  # bytes read at a time
LARGEST = 1 << 30  # bytes of a download whose size is not published


def one_line(text: object, limit: int | None = None) -> str:
    """For a message: names in a file can hold line breaks, and have any length."""
    return " ".join(str(text).split())[:limit]


class DataError(TinydlError, OSError):
    """A file that is missing, damaged or cannot be written. The message is one line and names the file."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class DownloadError(DataError):
    """No mirror gave the file. The message names the file, each mirror and what went wrong there."""


class _WrongContentError(DownloadError):
    """What came cannot be, or become, the file."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        name: where it lies under a data folder and under the cache, with forward slashes:
        ``mnist/train-images-idx3-ubyte.gz``.
        checksum: ``algorithm:hexdigest`` as published; the algorithm is a name that hashlib knows.
        urls: its mirrors, tried in turn.
        also: other names under which a data folder may hold the same content, preferred to
        `name` where both are there.
        size: in bytes; a mirror that sends more is refused. None: LARGEST at most.
    """

    name: str
    checksum: str
    urls: tuple[str, ...]
    also: tuple[str, ...] = ()
    size: int | None = None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO]:
    """Open a file that appears under `path` only once the block has ended well and its bytes are on the disk.

    On any exception, Ctrl-C included, what was under `path` before is untouched and nothing else is left in
    the folder. A writer that is killed leaves its temporary file: the next writer of the same path removes it
    (a living writer's is locked). Where `path` is a symbolic link, the file that it points to is replaced.

    Args:
        path: a file that may or may not exist; its folder must exist.
        mode: ``"wb"`` for bytes, ``"w"`` for text in UTF-8.

    Raises:
        DataError: the file cannot be written (no such folder, no permission, full disk),
        or `path` is no regular file.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: not written: it exists and is not a regular file")
    target = Path(os.path.realpath(path))  # the rename would replace a link itself
    temporary = None
    try:
        _clean(target)
        temporary, file = _temporary(target, mode)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # while it is locked
                os.replace(temporary, target)
        if fcntl is None:
            os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, TinydlError):
            # not of some other file the block was reading
            name = os.path.basename(error.filename or f".{target.name}.")
            ours = error.strerror and name.startswith(f".{target.name}.")
            raise DataError(f"{path}: not written: {error.strerror if ours else error}") from error
        raise


def _temporary(target: Path, mode: str) -> tuple[Path, IO]:
    """A new locked file beside the target: a rename is atomic within one file system only."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        # "x" so that the umask decides the permissions
        file = open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8")  # noqa: SIM115
        if fcntl is None:
            return temporary, file
        with contextlib.suppress(OSError):  # a file system without locks: nothing is cleaned there either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # another writer took it for stale before it was locked


def _clean(target: Path) -> None:
    """Remove the temporary files of writers of `target` that are no more."""
    stale = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):  # a folder that may be written and not listed
        for name in filter(stale.fullmatch, os.listdir(target.parent)):
            _remove_unlocked(target.parent / name)


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        if fcntl is not None:
            file = stack.enter_context(open(path, "rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def fetch(file: DataFile, cache: Path) -> tuple[Path, str]:
    """The verified copy of `file` in the folder `cache`, downloaded if it is not there or damaged.

    What came of a download that broke off stays beside it, and the next call, from whichever mirror, goes on
    from there. A read-only cache serves what it holds; downloads then go to a folder that lasts as long as
    the process, with a warning.

    Returns:
        Its path, and where it came from: ``"the cache"`` or the address of the mirror.

    Raises:
        DownloadError: every mirror failed (no network, HTTP error, truncated, wrong checksum).
        DataError: the cache cannot be written; another mirror would not help.
    """
    if not os.path.exists(cache / file.name):
        cache = _writable(cache)
    path = cache / file.name
    failures = []
    try:
        if os.path.exists(path):
            _verify(path, file.checksum)
            return path, "the cache"
    except DownloadError as error:
        failures.append(f"{path}: {error}")
    _make_folder(path.parent)
    for url in file.urls:
        try:
            _download(url, file, path)
            return path, url
        except DownloadError as error:
            failures.append(f"{url}: {error}")
    advice = "TINYDL_DATA may name a folder that holds it"
    raise DownloadError(
        f"{file.name}: could not be downloaded ({'; '.join(failures) or 'it has no mirror'}); {advice}"
    )


def find(files: Sequence[DataFile], data: str | os.PathLike[str] | None = None) -> tuple[list[Path], str]:
    """The files of one data set, all from one place: images and labels of different origins must never meet.

    1. The folder `data` if it is given: then the files are there, or it is an error.
    2. The folder named by the environment variable TINYDL_DATA. It must exist; if it has none of the files,
    the search goes on. 3. The cache (see `cache_folder`), every file held against its checksum. 4. The
    mirrors of each file, into the cache.

    Files in a data folder are the user's own and are taken as they are.

    Returns:
        The paths in the order of `files`, and the place in words: "the folder /data", "the cache
        …", "a download from https:…".

    Raises:
        DataError: a folder that is not there or lacks files.
        DownloadError: step 4 was reached and no mirror gave a file.
    """
    name, folder = (
        ("data", data) if data is not None else ("TINYDL_DATA", os.environ.get("TINYDL_DATA") or None)
    )
    if folder is not None:
        folder = _user_folder(name, folder)
        paths = [_in_folder(folder, file) for file in files]
        missing = [file.name for file, path in zip(files, paths, strict=True) if path is None]
        if not missing:
            return [path for path in paths if path is not None], f"the folder {folder}"
        if data is not None or len(missing) < len(files):
            expected = (
                f"the folder above {files[0].name.split('/')[0]}/ with "
                f"{', '.join(file.name for file in files)}"
            )
            raise DataError(f"{name}={folder}: expected {expected}; not there: {', '.join(missing)}")
    cache = cache_folder()
    found = [fetch(file, cache) for file in files]
    mirrors = sorted({os.path.dirname(origin) for _, origin in found if origin != "the cache"})
    source = f"a download from {' and '.join(mirrors)}, kept in {cache}" if mirrors else f"the cache {cache}"
    return [path for path, _ in found], source


def cache_folder() -> Path:
    """The folder ``data`` in TINYDL_CACHE_DIR, else in ~/.cache/tinydl. It need not exist yet."""
    root = os.environ.get("TINYDL_CACHE_DIR") or "~/.cache/tinydl"
    try:
        return Path(root).expanduser() / "data"
    except RuntimeError as error:  # there is no home
        return _process_folder(str(error))


def _writable(folder: Path) -> Path:
    try:
        # kernels are kept there too, in no folder open to a group
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    return _process_folder(f"{folder}: {reason}")


@functools.cache
def _process_folder(reason: str) -> Path:
    folder = tempfile.mkdtemp(prefix="tinydl-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    warnings.warn(
        f"no writable cache for data ({reason}): downloads are not kept; set TINYDL_CACHE_DIR", stacklevel=4
    )
    return Path(folder)


def _user_folder(name: str, folder: str | os.PathLike[str]) -> Path:
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:
        raise DataError(f"{name}={folder}: {error}") from error
    if not os.path.isdir(path):
        got = "a file" if os.path.exists(path) else "nothing there"
        raise DataError(f"{name}={path}: expected a folder of data sets, got {got}")
    return path


def _in_folder(folder: Path, file: DataFile) -> Path | None:
    return next((path for name in (*file.also, file.name) if os.path.exists(path := folder / name)), None)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: not made: {error.strerror or error}") from error


def _new_digest(checksum: str) -> hashlib._Hash:
    return hashlib.new(checksum.partition(":")[0], usedforsecurity=False)


def _compare(digest: hashlib._Hash, checksum: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    if digest.hexdigest() != expected:
        raise _WrongContentError(
            f"wrong checksum: expected {algorithm} {expected[:12]}…, got {digest.hexdigest()[:12]}…"
        )


def _verify(path: Path, checksum: str) -> None:
    digest = _new_digest(checksum)
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{path}: not read: {error.strerror or error}") from error
    _compare(digest, checksum)


def _download(url: str, file: DataFile, path: Path) -> None:
    """The file behind `url` under `path`, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _locked(partial) as out:
            if os.path.exists(path) and _is_whole(path, file.checksum):  # another process brought it
                partial.unlink()
                return
            for start in (out.seek(0, os.SEEK_END), 0):
                out.truncate(start)
                resumed = start > 0
                try:
                    resumed = _append(url, file, out, start)
                    out.flush()
                    os.fsync(out.fileno())
                    _verify(partial, file.checksum)
                    break
                except DownloadError as error:
                    wrong = isinstance(error, _WrongContentError)
                    if wrong:
                        out.truncate(0)
                    if not (wrong and resumed):
                        if not out.seek(0, os.SEEK_END):
                            partial.unlink()
                        raise
                except OSError:
                    partial.unlink()  # it may be what fills the disk
                    raise
            if fcntl is not None:  # while it is locked
                os.replace(partial, path)
        if fcntl is None:
            os.replace(partial, path)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DataError(f"{path}: not written: {error.strerror or error}") from error


def _is_whole(path: Path, checksum: str) -> bool:
    try:
        _verify(path, checksum)
    except DataError:
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A file to append to, which no other process appends to until it is closed."""
    while True:
        with open(path, "a+b") as file:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    ours = os.path.samestat(os.stat(path), os.fstat(file.fileno()))
                except FileNotFoundError:
                    ours = False
                if not ours:  # whoever had the lock has renamed or removed it
                    continue
            yield file
            return


def _append(url: str, file: DataFile, out: IO[bytes], start: int) -> bool:
    """The bytes behind `url` from `start` on, where `out` ends; or all, where a mirror sends no parts, and
    `out` begins anew. Which of the two: True for a part.
    """
    with contextlib.closing(_body(url, file, start)) as pieces:
        first = next(pieces)
        out.truncate(first)
        for piece in pieces:
            out.write(piece)
    return first > 0


def _body(url: str, file: DataFile, start: int) -> Generator[Any]:
    """Where in the file the bytes behind `url` begin, `start` or 0, then the bytes in pieces. Failures of the
    network become DownloadError here, apart from those of the disk.
    """
    limit = LARGEST if file.size is None else file.size
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            sent = response.headers.get("Content-Range", "").strip().startswith(f"bytes {start}-")
            got = start if response.status == 206 and sent else 0
            stated = response.headers.get("Content-Length") or ""
            length = got + int(stated) if stated.isdigit() else None
            if (length or 0) > limit:
                raise _WrongContentError(f"too large: expected at most {limit} bytes, got {length}")
            yield got
            with progress(file.name, length, initial=got, unit="B", unit_scale=True) as advance:
                while piece := response.read(PIECE):
                    got += len(piece)
                    if got > limit:
                        raise _WrongContentError(f"too large: expected at most {limit} bytes, got more")
                    advance(len(piece))
                    yield piece
    except _WrongContentError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        kind = _WrongContentError if error.code == 416 else DownloadError  # no bytes from there on
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(str(error) or type(error).__name__) from error
    if length is not None and got != length:
        raise DownloadError(f"truncated: expected {length} bytes, got {got}")


@contextlib.contextmanager
def progress(name: str, total: int | None, **settings: Any) -> Iterator[Callable[[int], object]]:
    """A function to be told how much more is done; it moves a bar (tqdm's settings) where
    tqdm is installed and watched.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None:
        yield lambda count: None
    else:
        with tqdm(total=total, desc=name, leave=False, disable=None, **settings) as bar:
            yield bar.update
