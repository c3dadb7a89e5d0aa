"""What the channels of a few layers say of two pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.report.markup import Markup, join, scrolling, tag
from engram.report.run_folder import Run, text
from engram.report.tiles import image, sheet
from engram.report.words import count, listed, percent, plural

ORDER = 77
TITLE = "Activations"

COLUMNS = 4
SIDE = 64
"""Pixels of the page that the side of a map gets, about."""
PICTURE = 96
"""And of the picture itself."""


def section(run: Run) -> Markup | None:
    if not run.activations:
        return None
    file = run.activations
    head = [tag("th", "layer", scope="col"), *(_picture(file, one) for one in range(len(file["pixels"])))]
    rows = [tag("tr", _layer(file, place), *_maps(file, place)) for place in range(len(file["layers"]))]
    caption = tag("caption", "The strongest channels of each layer for two pictures")
    table = tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="seen")
    return join([tag("p", _told(file)), scrolling(table, TITLE)])


def _picture(file: Mapping[str, NDArray[Any]], one: int) -> Markup:
    truth, says = text(str(file["truth"][one])), text(str(file["predicted"][one]))
    said = f"{truth}, recognised" if truth == says else f"{truth}, taken for {says}"
    pixels = file["pixels"][one]
    scale = max(1, PICTURE // max(pixels.shape[:2]))
    return tag("th", image(pixels, f"The picture: {said}.", scale=scale), tag("span", said), scope="col")


def _layer(file: Mapping[str, NDArray[Any]], place: int) -> Markup:
    channels, height, width = (int(size) for size in file["shapes"][place])
    shown = min(channels, len(file[f"channels_{place}"]))
    which = f"{count(shown)} of {plural(channels, 'channel')}" if shown < channels else plural(channels, "channel")
    lines = [f"{height} × {width} positions", which]
    silent = int(file["silent"][place])
    if silent:
        lines.append(f"{plural(silent, 'channel')} silent")
    name = text(str(file["layers"][place]))
    return tag("th", tag("b", name), *(tag("span", line) for line in lines), scope="row")


def _maps(file: Mapping[str, NDArray[Any]], place: int) -> list[Markup]:
    maps, channels = file[f"maps_{place}"], [int(one) for one in file[f"channels_{place}"]]
    name = text(str(file["layers"][place]))
    cells = []
    for one in range(len(maps)):
        truth = text(str(file["truth"][one]))
        alt = f"{name} for {truth}: maps of the channels {listed([str(channel) for channel in channels])}."
        cells.append(tag("td", sheet(maps[one][..., None], alt, columns=COLUMNS, side=SIDE)))
    return cells


def _told(file: Mapping[str, NDArray[Any]]) -> str:
    silent, channels = file["silent"], file["shapes"][:, 0]
    seen = plural(int(file["examples"]), "example")
    told = (
        "What the most active channels of a layer give for a picture, the strongest first: brighter is more active, "
        "black is zero or below, on one scale for all maps of a layer and a picture. Early maps still show the "
        "picture, by its edges and colours; late ones are active in few places. "
    )
    if not silent.any():
        return f"{told}No channel of these layers is silent: each is active somewhere in some of {seen}."
    worst = int(np.argmax(silent / np.maximum(channels, 1)))
    name, share = text(str(file["layers"][worst])), percent(float(silent[worst] / max(int(channels[worst]), 1)), 0)
    return (
        f"{told}{plural(int(silent[worst]), 'channel')} of {name} ({share}) {'is' if silent[worst] == 1 else 'are'} "
        f"silent, never above zero for any of {seen}: dead weight, as far as these show."
    )
