"""Every code block of README and docs runs, in order, in a folder that holds what the pages speak of.

`python` blocks of a page share one namespace. In `sh` blocks every `engram` command is run; `make`, `pip` and scripts
of the project are checked to exist; any other command is an error, so that no line stands there untried. `toml` blocks
are read as recipes. A comment before a block changes that, and is seen by nobody else:

    <!-- test: file mine.py -->            write the block to that file instead of running it
    <!-- test: skip needs a download -->   leave it alone, for the reason given

Training is shortened to one pass over few examples on one thread; every other setting is taken as it stands.
"""

import argparse
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import engram
from cli.commands import engram as command
from engram import recipe, registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")])
TRANSLATIONS = {"README.zh-CN.md": "README.md"}
SHORT = {"epochs": "1", "data.limit": "64", "device.threads": "1"}
LANGUAGES = {"python", "sh", "toml", "text"}  # text: output and drawings, which nothing runs

FENCE = re.compile(r"^( *)(`{3,}|~{3,})(\w*)[^\n]*\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
ORDER = re.compile(r"<!-- test: (file|skip) (.+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block, the line it stands on, and what the comment before it asks for."""

    line: int
    language: str
    text: str
    order: str = "run"
    argument: str = ""


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page in order."""
    found = []
    for match in FENCE.finditer(page):
        indent, _, language, text = match.groups()
        order = ORDER.search(page[: match.start()])
        line = page.count("\n", 0, match.start()) + 1
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        found.append(Block(line, language, text, *(order.groups() if order else ())))
    return found


def commands(text: str) -> list[list[str]]:
    """The words of each command of an `sh` block; comments and continued lines are understood."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shortened(words: list[str]) -> list[str]:
    """An `engram train` command with the settings of `SHORT` in place of its own."""
    kept, skip = [], False
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if skip or (word.startswith("--") and name in SHORT):
            skip = not skip and "=" not in word
        else:
            kept.append(word)
    return [*kept, *(part for name, value in SHORT.items() for part in (f"--{name}", value))]


def run(words: list[str], folder: Path) -> None:
    """Run one command of a page, or check that what it names exists."""
    tool, *rest = words
    match Path(tool).name or tool:
        case "engram":
            if rest[:1] == ["train"]:
                rest = shortened(rest)
            done = command(*rest, cwd=folder)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        case "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
            assert {word for word in rest if "=" not in word} <= targets, shlex.join(words)
        case "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            named = re.findall(r"\[([\w,]+)\]", shlex.join(rest))
            known = set(extras["optional-dependencies"])
            assert {extra for group in named for extra in group.split(",")} <= known, shlex.join(words)
            files = [ROOT / rest[at + 1] for at, word in enumerate(rest) if word in ("-r", "--requirement")]
            assert all(file.is_file() for file in files), shlex.join(words)
        case "python" if rest[0].endswith(".py") and (ROOT / rest[0]).is_file():
            source = (ROOT / rest[0]).read_text(encoding="utf-8")
            missing = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in source]
            assert not missing, f"{rest[0]} has no {missing}"
        case "python" if rest[:2] == ["-m", "venv"]:
            pass
        case "git" | "cd" | ".":
            pass
        case _:
            pytest.fail(f"nothing here runs or checks {tool!r}: {shlex.join(words)}")


def furnish(folder: Path) -> None:
    """What the pages take for granted: photographs, with captions too, a text, data in the formats they name."""
    (folder / "recipes").symlink_to(ROOT / "recipes")
    rng = np.random.default_rng(0)
    pictures = []
    for label, name in enumerate(("cat", "dog", "horse")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 90, (36, 40, 3), dtype=np.uint8)
            pixels[..., label] += 120
            picture = folder / "photos" / name / f"{number}.jpg"
            Image.fromarray(pixels).save(picture)
            pictures.append({"img": {"bytes": picture.read_bytes(), "path": picture.name}, "label": label})
    Image.fromarray(pixels).save(folder / "image.jpg")
    shutil.copytree(folder / "photos", folder / "captions")
    said = [f"{name}/{number}.jpg,A {name}." for name in ("cat", "dog", "horse") for number in range(12)]
    (folder / "captions" / "captions.csv").write_text("\n".join(["image,caption", *said]), encoding="utf-8")
    shutil.copy(argparse.__file__, folder / "book.txt")  # a text of some length that is there with every Python
    (folder / "cifar10").mkdir()
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(pictures), folder / "cifar10" / f"{split}-00000-of-00001.parquet")
    labels = np.arange(24) % 3
    for name, shape in (("signals", (1, 32)), ("volumes", (1, 8, 8, 8))):
        inputs = rng.normal(labels.reshape(-1, *[1] * len(shape)), 1.0, (24, *shape)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=inputs, y=labels)


def short_train(train: Callable[..., Any]) -> Callable[..., Any]:
    """`engram.train` with the settings of `SHORT`."""
    return lambda *args, **settings: train(*args, **{**settings, **SHORT})


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in TRANSLATIONS], ids=lambda page: str(page.relative_to(ROOT))
)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(engram, "train", short_train(engram.train))
    for kind in registry.HOMES:
        registry.names(kind)  # found now, and not while the page runs: modules are imported once, and would not return
    entries = {kind: dict(names) for kind, names in registry._entries.items()}
    monkeypatch.setattr(registry, "_entries", entries)  # what a page registers is gone after it
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.order == "skip":
            continue
        if block.order == "file":
            (tmp_path / block.argument).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.language == "toml":
            recipe.build(tomllib.loads(block.text), where=where)
        elif block.language == "sh":
            for words in commands(block.text):
                run(words, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path) -> None:
    wrong = [(block.line, block.language) for block in blocks(page.read_text(encoding="utf-8"))]
    assert not [one for one in wrong if one[1] not in LANGUAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|href|srcset)=\"([^\"#]+)\"", text)
    inside = [target for pair in targets for target in pair if target and "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(("translation", "original"), TRANSLATIONS.items())
def test_translations_have_the_same_code(translation: str, original: str) -> None:
    """Comments are translated, the code is the same, so running the original tries both."""

    def code(name: str) -> list[str]:
        found = blocks((ROOT / name).read_text(encoding="utf-8"))
        return [re.sub(r" *#.*", "", block.text) for block in found if block.language != "text"]

    assert code(translation) == code(original)


@pytest.mark.parametrize(("translation", "original"), TRANSLATIONS.items())
def test_translations_give_the_same_results(translation: str, original: str) -> None:
    def figures(name: str) -> list[str]:
        page = (ROOT / name).read_text(encoding="utf-8")
        (table,) = re.findall(r"<!-- results: begin.*?-->(.*?)<!-- results: end -->", page, re.DOTALL)
        return re.findall(r"\d+(?:[.,]\d+)*", table)

    assert figures(translation) == figures(original)


def test_blocks_are_found_with_their_orders() -> None:
    page = "a\n\n<!-- test: file mine.py -->\n```python\nx = 1\n```\n\n- item\n  ```sh\n  make demo\n  ```\n"
    first, second = blocks(page)
    assert (first.line, first.language, first.text, first.order, first.argument) == (
        4,
        "python",
        "x = 1\n",
        "file",
        "mine.py",
    )
    assert (second.text, second.order) == ("make demo\n", "run")


def test_commands_are_split_and_shortened() -> None:
    (words,) = commands("# a comment\nengram train --epochs 90 --data.limit=3 \\\n  --data photos/  # slow\n")
    assert words == ["engram", "train", "--epochs", "90", "--data.limit=3", "--data", "photos/"]
    assert shortened(words[1:]) == [
        "train",
        "--data",
        "photos/",
        "--epochs",
        "1",
        "--data.limit",
        "64",
        "--device.threads",
        "1",
    ]


def test_a_command_that_nothing_tries_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="nothing here runs"):
        run(["curl", "example.org"], tmp_path)
    with pytest.raises(AssertionError, match="make nothing"):
        run(["make", "nothing"], tmp_path)
    with pytest.raises(AssertionError):
        run(["engram", "no-such-verb"], tmp_path)
