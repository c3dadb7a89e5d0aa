"""The loss surface on the page: its sentences hold the numbers of the file, its dots their own true losses."""

import json
import math
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest

from engram import report
from engram.report import charts, charts_surface, run_folder
from engram.report.markup import Markup
from engram.report.sections import surface

Make = Callable[..., Path]


def measured(size: int = 25, **changed: Any) -> dict[str, Any]:
    """A ravine with a path down into it, as `engram.landscape` writes it."""
    a, b = np.linspace(-12, 2, size), np.linspace(-3, 5, size)
    aside = np.linspace(-1, 1, size)
    losses = 0.006 + 0.02 * a[None, :] ** 2 + 0.1 * (b[:, None] - 0.1 * a[None, :]) ** 2
    path = np.array([[-10.0, -2.0], [-8, 1], [-4, 4], [-1, 0.5], [0, 0]])
    drawn = 0.006 + 0.02 * path[:, 0] ** 2 + 0.1 * (path[:, 1] - 0.1 * path[:, 0]) ** 2
    found = {
        "a": a,
        "b": b,
        "losses": losses,
        "steps": np.array([0, 90, 250, 700, 1200]),
        "path": path,
        "off_plane": np.array([0.056, 0.1, 0.2, 0.4, 0]),
        "explained": np.array([0.924, 0.06]),
        "true": drawn * [1, 1.1, 2.5, 1.2, 1],
        "drawn": drawn,
        "examples": np.array(256),
        "batch_norm": np.array(1),
        "random_a": aside,
        "random_b": aside,
        "random_losses": 0.006 + aside[None, :] ** 2 + aside[:, None] ** 2 * 3,
    } | changed
    arrays = {name: np.asarray(one) for name, one in found.items() if one is not None}
    return {name: one.astype(np.float32 if one.dtype.kind == "f" else np.int64) for name, one in arrays.items()}


def run(**changed: Any) -> run_folder.Run:
    return run_folder.Run(Path("run"), surface=measured(**changed))


def put(folder: Path, **changed: Any) -> Path:
    (folder / "probes").mkdir(exist_ok=True)
    np.savez_compressed(folder / "probes" / "surface.npz", allow_pickle=False, **measured(**changed))
    return folder


def words(markup: object) -> str:
    text = re.sub(r"<(script|svg)\b.*?</\1>", " ", str(markup), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def specs(markup: object) -> list[dict[str, Any]]:
    return [json.loads(one) for one in re.findall(r"<script[^>]*>(.*?)</script>", str(markup), flags=re.DOTALL)]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their drawing, which takes most of the time."""
    monkeypatch.setattr(charts, "svg", lambda spec, label: Markup("<svg></svg>"))


def test_a_run_without_a_surface_has_no_such_section(tmp_path: Path, make_run: Make) -> None:
    found = run_folder.read(make_run(tmp_path / "a", epochs=1))
    assert (found.surface, found.notes) == ({}, ())
    assert surface.section(found) is None


@pytest.mark.usefixtures("undrawn")
def test_the_section_says_what_was_measured() -> None:
    said = words(surface.section(run()))
    for part in (
        "From step 0 to step 1,200 the loss went from 2.11 to 0.006.",
        "98.4 % of the squared distances from the end",
        "5.6 % of its distance from the end",
        "at most 60 % off, at step 250: drawn 2.26, true 5.66",
        "of 256 training examples",
        "takes the statistics of these examples at every point",
        "25 × 25 points a plane, and 5 snapshots",
        "It cannot show what lies off the plane.",
        "It cannot show the path",
    ):
        assert part in said.replace("\u202f", " "), part
    assert "batch norm" not in words(surface.section(run(batch_norm=0)))
    assert "elsewhere the loss is too high" in words(surface.section(run(batch_norm=2)))


def test_the_charts_are_valid_light_and_drawn_without_complaint(capfd: pytest.CaptureFixture[str]) -> None:
    shown = surface.section(run())
    path, random = specs(shown)
    for spec in (path, random):
        altair.Chart.from_dict(spec)
        json.dumps(spec, allow_nan=False)
    figures = re.findall(r"<figure.*?</figure>", str(shown), flags=re.DOTALL)
    assert [len(one) < 100_000 for one in figures] == [True, True]
    assert capfd.readouterr().err == ""
    for one in figures:
        drawn = re.search(r"<svg.*</svg>", one, flags=re.DOTALL)[0]
        assert not re.search(r'(?:fill|stroke)="(?:#|rgb|steelblue)', drawn)  # the page's own colours alone
        assert ">end</text>" in drawn
    assert ">start</text>" in figures[0]
    assert ">start</text>" not in figures[1]


@pytest.mark.usefixtures("undrawn")
def test_each_dot_has_the_colour_of_its_true_loss() -> None:
    path, _ = specs(surface.section(run()))
    legend = path["layer"][0]["encoding"]["fill"]["scale"]["domain"]
    assert legend == ["over 5", "2 to 5", "1 to 2", "0.5 to 1", "0.2 to 0.5", "0.1 to 0.2", "0.05 to 0.1",
                      "0.02 to 0.05", "0.01 to 0.02", "under 0.01"]  # fmt: skip
    (dots,) = [layer for layer in path["layer"] if layer["mark"]["type"] == "circle"]
    rows = dots["data"]["values"]
    assert [row["step"] for row in rows] == [0, 90, 250, 700, 1200]
    assert [row["loss"] for row in rows] == ["2 to 5", "1 to 2", "over 5", "0.05 to 0.1", "under 0.01"]
    assert [row["true"] for row in rows] == ["2.11", "1.77", "5.66", "0.0744", "0.006"]
    assert [(row["x"], row["y"]) for row in rows] == [(-10, -2), (-8, 1), (-4, 4), (-1, 0.5), (0, 0)]
    colours = path["layer"][0]["encoding"]["fill"]["scale"]["range"]
    assert colours == charts_surface.shades(10)[::-1]
    assert len(set(colours)) == 10


@pytest.mark.usefixtures("undrawn")
def test_the_bands_lie_where_the_loss_is() -> None:
    path, _ = specs(surface.section(run()))
    areas = path["layer"][0]["data"]["values"]
    assert areas[0] == {"x": [-12, 2, 2, -12], "y": [-3, -3, 5, 5], "loss": "over 5", "ring": 0}
    lowest = areas[-1]
    assert lowest["loss"] == "under 0.01"
    assert max(abs(x) for x in lowest["x"]) < 0.9  # 0.006 + 0.02 a² < 0.01 within 0.45, on a grid of 0.58


def test_levels_are_round_few_and_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = 10 ** rng.uniform(-12, 4)
        high = low * 10 ** rng.uniform(0.001, 30)
        found = charts_surface.levels(low, high)
        assert 1 <= len(found) <= charts_surface.MOST_LEVELS
        assert all(low < level < high for level in found)
        assert found == sorted(set(found))
    assert charts_surface.levels(-3.0, 5.0) == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert charts_surface.levels(0.0, 1.05) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts_surface.levels(math.nan, 1.0) == []


def test_what_is_not_a_number_is_left_blank_and_said() -> None:
    losses = measured()["losses"]
    losses[:3, :2] = math.nan
    losses[24, 24] = math.inf
    shown = surface.section(run(losses=losses))
    assert words(shown).count("Where nothing is drawn the loss is infinite or not a number.") == 1
    (blank,) = [layer for layer in specs(shown)[0]["layer"] if layer["mark"]["type"] == "rect"]
    assert len(blank["data"]["values"]) == 3 * 2 + 1
    assert "nan" not in str(shown).lower().replace("not a number", "")
    everything = surface.section(run(losses=np.full_like(losses, math.nan), true=np.full(5, math.nan)))
    assert "all the same" in str(everything)


@pytest.mark.parametrize("value", [2.3026, 0.0, -1.0])
def test_a_flat_surface_is_drawn(value: float) -> None:
    flat = {"losses": np.full((25, 25), value), "true": np.full(5, value), "drawn": np.full(5, value)}
    shown = surface.section(run(**flat))
    assert specs(shown)[0]["layer"][0]["encoding"]["fill"]["scale"]["domain"] == ["all the same"]
    assert "at most 0 % off" in words(shown).replace("\u202f", " ")


@pytest.mark.usefixtures("undrawn")
def test_a_surface_without_a_random_plane_is_shown_alone() -> None:
    left_out = dict.fromkeys(("random_a", "random_b", "random_losses"))
    shown = surface.section(run(**left_out))
    assert len(specs(shown)) == 1


def test_the_page_shows_it(tmp_path: Path, make_run: Make) -> None:
    folder = put(make_run(tmp_path / "run", epochs=2, end=None))
    page = report.write(folder, alive=True).read_text(encoding="utf-8")
    assert '<h2 id="surface-title">The loss surface</h2>' in page
    assert "could not be drawn" not in page


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"true": np.ones(4)}, "true is float32 of shape (4,)"),
        ({"losses": np.ones((25, 24))}, "losses is float32 of shape (25, 24)"),
        ({"path": np.full((5, 2), math.nan)}, "path is not finite"),
        ({"a": np.ones(25)}, "its places do not ascend"),
        ({"batch_norm": 7}, "batch_norm is 7"),
        ({"random_b": None}, "random_b"),
        ({"drawn": None}, "drawn"),
        ({"random_losses": np.ones((2, 2))}, "random_losses is float32 of shape (2, 2)"),
        ({"steps": np.array([3]), "path": np.ones((1, 2)), "off_plane": np.ones(1), "true": np.ones(1),
          "drawn": np.ones(1)}, "steps is int64 of shape (1,)"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_note(tmp_path: Path, make_run: Make, changed: dict[str, Any], why: str) -> None:
    folder = put(make_run(tmp_path / "run", epochs=1), **changed)
    found = run_folder.read(folder)
    assert found.surface == {}
    (note,) = found.notes
    assert note.startswith("surface.npz holds no loss surface")
    assert why in note


def test_half_a_file_is_a_note(tmp_path: Path, make_run: Make) -> None:
    path = put(make_run(tmp_path / "run", epochs=1)) / "probes" / "surface.npz"
    whole = path.read_bytes()
    for content in (whole[:500], b"", b"no file", whole[:2000] + bytes(300) + whole[2300:]):
        path.write_bytes(content)
        (note,) = run_folder.read(path.parent.parent).notes
        assert note.startswith("surface.npz could not be read")
    np.savez(path, a=np.array([{}], dtype=object))
    assert len(run_folder.read(path.parent.parent).notes) == 1


def test_a_run_that_had_not_the_time_says_how_to_have_it(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "run", epochs=2)
    assert surface.section(run_folder.read(folder)) is None
    (folder / "state").mkdir()
    (folder / "state" / "trajectory.safetensors").write_bytes(b"")
    assert f"engram report {folder} --surface 120" in str(surface.section(run_folder.read(folder)))
    stopped = make_run(tmp_path / "stopped", epochs=2, end="interrupted")
    (stopped / "state").mkdir()
    (stopped / "state" / "trajectory.safetensors").write_bytes(b"")
    assert surface.section(run_folder.read(stopped)) is None
