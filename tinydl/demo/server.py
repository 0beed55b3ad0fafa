"""The server: one page, a few questions in JSON, on the loopback interface alone.

Nothing but this machine's own browser is answered: the name in `Host` must be the loopback's (a foreign page
that had its name point here would send its own), and `Origin`, where there is one, too. Paths are looked
up in a table, never in a folder. A question is one JSON object of at most 64 KiB.
"""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from ..version import __version__
from .asked import BadRequest
from .playground import Playground
from .race import race
from .recognizer import Recognizer

LIMIT, PATIENCE = 1 << 16, 20.0  # bytes of a question, seconds for it to arrive
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """On 127.0.0.1; port 0 takes a free one, which `port` then is.

    Args:
        recognizer: what reads digits; its training is for `Recognizer.prepare`.
        port: to listen on.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, recognizer: Recognizer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.port = int(self.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self.hosts = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")}
        if self.port == 80:
            self.hosts |= {"127.0.0.1", "localhost"}
        self.numbers = threading.Lock()  # one question at a time is computed
        playground = Playground()
        self.recognizer = recognizer
        self.questions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "/api/digit": recognizer.look,
            "/api/playground": playground.play,
            "/api/race": race,
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news."""


class _RefusedError(Exception):
    """A status and a message."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other on a connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = f"tinydl/{__version__}", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        if not self._welcome():
            return
        if self.path == "/api/status":
            self._answer(200, self.server.recognizer.status())
        elif self.path in PAGE:
            name, kind = PAGE[self.path]
            text = resources.files(__package__).joinpath("page", name).read_bytes()
            self._send(200, text, kind)
        elif self.path in self.server.questions:
            self._refuse(405, "expected POST", {"Allow": "POST"})
        else:
            self._refuse(404, "no such page")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        if not self._welcome():
            return
        answer = self.server.questions.get(self.path)
        if answer is None:
            known = self.path in PAGE or self.path == "/api/status"
            self._refuse(*((405, "expected GET", {"Allow": "GET, HEAD"}) if known else (404, "no such page")))
            return
        try:
            body = self._body()
            with self.server.numbers:
                found = answer(body)
        except _RefusedError as error:
            self._refuse(*error.args)
        except (ConnectionError, TimeoutError):  # nobody waits for an answer
            self.close_connection = True
        except BadRequest as error:
            self._answer(400, {"error": str(error)})
        except Exception as error:  # a window that asks something odd must not end the server
            self._answer(500, {"error": f"{type(error).__name__}: {error}"[:500]})
        else:
            self._answer(200, found)

    def _welcome(self) -> bool:
        """Is it this machine's own browser, on our own page?"""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._refuse(403, f"expected to be called {self.server.url}")
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self.server.hosts}:
            self._refuse(403, "expected a request of our own page")
            return False
        return True

    def _body(self) -> dict[str, Any]:
        """The question."""
        kind = self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length:
            raise _RefusedError(411, "expected Content-Length")
        if not (length.isascii() and length.isdigit()) or len(self.headers.get_all("Content-Length", [])) > 1:
            raise _RefusedError(400, "expected one Content-Length, a whole number")
        if len(length) > 9 or int(length) > LIMIT:
            raise _RefusedError(413, f"expected at most {LIMIT} bytes")
        if kind != "application/json":
            raise _RefusedError(415, "expected application/json")
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            raise ConnectionError("it broke off")
        try:
            body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise _RefusedError(400, "expected one JSON object")
        return body

    def _refuse(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.close_connection = True  # what else was sent is not read
        self._answer(status, {"error": message}, headers)

    def _answer(self, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        self._send(status, text, "application/json", headers)

    def _send(self, status: int, text: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        more = {"Content-Type": kind, "Content-Length": str(len(text)), **HEADERS, **(headers or {})}
        for name, value in more.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses (no HTTP, a method that nobody knows), as JSON too."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        self._answer(int(code), {"error": message or "refused"})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent: a drawing is a request for each of its strokes."""


def _no_constant(name: str) -> float:
    raise ValueError(f"expected a number, got {name}")


def serve(recognizer: Recognizer, port: int, browser: bool) -> None:
    """Until Ctrl-C; the network is trained meanwhile."""
    with Server(recognizer, port) as server:
        sys.stdout.write(f"{server.url}  (Ctrl-C ends it)\n")
        sys.stdout.flush()

        def tell(line: str) -> None:
            sys.stdout.write(f"  {line}\n")
            sys.stdout.flush()

        threading.Thread(target=recognizer.prepare, args=(server.numbers, tell), daemon=True).start()
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
