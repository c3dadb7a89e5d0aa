"""What a network says of pictures, and where it looked for every word."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run, text
from engram.report.sections.saliency import where
from engram.report.tiles import heat, image
from engram.report.words import percent, plural

ORDER = 51
TITLE = "What it says of pictures, and where it looks"

SHOWN, WORDS = 12, 24
SIDE = 84
"""Pixels of the page that the longer side of a picture gets, about; larger ones are made smaller first."""


def section(run: Run) -> Markup | None:
    if not run.captions:
        return None
    captions = run.captions["captions"][:SHOWN]
    parts = [piece for place, one in enumerate(captions) for piece in _one(run.captions, place, one)]
    return join([tag("p", _told(run.captions)), *parts])


def _told(file: Mapping[str, Any]) -> str:
    said = "Sentences that the network gives for pictures it was not trained on, chosen by nobody."
    if not _has_maps(file):
        return f"{said} This one has no attention: it sees the whole picture at once."
    told = (
        f"{said} The yellow of each map is where it looked before it said the word, each map on its own scale; a map "
        f"as coarse as {file['attention'].shape[2]} × {file['attention'].shape[3]} places."
    )
    found = on_place(file)
    if found is None:
        return told
    share, chance, words = found
    return (
        f"{told} Where the true place of a word is known ({plural(words, 'word')}), {percent(share, 0)} of the "
        f"attention lies on it; looking everywhere alike would put {percent(chance, 0)} there."
    )


def on_place(file: Mapping[str, Any]) -> tuple[float, float, int] | None:
    """Share of the attention on a word's true place, what even attention would have there, and of how many words.

    >>> looks = np.array([[[[3.0, 1.0]]]])
    >>> on_place({"attention": looks, "truth": looks > 2, "captions": [{"words": ["a"]}]})
    (0.75, 0.5, 1)
    """
    if "truth" not in file or not _has_maps(file):
        return None
    shares, chances = [], []
    for place, one in enumerate(file["captions"]):
        for word in range(len(one["words"])):
            truth, looked = file["truth"][place, word], file["attention"][place, word].astype(float)
            if truth.any() and looked.sum() > 0:
                shares.append(float(looked[truth].sum() / looked.sum()))
                chances.append(float(truth.mean()))
    return (float(np.mean(shares)), float(np.mean(chances)), len(shares)) if shares else None


def _one(file: Mapping[str, Any], place: int, one: Mapping[str, Any]) -> list[Markup]:
    pixels = _small(file["images"][place])
    scale = max(1, -(-SIDE * 2 // 3 // max(pixels.shape[:2])))
    sentence = text(one["sentence"], limit=400)
    picture = tag(
        "figure",
        image(pixels, f"The picture of which it says: {sentence}", scale=scale),
        tag("figcaption", "the picture"),
    )
    words = list(one["words"])[:WORDS] if _has_maps(file) else []
    maps = [_map(file, place, at, text(word), pixels, scale) for at, word in enumerate(words)]
    left = len(one["words"]) - len(words) if words else 0
    more = tag("p", f"{plural(left, 'more word')} without a map here.", class_="key") if left > 0 else None
    references = [text(reference, limit=400) for reference in one["references"]]
    truly = tag("p", f"A person says: {'; '.join(references[:5])}", class_="key") if references else None
    return [
        part
        for part in (tag("h3", sentence or "nothing"), truly, tag("div", picture, *maps, class_="attended"), more)
        if part
    ]


def _map(file: Mapping[str, Any], place: int, at: int, word: str, pixels: NDArray[np.uint8], scale: int) -> Markup:
    looked = file["attention"][place, at]
    height, width = pixels.shape[:2]
    top = float(looked.max())
    strength = looked / top if top > 0 else looked
    wide = Image.fromarray(np.asarray(strength, np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    shown = heat(pixels, np.rint(255 * np.clip(np.asarray(wide), 0, 1)).astype(np.uint8))
    caption = [word]
    if "truth" in file and file["truth"][place, at].any() and looked.sum() > 0:
        share = float(looked[file["truth"][place, at]].sum() / looked.sum())
        caption.append(tag("span", f"{percent(share, 0)} on its place"))
    alt = f"For “{word}”: {where(looked)}."
    return tag("figure", image(shown, alt, scale=scale), tag("figcaption", *caption))


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """No longer than the page shows it."""
    height, width, channels = pixels.shape
    longest = max(height, width)
    if longest <= SIDE:
        return pixels
    size = (max(1, width * SIDE // longest), max(1, height * SIDE // longest))
    whole = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    shrunk = np.asarray(whole.resize(size, Image.Resampling.LANCZOS))
    return shrunk[..., None] if channels == 1 else shrunk


def _has_maps(file: Mapping[str, Any]) -> bool:
    return "attention" in file and file["attention"].shape[1] > 0
