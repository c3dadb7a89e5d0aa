"""The page opens on what the clinic found, and marks on the loss where it was seen."""

import json
import re
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path

import pytest

from engram import recipe, report
from engram.clinic.finding import Finding, Remedy
from engram.report import finding_marks, run_folder

Make = Callable[..., Path]


def finding(diagnosis: str, severity: str, step: int, **more: object) -> Finding:
    remedy = Remedy("a tenth of the rate", {"optimizer.lr": 0.01, "clip_norm": 1.0})
    says = f"what {diagnosis} saw"
    return Finding(diagnosis, severity, says, "what it means", remedy, "the opposite", 0.85, step, **more)


def page(folder: Path, findings: Sequence[Finding]) -> str:
    (folder / "findings.json").write_text(json.dumps([one.to_dict() for one in findings]))
    return report.write(folder).read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, make_run: Make) -> Path:
    return make_run(tmp_path / "run", epochs=4)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


FOUND = [
    finding("lr_too_high", "critical", 6, seen={"loss": 48.25, "risen": 2.0}),
    finding("dead_relus", "warning", 12, where=("layer1.relu", "layer2.relu"), consequence_of=("lr_too_high",)),
    finding("input_scale", "information", 0),
]


def test_everything_that_a_finding_says_is_on_the_page_in_its_order(folder: Path) -> None:
    told = words(page(folder, FOUND))
    places = [told.index(f"{number}. {one.title}") for number, one in enumerate(FOUND, 1)]
    assert places == sorted(places)
    for text in ("what lr_too_high saw", "what it means", "a tenth of the rate", "the opposite", "85 %"):
        assert text in told.replace("\u202f", " ")
    assert "1. lr too high · step 6" in told
    assert "3. input scale · before the first step" in told
    assert "layer1.relu, layer2.relu" in told
    assert re.search(r"perhaps a consequence of lr too high", told)
    assert "48.2" in told[told.index("the numbers") :]


def test_the_first_section_is_what_was_found(folder: Path) -> None:
    titles = re.findall(r'<h2 id="(\w+)-title"', page(folder, FOUND))
    assert titles[0] == "findings"


def test_the_remedy_is_a_command_whose_settings_a_recipe_takes(folder: Path) -> None:
    command = unescape(re.search(r"<pre>(engram train [^<]*)</pre>", page(folder, FOUND))[1])
    assert f"--recipe {folder}/recipe.toml --output {folder}-tried --optimizer.lr 0.01 --clip_norm 1.0" in command
    built = recipe.build({"optimizer.lr": "0.01", "clip_norm": "1.0"})
    assert (built.optimizer.settings["lr"], built.training.clip_norm) == (0.01, 1.0)


@pytest.mark.parametrize("curve", ["loss", "accuracy"])
def test_the_curves_have_a_line_where_each_was_made(folder: Path, curve: str) -> None:
    html = page(folder, FOUND)
    run = run_folder.read(folder)
    per_epoch = run.begin["steps_per_epoch"]
    assert finding_marks.numbered(run) == [(6 / per_epoch, "1", "bad"), (12 / per_epoch, "2", "warning")]
    drawn_in = next(spec for spec in map(json.loads, specs(html)) if spec["description"] == curve)
    marks = [
        layer for layer in drawn_in["layer"] if layer["mark"] != "line" and layer["mark"]["type"] in ("rule", "text")
    ]
    drawn = [
        (one["encoding"]["color"]["value"], one["mark"]["type"], one["data"]["values"][0]["finding"]) for one in marks
    ]
    assert drawn == [
        ("var(--bad)", "rule", "1"),
        ("var(--bad)", "text", "1"),
        ("var(--warning)", "rule", "2"),
        ("var(--warning)", "text", "2"),
    ]
    assert "Dashed lines: where the findings with these numbers were made." in html


def specs(html: str) -> list[str]:
    return re.findall(r'<script type="application/json" class="spec">(.*?)</script>', html)


def test_findings_of_one_step_share_a_line(folder: Path) -> None:
    page(folder, [finding("one", "critical", 6), finding("other", "warning", 6)])
    [(_, numbers, tone)] = finding_marks.numbered(run_folder.read(folder))
    assert (numbers, tone) == ("1, 2", "bad")


def test_more_than_five_unfold(folder: Path) -> None:
    html = page(folder, [finding(f"number_{place}", "warning", place) for place in range(1, 8)])
    assert "<summary>2 more</summary>" in html
    assert html.index("5. </span>number 5") < html.index("<summary>2 more</summary>") < html.index("6. </span>number 6")


def test_nothing_found_is_said_and_nobody_having_looked_is_not(folder: Path) -> None:
    assert "none of the clinic's diagnoses saw its signs" in words(page(folder, []))
    (folder / "findings.json").unlink()
    assert "What was found" not in report.write(folder).read_text(encoding="utf-8")


def test_the_verdict_counts_them(folder: Path) -> None:
    told = words(page(folder, FOUND))
    assert "The clinic found lr too high and dead relus, 1 critical: see what was found, below." in told
    told = words(page(folder, [FOUND[1]]))
    assert "The clinic found dead relus, none of it critical" in told
    assert "The clinic found" not in words(page(folder, [FOUND[2]]))


def test_hostile_names_are_text(folder: Path, hostile: list[str]) -> None:
    sick = [finding(name, "warning", 3, where=(name,), seen={name: name}) for name in hostile]
    html = page(folder, sick)
    assert "<script>alert(1)" not in html
    assert "onerror=alert(2)>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
