"""A headless Chromium, driven over the DevTools protocol by the standard library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One window at an address; a scope, at whose end the browser is gone."""

    def __init__(self, url: str, width: int = 1280, height: int = 900) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tinydl-chromium-", ignore_cleanup_errors=True)
        flags = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        )
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        place = (f"--user-data-dir={self.folder.name}", "--remote-debugging-port=0")
        command = [str(CHROMIUM), *flags, *quiet, *place, f"--window-size={width},{height}", "about:blank"]
        self.socket: Any = None
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = self._port()
            self.count, self.socket, self.rest = 0, socket.create_connection(("127.0.0.1", port), 60), b""
            self._shake_hands(port, self._page(port))
            self.problems: list[str] = []  # exceptions, errors of the console, refused resources
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
            self.call("Page.navigate", url=url)
            self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def _port(self) -> int:
        file = Path(self.folder.name) / "DevToolsActivePort"
        for _ in range(600):
            if file.is_file() and (text := file.read_text().split()):
                return int(text[0])
            if self.process.poll() is not None:
                raise RuntimeError(f"Chromium ended with {self.process.returncode}")
            time.sleep(0.1)
        raise RuntimeError("Chromium did not begin to listen within a minute")

    def _page(self, port: int) -> str:
        for _ in range(100):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=60) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                return urllib.parse.urlsplit(pages[0]["webSocketDebuggerUrl"]).path
            time.sleep(0.1)
        raise RuntimeError("Chromium has no page")

    # WebSocket, RFC 6455: what a client of small messages needs
    # --------------------------------------------------------------------------------------------------------

    def _shake_hands(self, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        )
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(4096)
        self.rest = self.rest.partition(b"\r\n\r\n")[2]

    def _take(self, count: int) -> bytes:
        while len(self.rest) < count:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise RuntimeError("Chromium closed the connection")
            self.rest += piece
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def _send(self, message: str) -> None:
        text, mask = message.encode(), os.urandom(4)
        size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
        if len(text) >= 1 << 16:
            raise ValueError("a longer message than this client sends")
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
        self.socket.sendall(b"\x81" + size + mask + masked)

    def _receive(self) -> dict[str, Any]:
        whole = b""
        while True:
            first, size = self._take(2)
            size &= 127
            if size >= 126:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            whole += self._take(size)
            if first & 0x80:
                return json.loads(whole)

    # What a user does and sees
    # --------------------------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        self._send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])

    def value(self, script: str) -> Any:
        """What an expression of the page's is."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 90) -> None:
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.value(script):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {script}; {self.problems}")
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        codes = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38}
        codes |= {"ArrowRight": 39, "ArrowDown": 40, "Backspace": 8}
        for key in keys:
            given = {"key": key, "windowsVirtualKeyCode": codes[key], "code": "Space" if key == " " else key}
            text = {" ": " ", "Enter": "\r"}.get(key)
            self.call("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def drag(self, *points: tuple[float, float]) -> None:
        """The left button down at the first point of the window, up at the last."""
        for k, (x, y) in enumerate(points):
            kind = "mousePressed" if k == 0 else "mouseMoved"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        x, y = points[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def screenshot(self) -> bytes:
        """PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
