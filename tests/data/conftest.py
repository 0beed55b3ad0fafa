"""A mirror on 127.0.0.1, and an environment in which no test meets the machine's own data or cache."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Mirror:
    """`files`: path -> (announced length, body). A length beyond the body is a truncated
    transfer, None announces none. `ranges`: whether parts of a file can be had; `starts` are the offsets
    that were asked for.
    """

    address: str
    files: dict[str, tuple[int | None, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: bool = False
    starts: list[int] = field(default_factory=list)

    def serve(self, path: str, body: bytes, length: int | None = -1) -> str:
        self.files[path] = (len(body) if length == -1 else length, body)
        return self.address + path


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            if self.path not in state.files:
                self.send_error(404)
                return
            length, body = state.files[self.path]
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            state.starts.append(start)
            if start >= len(body) and state.ranges and start:
                self.send_error(416)
                return
            if start and state.ranges:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                length, body = None if length is None else length - start, body[start:]
            else:
                self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who reads may have had enough
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Mirror(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache root, in a folder of the test's own; no data folder and no proxy."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("TINYDL_CACHE_DIR", str(cache))
    monkeypatch.delenv("TINYDL_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return cache
