"""The inside of recurrent networks on the page: cells over a passage, gates, gradient through time, samples, maps."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram.report import cells_file, page, run_folder
from engram.report.sections import attention_maps, cells, gates, memory_horizon, samples_text

FEATURES = ("inside quotes", "position in line")


def words(markup: object) -> str:
    """The text without tags."""
    text = re.sub(r"<[^>]+>", "\n", str(markup)).replace("\u202f", " ").replace("&amp;", "&").replace("&#39;", "'")
    return re.sub(r"\n+", "\n", text).strip()


def cell(feature: str | None, unit: int, **changes: Any) -> dict[str, Any]:
    if feature is None:
        return {"layer": 1, "unit": unit, "feature": None}
    found = {"layer": 0, "unit": unit, "feature": feature, "bits": 0.5, "share": 0.625, "sign": 0.9, "learned": True}
    return {**found, "profile": [[0.0, -0.75], [1.0, 0.8]], **changes}


def cells_files(folder: Path, passage: str = 'He "says" so.\nNo.', **changes: Any) -> None:
    """2 layers of 4 units, of which the first follows quotes, coloured over a passage."""
    inside = np.array([1.0 if 3 <= place < 8 else -0.3 for place in range(len(passage))])
    values = np.rint(127 * np.stack((inside, np.linspace(-1, 1, len(passage)), np.zeros(len(passage)))))
    bits = np.full((2, 2, 4), 0.01, np.float32)
    bits[0, 0, 0] = 0.5
    follows = bits > 0.1
    shut = np.linspace(0, 1, 24, dtype=np.float32).reshape(3, 2, 4)
    arrays = {"bits": bits, "meaningful": follows, "learned": follows, "gate": np.array(list("ifo")), "shut": shut}
    arrays |= {"open": 1 - shut, "values": values.astype(np.int8)}
    line = {"entropy": 0.8, "threshold": 0.1, "untrained": 0.2, "largest": 0.5, "meaningful": 1, "learned": 1}
    best = cell("inside quotes", 0)
    profile = [[1.0, -0.5], [2.0, 0.0], [3.0, 0.5]]
    told = {
        "step": 9, "kind": "LSTM", "layers": 2, "units": 4, "read": 4000, "alarms": 0.05, "shifts": 39, "draws": 4,
        "cells": 8, "meaningful": 1, "learned": 1, "readable": 1, "passage": list(passage),
        "features": [{"name": FEATURES[0], **line, "best": best}, {"name": FEATURES[1], **line, "best": None}],
        "shown": [best, cell("position in line", 2, learned=False, profile=profile), cell(None, 3)],
    }  # fmt: skip
    (folder / "probes").mkdir(exist_ok=True)
    np.savez_compressed(folder / "probes" / "cells.npz", **{**arrays, **changes.pop("arrays", {})})
    (folder / "probes" / "cells.json").write_text(json.dumps({**told, **changes}), encoding="utf-8")


def time_file(folder: Path, **changes: Any) -> None:
    """Two moments of an LSTM of two layers: halved every step at first, every 10 at the end."""
    back = np.arange(39, -1, -1)
    fading = [0.5 ** (back / period) for period in (1, 10)]
    last = np.stack([np.stack([np.stack((one, one * 2)), np.stack((one, one * 2))]) for one in fading])  # M, S, L, T
    arrays = {"step": np.array([0, 50]), "state": np.array(["h", "c"]), "last": last, "mean": last}
    arrays |= {"gate": np.array(list("ifgo")), "largest": np.ones((2, 2, 4)) * 1.5, "steps": np.full((2, 2, 6), 0.97)}
    (folder / "probes").mkdir(exist_ok=True)
    np.savez_compressed(folder / "probes" / "time.npz", **{**arrays, **changes})


def captions_files(folder: Path, *, truth: bool = True, attention: bool = True, says: str = "a red disk") -> None:
    rng = np.random.default_rng(0)
    looks = np.zeros((2, 4, 3, 3), np.float32)
    looks[:, :, 0, 0] = 3
    looks[:, :, 2, 2] = 1
    there = np.zeros((2, 4, 3, 3), bool)
    there[0, 1, 0, 0] = True
    arrays: dict[str, Any] = {"images": rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)}
    arrays |= {"attention": looks} if attention else {}
    arrays |= {"truth": there} if truth else {}
    np.savez_compressed(folder / "captions.npz", **arrays)
    rows = [{"sentence": says, "words": says.split(), "references": ["one disk"]}] * 2
    (folder / "captions.json").write_text(json.dumps(rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "start", "steps_per_epoch": 10}) + "\n")
    return tmp_path


def read(folder: Path) -> run_folder.Run:
    run = run_folder.read(folder)
    assert run.notes == ()
    return run


def test_without_the_files_there_are_no_sections(folder: Path) -> None:
    run = read(folder)
    for section in (cells, gates, memory_horizon, samples_text, attention_maps):
        assert section.section(run) is None


def test_a_passage_is_coloured_by_the_cell(folder: Path) -> None:
    cells_files(folder)
    markup = str(cells.section(read(folder)))
    quotes, line, quiet = re.findall(r'<pre class="passage">(.*?)</pre>', markup, re.DOTALL)
    assert quotes.replace("&#34;", '"') == (
        '<span class="b1">He </span><span class="a3">"says</span><span class="b1">" so.↵\nNo.</span>'
    )
    assert line.startswith('<span class="b3">')
    assert "span" not in quiet
    said = words(markup)
    assert "7 of the 8 cells (88 %; 2 layers of 4) follow nothing measurable" in said
    assert "1 cell knows at least half" in said
    assert 'Highest in “"says” and lowest in' in said.replace("&#34;", '"')
    assert "On average it is +0.80 where it is so, and −0.75 elsewhere." in said
    assert "−0.50 at 1, +0.00 at 2, +0.50 at 3" in said
    assert "less than twice what the best untrained cell does" in said
    assert "nothing listed" in said
    assert "About its middle all along." in said
    assert "tanh of its memory" in said
    assert re.search(r"position in line\n1\n1\nnone\n–\n–\n0.2", said)


def test_passages_are_text_whatever_they_hold(folder: Path) -> None:
    cells_files(folder, "<script>alert(1)</script>\u202e")
    markup = str(cells.section(read(folder)))
    assert "<script>" not in markup
    assert "\u202e" not in markup


def test_gates_are_a_point_a_unit(folder: Path) -> None:
    cells_files(folder)
    markup = str(gates.section(read(folder)))
    specs = [json.loads(one) for one in re.findall(r'class="spec">(.*?)</script>', markup)]
    assert len(specs) == 3
    points = [point for layer in specs[0]["layer"][1:3] for point in layer["data"]["values"]]
    assert [(point["x"], point["y"]) for point in points] == [
        (round(1 - share, 3), round(share, 3)) for share in (np.arange(8) / 23)
    ]
    said = words(markup)
    assert "38 % of the units have it open at least 90 % of the time, and so writes at every step; 0 % have it" in said
    assert "Forget gate, f" in said


def test_a_network_without_gates_has_no_section_of_gates(folder: Path) -> None:
    none = np.zeros((0, 2, 4), np.float32)
    cells_files(folder, arrays={"gate": np.array([], "U1"), "shut": none, "open": none})
    assert gates.section(read(folder)) is None


def test_the_gradient_is_drawn_backwards_and_as_a_share(folder: Path) -> None:
    time_file(folder)
    markup = str(memory_horizon.section(read(folder)))
    by_layer, over_training = (json.loads(one) for one in re.findall(r'class="spec">(.*?)</script>', markup))
    values = by_layer["layer"][0]["data"]["values"]
    assert values[0] == {"x": 0.0, "y": 1.0}
    assert values[10]["y"] == pytest.approx(0.5)
    assert len(over_training["layer"][0]["data"]["values"]) == 34  # 2^-34 is under the floor
    said = words(markup)
    assert "At epoch 5: layer 1 keeps half over 10 and a hundredth over all 39 steps" in said
    assert "the start, keeps half over 1 and a hundredth over 6 steps" in said
    assert "The cells of every layer" in said


def test_samples_are_shown_the_newest_in_full(folder: Path) -> None:
    rows = [
        {"step": 10 * n, "text": f"<b>{n}</b>" + "x" * 900, "prompt": "IAGO:", "temperature": 0.8} for n in range(9)
    ]
    (folder / "samples.json").write_text(json.dumps(rows), encoding="utf-8")
    markup = str(samples_text.section(read(folder)))
    assert "At epoch 8, temperature 0.8" in markup
    assert "&lt;b&gt;8&lt;/b&gt;" + "x" * 900 in markup
    assert markup.count("<b>IAGO:</b>") == 6
    assert "5 earlier samples" in markup
    assert "x" * 301 not in markup.replace("x" * 900, "")


def test_maps_are_over_the_picture_word_by_word(folder: Path) -> None:
    captions_files(folder)
    run = read(folder)
    markup = str(attention_maps.section(run))
    assert markup.count("<img") == 2 * (1 + 3)
    assert "For “red”: 75" in markup
    assert attention_maps.on_place(run.captions) == (0.75, pytest.approx(1 / 9), 1)
    assert "75 % on its place" in words(markup)
    assert "A person says: one disk" in words(markup)


def test_captions_without_maps_are_sentences(folder: Path) -> None:
    captions_files(folder, attention=False, truth=False, says="<i>a</i> disk")
    markup = str(attention_maps.section(read(folder)))
    assert "no attention" in markup
    assert "<i>" not in markup
    assert markup.count("<img") == 2


def test_the_whole_page_has_them_all(folder: Path) -> None:
    cells_files(folder)
    time_file(folder)
    captions_files(folder)
    (folder / "samples.json").write_text('[{"step": 1, "text": "so"}]', encoding="utf-8")
    made = page.render(read(folder))
    assert "could not be drawn" not in made
    for section in (cells, gates, memory_horizon, samples_text, attention_maps):
        assert f">{section.TITLE}</h2>" in made


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "probes" / "cells.json").write_text("{"),
        lambda f: (f / "probes" / "cells.json").write_text("[]"),
        lambda f: (f / "probes" / "cells.json").unlink(),
        lambda f: cells_files(f, passage='He "says" so.\nNo.', layers=3),
        lambda f: cells_files(f, shown=[cell("inside quotes", 7)] * 3),
        lambda f: cells_files(f, shown=[cell("inside quotes", 0, profile=[[1, 2, 3]])] * 3),
        lambda f: cells_files(f, features=[]),
        lambda f: cells_files(f, arrays={"bits": np.full((2, 2, 4), np.nan)}),
        lambda f: (f / "probes" / "cells.npz").write_bytes(b"PK\x03\x04 half"),
        lambda f: time_file(f, step=np.array([0])),
        lambda f: time_file(f, last=np.array([1.0])),
        lambda f: (f / "probes" / "time.npz").write_bytes(b""),
        lambda f: (f / "samples.json").write_text('{"text": "a"}'),
        lambda f: (f / "samples.json").write_text('[{"step": 1}]'),
        lambda f: (f / "captions.json").write_text('[{"sentence": 1}]'),
        lambda f: (f / "captions.json").write_text("[]"),
        lambda f: np.savez(f / "captions.npz", images=np.zeros((2, 4, 4, 3))),
        lambda f: np.savez(f / "captions.npz", attention=np.zeros((2, 4, 4, 3))),
    ],
)  # fmt: skip
def test_what_is_damaged_is_a_note_and_the_rest_stays(folder: Path, damage: Any) -> None:
    cells_files(folder)
    time_file(folder)
    captions_files(folder)
    (folder / "samples.json").write_text('[{"step": 1, "text": "so"}]', encoding="utf-8")
    damage(folder)
    run = run_folder.read(folder)
    assert len(run.notes) == 1
    drawn = [section.section(run) is not None for section in (cells, memory_horizon, samples_text, attention_maps)]
    assert sum(drawn) == 3


def test_a_whole_number_serves_where_a_number_is_meant(folder: Path) -> None:
    cells_files(folder, alarms=0)
    assert cells_file.read(folder / "probes" / "cells.npz")["told"]["alarms"] == 0
