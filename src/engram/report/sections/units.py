"""Units that no longer take part: those of rectifiers that are dead, those of tanh and sigmoid that are saturated."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram.clinic.diagnoses import dead_relus, saturation
from engram.report.charts import figure
from engram.report.heatmap import HEALTHY, MOST_ROWS, SICK, Level, heatmap, tint
from engram.report.insides import axis, place, quoted, short, when
from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run
from engram.report.words import count, number, percent, plural

ORDER = 16
TITLE = "Dead and saturated units"

TOLD, WARNING, CRITICAL = dead_relus.INFORMATION, dead_relus.WARNING, dead_relus.CRITICAL
MUCH, MOST = saturation.INFORMATION, saturation.CRITICAL


def _to(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {percent(high, 0)}"


DEAD = (
    Level("none", 0.0, tint(HEALTHY, 12)),
    Level(f"up to {percent(TOLD, 0)}", TOLD, tint(HEALTHY, 38)),
    Level(_to(TOLD, WARNING), WARNING, tint(SICK, 30)),
    Level(_to(WARNING, CRITICAL), CRITICAL, tint(SICK, 62)),
    Level(f"over {percent(CRITICAL, 0)}", 1.0, SICK),
)
SATURATED = (
    Level(f"up to {percent(MUCH / 2, 0)}", MUCH / 2, tint(HEALTHY, 12)),
    Level(_to(MUCH / 2, MUCH), MUCH, tint(HEALTHY, 38)),
    Level(_to(MUCH, MOST), MOST, tint(SICK, 45)),
    Level(f"over {percent(MOST, 0)}", 1.0, SICK),
)


def section(run: Run) -> Markup | None:
    if not run.probes:
        return None
    pictures = [one for one in (_dead(run), _saturated(run)) if one is not None]
    parts = [_none(run), tag("div", *pictures, class_="charts") if pictures else None]
    return join(parts) if any(parts) else None


def _none(run: Run) -> Markup | None:
    """A sentence in place of a picture without a dead unit in it."""
    shares, layers = _measured(run, "layer_dead")
    if not shares.size or np.nanmax(shares):
        return None
    moments, probed = plural(shares.shape[1], "moment"), count(run.probes["layer_probed"].max())
    every = "every unit" if len(layers) == 1 else f"every unit of {count(len(layers))} layers"
    told = f"No unit of a rectifier is dead: at each of {moments}, {every} answered to some of {probed} examples."
    return tag("p", told)


def _dead(run: Run) -> Markup | None:
    """Shares of units that are 0 for every example of the probe."""
    shares, layers = _measured(run, "layer_dead")
    if not shares.size or not np.nanmax(shares):
        return None
    at, share = _worst(shares[:, -1])
    units, probed = int(run.probes["layer_units"][layers[at]]), int(run.probes["layer_probed"][-1])
    name, now = quoted(run.probes["layer_name"][layers[at]]), when(run, int(run.probes["layer_step"][-1]))
    of = "" if len(layers) == 1 else f", the most of {count(len(layers))} layers"
    told = f"{count(share * units)} of the {count(units)} units of {name} ({percent(share, 0)}) are 0 for each of "
    told += f"{count(probed)} examples{of}"
    few = "" if probed >= dead_relus.SAMPLES else " Over so few examples, units that answer seldom look dead as well."
    caption = (
        f"{_verdict(share)}: at {now}, {told}. {_peak(run, shares, layers, share)}Healthy is up to {percent(TOLD, 0)}; "
        f"over {percent(WARNING, 0)} is a warning, over {percent(CRITICAL, 0)} critical while nothing is learned."
        f"{few}{_groups(layers)}"
    )
    return figure(_map(run, shares, layers, DEAD, "dead units"), "Dead units", caption)


def _verdict(share: float) -> str:
    if share == 0:
        return "No unit is dead any more"
    if share <= TOLD:
        return "Hardly any unit is dead"
    if share <= WARNING:
        return "Some units are dead"
    return "Many units of a layer are dead" if share <= CRITICAL else "Most units of a layer are dead"


def _saturated(run: Run) -> Markup | None:
    """Shares of values at the ends of the range of tanh and sigmoid; the last layer of all answers, and may."""
    shares, layers = _measured(run, "layer_saturated")
    inner = run.probes["layer_depth"][layers] < run.probes["layer_depth"].max(initial=0)
    shares, layers = shares[inner], layers[inner]
    if not shares.size:
        return None
    at, share = _worst(shares[:, -1])
    verdict = "Few values are saturated" if share <= MUCH else "Most values of a layer are saturated"
    name = quoted(run.probes["layer_name"][layers[at]])
    now = when(run, int(run.probes["layer_step"][-1]))
    of = "" if len(layers) == 1 else f", the most of {count(len(layers))} layers"
    caption = (
        f"{verdict}: at {now}, {percent(share, 0)} of the values of {name} stand at the ends of its range{of}. "
        f"{_peak(run, shares, layers, share)}Up to {percent(MUCH, 0)} is usual; more does harm where little gradient "
        f"arrives at the first layers or the loss stands still.{_groups(layers)}"
    )
    return figure(_map(run, shares, layers, SATURATED, "saturated values"), "Saturated units", caption)


def _measured(run: Run, name: str) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
    """(R, T) shares of the layers of which they were measured, and which layers these are; the last moment has one."""
    table = run.probes[name]
    table = np.where(np.isfinite(table), table, np.nan)
    known = np.isfinite(table[-1]) if len(table) else np.zeros(table.shape[1], bool)
    return table[:, known].T, np.flatnonzero(known)


def _worst(shares: NDArray[np.floating]) -> tuple[int, float]:
    at = int(shares.argmax())
    return at, float(shares[at])


def _peak(run: Run, shares: NDArray[np.floating], layers: NDArray[np.intp], now: float) -> str:
    """The highest of all moments, where it is worth telling beside that of the last."""
    most = float(np.nanmax(shares))
    if most < now + 0.05:
        return ""
    row, column = np.unravel_index(int(np.nanargmax(shares)), shares.shape)
    name = quoted(run.probes["layer_name"][layers[row]])
    return f"The most was {percent(most, 0)}, in {name} at {when(run, int(run.probes['layer_step'][column]))}. "


def _map(run: Run, shares: NDArray[np.floating], layers: NDArray[np.intp], levels: Sequence[Level], what: str) -> dict:
    moments = [number(place(run, step)) for step in run.probes["layer_step"].tolist()]
    names = [short(name) for name in run.probes["layer_name"][layers].tolist()]
    return heatmap(shares, names, moments, levels, x=axis(run), what=what)


def _groups(layers: NDArray[np.intp]) -> str:
    size = -(-len(layers) // MOST_ROWS)
    return "" if size < 2 else f" A row is the worst of {size} neighbouring layers, counted from the input on."
