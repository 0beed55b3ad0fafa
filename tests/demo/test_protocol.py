"""The demo's server on 127.0.0.1: what it answers, and what it survives."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import inspection
from tinydl.demo import Recognizer, Server
from tinydl.demo.__main__ import main
from tinydl.demo.race import RACERS, SURFACES, race
from tinydl.demo.server import LIMIT, PAGE
from tinydl.files import DataError
from tinydl.training import save_bundle

PIXELS = np.random.default_rng(0).random(784).round(3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network of digits that nobody has trained."""
    td.manual_seed(0)
    path = str(tmp_path_factory.mktemp("demo") / "lenet.safetensors")
    names = [str(c) for c in range(10)]
    save_bundle(
        path, td.models.LeNet("none"), "LeNet", {"regularizer": "none"}, input=(1, 28, 28), classes=names
    )
    return path


@pytest.fixture(scope="module")
def server(bundle: str) -> Iterator[Server]:
    made = Server(Recognizer(bundle=bundle))
    made.recognizer.prepare(made.numbers)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(
    server: Server, method: str, path: str, body: Any = None, **headers: str | None
) -> tuple[int, Any, dict[str, str]]:
    """(status, what JSON or text came, headers)."""
    raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    sent: dict[str, str | None] = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    sent |= {} if raw is None else {"Content-Length": str(len(raw))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(raw)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    found = dict(answer.getheaders())
    return answer.status, json.loads(text) if "json" in found["Content-Type"] and text else text, found


def works(server: Server) -> bool:
    return ask(server, "GET", "/api/status")[1]["ready"]


# What it answers
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGE)
def test_the_page_is_served_and_needs_nothing_from_outside(server: Server, path: str) -> None:
    status, text, headers = ask(server, "GET", path)
    assert status == 200
    assert text == resources.files("tinydl.demo").joinpath("page", PAGE[path][0]).read_bytes()
    assert b"http" not in text.replace(b"http-equiv", b"")  # no address of anybody else's
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, text, heads = ask(server, "HEAD", path)
    assert (status, text) == (200, b"")
    assert heads["Content-Length"] == headers["Content-Length"]


def test_what_the_network_says_of_a_drawing(server: Server) -> None:
    status, found, _ = ask(server, "POST", "/api/digit", {"pixels": PIXELS.tolist(), "layer": "conv2"})
    assert status == 200
    model, image = server.recognizer.network.model, PIXELS.astype(np.float32).reshape(1, 1, 28, 28)
    with td.no_grad():
        p = td.softmax(model(td.tensor(image)), 1).numpy()[0]
    np.testing.assert_allclose(found["probabilities"], p, atol=6e-5)
    assert found["class"] == p.argmax()
    slope = inspection.saliency(model, image).ravel()
    np.testing.assert_allclose(found["saliency"], slope / np.abs(slope).max(), atol=6e-4)
    maps = inspection.feature_maps(model, image, "conv2")[0]
    assert (found["height"], found["width"], found["layers"]) == (10, 10, ["conv1", "conv2", "conv3"])
    for shown, own in zip(found["maps"], maps, strict=True):
        np.testing.assert_allclose(shown, own.ravel() / np.abs(own).max(), atol=6e-4)
    empty = ask(server, "POST", "/api/digit", {"pixels": [0] * 784})[1]
    assert empty["layer"] == "conv1"


def test_the_playground_trains_on_where_it_was(server: Server) -> None:
    def play(**more: Any) -> dict[str, Any]:
        status, found, _ = ask(server, "POST", "/api/playground", {"session": "a", "noise": 0.1, **more})
        assert status == 200, found
        return found

    first = play(steps=0)
    assert (first["steps"], first["loss"]) == (0, None)
    assert len(first["surface"]) == len(first["slope"]) == first["grid"] ** 2
    then = play(steps=60)
    assert then["steps"] == 60
    assert play(steps=60)["steps"] == 120
    plain = play(steps=60, restart=True)
    assert plain == then  # the same again, and what the sliders do:
    for name, value in (("datagrad", 1.0), ("spectreg", 0.1), ("vat", 3.0), ("decay", 2.0)):
        penalized = play(steps=60, restart=True, **{name: value})
        assert penalized["slope_at_test"] < 0.9 * plain["slope_at_test"], name
    other = ask(server, "POST", "/api/playground", {"session": "b", "steps": 5, "data": "XOR"})[1]
    assert other["steps"] == 5
    assert play(steps=1)["steps"] == 61
    assert play(steps=1, data="spirals")["steps"] == 1


def test_the_surface_is_that_of_the_network(server: Server) -> None:
    from tinydl.demo.playground import Training

    training = Training("moons", 0.1, 0)
    points = np.array([[0.3, 0.4], [-1.0, 0.2]], np.float32)
    p, slope = training.surface(points)

    def f(x: np.ndarray) -> np.ndarray:
        with td.no_grad():
            z = training.model(td.tensor(x.astype(np.float32))).numpy().astype(np.float64)
        return z[:, 1] - z[:, 0]

    np.testing.assert_allclose(p, 1 / (1 + np.exp(-f(points))), rtol=1e-5)
    rows = [(f(points + 1e-2 * e) - f(points - 1e-2 * e)) / 2e-2 for e in np.eye(2)]
    np.testing.assert_allclose(slope, np.linalg.norm(rows, axis=0), rtol=1e-2)


def test_few_windows_are_remembered(server: Server) -> None:
    for k in range(12):
        assert ask(server, "POST", "/api/playground", {"session": f"many {k}", "steps": 0})[0] == 200
    found = ask(server, "POST", "/api/playground", {"session": "many 11", "steps": 1})[1]
    assert found["steps"] == 1


def test_a_training_that_diverges_is_told_in_numbers(server: Server) -> None:
    body = {"session": "wild", "steps": 150, "spectreg": 1.0, "datagrad": 10.0, "vat": 10.0, "decay": 10.0}
    status, found, _ = ask(server, "POST", "/api/playground", body)
    assert status == 200
    assert np.isfinite(found["surface"]).all()


@pytest.mark.parametrize("name", SURFACES)
def test_the_race_ends_lower_than_it_began(server: Server, name: str) -> None:
    status, found, _ = ask(server, "POST", "/api/race", {"surface": name, "steps": 60})
    assert status == 200
    surface = SURFACES[name]
    lowest = min(surface.height(*place) for place in surface.minima)
    for racer, way in found["ways"].items():
        assert way["points"][0] == list(surface.start)
        assert len(way["points"]) == 61
        assert way["height"] < surface.height(*surface.start) - lowest, racer
    assert set(found["ways"]) == set(RACERS)


def test_gradient_descent_of_the_race_by_hand_and_one_that_leaves() -> None:
    found = race({"surface": "bowl", "start": [2.0, 1.0], "steps": 3})
    x, y = 2.0, 1.0
    for point in found["ways"]["gradient descent"]["points"]:
        assert point == pytest.approx([x, y], abs=1e-4)
        x, y = x - 0.3 * 0.1 * x, y - 0.3 * 2 * y
    wild = race({"surface": "valley", "rate": 100.0})
    assert wild["ways"]["gradient descent"]["lost"]
    json.dumps(wild, allow_nan=False)


# What it survives
# ------------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Any, str]] = [
    ("/api/digit", {}, "pixels: expected 784 numbers, got nothing"),
    ("/api/digit", {"pixels": [0] * 783}, "got 783"),
    ("/api/digit", {"pixels": "x" * 784}, "got 'xxx"),
    ("/api/digit", {"pixels": [[]] * 784}, "pixels: expected a number of 0 to 1, got list"),
    ("/api/digit", {"pixels": [2] * 784}, "pixels: expected a number of 0 to 1, got 2"),
    ("/api/digit", {"pixels": [True] * 784}, "got True"),
    ("/api/digit", {"pixels": [0] * 784, "layer": "fc1"}, "layer: expected one of conv1"),
    ("/api/digit", {"pixels": [0] * 784, "layer": ["conv1"]}, "got list"),
    ("/api/playground", {"data": "circle"}, "data: expected one of moons, spirals, XOR; got 'circle'"),
    ("/api/playground", {"steps": 1e9}, "steps: expected a number of 0 to 200"),
    ("/api/playground", {"steps": 1.5}, "steps: expected a whole number"),
    ("/api/playground", {"steps": None}, "got nothing"),
    ("/api/playground", {"vat": -1}, "vat: expected a number of 0 to 10"),
    ("/api/playground", {"seed": 10**400}, "seed: expected a number"),
    ("/api/race", {"surface": "../../etc/passwd"}, "surface: expected one of valley"),
    ("/api/race", {"start": [0]}, "start: expected 2 numbers"),
    ("/api/race", {"start": [9, 0]}, "x: expected a number of -2 to 2"),
    ("/api/race", {"rate": "fast"}, "rate: expected a number"),
]


@pytest.mark.parametrize(("path", "body", "message"), WRONG)
def test_a_wrong_question_is_answered_with_what_was_expected(
    server: Server, path: str, body: Any, message: str
) -> None:
    status, found, _ = ask(server, "POST", path, body)
    assert status == 400
    assert message in found["error"]
    assert works(server)


NO_JSON = [b"", b"{", b"null", b"[1]", b'"a"', b"\xff\xfe", b'{"steps": NaN}', b'{"steps": Infinity}']
NO_JSON += [b"[" * 60_000, b'{"a":' * 10_000, b'{"seed": ' + b"9" * 5_000 + b"}"]


@pytest.mark.parametrize("raw", NO_JSON)
def test_what_is_no_json_object(server: Server, raw: bytes) -> None:
    status, found, _ = ask(server, "POST", "/api/playground", raw)
    assert status == 400
    assert "expected one JSON object" in found["error"]
    assert works(server)


def test_json_numbers_beyond_floats(server: Server) -> None:
    status, found, _ = ask(server, "POST", "/api/playground", b'{"noise": 1e999}')
    assert (status, found["error"]) == (400, "noise: expected a number of 0 to 1, got inf")


REFUSED: list[tuple[str, str, Any, dict[str, str | None], int]] = [
    ("GET", "/nowhere", None, {}, 404),
    ("GET", "/../server.py", None, {}, 404),
    ("GET", "/page/../../__init__.py", None, {}, 404),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, {}, 404),
    ("GET", "//etc/passwd", None, {}, 404),
    ("GET", "/demo.js?x", None, {}, 404),
    ("GET", "http://evil.example/", None, {}, 404),
    ("POST", "/nowhere", {}, {}, 404),
    ("POST", "/", {}, {}, 405),
    ("POST", "/api/status", {}, {}, 405),
    ("GET", "/api/digit", None, {}, 405),
    ("DELETE", "/", None, {}, 501),
    ("GET", "/", None, {"Host": "evil.example"}, 403),
    ("GET", "/", None, {"Host": "127.0.0.1:1"}, 403),
    ("GET", "/", None, {"Host": None}, 403),
    ("POST", "/api/race", {}, {"Host": "127.0.0.1.evil.example"}, 403),
    ("POST", "/api/race", {}, {"Origin": "https://evil.example"}, 403),
    ("POST", "/api/race", {}, {"Origin": "null"}, 403),
    ("POST", "/api/race", {}, {"Content_Type": "text/plain"}, 415),
    ("POST", "/api/race", {}, {"Content_Type": None}, 415),
    ("POST", "/api/race", b"", {"Content_Length": None}, 411),
    ("POST", "/api/race", b"", {"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
    ("POST", "/api/race", b"", {"Content_Length": "-1"}, 400),
    ("POST", "/api/race", b"", {"Content_Length": "²"}, 400),
    ("POST", "/api/race", b"", {"Content_Length": str(LIMIT + 1)}, 413),
    ("POST", "/api/race", b"", {"Content_Length": "9" * 5_000}, 413),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REFUSED)
def test_what_is_refused(
    server: Server, method: str, path: str, body: Any, headers: dict[str, str | None], status: int
) -> None:
    got, found, _ = ask(server, method, path, body, **headers)
    assert got == status
    assert found["error"]
    assert works(server)


def test_our_own_names_are_welcome(server: Server) -> None:
    for host in (f"localhost:{server.port}", f"LOCALHOST:{server.port}"):
        assert ask(server, "GET", "/", Host=host)[0] == 200
    assert ask(server, "POST", "/api/race", {}, Origin=f"http://localhost:{server.port}")[0] == 200


def test_what_is_no_http_and_what_breaks_off(server: Server) -> None:
    begun = f"POST /api/race HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    begun += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    long = b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"
    for raw in (b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"GET\r\n\r\n", begun.encode(), long):
        with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
            plain.sendall(raw)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1 << 16):
                pass
        assert works(server)


def test_many_ask_at_once(server: Server) -> None:
    found: list[int] = []
    questions = [("/api/digit", {"pixels": PIXELS.tolist()}), ("/api/race", {"steps": 20})]
    questions += [("/api/playground", {"session": "c", "steps": 3})]
    threads = [
        threading.Thread(target=lambda q=q: found.append(ask(server, "POST", *q)[0])) for q in questions * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 12


def test_it_listens_on_the_loopback_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


# Its network, its command
# ------------------------------------------------------------------------------------------------------------


def test_a_network_is_trained_told_and_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend")
    import tinydl.demo.recognizer as module
    from tinydl.data import ImageSet

    def digits(split: str, data: Any) -> ImageSet:
        rng = np.random.default_rng(0)
        return ImageSet(rng.integers(0, 256, (100, 28, 28)).astype(np.uint8), np.arange(100) % 10, "noise")

    monkeypatch.setattr(module, "mnist", digits)
    lock, lines = threading.Lock(), []
    first = Recognizer(steps=4, cache=tmp_path / "cache")
    assert first.status()["progress"] == 0
    with pytest.raises(ValueError, match="the network is not ready: waits"):
        first.look({"pixels": [0] * 784})
    first.prepare(lock, lines.append)
    assert first.status() == {"ready": True, "failed": False, "progress": 1.0, "message": "trained on noise"}
    assert lines[-1] == "trained on noise"
    assert not lock.locked()
    again = Recognizer(steps=4, cache=tmp_path / "cache")
    monkeypatch.setattr(module, "mnist", None)  # is not asked
    again.prepare(lock)
    assert "network from" in again.message
    body = {"pixels": PIXELS.tolist()}
    assert again.look(body) == first.look(body)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # damaged: made anew
    monkeypatch.setattr(module, "mnist", digits)
    third = Recognizer(steps=4, cache=tmp_path / "cache")
    third.prepare(lock)
    assert third.look(body) == first.look(body)


def test_named_digits_are_learned_anew(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYDL_CACHE_DIR", str(tmp_path))
    assert Recognizer.cached().cache == tmp_path / "data"
    assert Recognizer.cached(data="digits").cache is None


def test_without_digits_the_other_tabs_work(tmp_path: Any) -> None:
    lock = threading.Lock()
    for wrong in (Recognizer(data=str(tmp_path)), Recognizer(bundle=str(tmp_path / "none.safetensors"))):
        wrong.prepare(lock)
        status = wrong.status()
        assert status["failed"]
        assert not status["ready"]
        assert "no network: " in status["message"]
    assert issubclass(DataError, OSError)


def test_a_bundle_of_something_else_is_refused(tmp_path: Any) -> None:
    path = str(tmp_path / "two.safetensors")
    save_bundle(
        path, td.models.LeNet(classes=2), "LeNet", {"classes": 2}, input=(1, 28, 28), classes=["a", "b"]
    )
    flat, names = str(tmp_path / "flat.safetensors"), [str(c) for c in range(10)]
    save_bundle(flat, td.models.MLP(hidden=(8,)), "MLP", {"hidden": [8]}, input=(1, 28, 28), classes=names)
    for wrong in (path, flat):
        found = Recognizer(bundle=wrong)
        found.prepare(threading.Lock())
        assert "expected a network of ten classes" in found.message


def test_the_command(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "--no-browser" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--port", "70000"])
    with pytest.raises(SystemExit):
        main(["--port", str(server.port), "--no-browser"])
    assert f"port {server.port}: " in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_the_command_serves_until_it_is_interrupted(bundle: str) -> None:
    command = [sys.executable, "-m", "tinydl.demo", "--port", "0", "--no-browser", "--bundle", bundle]
    path = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | path) as process:
        try:
            url = process.stdout.readline().split()[0]  # type: ignore[union-attr]
            with urllib.request.urlopen(url, timeout=60) as page:
                assert b"<title>tinydl" in page.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_no_package_but_what_tinydl_requires_is_loaded() -> None:
    code = (
        "import sys, tinydl.demo; print(sorted({'matplotlib', 'sklearn', 'PIL', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n", done.stderr
