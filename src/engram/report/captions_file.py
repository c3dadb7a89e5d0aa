"""`captions.npz` and `captions.json` of a run: what it says of a few pictures, and where it looked for each word.

    captions.json   [{"sentence": "a dog .", "words": ["a", "dog", "."], "references": ["a dog runs", ...]}, ...]
    captions.npz    images     uint8 (n, H, W, 1 or 3), in the order of the sentences
                    attention  float (n, T, h, w), by sentence and word, each map at least 0; a map is drawn on its own
                               scale. T is that of the longest sentence, what is beyond a sentence's words is not read;
                               T = 0, or no such array, of a network without attention
                    truth      bool (n, T, h, w), where it may be left out: the places that a word is about, where they
                               are known (generated scenes); nothing in it where a word is about no place

    `words` are what was said, one a map, without `<start>` and with `<end>` only if its map shall be shown; `sentence`
    is how a person reads them.

The captioning part of training writes them; here they are read without trusting them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from engram.errors import UserError
from engram.report.checked_arrays import checked, load

LARGEST = 1_024
MOST = 64
"""Sentences."""

PICTURES = {"images": "byte nHWc"}
ATTENTION = {"attention": "number nThw"}
TRUTH = {"truth": "flag nThw"}


def read(path: Path) -> dict[str, Any]:
    """Both files together: the arrays of `captions.npz` by name, and what `captions.json` holds as `captions`.

    Args:
        path: of `captions.npz`.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: one of them cannot be read, or they do not belong together.
    """
    found = load(path)
    form = PICTURES | (ATTENTION if "attention" in found else {}) | (TRUTH if "truth" in found else {})
    arrays = checked(path, found, form, largest=LARGEST, may_be_empty="T")
    images = arrays["images"]
    if images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise UserError(f"{path.name} could not be read: images are {images.dtype} of shape {images.shape}")
    if "attention" in arrays and arrays["attention"].size and arrays["attention"].min() < 0:
        raise UserError(f"{path.name} could not be read: attention is below zero somewhere")
    name = path.with_suffix(".json")
    try:
        captions = json.loads(name.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name.name} could not be read: {error}") from None
    if not isinstance(captions, list) or not all(map(_is_caption, captions)):
        raise UserError(f"{name.name} could not be read: it is of another form")
    maps = arrays["attention"].shape[1] if "attention" in arrays else 0
    if len(captions) != len(images) or len(captions) > MOST or (maps and max(len(c["words"]) for c in captions) > maps):
        raise UserError(f"{name.name} could not be read: it is of another {path.name}")
    return {**arrays, "captions": captions}


def _is_caption(one: Any) -> bool:
    lists = isinstance(one, dict) and isinstance(one.get("sentence"), str)
    return lists and all(
        isinstance(one.get(name), list) and all(isinstance(word, str) for word in one[name])
        for name in ("words", "references")
    )
