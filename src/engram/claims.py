"""What a student's notes on CS231n say, sentence by sentence: right or wrong, where it lives here, what decides it.

The 93 items stand in `claims.toml` beside this file, in English and Chinese. Each names the parts of this package that
hold it and the tests or commands that decide it; a test imports every name and looks up every test, so that neither
can be promised without being there. `page` renders all of them as docs/claims.md and docs/claims.zh-CN.md.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from engram.errors import unknown

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
STATES = ("built", "planned")

VERDICTS: dict[str, dict[Language, str]] = {
    "right": {"en": "right", "zh": "正确"},
    "half_right": {"en": "half right", "zh": "半对"},
    "wrong": {"en": "wrong", "zh": "有误"},
    "open": {"en": "open question", "zh": "疑问"},
    "idea": {"en": "idea", "zh": "设想"},
}
LABELS: dict[str, dict[Language, str]] = {
    "says": {"en": "the notes", "zh": "笔记"},
    "truth": {"en": "what is so", "zh": "事实"},
    "lives": {"en": "lives in", "zh": "代码"},
    "decided_by": {"en": "decided by", "zh": "检验"},
    "planned": {"en": "not complete yet: what there is today", "zh": "尚未完成，目前已有"},
}
HEAD: dict[Language, str] = {
    "en": """# The notes, sentence by sentence

Engram grew from a student's notes on Stanford's course CS231n (2017). These are their {count} statements: what each
says, whether it is right, what is so, where in the code it lives and which test decides it. {counts}.

[中文](claims.zh-CN.md) · in a terminal: `engram show claims`, `engram show claims N34`, `engram show claims wrong`
""",
    "zh": """# 逐句看笔记

Engram 源于一份斯坦福 CS231n（2017）课程的学习笔记。下面是其中的 {count} 条说法：说了什么，对不对，事实如何，
对应的代码在哪里，由哪个测试检验。{counts}。

[English](claims.md) · 在终端里：`engram show claims --language zh`、`engram show claims N34 --language zh`
""",
}


@dataclass(frozen=True)
class Claim:
    """One sentence of the notes. Texts are by language; `lives` are dotted names, `decided_by` tests and commands."""

    id: str
    topic: str
    says: dict[Language, str]
    verdict: str
    truth: dict[Language, str]
    lives: tuple[str, ...]
    decided_by: tuple[str, ...]
    state: str


@cache
def claims() -> tuple[Claim, ...]:
    """All sentences, in the order of the notes.

    >>> len(claims()), claims()[33].id, claims()[33].verdict
    (93, 'N34', 'wrong')
    """
    return tuple(_claim(name, fields) for name, fields in _file().items() if name != "topics")


@cache
def topics() -> dict[str, dict[Language, str]]:
    """The headings that the sentences stand under, by their word.

    >>> topics()["networks"]["zh"]
    '网络结构'
    """
    return _file()["topics"]


def find(word: str) -> list[Claim]:
    """The sentences that a word asks for: a number (`N34`, `34`), a verdict, a topic, or "*" for all.

    Raises:
        UserError: none of these, with the nearest match.

    >>> [claim.id for claim in find("idea")]
    ['N50', 'N67']
    """
    name = f"N{word}" if word.isdigit() else word.strip().replace(" ", "_").replace("-", "_")
    found = [one for one in claims() if name.lower() in ("*", one.id.lower(), one.verdict, one.topic)]
    if not found:
        words = [*(one.id for one in claims()), *VERDICTS, *topics()]
        raise unknown("claim", word, words, then=f"engram show claims; N1 to {claims()[-1].id}, {', '.join(VERDICTS)}")
    return found


def page(language: Language) -> str:
    """The Markdown page of all sentences in one language."""
    counted = [(word, sum(one.verdict == word for one in claims())) for word in VERDICTS]
    counts = ("、" if language == "zh" else ", ").join(
        f"{VERDICTS[word][language]} {count}" if language == "zh" else f"{count} {_many(word, count)}"
        for word, count in counted
    )
    parts = [HEAD[language].format(count=len(claims()), counts=counts)]
    for topic, heading in topics().items():
        parts.append(f"## {heading[language]}\n")
        parts += [_entry(claim, language) for claim in claims() if claim.topic == topic]
    return "\n".join(parts)


def _many(verdict: str, count: int) -> str:
    word = VERDICTS[verdict]["en"]
    return f"{word}s" if verdict in ("open", "idea") and count != 1 else word


def _entry(claim: Claim, language: Language) -> str:
    """A sentence with its answer. Underscores and asterisks of formulas are escaped, names are set as code."""
    verdict = VERDICTS[claim.verdict][language]
    colon = "：" if language == "zh" else ": "
    lines = [
        f"### {claim.id} · {verdict}\n",
        f"> {_escaped(claim.says[language])}\n",
        f"{_escaped(claim.truth[language])}\n",
    ]
    label = LABELS["planned" if claim.state == "planned" else "lives"][language]
    if claim.lives:
        lines.append(f"- {label}{colon}{_listed(claim.lives)}")
    elif claim.state == "planned":
        lines.append(f"- {label}{colon}{'无' if language == 'zh' else 'nothing'}")
    if claim.decided_by:
        lines.append(f"- {LABELS['decided_by'][language]}{colon}{_listed(claim.decided_by)}")
    return "\n".join(lines).rstrip("\n") + "\n"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _escaped(text: str) -> str:
    for character in "\\*_[]<":
        text = text.replace(character, f"\\{character}")
    return text


def _claim(name: str, fields: dict) -> Claim:
    return Claim(
        id=name,
        topic=fields["topic"],
        says={language: fields[language] for language in LANGUAGES},
        verdict=fields["verdict"],
        truth={language: fields[f"truth_{language}"] for language in LANGUAGES},
        lives=tuple(fields.get("lives", ())),
        decided_by=tuple(fields.get("decided_by", ())),
        state=fields.get("state", "built"),
    )


@cache
def _file() -> dict:
    return tomllib.loads(files("engram").joinpath("claims.toml").read_text(encoding="utf-8"))


def write(folder: str) -> Iterable[str]:
    """Render both pages into a folder; gives their paths."""
    from pathlib import Path

    for language, name in (("en", "claims.md"), ("zh", "claims.zh-CN.md")):
        path = Path(folder) / name
        path.write_text(page(language), encoding="utf-8")
        yield str(path)


if __name__ == "__main__":
    print(*write("docs"), sep="\n")
