"""The diagram: well-formed, escaped, nothing on anything else, and it has the numbers."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import engram
from engram.trace.expression import trace_text
from engram.trace.layout import BETWEEN, layout
from engram.trace.picture import LARGEST, html, svg
from engram.trace.pixels import STRANGE, picture


def texts(drawn: str) -> list[str]:
    root = ElementTree.fromstring(drawn)
    return [element.text or "" for element in root.iter() if element.tag.endswith("text")]


def test_the_lectures_circuit_has_its_numbers():
    trace = trace_text("(x*y + max(z, w)) * 2", {"x": "3", "y": "-4", "z": "2", "w": "-1"})
    found = texts(str(svg(trace)))
    for number in ("→ 3", "← -8", "→ -4", "← 6", "→ -12", "← 0", "→ -20", "← 1"):
        assert number in found
    assert "add: hands the gradient on to both as it is" in found
    assert svg(trace) == svg(trace), "the same graph gives the same picture"


def test_wires_of_a_value_that_is_read_more_than_once_say_what_came_back():
    found = texts(str(svg(trace_text("x*x + x", {"x": 3}))))
    assert "← 3 + 3" in found
    assert "← 1" in found
    assert "← 7" in found


def test_few_numbers_are_a_table_and_many_a_picture():
    small = str(svg(engram.trace(lambda x: F.max_pool2d(x, 2), torch.arange(16.0).view(1, 1, 4, 4))))
    assert {"15", "14", "13"} <= set(texts(small))
    assert "data:image/png" not in small
    large = str(svg(engram.trace(lambda x: F.max_pool2d(x, 2), torch.rand(1, 3, 16, 16))))
    assert large.count("data:image/png;base64,") == 4


def test_names_are_escaped():
    trace = engram.trace(lambda x: x * 2, 1.0, names=['<script>alert(1)</script>&"'])
    for drawn in (str(svg(trace)), html(trace)):
        assert "<script>" not in drawn
    assert '<script>alert(1)</script>&"' in "".join(texts(str(svg(trace))))


def test_a_notebook_gets_a_picture_of_a_small_graph_and_text_of_a_large_one():
    small = engram.trace(lambda x: x.exp(), 1.0)
    assert small._repr_html_().startswith("<div")
    ElementTree.fromstring(small._repr_svg_())

    def long(x):
        for _ in range(LARGEST):
            x = x.exp().log()
        return x

    large = engram.trace(long, 1.0, names=["<b>"])
    assert large._repr_svg_() is None
    assert large._repr_html_().startswith("<pre")
    assert "<b>" not in large._repr_html_()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0),
        torch.zeros(3, 0, 2),
        torch.full((40,), float("nan")),
        torch.tensor([float("inf"), 1.0]).repeat(30),
        torch.zeros(50),
        torch.rand(2, 3, 4, 5, 6),
        torch.arange(50),
        torch.rand(7, 7) > 0.5,
        torch.rand(1, 2000),
        torch.rand(8, 8, dtype=torch.complex64),
    ],
)
def test_whatever_is_in_a_tensor_it_can_be_drawn(tensor):
    trace = engram.trace(lambda x: x.flip(0), tensor)
    ElementTree.fromstring(str(svg(trace)))
    assert str(trace)


def pixels(tensor: torch.Tensor) -> np.ndarray:
    source, width, height = picture(tensor)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
    assert image.shape == (height, width, 4)
    return image


def test_colours():
    image = pixels(torch.tensor([[1.0, 0.0], [-1.0, float("nan")]]))
    assert image[0, 0].tolist() == [36, 99, 201, 255]
    assert image[0, 1, 3] == 0
    assert image[1, 0].tolist() == [208, 74, 32, 255]
    assert image[1, 1].tolist() == [*STRANGE, 255]


def test_maps_stand_side_by_side():
    image = pixels(torch.stack([torch.ones(2, 2), -torch.ones(2, 2)]))
    assert image.shape[:2] == (2, 5)
    assert (image[:, 2, 3] == 0).all()
    assert (image[:, 0, 0] == 36).all()
    assert (image[:, 4, 0] == 208).all()


def test_a_graph_of_which_most_floats_free_is_placed():
    """Without bounds, the solver divided by infinity."""
    high = (49.93360822954657, 10.0, 10.0, 10.0, 37.71526930939231)
    sizes = {number: (20.0, one) for number, one in enumerate(high)}
    made = layout(sizes, [(1, 2), (1, 4)])
    assert all(np.isfinite(place).all() for place in made.places.values())


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[int, tuple[float, float]], list[tuple[int, int]]]:
    count = draw(st.integers(1, 12))
    side = st.floats(10, 150)
    sizes = {number: (draw(side), draw(side)) for number in range(count)}
    wires = [
        (draw(st.integers(0, target - 1)), target) for target in range(1, count) for _ in range(draw(st.integers(0, 2)))
    ]
    return sizes, list(dict.fromkeys(wires))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(graphs())
def test_boxes_keep_apart_and_wires_go_right(graph):
    sizes, wires = graph
    made = layout(sizes, wires)
    boxes = {
        key: (x - sizes[key][0] / 2, y - sizes[key][1] / 2, x + sizes[key][0] / 2, y + sizes[key][1] / 2)
        for key, (x, y) in made.places.items()
    }
    for source, target in wires:
        assert boxes[source][2] < boxes[target][0]
    for one, (left, top, right, bottom) in boxes.items():
        assert left >= -0.1
        assert right <= made.width + 0.1
        assert top >= -0.1
        assert bottom <= made.height + 0.1
        for other, (x0, y0, x1, y1) in boxes.items():
            if one < other and left < x1 and x0 < right:
                assert bottom + BETWEEN - 0.5 <= y0 or y1 + BETWEEN - 0.5 <= top
    for (source, target), way in zip(wires, made.ways, strict=True):
        assert way[0][2] == made.places[source][1]
        assert way[-1][2] == made.places[target][1]
        for left, right, level in way[1:-1]:
            for x0, y0, x1, y1 in boxes.values():
                assert not (x0 < right and left < x1 and y0 < level < y1), "a wire under a box"


def test_a_chain_is_straight():
    made = layout(dict.fromkeys(range(5), (50, 30)), [(number, number + 1) for number in range(4)])
    assert {round(y, 3) for _, y in made.places.values()} == {15}


def test_it_is_drawn_for_light_and_for_dark():
    drawn = str(svg(engram.trace(lambda x: x.exp(), 1.0)))
    assert "prefers-color-scheme: dark" in drawn
    assert not re.findall(r"https?://(?!www.w3.org/2000/svg)", drawn), "nothing is fetched"
