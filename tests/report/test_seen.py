"""Filters, activations and saliency on the page: the pictures are those of the files, and damaged files are notes."""

import io
import re
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engram import report
from engram.errors import UserError
from engram.report import run_folder, seen_files, tiles
from engram.report.sections import activations, filters, saliency

WRITTEN = {"filters": seen_files.filters, "activations": seen_files.activations, "saliency": seen_files.saliency}


def pictures(markup: str) -> list[tuple[np.ndarray, dict[str, str | None]]]:
    """Pixels (H, W, channels) and attributes of every image."""
    found: list[dict[str, str | None]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append(dict(attrs)) if tag == "img" else None
    parser.feed(markup)
    decoded = []
    for attributes in found:
        image = Image.open(io.BytesIO(b64decode((attributes["src"] or "").partition(",")[2])))
        pixels = np.asarray(image)
        decoded.append((pixels if pixels.ndim == 3 else pixels[..., None], attributes))
    return decoded


def words(markup: object) -> str:
    """The text without tags, its paragraphs and cells apart."""
    text = re.sub(r"<[^>]+>", "\n", str(markup)).replace("\u202f", " ").replace("&amp;", "&")
    return re.sub(r"\n+", "\n", text).strip()


def filters_file(channels: int = 3, side: int = 5, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    now = rng.normal(0, 0.1, (6, channels, side, side)).astype(np.float16)
    found = {"layer": np.str_("conv1"), "count": np.int64(6), "now": now, "start": (now * 0.5).astype(np.float16)}
    found |= {"detail_now": 0.4, "detail_start": 0.79, "chance": 0.805, "moved": 0.5}
    return {**found, **changes}


def activations_file(names: tuple[str, str] = ("cat", "dog"), **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "layers": np.array(["stem", "stages.1"]),
        "shapes": np.array([[16, 8, 8], [64, 4, 4]]),
        "silent": np.array([0, 16]),
        "examples": np.int64(120),
        "truth": np.array(names),
        "predicted": np.array([names[0], names[0]]),
        "pixels": rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
        "channels_0": np.arange(16)[::-1],
        "maps_0": rng.integers(0, 256, (2, 16, 8, 8), dtype=np.uint8),
        "channels_1": np.array([40, 3]),
        "maps_1": rng.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
    }
    return {**found, **changes}


def saliency_file(names: tuple[str, str] = ("cat", "dog"), **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "methods": np.array(["gradient", "smooth_grad", "grad_cam", "guided_backpropagation"]),
        "maps": rng.integers(0, 256, (2, 4, 8, 8), dtype=np.uint8),
        "alike": np.array([0.25, np.nan, -0.1, 0.97]),
        "missing": np.array([], dtype=np.str_),
        "samples": np.int64(16),
        "layer": np.str_("stages"),
        "channels": np.int64(3),
        "kinds": np.array(["right", "wrong"]),
        "truth": np.array(names),
        "predicted": np.array([names[0], names[0]]),
        "probability": np.array([0.98, 0.61]),
        "names": np.array(["a/1.png", "b/2.png"]),
        "pixels": rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
    }
    return {**found, **changes}


FILES: dict[str, Callable[..., dict[str, Any]]] = {
    "filters": filters_file, "activations": activations_file, "saliency": saliency_file
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "pictures").mkdir()
    return tmp_path


def read(folder: Path, **files: dict[str, Any]) -> run_folder.Run:
    for name, content in files.items():
        np.savez_compressed(folder / "pictures" / f"{name}.npz", **content)
    run = run_folder.read(folder)
    assert run.notes == ()
    return run


def test_without_the_files_there_are_no_sections(folder: Path) -> None:
    run = read(folder)
    assert [one.section(run) for one in (filters, activations, saliency)] == [None] * 3


def test_filters_stand_side_by_side_on_one_scale(folder: Path) -> None:
    file = filters_file()
    run = read(folder, filters=file)
    (start, attributes), (now, _) = pictures(str(filters.section(run)))
    assert (attributes["class"], attributes["alt"]) == ("tiled", "At the start: 6 filters of 5 by 5 pixels.")
    # six tiles of 5 pixels, each pixel three times, one pixel between them that lets the page through
    assert start.shape == now.shape == (15, 6 * 16 - 1, 4)
    assert (now[:, 15, 3].tolist(), now[:, 14, 3].tolist()) == ([0] * 15, [255] * 15)
    assert int(attributes["width"] or 0) == 3 * start.shape[1]
    scale = np.quantile(np.abs(file["now"].astype(np.float32)), 0.995)
    tile = now[::3, 16:31:3, :3]
    expected = (255 * (0.5 + np.moveaxis(file["now"][1].astype(np.float32), 0, -1) / (2 * scale))).clip(0, 255)
    np.testing.assert_allclose(tile, expected, atol=0.51)
    np.testing.assert_allclose(start[::3, 16:31:3, :3].astype(float) - 127.5, (expected - 127.5) / 2, atol=1.1)


def test_filters_are_told_with_their_numbers(folder: Path) -> None:
    told = words(filters.section(read(folder, filters=filters_file())))
    assert "The filters of conv1" in told
    assert "moved by 50 % of their length" in told
    assert "79 % at the start, 40 % now is in detail finer than four pixels" in told
    assert "Weights drawn at random have 81 % on average" in told or "have 80 % on average" in told
    assert "hardly" not in told
    file = filters_file(1, count=np.int64(64), moved=0.013)
    told = words(filters.section(read(folder, filters=file)))
    assert "The first 6 of 64 filters" in told
    assert "by 1.3 % of their length since the start: hardly" in told
    only_now = {key: value for key, value in filters_file(2).items() if key not in seen_files.BEFORE}
    told = words(filters.section(read(folder, filters=only_now)))
    assert "At the start" not in told
    assert "moved" not in told
    assert "the mean of 2 channels" in told
    told = words(filters.section(read(folder, filters=filters_file(3, 1))))
    assert "detail" not in told  # of a pixel


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_filters_of_nothing_are_drawn(folder: Path, value: float) -> None:
    file = filters_file()
    for name in ("now", "start"):
        file[name] = np.full_like(file[name], value)
    file |= {"detail_now": np.nan, "detail_start": np.nan, "moved": np.nan}
    assert len(pictures(str(filters.section(read(folder, filters=file))))) == 2


def test_activations_are_shown_layer_by_layer(folder: Path) -> None:
    file = activations_file()
    markup = str(activations.section(read(folder, activations=file)))
    shown = pictures(markup)
    assert len(shown) == 2 + 4
    assert np.array_equal(shown[0][0], file["pixels"][0])
    assert shown[1][1]["alt"] == "The picture: dog, taken for cat."
    sheet, attributes = shown[2]
    assert sheet.shape == (4 * 17 - 1, 4 * 17 - 1, 2)  # 8 pixels, each twice, in a square of four
    assert np.array_equal(sheet[17:33:2, 34:50:2, 0], file["maps_0"][0, 6])
    assert attributes["alt"] == f"stem for cat: maps of the channels {', '.join(map(str, range(15, 0, -1)))} and 0."
    assert len({attributes["width"] for _, attributes in shown[2:4]}) == 1
    told = words(markup)
    assert "2 of 64 channels" in told
    assert "16 channels of stages.1 (25 %) are silent, never above zero for any of 120 examples" in told
    none = activations_file(silent=np.array([0, 0]))
    assert "No channel of these layers is silent" in words(activations.section(read(folder, activations=none)))
    one = activations_file(silent=np.array([1, 0]))
    assert "1 channel of stem (6 %) is silent" in words(activations.section(read(folder, activations=one)))


def test_saliency_shows_a_row_for_every_picture(folder: Path) -> None:
    file = saliency_file()
    markup = str(saliency.section(read(folder, saliency=file)))
    shown = pictures(markup)
    assert len(shown) == 2 * 5
    for row in range(2):
        picture, gradient, smooth, cam, guided = (pixels for pixels, _ in shown[5 * row : 5 * row + 5])
        assert np.array_equal(picture, file["pixels"][row])
        for place, pixels in ((0, gradient), (1, smooth), (3, guided)):
            assert np.array_equal(pixels[..., 0], file["maps"][row, place])
        assert np.array_equal(cam, tiles.heat(file["pixels"][row], file["maps"][row, 2]))
    told = words(markup)
    assert "✓ cat 98 %" in told
    assert "✕ cat 61 %\nis dog\nof the surest\nb/2.png" in told
    assert "mean over 16 noisy copies" in told
    assert "maps of stages speak for the class" in told
    assert "Adebayo et al. 2018" in told
    correlations = re.findall(r"correlate by (\S+)\.", told)
    assert correlations == ["0.25", "-0.1", "0.97"]  # SmoothGrad was not asked about another class
    alt = shown[6][1]["alt"] or ""
    assert alt.startswith("gradient of cat in example b/2.png: ")
    assert shown[5][1]["alt"] == "Example b/2.png: dog, taken for cat."


def test_a_method_that_does_not_suit_is_told(folder: Path) -> None:
    file = saliency_file(missing=np.array(["MLP has no layer <b>"]), channels=np.int64(7))
    file |= {"methods": file["methods"][:2], "maps": file["maps"][:, :2], "alike": file["alike"][:2]}
    markup = str(saliency.section(read(folder, saliency=file)))
    assert len(pictures(markup)) == 2 * 3
    assert "Not shown: MLP has no layer &lt;b&gt;." in markup
    assert "Grad-CAM" not in markup
    assert "Shown is the mean of 7 channels." in markup


def test_names_are_escaped(folder: Path, hostile: list[str]) -> None:
    names = (hostile[0], hostile[1])
    file = {**saliency_file(names), "names": np.array(names), "layer": np.str_(hostile[4])}
    run = read(folder, saliency=file, activations=activations_file(names, layers=np.array(names)),
               filters=filters_file(layer=np.str_(hostile[0])))  # fmt: skip
    page = "".join(str(one.section(run)) for one in (filters, activations, saliency))
    assert "<script" not in page
    assert not re.search(r"<img src=x", page)
    assert "alert(1)" in page


def test_a_map_is_told_where_it_lies() -> None:
    def told(*places: tuple[int, int]) -> str:
        strength = np.zeros((9, 9), np.uint8)
        for place in places:
            strength[place] = 200
        return saliency.where(strength).replace("\u202f", " ")

    assert told((4, 4)) == "100 % of it in the middle"
    assert told((0, 0), (1, 1), (8, 8)) == "67 % of it at the top left"
    assert told((4, 8)) == "100 % of it at the right"
    assert told() == "nothing"
    assert saliency.where(np.full((1, 1), 9, np.uint8)).startswith("100")


def test_an_overlay_is_the_picture_where_the_map_is_empty() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    grey = np.rint(pixels.mean(2))
    shown = tiles.heat(pixels, np.zeros((4, 5), np.uint8))
    assert np.array_equal(shown, np.repeat(grey[..., None], 3, 2).astype(np.uint8))
    full = tiles.heat(pixels, np.full((4, 5), 255, np.uint8)).astype(int)
    assert (full[..., 0] > full[..., 2] + 80).all()  # yellow, whatever is below


@pytest.mark.parametrize("name", list(WRITTEN))
def test_a_damaged_file_is_a_note(folder: Path, name: str) -> None:
    path = folder / "pictures" / f"{name}.npz"
    np.savez_compressed(path, **FILES[name]())
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:40] + b"\0" * 40 + whole[80:]):
        path.write_bytes(content)
        run = run_folder.read(folder)
        assert getattr(run, name) == {}
        assert len(run.notes) == 1
        assert f"{name}.npz" in run.notes[0]
        assert report.page.render(run)


WRONG: dict[str, list[dict[str, Any]]] = {
    "filters": [
        {"now": np.zeros((2, 3, 4), np.float16)},
        {"now": np.zeros((0, 3, 5, 5), np.float16)},
        {"now": np.zeros((6, 3, 5, 999), np.float16)},
        {"start": np.zeros((6, 3, 4, 4), np.float16)},
        {"now": np.zeros((6, 3, 5, 5), np.int64)},
        {"moved": np.zeros(3)},
        {"layer": np.int64(3)},
        {"count": np.array([{}], dtype=object)},
    ],
    "activations": [
        {"layers": np.array(["a"] * 3)},
        {"layers": np.str_("a")},
        {"maps_1": np.zeros((2, 3, 4, 4), np.uint8)},
        {"maps_0": np.zeros((2, 16, 8, 8), np.float32)},
        {"shapes": np.zeros((2, 2), np.int64)},
        {"pixels": np.zeros((3, 8, 8, 3), np.uint8)},
        {"truth": np.array(["only one"])},
    ],
    "saliency": [
        {"maps": np.zeros((2, 3, 8, 8), np.uint8)},
        {"maps": np.zeros((2, 4, 8, 7), np.uint8)},
        {"maps": np.zeros((2, 4, 8, 8), np.uint16)},
        {"pixels": np.zeros((2, 8, 8), np.uint8)},
        {"pixels": np.zeros((2, 8, 8, 2), np.uint8)},
        {"probability": np.array(["a", "b"])},
        {"missing": np.zeros((2, 2), np.int64)},
        {"alike": np.zeros(2)},
    ],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in WRONG for change in WRONG[name]])
def test_a_file_of_another_form_is_refused(folder: Path, name: str, change: dict[str, Any]) -> None:
    path = folder / "pictures" / f"{name}.npz"
    np.savez_compressed(path, **{**FILES[name](), **change})
    with pytest.raises(UserError, match=rf"{name}\.npz"):
        WRITTEN[name](path)
    assert len(run_folder.read(folder).notes) == 1


@pytest.mark.parametrize("name", list(WRITTEN))
def test_a_file_without_one_of_its_arrays_is_refused(folder: Path, name: str) -> None:
    path = folder / "pictures" / f"{name}.npz"
    content = FILES[name]()
    for left_out in content:
        np.savez_compressed(path, **{key: value for key, value in content.items() if key != left_out})
        with pytest.raises(UserError, match=f"there is no {left_out}"):
            WRITTEN[name](path)


def test_the_page_holds_them_and_stays_small(folder: Path) -> None:
    """As much as a run writes, of noise."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    shapes = {"kinds": "N", "truth": "N", "predicted": "N", "names": "N"}
    six = saliency_file(maps=noise(6, 4, 68, 68), pixels=noise(6, 68, 68, 3), probability=np.full(6, 0.5))
    six |= {name: np.array(["right"] * 6) for name in shapes}
    four = activations_file(layers=np.array(list("abcd")), shapes=np.full((4, 3), 32), silent=np.zeros(4, int))
    four |= {f"maps_{place}": noise(2, 16, 32, 32) for place in range(4)}
    four |= {f"channels_{place}": np.arange(16) for place in range(4)}
    weights = rng.normal(0, 1, (2, 45, 3, 11, 11)).astype(np.float16)
    for name, content in (
        ("saliency", six),
        ("activations", four),
        ("filters", filters_file(now=weights[0], start=weights[1])),
    ):
        np.savez_compressed(folder / "pictures" / f"{name}.npz", **content)
    page = report.page.render(run_folder.read(folder))
    for anchor in ("saliency", "activations", "filters"):
        assert f'id="{anchor}"' in page
    assert len(page) < 850_000
