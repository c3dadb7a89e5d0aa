"""A scene as a person sees it: enlarged, each thing in a frame, and its words below in the colour of the frame."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engram.data.scenes.scene import Scene

FRAMES = ("#ff8a3d", "#3ddcff", "#ff5fd2")
PAPER, INK = "#16181d", "#e8eaed"
MARGIN, LINE, LINES = 8, 18, 3  # pixels; lines that a sentence may take


def picture(scene: Scene, caption: int = 0, *, zoom: int = 6) -> Image.Image:
    """A scene with its boxes and one of its sentences.

    Args:
        caption: which of the five.
        zoom: pixels of the picture for each of the scene.

    >>> from engram.data.scenes.scene import make_scene
    >>> picture(make_scene(0), zoom=4).size
    (208, 262)
    """
    height, width = (side * zoom for side in scene.image.shape[1:])
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN + LINE * LINES), PAPER)
    pixels = Image.fromarray(np.ascontiguousarray(scene.image.transpose(1, 2, 0)))
    sheet.paste(pixels.resize((width, height), Image.Resampling.NEAREST), (MARGIN, MARGIN))
    pen = ImageDraw.Draw(sheet)
    frames = {thing.box: color for thing, color in zip(scene.things, FRAMES, strict=False)}
    for (x0, y0, x1, y1), color in frames.items():
        corners = [MARGIN + zoom * x0 - 1, MARGIN + zoom * y0 - 1, MARGIN + zoom * x1, MARGIN + zoom * y1]
        pen.rectangle(corners, outline=color)
    font = ImageFont.load_default(13)
    said = scene.captions[caption]
    x, y = MARGIN, height + MARGIN + 4
    for word, box in zip(said.words, said.boxes, strict=True):
        length = pen.textlength(f"{word} ", font)
        if x + length > width + 2 * MARGIN:
            x, y = MARGIN, y + LINE
        pen.text((x, y), word, frames[box] if box else INK, font)
        x += length
    return sheet


def contact_sheet(scenes: Sequence[Scene], *, columns: int = 6, zoom: int = 6) -> Image.Image:
    """Many scenes, each with another of its sentences than the one before."""
    pictures = [picture(scene, place % len(scene.captions), zoom=zoom) for place, scene in enumerate(scenes)]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), height * -(-len(pictures) // columns)), PAPER)
    for place, one in enumerate(pictures):
        sheet.paste(one, (place % columns * width, place // columns * height))
    return sheet
