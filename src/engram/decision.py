"""One setting that a run decided by itself, with its reason: what `--plan` prints and environment.json keeps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """`setting` became `value` because of `reason`."""

    setting: str
    value: str
    reason: str
