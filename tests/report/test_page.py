"""The page as a browser without scripts sees it: whole, self-contained, harmless whatever the run folder says."""

import hashlib
import itertools
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from gzip import decompress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from engram import report
from engram.clinic.finding import Finding, Remedy
from engram.report import page, run_folder, sections, zoom

Make = Callable[..., Path]
PLAIN = [
    "curves",
    "confusion",
    "classes",
    "mistakes",
    "samples",
    "calibration",
    "data",
    "network",
    "recipe",
    "environment",
    "timing",
]
"""Sections that every finished run has; the others need files of their own, and have tests of their own."""
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page as elements, checked for balance on the way."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open or tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{tag} is closed and was not open"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None]]]:
        return [(tag, attributes) for tag, attributes in self.elements if tag in tags]

    def words(self, *tags: str) -> str:
        """The text, of these elements or of all that are shown."""
        shown = [data for tag, data in self.texts if (tag in tags if tags else tag not in ("script", "style"))]
        return " ".join(" ".join(shown).split())

    def meta(self, name: str) -> str | None:
        return next((a["content"] for _, a in self.all("meta") if name in (a.get("http-equiv"), a.get("name"))), None)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def check(page: Page, path: Path) -> None:
    """What holds for every page."""
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    outside = re.sub(r'<(script)\b.*?</script>|"data:image[^"]+"', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|//\w|url\(|@import|javascript:", outside)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
            if value is not None and value.startswith("#"):
                assert value[1:] in ids
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(a.get("alt") for _, a in page.all("img"))
    assert all(a.get("role") == "img" and a.get("aria-label") for _, a in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("row", "col") for _, a in page.all("th"))
    assert "This section could not be drawn" not in page.words()
    policy = page.meta("Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '")
    assert "unsafe-eval" not in policy
    assert policy.count("unsafe-inline") == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_run: Make) -> Path:
    return report.write(make_run(tmp_path_factory.mktemp("runs") / "finished"))


def test_a_finished_run_is_told_whole(finished: Path) -> None:
    shown = read(finished)
    check(shown, finished)
    titles = [section.TITLE for section in sections.found() if section.__name__.rpartition(".")[2] in PLAIN]
    assert [data for tag, data in shown.texts if tag == "h2"] == titles
    assert len(titles) == len(PLAIN)
    assert len(shown.all("svg")) == 6
    assert shown.meta("refresh") is None
    words = shown.words()
    evaluation = json.loads((finished.parent / "evaluation" / "validation.json").read_text())
    assert f"recognises {100 * evaluation['accuracy']:.1f} % of the 360 validation examples of digits" in words
    assert "Test split:" in words
    assert "was never used for choosing anything" in words
    for expected in ("0.0154 GFLOP", "AMD EPYC 9R14", "engram train --data digits", "channels_last"):
        assert expected in words


def test_the_confusion_matrix_holds_every_count(finished: Path) -> None:
    text = finished.read_text()
    table = re.search(r'<table class="confusion.*?</table>', text, re.DOTALL)
    assert table is not None
    body = table[0].partition("<tbody>")[2]
    counts = [
        [int(re.sub(r"<[^>]+>", "", cell).replace("·", "0")) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>.*?</tr>", body)
    ]
    confusion = json.loads((finished.parent / "evaluation" / "validation.json").read_text())["confusion"]
    assert counts == confusion
    shades = [float(share) for share in re.findall(r"--share:([\d.]+)", table[0])]
    shares = [
        (n / sum(row)) ** (1 if i == j else 0.5) for i, row in enumerate(confusion) for j, n in enumerate(row) if n
    ]
    assert shades == pytest.approx(shares, abs=0.006)


def test_the_data_card_is_told(finished: Path) -> None:
    words = read(finished).words()
    card = json.loads((finished.parent / "card.json").read_text())
    for expected in (
        "1 example stands in more than one split; take them out of training",
        "1,645 train, 360 validation, 500 test",
        "1 × 8 × 8",
        "left out as unreadable 1 file",
        "0/7.png the file ends in the middle",
        "train: 0/3.png = test: 0/4.png",
        "Nearly the same picture: 1",
    ):
        assert expected in words
    assert sum(card["counts"]["train"]) == 1645


def test_the_network_is_told_layer_by_layer(finished: Path) -> None:
    shown = read(finished)
    words = shown.words()
    for expected in (
        "Parameters 2,970",
        "Kept for every weight 11.9 kB by nesterov",
        "A step with 128 examples takes, at its fullest 363 kB",
        "Most parameters are in head (97 %); most multiply-adds are in head (53 %); most memory is in relu (45 %).",
        "conv Conv2d 8 × 6 × 6 80 2,592 3 1.41 kB 256 B",
        "total 10 2,970 5,472 2.3 kB 2.56 kB",
    ):
        assert expected.lower() in re.sub(r"\s+", " ", words).lower()
    costs = next(data for tag, data in shown.texts if tag == "script" and "share so far" in data)
    values = [layer["data"]["values"] for layer in json.loads(costs)["layer"] if "values" in layer.get("data", {})]
    reached = [[round(point["y"], 3) for point in series] for series in values[:3]]
    assert reached == [[0, 0.027, 0.027, 1], [0, 0.474, 0.474, 1], [0, 0.1, 0.55, 1]]


def test_pictures_stand_beside_what_the_network_says(finished: Path) -> None:
    shown = read(finished)
    evaluation = json.loads((finished.parent / "evaluation" / "validation.json").read_text())
    alts = [a["alt"] or "" for _, a in shown.all("img")]
    for row in evaluation["worst"]:
        if row["label"] != row["predicted"]:
            assert f"Example {row['name']}: {row['label']}, taken for {row['predicted']}." in alts
    assert sum("recognised" in alt for alt in alts) == sum(r["label"] == r["predicted"] for r in evaluation["samples"])


def test_only_the_scripts_that_the_policy_names_can_run(finished: Path) -> None:
    shown = read(finished)
    policy = shown.meta("Content-Security-Policy") or ""
    kinds = [a.get("type") for _, a in shown.all("script")]
    assert kinds == ["application/json"] * 6 + ["text/plain", None]
    *specs, packed, starter = [data for tag, data in shown.texts if tag == "script"]
    assert all(json.loads(spec)["layer"] for spec in specs)
    vega = decompress(b64decode(packed))
    assert b"vegaEmbed" in vega[-200:]
    for script in (starter.encode(), vega):
        assert f"'sha256-{b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert policy.count("sha256-") == 2


def test_the_same_folder_gives_the_same_page(finished: Path) -> None:
    assert page.render(run_folder.read(finished.parent)) == finished.read_text()


def test_while_it_trains_the_page_looks_again_by_itself(tmp_path: Path, make_run: Make) -> None:
    path = report.write(make_run(tmp_path / "a", end=None, epochs=5, total_epochs=12))
    shown = read(path)
    check(shown, path)
    assert shown.meta("refresh") == str(page.REFRESH)
    assert "Training, step 115 of 276, about 2 min left." in shown.words("h1")
    ((_, progress),) = shown.all("progress")
    assert (progress["value"], progress["max"]) == ("115", "276")
    assert {a.get("type") for _, a in shown.all("script")} == {"application/json"}
    assert "script-src 'none'" in (shown.meta("Content-Security-Policy") or "")


def test_a_killed_run_is_not_waited_for(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", end=None, epochs=2, total_epochs=12)
    shown = read(report.write(folder, alive=False))
    assert shown.meta("refresh") is None
    assert f"engram resume {folder}" in shown.words()


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_only_begun(tmp_path: Path, make_run: Make, epochs: int) -> None:
    path = report.write(make_run(tmp_path / "a", end=None, epochs=epochs, total_epochs=12))
    check(read(path), path)
    assert "Training" in read(path).words("h1")


def test_a_folder_with_a_recipe_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("seed = 1\n")
    path = report.write(tmp_path)
    check(read(path), path)


def test_a_run_that_diverged_says_what_to_do(tmp_path: Path, make_run: Make) -> None:
    path = report.write(make_run(tmp_path / "a", end="not_finite", epochs=4, total_epochs=12, lr=0.8))
    shown = read(path)
    check(shown, path)
    assert "broke down at step 92" in shown.words("h1")
    assert "--optimizer.lr 0.08" in shown.words("code")
    assert "The axis is logarithmic." in shown.words("figcaption")


@pytest.mark.parametrize("classes", [2, 21, 100])
def test_any_number_of_classes(tmp_path: Path, make_run: Make, classes: int) -> None:
    path = report.write(make_run(tmp_path / "a", classes=classes, epochs=1))
    shown = read(path)
    check(shown, path)
    maps = [a for _, a in shown.all("img") if "Confusion matrix" in (a["alt"] or "")]
    assert len(maps) == (classes > 20)
    assert ("Examples of the 10 rarest classes" in shown.words("caption")) == (classes > 20)
    if classes == 100:
        assert "Most frequent mistakes" in shown.words("caption")
        assert "The ten hardest classes" in shown.words("caption")
        assert shown.words("th").count("class 5") >= 2


def hostile_card(value: Any, evil: str) -> Any:
    """The card with every text in it replaced."""
    if isinstance(value, dict):
        return {key: hostile_card(one, evil) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile_card(one, evil) for one in value]
    return evil if isinstance(value, str) else value


def test_whatever_the_folder_says_is_text(tmp_path: Path, make_run: Make, hostile: list[str]) -> None:
    folder = make_run(tmp_path / "<img src=x onerror=alert(3)>", classes=hostile, epochs=2, end="interrupted")
    evil = hostile[0] + hostile[4] + hostile[1]
    environment = json.loads((folder / "environment.json").read_text())
    for key in ("processor", "device", "torch", "cores"):
        environment[key] = evil
    environment["choices"][0] = dict.fromkeys(("setting", "value", "reason"), evil)
    environment["model"] |= {"name": evil, "input": [evil]}
    (folder / "environment.json").write_text(json.dumps(environment))
    recipe = (folder / "recipe.toml").read_text()
    recipe = recipe.replace('path = "digits"', f"path = {json.dumps(evil)}")
    (folder / "recipe.toml").write_text(recipe + f"\n[{json.dumps(evil)}]\n{json.dumps(evil)} = {json.dumps(evil)}\n")
    (folder / "command.txt").write_text(evil)
    (folder / "card.json").write_text(json.dumps(hostile_card(json.loads((folder / "card.json").read_text()), evil)))
    costs = json.loads((folder / "network.json").read_text())
    costs["rows"][0] |= {"layer": evil, "type": evil, "output": [evil], "receptive_field": evil, "macs": evil}
    (folder / "network.json").write_text(
        json.dumps({**costs, "input": [evil], "step": {"optimizer": evil, "slots": 1}})
    )
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "threads", "step": 1, "threads": evil, "why": evil}) + "\n")
        file.write(json.dumps({"event": "end", "reason": evil, "step": 46, "seconds": 3, "message": evil}) + "\n")
    path = report.write(folder)
    shown = read(path)
    check(shown, path)
    assert {a.get("type") for _, a in shown.all("script")} == {"application/json", "text/plain", None}
    assert len([a for _, a in shown.all("script") if "type" not in a]) == 1
    assert hostile[0] in shown.words("th")
    assert shown.words().count("<script>alert(1)</script>") > 20
    assert "\x00" not in path.read_text()
    assert "\u202e" not in path.read_text()


def test_what_could_not_be_read_is_told(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / "card.json").write_text("{<")
    (folder / "pictures" / "samples.png").write_bytes(b"\x89PNG half")
    path = report.write(folder)
    shown = read(path)
    check(shown, path)
    assert "What could not be read" in shown.words("h2")
    assert "card.json could not be read" in shown.words("li")


def test_a_section_that_fails_costs_only_itself(
    tmp_path: Path, make_run: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    summary = json.loads((folder / "evaluation" / "validation.json").read_text())
    summary["reliability"] = [{"count": "many"}]
    (folder / "evaluation" / "validation.json").write_text(json.dumps(summary))
    shown = read(report.write(folder))
    assert "This section could not be drawn: TypeError" in shown.words("p")
    assert "Worst mistakes" in shown.words("h2")
    assert "Traceback" in capfd.readouterr().err


def test_a_page_that_would_be_too_large_goes_without_zoom(monkeypatch: pytest.MonkeyPatch, finished: Path) -> None:
    run = run_folder.read(finished.parent)
    monkeypatch.setattr(page, "LARGEST", 300_000)
    small = page.render(run)
    assert len(small) < 300_000
    assert 'id="vega"' not in small
    assert "script-src &#39;none&#39;" in small


def test_sections_are_found_and_stand_in_their_order() -> None:
    orders = [section.ORDER for section in sections.found()]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders)
    assert sections.found()[0].TITLE is None


def test_several_runs_share_a_page(tmp_path: Path, make_run: Make) -> None:
    first = make_run(tmp_path / "one" / "run", epochs=5)
    second = make_run(tmp_path / "two" / "run", epochs=6, lr=0.02, seed=1)
    third = make_run(tmp_path / "two" / "<b>", epochs=2, end=None, total_epochs=9)
    report.write(first)
    path = report.write_many([first, second, third], tmp_path / "pages")
    assert path == tmp_path / "pages" / "comparison.html"
    shown = read(path)
    links = [a["href"] for _, a in shown.all("a") if a["href"] and a["href"].endswith("report.html")]
    assert links == ["../one/run/report.html"]
    assert len(shown.all("svg")) == 4
    words = shown.words()
    assert "3 runs, from" in words
    assert "run (1)" in words
    assert "run (2)" in words
    assert "optimizer.lr" in words
    assert "seed" not in shown.words("th")
    assert "http" not in re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL).replace("http-equiv", "")


def test_several_runs_show_their_findings_beside_each_other(tmp_path: Path, make_run: Make) -> None:
    def found(diagnosis: str, severity: str) -> dict:
        remedy = Remedy("try less", {"optimizer.lr": 0.1})
        return Finding(diagnosis, severity, "seen", "means", remedy, "otherwise", 0.5).to_dict()

    runs = [make_run(tmp_path / name, epochs=1) for name in "abcd"]
    assert "Findings" not in read(report.write_many(runs[:2], tmp_path / "0.html")).words("h2")
    rows = [
        [found("dead_relus", "critical"), found("unused_parameters", "warning"), found("unused_parameters", "warning")],
        [found("dead_relus", "warning"), found("<b>bold</b>", "critical"), found("class_imbalance", "information")],
        [],
    ]
    for run, findings in zip(runs, rows, strict=False):
        (run / "findings.json").write_text(json.dumps(findings))
    page = read(report.write_many(runs, tmp_path / "1.html"))
    assert "Findings" in page.words("h2")
    written = (tmp_path / "1.html").read_text(encoding="utf-8")
    table = written[written.index('id="findings"') :].partition("</table>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]
    assert cells == [
        ["run", "critical", "warnings", "notes"],
        ["a", "1: dead relus", "2: unused parameters (2)", "none"],
        ["b", "1: &lt;b&gt;bold&lt;/b&gt;", "1: dead relus", "1: class imbalance"],
        ["c", "none", "none", "none"],
        ["d", "–", "–", "–"],
    ]
    assert "In every run" not in page.words()
    assert "In every run: dead relus." in read(report.write_many(runs[:2], tmp_path / "2.html")).words()


def test_several_runs_are_written_where_it_is_said(tmp_path: Path, make_run: Make) -> None:
    first = make_run(tmp_path / "a", epochs=1)
    assert report.write_many([first], tmp_path / "b" / "c.html") == tmp_path / "b" / "c.html"
    assert "All recipes are the same." in read(tmp_path / "b" / "c.html").words()


def test_the_report_never_imports_torch_and_asks_no_network(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from engram import report; import engram.report.live\n"
        f"report.write({str(folder)!r})\n"
        "print('torch' in sys.modules, 'altair' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_bundle_is_kept_and_made_again_when_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: made.append(snippet) or "vega" * 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = zoom.bundle.__wrapped__
    packed = bundle()
    (kept,) = (tmp_path / "engram").iterdir()
    assert kept.read_bytes() == packed == bundle()
    assert len(made) == 1
    for damage in (packed[:20], b"", packed[:-6] + b"xxxxxx"):
        kept.write_bytes(damage)
        assert bundle() == packed == kept.read_bytes()
    assert len(made) == 4
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert decompress(bundle()) == b"vega" * 1000
