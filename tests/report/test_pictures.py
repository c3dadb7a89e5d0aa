"""Pictures: what a browser decodes is what was put in."""

import io
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from engram.report import pictures


def decoded(markup: str) -> tuple[Image.Image, dict[str, str | None]]:
    found: list[dict[str, str | None]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append(dict(attrs))
    parser.feed(markup)
    (attributes,) = found
    source = attributes["src"]
    assert source is not None
    return Image.open(io.BytesIO(b64decode(source.partition(",")[2]))), attributes


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_picture_is_kept_exactly(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image, attributes = decoded(pictures.picture(pixels, 'a "b" <c>'))
    assert np.array_equal(np.asarray(image).reshape(5, 7, channels), pixels)
    assert (attributes["width"], attributes["height"], attributes["alt"]) == ("7", "5", 'a "b" <c>')
    assert image.format == "PNG"


def test_other_channels_show_the_first_ones() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 5), dtype=np.uint8)
    assert np.array_equal(np.asarray(decoded(pictures.picture(pixels, ""))[0]), pixels[:, :, :3])
    assert np.array_equal(np.asarray(decoded(pictures.picture(pixels[:, :, :2], ""))[0]), pixels[:, :, 0])


def test_a_photograph_is_shrunk_and_small_in_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    markup = pictures.picture(pixels, "noise")
    image, _ = decoded(markup)
    assert (image.size, image.format) == ((144, 72), "JPEG")
    assert len(markup) < 12_000  # noise is the worst case


def test_the_heat_map_shows_shares_hits_and_mistakes_apart() -> None:
    confusion = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 99]])
    image, _ = decoded(pictures.heat_map(confusion, "map"))
    shown = np.asarray(image.convert("RGBA")).astype(int)
    alpha = shown[..., 3]
    assert np.array_equal(alpha > 0, confusion > 0)
    assert alpha[0, 0] == pytest.approx(0.8 * 255, abs=2)
    assert alpha[0, 1] == pytest.approx(0.2**0.5 * 255, abs=3)
    assert alpha[2, 0] == pytest.approx(0.01**0.5 * 255, abs=3)
    assert tuple(shown[2, 2, :3]) == pictures.HIT
    assert tuple(shown[2, 0, :3]) == pictures.MISS


def test_very_many_classes_share_cells() -> None:
    confusion = np.eye(1201, dtype=np.int64)
    markup = pictures.heat_map(confusion, "map")
    image, _ = decoded(markup)
    assert image.size == (401, 401)
    assert np.array_equal(np.asarray(image.convert("RGBA"))[..., 3], 255 * np.eye(401))
    assert len(markup) < 30_000


def test_a_heavy_sheet_is_made_lighter_and_a_light_one_kept() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 1500, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    markup = pictures.sheet(written.getvalue(), "sheet")
    assert len(markup) < 600_000 < len(written.getvalue())
    light = io.BytesIO()
    Image.fromarray(noise[:9, :9]).save(light, "PNG")
    assert np.array_equal(np.asarray(decoded(pictures.sheet(light.getvalue(), "sheet"))[0]), noise[:9, :9])
    with pytest.raises(OSError, match="cannot identify"):
        pictures.sheet(b"no image", "sheet")
