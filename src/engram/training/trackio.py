"""Trackio: findings as alerts of the run that is under way there, where somebody tracks with it.

    import trackio, engram
    trackio.init(project="photos")
    engram.train(data="photos/")

Nothing has to be asked for: where `trackio` was imported and a run of it was begun, every finding becomes an alert of
that run, which its dashboard shows and its webhooks hear. Critical findings are errors, the others warnings and
information.
"""

import sys
from collections.abc import Mapping
from typing import Any

from engram.clinic.finding import Finding

LEVELS = {"critical": "ERROR", "warning": "WARN", "information": "INFO"}


def alert(row: Mapping[str, Any]) -> None:
    """A sink: alerts of findings, silent about everything else and where nobody tracks.

    >>> alert({"event": "step", "step": 1})
    """
    trackio = sys.modules.get("trackio")  # importing it would slow those down who do not use it
    if trackio is None or row.get("event") != "finding":
        return
    found = Finding.from_dict(row["finding"])
    head, _, text = str(found).partition("\n")
    try:
        trackio.alert(title=head, text=text, level=getattr(trackio.AlertLevel, LEVELS[found.severity]))
    except Exception:  # no run is under way, or it cannot be reached: an alert must not cost the training
        return
