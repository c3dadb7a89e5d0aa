"""What a diagnosis says: the numbers it saw, what they mean, what to try, what would prove it wrong, how sure it is."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

SEVERITIES = ("critical", "warning", "information")
"""Worst first. Critical: the run is lost or close to it. Warning: it costs accuracy or time. Information: a fact."""


@dataclass(frozen=True)
class Remedy:
    """What to try: a sentence, and where a recipe can say it, the settings to lay over the recipe and train again.

    Args:
        says: an order in plain words: "make the learning rate ten times smaller".
        change: dotted settings with their new values, as `engram train` takes them: {"optimizer.lr": 0.01}.

    >>> Remedy("make the learning rate ten times smaller", {"optimizer.lr": 0.01}).options
    '--optimizer.lr 0.01'
    """

    says: str
    change: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> str:
        """The change as words of a command line."""
        return " ".join(f"--{name} {_typed(value)}" for name, value in self.change.items())


@dataclass(frozen=True)
class Finding:
    """One diagnosis of one network at one step.

    Args:
        diagnosis: its registered name.
        severity: critical, warning or information.
        says: what was seen, in one sentence with its numbers and the threshold they crossed.
        means: why that matters, for somebody who has not read the paper.
        remedy: what to try first.
        refuted_by: the observation that would prove this finding wrong.
        confidence: 0 to 1, how often such a finding has been right.
        step: updates made when it was seen; 0 before training.
        where: the layers or parameters concerned, as the network names them; none for the whole network.
        seen: the numbers by name, thresholds among them, for files and pictures.
        consequence_of: diagnoses found beside it that may be its cause; `arranged` fills it in.

    >>> finding = Finding(
    ...     "loss_at_start", "critical", "the loss begins at 48.3; chance among 10 classes is 2.30",
    ...     means="the first steps only undo the first weights", remedy=Remedy("make the last layer's weights smaller"),
    ...     refuted_by="a loss near 2.30 on another batch", confidence=0.9, seen={"loss": 48.3, "chance": 2.3026},
    ... )
    >>> print(finding)
    critical: loss at start
      seen: the loss begins at 48.3; chance among 10 classes is 2.30
      means: the first steps only undo the first weights
      try: make the last layer's weights smaller
      wrong if: a loss near 2.30 on another batch
      sure: 90 %
    """

    diagnosis: str
    severity: str
    says: str
    means: str
    remedy: Remedy
    refuted_by: str
    confidence: float
    step: int = 0
    where: tuple[str, ...] = ()
    seen: Mapping[str, float | int | str] = field(default_factory=dict)
    consequence_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence {self.confidence} is not between 0 and 1")

    @property
    def title(self) -> str:
        """The diagnosis in words."""
        return self.diagnosis.replace("_", " ")

    def __str__(self) -> str:
        lines = [f"{self.severity}: {self.title}" + (f", step {self.step}" if self.step else "")]
        rows = [("seen", self.says), ("where", _some(self.where)), ("means", self.means), ("try", self.remedy.says)]
        rows += [("run", f"engram train … {self.remedy.options}" if self.remedy.change else "")]
        rows += [("wrong if", self.refuted_by), ("sure", f"{100 * self.confidence:.0f} %")]
        rows += [("perhaps a consequence of", ", ".join(one.replace("_", " ") for one in self.consequence_of))]
        return "\n".join(lines + [f"  {name}: {text}" for name, text in rows if text])

    def to_dict(self) -> dict[str, Any]:
        """The finding as `findings.json` has it; numbers that JSON cannot write are the words nan, inf and -inf."""
        return {
            "diagnosis": self.diagnosis,
            "severity": self.severity,
            "step": self.step,
            "where": list(self.where),
            "says": self.says,
            "seen": {name: _written(value) for name, value in self.seen.items()},
            "means": self.means,
            "remedy": {"says": self.remedy.says, "change": dict(self.remedy.change)},
            "refuted_by": self.refuted_by,
            "confidence": self.confidence,
            "consequence_of": list(self.consequence_of),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Finding":
        """The finding that `to_dict` wrote, here or in a later version that says more."""
        known = {one.name for one in fields(cls)}
        given = {name: value for name, value in row.items() if name in known}
        given["remedy"] = Remedy(row["remedy"]["says"], row["remedy"]["change"])
        for name in ("where", "consequence_of"):
            given[name] = tuple(row[name])
        return cls(**given)


def arranged(
    findings: Iterable[Finding], causes: Callable[[str], Iterable[str]] | Mapping[str, Iterable[str]]
) -> list[Finding]:
    """Findings to be read from the top: causes before their consequences, and otherwise the worst first.

    Args:
        causes: by a diagnosis, the diagnoses that it may be the cause of; a cause of something critical is listed
            where that would be, whatever its own severity.

    >>> one = Finding("lr_too_high", "warning", "", "", Remedy(""), "", 0.5)
    >>> other = Finding("dead_relus", "critical", "", "", Remedy(""), "", 0.9)
    >>> [(f.diagnosis, f.consequence_of) for f in arranged([other, one], {"lr_too_high": ["dead_relus"]})]
    [('lr_too_high', ()), ('dead_relus', ('lr_too_high',))]
    """
    findings = list(findings)
    of = causes if callable(causes) else lambda name: causes.get(name, ())
    present = {one.diagnosis for one in findings}
    effects = {name: [one for one in of(name) if one in present and one != name] for name in present}

    def reached(name: str, seen: set[str]) -> set[str]:  # everything that it may have caused, near or far
        for effect in effects[name]:
            if effect not in seen:
                seen.add(effect)
                reached(effect, seen)
        return seen

    below = {name: reached(name, set()) - {name} for name in present}
    # two diagnoses that may each be the other's cause tell no order
    below = {name: {one for one in far if name not in below[one]} for name, far in below.items()}
    worst = {name: min(_rank(one) for one in findings if one.diagnosis == name) for name in present}
    urgent = {name: min([worst[name], *(worst[one] for one in below[name])]) for name in present}
    depth = {name: sum(name in far for far in below.values()) for name in present}
    told = [
        replace(one, consequence_of=tuple(c for c in sorted(present) if one.diagnosis in below[c])) for one in findings
    ]
    return sorted(
        told, key=lambda one: (urgent[one.diagnosis], depth[one.diagnosis], _rank(one), -one.confidence, one.step)
    )


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _some(names: tuple[str, ...], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _written(value: float | int | str) -> float | int | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _typed(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return ",".join(map(str, value)) or "none" if isinstance(value, list | tuple) else f"{value}"
