"""Precision, recall, steps to detection, confusion and false alarms, of the clinic and of its rivals."""

import math
import statistics
from collections import Counter

from bodies import half, look
from diseases import DISEASES, DOSES
from healthy import LEAST_ACCURACY, SHORT
from rivals import SPEAKS_OF
from truths import Row, Truths

from engram.clinic.clinic import causes_of
from engram.clinic.finding import SEVERITIES, Finding, Remedy, arranged

PARTS = ("calibration", "held-out", "second look", "third look")
"""The half that thresholds are set on; the other, which was looked at first; its bodies, and others, trained anew; and
anew once more, of one disease."""

LISTS = ("label_errors", "pooling_routes")
"""Diagnoses that never say more than a fact by intention: said at all, they count as found."""


def part(row: Row) -> str:
    """One of `PARTS`."""
    return half(row["body"]) if look(row["seed"]) == 1 else PARTS[look(row["seed"])]


def wilson(found: int, of: int) -> tuple[float, float]:
    """95 % interval of a share.

    >>> [round(one, 3) for one in wilson(9, 9)]
    [0.701, 1.0]
    """
    if not of:
        return 0.0, 1.0
    z, share = 1.96, found / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    wide = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - wide), min(1.0, middle + wide)


def step_found(row: Row, diagnosis: str) -> int | None:
    """Step of the first finding that counts: a warning or worse, of `LISTS` any."""
    counts = SEVERITIES if diagnosis in LISTS else SEVERITIES[:2]
    return min(
        (step for name, severity, step in row["findings"] if name == diagnosis and severity in counts), default=None
    )


def rival_found(row: Row, tool: str, diagnosis: str) -> bool:
    """Whether a rule that speaks of it spoke."""
    return any(diagnosis in SPEAKS_OF[tool][rule] for rule, _ in row["rivals"][tool])


def speaks(tool: str, diagnosis: str) -> bool:
    """Whether a tool has a rule for it."""
    return any(diagnosis in of for of in SPEAKS_OF[tool].values())


def is_well(row: Row) -> bool:
    """Whether a run that should be healthy is: it has learned, or was cut short on purpose."""
    return row["name"] in SHORT or row["measured"]["validation_accuracy"] >= LEAST_ACCURACY


class Score:
    """All figures of one part of the zoo, which has its own controls, or of all."""

    def __init__(self, rows: list[Row], only: str | None = None) -> None:
        self.rows = [row for row in rows if only is None or part(row) == only]
        truths = Truths(self.rows)
        self.diagnoses = list(dict.fromkeys([one.diagnosis for one in DISEASES.values()] + ["pooling_routes"]))
        self.truth = {(row["key"], one): truths.has(one, row) for row in self.rows for one in self.diagnoses}
        self.healthy = [row for row in self.rows if row["kind"] != "sick" and is_well(row)]
        self.unwell = [row for row in self.rows if row["kind"] != "sick" and not is_well(row)]

    def own(self, diagnosis: str, dose: str) -> list[Row]:
        """Sick runs made for a diagnosis, whose oracle agrees; pooling has no recipe of its own: all that have it."""
        if diagnosis == "pooling_routes":
            rows = [row for row in self.rows if row["dose"] == dose]
        else:
            rows = [r for r in self.rows if r["dose"] == dose and DISEASES[r["name"]].diagnosis == diagnosis]
        return [row for row in rows if self.truth[row["key"], diagnosis]]

    def made(self, diagnosis: str, dose: str) -> int:
        """How many runs were made sick so, whatever the oracle says."""
        return sum(row["dose"] == dose and DISEASES[row["name"]].diagnosis == diagnosis for row in self.rows)

    def recall(self, diagnosis: str, dose: str, tool: str | None = None) -> tuple[int, int]:
        """(found, of) among the runs that have it."""
        rows = self.own(diagnosis, dose)
        if tool is None:
            return sum(step_found(row, diagnosis) is not None for row in rows), len(rows)
        return sum(rival_found(row, tool, diagnosis) for row in rows), len(rows)

    def precision(self, diagnosis: str, tool: str | None = None) -> tuple[int, int]:
        """(right, of) among the runs in which it was found and the oracle can say; the unwell are left out."""
        right = of = 0
        left_out = {row["key"] for row in self.unwell}
        for row in self.rows:
            truth = self.truth[row["key"], diagnosis]
            found = step_found(row, diagnosis) is not None if tool is None else rival_found(row, tool, diagnosis)
            if found and truth is not None and row["key"] not in left_out:
                right, of = right + truth, of + 1
        return right, of

    def steps(self, diagnosis: str) -> float | None:
        """Median step of the first finding, at a clear dose; 0 is before training."""
        found = [step_found(row, diagnosis) for row in self.own(diagnosis, "clear")]
        seen = [one for one in found if one is not None]
        return statistics.median(seen) if seen else None

    def alarms(self, severity: str) -> list[tuple[str, str]]:
        """(diagnosis, run) of every finding of a severity in a healthy run."""
        return [
            (name, row["key"])
            for row in self.healthy
            for name in sorted({name for name, how, _ in row["findings"] if how == severity})
        ]

    def rival_alarms(self, tool: str) -> Counter[str]:
        """How many healthy runs each of a tool's rules spoke in."""
        return Counter(rule for row in self.healthy for rule, _ in row["rivals"][tool])

    def alarmed(self, severities: tuple[str, ...]) -> int:
        """Healthy runs with any finding of these severities."""
        return sum(any(how in severities for _, how, _ in row["findings"]) for row in self.healthy)

    def first(self, diagnosis: str) -> tuple[int, int]:
        """(runs in which it stands at the top of the list, runs in which it was found), clear and gross."""
        rows = [
            row for dose in DOSES[1:] for row in self.own(diagnosis, dose) if step_found(row, diagnosis) is not None
        ]
        return sum(top(row) == diagnosis for row in rows), len(rows)

    def beside(self, diagnosis: str) -> Counter[str]:
        """What else was found, warnings and worse, at a clear dose: how often."""
        rows = self.own(diagnosis, "clear")
        return Counter(
            name
            for row in rows
            for name in {name for name, how, _ in row["findings"] if how != "information" and name != diagnosis}
        )


def top(row: Row) -> str | None:
    """The diagnosis that a person reads first."""
    findings = [
        Finding(name, severity, "", "", Remedy(""), "", 0.5, step)
        for name, severity, step in row["findings"]
        if severity != "information"
    ]
    return arranged(findings, causes_of)[0].diagnosis if findings else None
