"""`engram show claims`: the notes sentence by sentence, with the verdict; one alone with its whole answer."""

from typing import TYPE_CHECKING

from engram.cli.printing import console, plain

if TYPE_CHECKING:
    from engram.claims import Claim, Language


def show(word: str, *, language: str, json: bool) -> int:
    """Print the claims that a word asks for.

    Raises:
        UserError: an unknown claim or language.
    """
    import json as jsonlib
    from dataclasses import asdict

    from engram import claims
    from engram.errors import unknown

    known = {one: one for one in claims.LANGUAGES}
    if language not in known:
        raise unknown("language", language, known, then="engram show claims --language zh")
    found = claims.find(word)
    if json:
        for claim in found:
            print(jsonlib.dumps(asdict(claim), ensure_ascii=False))
    elif len(found) == 1:
        card(found[0], known[language])
    else:
        overview(found, known[language])
    return 0


def overview(found: list["Claim"], language: "Language") -> None:
    """A row a sentence, under the headings of the notes."""
    from rich import box
    from rich.table import Table

    from engram.claims import VERDICTS, topics

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    for width in (3, max(len(word[language]) * (2 if language == "zh" else 1) for word in VERDICTS.values())):
        table.add_column(min_width=width, no_wrap=True)
    table.add_column()
    for topic, heading in topics().items():
        rows = [claim for claim in found if claim.topic == topic]
        if rows:
            table.add_row("", "", f"[bold]{plain(heading[language])}[/bold]")
        for claim in rows:
            table.add_row(claim.id, VERDICTS[claim.verdict][language], plain(claim.says[language]))
        table.add_section()
    screen = console()
    screen.print(table)
    screen.print(f"engram show claims {found[0].id}" + ("" if language == "en" else f" --language {language}"))


def card(claim: "Claim", language: "Language") -> None:
    """One sentence: what the notes say, what is so, where it lives, what decides it."""
    from engram.claims import LABELS, VERDICTS

    screen = console()
    colon = "：" if language == "zh" else ": "
    screen.print(f"[bold]{claim.id}[/bold] · {VERDICTS[claim.verdict][language]}\n")
    for label, text in (("says", claim.says), ("truth", claim.truth)):
        screen.print(f"{LABELS[label][language]}{colon}{plain(text[language])}\n")
    lives = "planned" if claim.state == "planned" else "lives"
    for label, names in ((lives, claim.lives), ("decided_by", claim.decided_by)):
        if names or label == "planned":
            screen.print(f"{LABELS[label][language]}{colon}" + ("" if names else "–"))
        for name in names:
            screen.print(f"  {plain(name)}", soft_wrap=True)
