"""The demo's page in Chromium, headless, by mouse and by keyboard."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser

import tinydl as td
from tinydl.demo import Recognizer, Server
from tinydl.training import save_bundle

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    td.manual_seed(0)
    path = str(tmp_path_factory.mktemp("page") / "lenet.safetensors")
    about = {"input": (1, 28, 28), "classes": [str(c) for c in range(10)]}
    save_bundle(path, td.models.LeNet("none"), "LeNet", {"regularizer": "none"}, **about)
    server = Server(Recognizer(bundle=path))
    server.recognizer.prepare(server.numbers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with Browser(server.url) as found:
            yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def looked_at(window: Browser, name: str) -> None:
    """The screenshot is a picture of many colours; TINYDL_SHOTS names a folder to keep it in."""
    shot = window.screenshot()
    assert shot.startswith(b"\x89PNG")
    if folder := os.environ.get("TINYDL_SHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(shot)
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(io.BytesIO(shot))[..., :3]
    assert len(np.unique((255 * pixels).astype(np.uint8).reshape(-1, 3), axis=0)) > 100
    assert window.problems == []


INK = "ink.reduce((a, b) => a + b)"


def test_a_digit_is_drawn_by_mouse(window: Browser) -> None:
    window.until("pen.ready")
    left, top, width = window.value(
        "(() => { const r = pad.getBoundingClientRect(); return [r.left, r.top, r.width] })()"
    )
    places = [(8, 7), (19, 7), (16, 14), (13, 22)]
    window.drag(*((left + x * width / 28, top + y * width / 28) for x, y in places))
    assert window.value(INK) > 30
    window.until("document.querySelectorAll('#bars .best').length === 1 && /a \\d/.test(said.textContent)")
    assert window.value("document.querySelectorAll('#maps canvas').length") == 6
    assert window.value("[...layer.options].map((o) => o.value)") == ["conv1", "conv2", "conv3"]
    window.value("layer.value = 'conv2', layer.dispatchEvent(new Event('change'))")
    window.until("document.querySelectorAll('#maps canvas').length === 16")
    looked_at(window, "digit")


def test_a_digit_is_drawn_by_keys(window: Browser) -> None:
    window.value("pad.focus()")
    window.press("Backspace")
    assert window.value(INK) == 0
    window.until("said.textContent === 'Draw something.'")
    window.press("ArrowUp", "ArrowUp")
    assert window.value("pen.at") == [14, 12]
    assert window.value(INK) == 0
    window.press(" ", *["ArrowDown"] * 6, " ")
    assert window.value("pen.at") == [14, 18]
    drawn = window.value(INK)
    assert drawn > 10
    assert window.value("document.getElementById('pad-pen').textContent") == "Pen up"
    window.press("ArrowLeft")
    assert window.value(INK) == drawn
    window.until("/a \\d/.test(said.textContent)")


def test_all_is_reached_by_tab_and_named(window: Browser) -> None:
    window.value("document.activeElement.blur(), choose($('tab-digit'), true)")
    seen = []
    for _ in range(6):
        seen.append(window.value("document.activeElement.id"))
        window.press("Tab")
    assert seen[:5] == ["tab-digit", "pad", "pad-pen", "pad-clear", "layer"]
    unnamed = (
        "[...document.querySelectorAll('button, select, input, canvas[role], progress')].filter((e) =>"
        " !(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-labelledby') || e.labels?.length))"
        ".map((e) => e.outerHTML)"
    )
    assert window.value(unnamed) == []


def test_the_tabs_go_by_arrows(window: Browser) -> None:
    window.value("choose($('tab-digit'), true)")
    window.press("ArrowRight")
    assert window.value("document.activeElement.id") == "tab-play"
    assert window.value("[$('digit').hidden, $('play').hidden, $('race').hidden]") == [True, False, True]
    window.press("End")
    assert window.value("document.activeElement.id") == "tab-race"
    window.press("ArrowRight")
    assert window.value("document.activeElement.id") == "tab-digit"
    assert window.value("document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") <= 1


def test_a_network_trains_while_sliders_move(window: Browser) -> None:
    window.value("choose($('tab-play'))")
    window.until("play.seen !== null")
    window.value("$('play-run').focus()")
    window.press(" ")
    window.until("play.seen.steps >= 20")
    window.value("playForm.elements.spectreg.focus()")
    window.press("End")
    assert window.value("weight('spectreg')") == 1
    window.until("play.seen.steps >= 100")
    steep = "play.seen.slope_at_test"
    window.until(f"{steep} < 3")
    window.value("$('play-run').focus()")
    window.press(" ")
    assert window.value("play.running") is False
    looked_at(window, "playground")


def test_optimizers_race_from_where_the_keys_put_them(window: Browser) -> None:
    window.value("choose($('tab-race'))")
    window.until("run.found !== null && document.querySelectorAll('#table tr').length === 8")
    before = window.value("run.found.start")
    window.value("document.getElementById('map').focus()")
    window.press("ArrowRight", "ArrowUp", "Enter")
    window.until(f"run.found.start[0] > {before[0]} && run.found.start[1] > {before[1]}")
    window.until("run.frame >= run.found.ways.Adam.points.length - 1")
    looked_at(window, "race")
    for surface in ("saddle", "four hollows"):  # the second while the first still runs
        choose = "dispatchEvent(new Event('input', {bubbles: true}))"
        window.value(f"raceForm.elements.surface.value = '{surface}', raceForm.elements.surface.{choose}")
    window.until("run.found.surface === 'four hollows'")
    assert window.value("run.found.start") == [0, 0]


def test_a_server_that_is_gone_is_told(window: Browser) -> None:
    window.value("fetch = () => Promise.reject(new TypeError('gone')), runRace()")
    window.until("!$('trouble').hidden && /does not answer/.test($('trouble').textContent)")
