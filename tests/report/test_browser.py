"""The page in a real browser: nothing complained of, nothing asked for, and zooming works under its own policy."""

import hashlib
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from engram import report
from engram.clinic import arrays
from engram.clinic.measured import History, Layer, Moment, Weights
from engram.report import run_folder, sections

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
OWN = ("google.com", "googleapis.com", "gvt1.com")
"""Hosts that the browser asks on its own account, whatever the page."""
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--host-resolver-rules=MAP * ~NOTFOUND",),
    *("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"),
]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium here to render the page with"),
]

Make = Callable[..., Path]


def browse(path: Path, *flags: str) -> tuple[str, list[str], list[str]]:
    """(the document as it then is, what the console said, where the page's own requests went)"""
    assert BROWSER is not None
    log = path.with_name("net.json")
    profile = f"--user-data-dir={path.with_name('profile')}"
    command = [BROWSER, *FLAGS, profile, f"--log-net-log={log}", *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    hosts = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text()))
    requests = sorted(host for host in hosts if not host.endswith(OWN))
    return done.stdout, console, requests


def test_a_complaint_and_a_request_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "other.html"
    path.write_text("<img src='http://picture.invalid/a.png'><script>console.error('seen')</script>")
    _, console, requests = browse(path)
    assert "seen" in console[0]
    assert requests == ["picture.invalid"]


def test_the_page_is_drawn_without_a_complaint_or_a_request(tmp_path: Path, make_run: Make, hostile: list[str]) -> None:
    path = report.write(make_run(tmp_path / "run", classes=hostile, epochs=3))
    document, console, requests = browse(path)
    assert console == []
    assert requests == []
    assert document.count("<svg viewBox") == 6
    assert document.count(">Zoom</button>") == 6


def click_every_zoom(path: Path) -> None:
    """Put a script into a page, and into what the page allows, that presses every button."""
    click = "for (const button of document.querySelectorAll('.zoomable button')) button.click()"
    allowed = b64encode(hashlib.sha256(click.encode()).digest()).decode()
    text = path.read_text().replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
    path.write_text(text.replace("</body>", f"<script>{click}</script></body>"))


def test_a_chart_zooms_when_asked(tmp_path: Path, make_run: Make) -> None:
    path = report.write(make_run(tmp_path / "run", epochs=3))
    click_every_zoom(path)
    document, console, requests = browse(path)
    assert console == []
    assert requests == []
    assert document.count(">Back</button>") == 6
    assert document.count('class="zoomable zooming"') == 6
    assert document.count("mark-line role-mark") >= 5  # drawn by Vega now


def test_charts_of_the_inside_zoom_too(tmp_path: Path, make_run: Make) -> None:
    """Bands, heat-maps, two charts on one axis; ticks are named by expressions, which the page must not compile."""
    folder = make_run(tmp_path / "run", epochs=3, evaluated=False)
    rows = [(name, kind, at) for at, (name, kind) in enumerate([("a", "Linear"), ("r", "ReLU"), ("b", "Linear")] * 2)]
    moments = [
        Moment(
            step,
            loss=1.0,
            lr=0.1,
            layers=tuple(
                Layer(f"{name}{at}", kind, at, 0.0, 1.0, 3.0, 0.0, 0.5**at, 8, step // 20 if kind == "ReLU" else None)
                for name, kind, at in rows
            ),
            weights={name: Weights(name, "Linear", (4, 3), True, True, 1.0, 0.5, 0.001 * at) for name, _, at in rows},
        )
        for step in (1, 23, 46, 69)
    ]
    arrays.write(folder / "probes" / "clinic.npz", History(tuple(moments)))
    path = report.write(folder)
    figures = path.read_text().count('<figure class="zoomable">')
    click_every_zoom(path)
    document, console, requests = browse(path)
    assert console == []
    assert requests == []
    assert document.count(">Back</button>") == document.count('class="zoomable zooming"') == figures
    assert figures >= 8
    assert document.count("concat_0") > 0  # drawn by Vega now
    assert document.count("mark-area role-mark") == 1
    assert document.count(">r1</text>") == 1
    assert ">0.01</text>" in document


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run as `engram train` leaves it, of a network that was made sick."""
    import engram

    folder = tmp_path_factory.mktemp("real") / "run"
    settings = {"optimizer.lr": 3.0, "epochs": 6, "device.threads": "1", "device.precision": "float32"}
    return engram.train(model="mlp", output=str(folder), **settings).report


def test_a_real_run_has_every_section_of_the_inside_and_works(real: Path) -> None:
    run = run_folder.read(real.parent)
    titles = [one.TITLE for one in sections.found() if one.TITLE and one.section(run) is not None]
    assert {"What was found", "Step sizes", "Signal and gradient through depth", "The loss surface"} <= set(titles)
    assert {"First-layer filters", "What in a picture speaks for the answer"} <= set(titles)
    assert run.notes == ()
    assert real.stat().st_size < 2_000_000
    click_every_zoom(real)
    document, console, requests = browse(real)
    assert console == []
    assert requests == []
    assert "could not be drawn" not in document
    assert all(f">{title}</h2>" in document for title in titles)
    assert document.count(">Back</button>") == document.count('<figure class="zoomable')


def test_pictures_have_a_text_and_headings_follow_each_other(real: Path) -> None:
    html = real.read_text(encoding="utf-8")
    images = re.findall(r"<img [^>]*>", html)
    assert images
    assert all(re.search(r' alt="[^"]', image) for image in images)
    assert all(re.search(r' aria-label="[^"]', drawn) for drawn in re.findall(r'<svg [^>]*role="img"[^>]*>', html))
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
