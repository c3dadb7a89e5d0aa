"""Filters of the first layer, at the start and now: what the network looks for in the pixels themselves."""

import numpy as np
from numpy.typing import NDArray

from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run, finite, text
from engram.report.tiles import sheet
from engram.report.words import NARROW, count, number, percent, plural

ORDER = 76
TITLE = "First-layer filters"

COLUMNS = 8
SIDE = 48
"""Pixels of the page that the side of a filter gets, about."""
LEAST = 3
"""Pixels along a filter below which it has no detail to speak of."""
STILL = 0.02
"""Share of their length under which filters have hardly moved."""


def section(run: Run) -> Markup | None:
    if not run.filters:
        return None
    now, before = run.filters["now"].astype(np.float32), run.filters.get("start")
    both = [now] if before is None else [before.astype(np.float32), now]
    known = [np.abs(one[np.isfinite(one)]) for one in both]
    scale = max((float(np.quantile(one, 0.995)) for one in known if one.size), default=0.0)
    titles = ["Now"] if before is None else ["At the start", "Now"]
    shown = [_figure(one, title, scale) for one, title in zip(both, titles, strict=True)]
    beside, key = tag("div", *shown, class_="side"), tag("p", _key(now, scale), class_="key")
    return join([tag("p", _told(run, now)), beside, key])


def _figure(filters: NDArray[np.float32], title: str, scale: float) -> Markup:
    alt = f"{title}: {plural(len(filters), 'filter')} of {filters.shape[2]} by {filters.shape[3]} pixels."
    picture = sheet(as_pixels(filters, scale), alt, columns=COLUMNS, side=SIDE)
    return tag("figure", tag("h3", title), picture)


def as_pixels(filters: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Filters (K, C, H, W) as uint8 (K, H, W, 1 or 3): grey is 0, `scale` white; of other channels the mean."""
    filters = np.nan_to_num(filters, nan=0.0, posinf=scale, neginf=-scale)
    if filters.shape[1] not in (1, 3):
        filters = filters.mean(1, keepdims=True)
    shares = 0.5 + filters / (2 * scale or 1.0)
    return np.moveaxis(np.rint(255 * shares.clip(0, 1)).astype(np.uint8), 1, -1)


def _told(run: Run, now: NDArray[np.float32]) -> str:
    file = run.filters
    layer, all_of_them = text(str(file["layer"])), int(file["count"])
    first = f"the first {count(len(now))} of {count(all_of_them)} filters" if all_of_them > len(now) else "the filters"
    told = f"{first[:1].upper()}{first[1:]} of {layer}, each as the pattern in the picture that it answers to most. "
    moved = finite(float(file["moved"])) if "moved" in file else None
    if moved is not None:
        told += f"They have moved by {percent(moved, 0 if moved >= 0.1 else 1)} of their length since the start"
        told += ": hardly, so that the layers behind work on what chance gave them. " if moved < STILL else ". "
    if min(now.shape[2:]) < LEAST:
        return told.strip()
    detail, chance = finite(float(file["detail_now"])), percent(finite(float(file["chance"])), 0)
    before = finite(float(file["detail_start"])) if "detail_start" in file else None
    if detail is not None:
        was = f"{percent(before, 0)} at the start, " if before is not None else ""
        told += (
            f"Of their energy, {was}{percent(detail, 0)} now is in detail finer than four pixels. Weights drawn at "
            f"random have {chance} on average, and smooth filters less; many noisy ones after long training say that "
            "it was too short, or too little regularised."
        )
    return told.strip()


def _key(now: NDArray[np.float32], scale: float) -> str:
    channels = now.shape[1]
    told = f"All on one scale: grey is 0, white {number(scale)} and more, black −{number(scale)} and less"
    if channels == 3:
        return f"{told}, in each of the three colours."
    return f"{told}." if channels == 1 else f"{told}; the mean of {channels}{NARROW}channels."
