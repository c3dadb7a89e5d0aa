"""What a network that writes has written, from its first attempts to the last."""

from collections.abc import Mapping
from typing import Any

from engram.clinic.arrays import spread
from engram.report.insides import when
from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import number, plural

ORDER = 11
TITLE = "What it writes"

EARLIER = 5
"""Samples that are shown besides the newest."""
LONGEST, SHORTEST = 4_000, 300
"""Characters of the newest that are shown, and of an earlier one."""


def section(run: Run) -> Markup | None:
    if not run.written:
        return None
    *earlier, newest = run.written
    parts = [tag("p", _told(run)), tag("h3", _title(run, newest)), _sample(newest, LONGEST)]
    if earlier:
        steps = [int(finite(one.get("step")) or place) for place, one in enumerate(earlier)]
        shown = [earlier[place] for place in spread(steps, EARLIER)]
        inner = [piece for one in shown for piece in (tag("h3", _title(run, one)), _sample(one, SHORTEST))]
        parts.append(tag("details", tag("summary", f"{plural(len(shown), 'earlier sample')}"), *inner, open=True))
    return join(parts)


def _told(run: Run) -> str:
    prompts = {str(one.get("prompt") or "") for one in run.written}
    begin = ", each from its prompt, in bold" if prompts - {""} else ""
    return (
        f"Drawn token by token from what the network foresees, {plural(len(run.written), 'time')} during training"
        f"{begin}. Not chosen: what came is what stands here."
    )


def _title(run: Run, one: Mapping[str, Any]) -> str:
    step, temperature = finite(one.get("step")), finite(one.get("temperature"))
    at = "At an unknown time" if step is None else f"At {when(run, int(step))}"
    return at if temperature is None else f"{at}, temperature {number(temperature)}"


def _sample(one: Mapping[str, Any], most: int) -> Markup:
    prompt = text(one.get("prompt") or "", limit=most)
    return tag("pre", tag("b", prompt) if prompt else None, text(one["text"], limit=most))
