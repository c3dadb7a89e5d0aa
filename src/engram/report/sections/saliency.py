"""Where chosen pictures speak for what the network says of them, by four methods, and how far each can be believed."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from engram.report.markup import Markup, join, scrolling, tag
from engram.report.run_folder import Run, finite, text
from engram.report.tiles import heat, image
from engram.report.words import count, number, percent

ORDER = 52
TITLE = "What in a picture speaks for the answer"

SIDE = 96
"""Pixels of the page that the longer side of a picture gets at least, about."""
NAMES = {
    "gradient": "gradient",
    "smooth_grad": "SmoothGrad",
    "grad_cam": "Grad-CAM",
    "guided_backpropagation": "guided backpropagation",
}
SHOWS = {
    "gradient": (
        "White where a small change of the pixel would change the score of the class most (Simonyan et al. 2013). It "
        "is noisy, and says what the network is sensitive to, which need not be what it goes by."
    ),
    "smooth_grad": (
        "The gradient's mean over {samples} noisy copies of the picture (Smilkov et al. 2017): less noise, and the "
        "same limits."
    ),
    "grad_cam": (
        "Yellow where the maps of {layer} speak for the class (Selvaraju et al. 2017). As coarse as these maps: it "
        "says in which part of the picture, and nothing about edges."
    ),
    "guided_backpropagation": (
        "White where pixels excite the units on the way to the class (Springenberg et al. 2014). Sharp because it "
        "restores edges, and it depends little on the class or on what was learned (Adebayo et al. 2018): no evidence "
        "of why."
    ),
}
KINDS = {"right": "of the surest", "wrong": "of the surest", "unsure": "least sure"}


def section(run: Run) -> Markup | None:
    if not run.saliency:
        return None
    file = run.saliency
    methods = [str(one) for one in file["methods"]]
    names = [NAMES.get(method, text(method)) for method in methods]
    head = tag("tr", *(tag("th", name, scope="col") for name in ["it says", "picture", *names]))
    rows = [_row(file, one, methods) for one in range(len(file["pixels"]))]
    caption = tag("caption", "Pictures and the maps of what speaks for the answer")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="seen")
    return join([tag("p", _told(file)), scrolling(table, TITLE), _methods(file, methods), _missing(file)])


def _told(file: Mapping[str, NDArray[Any]]) -> str:
    channels = int(file["channels"])
    mean = "" if channels in (1, 3) else f" Shown is the mean of {channels} channels."
    return (
        "Pictures that the network is surest of and right, surest of and wrong, and least sure of, with maps of what "
        f"its score of the answer it gives depends on, each on its own scale.{mean} A map that lies on the background, "
        "or on a corner that only one class has, tells of a shortcut that will not hold elsewhere."
    )


def _row(file: Mapping[str, NDArray[Any]], one: int, methods: list[str]) -> Markup:
    truth, says = text(str(file["truth"][one])), text(str(file["predicted"][one]))
    right, name = str(file["truth"][one]) == str(file["predicted"][one]), text(str(file["names"][one]))
    sure = percent(finite(float(file["probability"][one])), 0)
    said = tag("span", f"{'✓' if right else '✕'} {says} {sure}", class_="right" if right else "wrong")
    kind = KINDS.get(str(file["kinds"][one]), "")
    is_ = None if right else tag("span", f"is {truth}")
    label = tag("th", said, is_, tag("span", kind), tag("span", name, class_="name"), scope="row")
    pixels = file["pixels"][one]
    scale = max(1, SIDE // max(pixels.shape[:2]))
    alt = f"Example {name}: {truth}, {'recognised' if right else f'taken for {says}'}."
    cells = [tag("td", image(pixels, alt, scale=scale))]
    for place, method in enumerate(methods):
        strength = file["maps"][one, place]
        shown = heat(pixels, strength) if method == "grad_cam" else strength[..., None]
        told = f"{NAMES.get(method, text(method))} of {says} in example {name}: {where(strength)}."
        cells.append(tag("td", image(shown, told, scale=scale)))
    return tag("tr", label, *cells)


def where(strength: NDArray[Any]) -> str:
    """In which part of the picture most of a map lies, of nine, and how much.

    >>> import numpy as np
    >>> where(np.array([[0, 0, 0], [0, 0, 3], [0, 0, 1]])).replace("\u202f", " ")
    '75 % of it at the right'
    """
    height, width = strength.shape
    values = strength.astype(float)
    total = values.sum()
    if not total:
        return "nothing"
    rows = [values[height * part // 3 : height * (part + 1) // 3] for part in range(3)]
    shares = [
        [float(row[:, width * part // 3 : width * (part + 1) // 3].sum() / total) for part in range(3)] for row in rows
    ]
    top, left = max(((row, column) for row in range(3) for column in range(3)), key=lambda at: shares[at[0]][at[1]])
    names = [name for name in (("top", "", "bottom")[top], ("left", "", "right")[left]) if name]
    place = "in the middle" if not names else f"at the {' '.join(names)}"
    return f"{percent(shares[top][left], 0)} of it {place}"


def _methods(file: Mapping[str, NDArray[Any]], methods: list[str]) -> Markup:
    settings = {"samples": count(int(file["samples"])), "layer": text(str(file["layer"]))}
    pairs = []
    for place, method in enumerate(methods):
        told = SHOWS.get(method, "").format_map(settings)
        alike = finite(float(file["alike"][place]))
        if alike is not None:
            told += f" Here, its maps of the answer and of the second guess correlate by {number(alike, 2)}."
        pairs.append((NAMES.get(method, text(method)), told))
    rows = [tag("div", tag("dt", name), tag("dd", told)) for name, told in pairs]
    alike = "The correlation is of ranks, pixel by pixel: 1 where it makes no difference which class is asked about."
    return join([tag("dl", *rows, class_="facts"), tag("p", alike, class_="key")])


def _missing(file: Mapping[str, NDArray[Any]]) -> Markup | None:
    missing = [text(str(one), limit=200) for one in file["missing"].reshape(-1)]
    return tag("p", f"Not shown: {'; '.join(missing)}.") if missing else None
