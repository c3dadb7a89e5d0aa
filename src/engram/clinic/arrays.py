"""What the clinic measured as arrays in one small file, `probes/clinic.npz` of a run folder, to be read without torch.

    layer_step (T,)    layer_name, layer_kind (L,) text    layer_depth, layer_units (L,)    layer_probed (T,)
    layer_mean, layer_std, layer_largest, layer_zeros, layer_gradient, layer_dead, layer_saturated     (T, L)
    weight_step (U,)   weight_name, weight_kind, weight_shape (P,) text    weight_trainable (P,)
    weight_norm, weight_gradient, weight_update                                                        (U, P)
    loss_step, loss, lr (S,)
    probe_step, probe_loss, probe_loss_eval, probe_accuracy (V,)    probe_class (K,)    probe_predicted (V, K)

What each means is said in `measured.py`; `layer_dead` is a share of the units, `layer_probed` the samples over which it
was counted. Measured numbers are float32. NaN: not measured. Infinite: measured, and infinite or not a number.

A long run of a deep network would fill hundreds of megabytes, and a page shows some sixty columns. So:

- Moments are thinned out to at most `MOMENTS`, fewer where layers or parameters are many (`NUMBERS`). They lie evenly
  on log(1 + t) / log(1 + T) + t / T, t the steps since the first: close together at the start, where most happens, and
  evenly to the end. The first and the last moment are always there. Of two at one step the later counts.
- Of the losses, `LOSSES` stretches keep their lowest and their highest, so that no peak is lost.
- Numbers are rounded to `BITS` binary digits, one part in a thousand, which lets them be packed to half the size.
- Of many classes, the `CLASSES` that were predicted most.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram import atomic
from engram.clinic.measured import History, Layer, Moment, Weights
from engram.errors import UserError

Arrays = dict[str, NDArray[Any]]

MOMENTS = 60
"""Moments at most, of layers and of weights."""

LEAST_MOMENTS = 12
"""Moments that are kept however large the network is."""

NUMBERS = 75_000
"""Numbers at most that layers have, and that weights have: about 1.7 bytes each."""

LOSSES = 250
"""Stretches of the losses; each keeps two."""

BITS = 9
"""Binary digits of a number after its first: it is right to one part in a thousand."""

CLASSES = 100
"""Classes at most whose predicted shares are kept."""

LAYER: dict[str, Callable[[Layer], float | None]] = {
    "mean": lambda one: one.mean,
    "std": lambda one: one.std,
    "largest": lambda one: one.largest,
    "zeros": lambda one: one.zeros,
    "gradient": lambda one: one.gradient,
    "dead": lambda one: one.dead_share,
    "saturated": lambda one: one.saturated,
}
WEIGHT: dict[str, Callable[[Weights], float | None]] = {
    "norm": lambda one: one.norm,
    "gradient": lambda one: one.gradient,
    "update": lambda one: one.update,
}
AXES = {
    "layer_step": "T",
    "layer_probed": "T",
    **dict.fromkeys(("layer_name", "layer_kind", "layer_depth", "layer_units"), "L"),
    **{f"layer_{name}": "TL" for name in LAYER},
    "weight_step": "U",
    **dict.fromkeys(("weight_name", "weight_kind", "weight_shape", "weight_trainable"), "P"),
    **{f"weight_{name}": "UP" for name in WEIGHT},
    **dict.fromkeys(("loss_step", "loss", "lr"), "S"),
    **dict.fromkeys(("probe_step", "probe_loss", "probe_loss_eval", "probe_accuracy"), "V"),
    "probe_class": "K",
    "probe_predicted": "VK",
}
"""The axes of every array; those with one letter have one length."""

TEXTS = ("layer_name", "layer_kind", "weight_name", "weight_kind", "weight_shape")


def to_arrays(history: History) -> Arrays:
    """The history as arrays by name, thinned out as the module's docstring says.

    >>> relu = Layer("relu", "ReLU", 0, 0.5, 0.25, 3.0, 0.5, 0.1, units=4, dead=1, probed=1024)
    >>> arrays = to_arrays(History((Moment(1, loss=2.0), Moment(2, loss=1.0, layers=(relu,)))))
    >>> arrays["layer_step"].tolist(), arrays["layer_dead"].tolist(), arrays["loss"].tolist()
    ([2], [[0.25]], [2.0, 1.0])
    """
    return {
        **_layers(_by_step(history.probed())),
        **_weights(_by_step(history.weighed())),
        **_losses(history.moments),
        **_probes(_by_step([one for one in history.moments if one.probe])),
    }


def write(path: str | Path, history: History) -> None:
    """Write the history's arrays in one step; the folder is made where there is none.

    Raises:
        OSError: it cannot be written; a file that was there stays as it was.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "probes" / "clinic.npz"
    >>> write(path, History((Moment(1, loss=2.0),)))
    >>> read(path)["loss"].tolist()
    [2.0]
    """
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **to_arrays(history))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, file.getvalue())


def read(path: str | Path) -> Arrays:
    """The arrays of a file that `write` wrote: all of them, each of its kind, of lengths that fit together.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or holds something else.
    """
    try:
        # by its bytes: a damaged file would be left open
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            found = {name: file[name] for name in AXES}
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise UserError(f"{Path(path).name} holds no measurements of the clinic: {error.args[0]}") from None
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{Path(path).name} could not be read: {str(error) or type(error).__name__}") from None
    _check(found, Path(path).name)
    return found


def spread(steps: Sequence[int], most: int) -> list[int]:
    """Places of at most so many steps, the first and the last among them: close together first, then even.

    >>> steps = list(range(1, 1001))
    >>> [steps[place] for place in spread(steps, 8)]
    [1, 7, 40, 141, 312, 523, 755, 1000]
    """
    if len(steps) <= most:
        return list(range(len(steps)))
    since = np.asarray(steps, dtype=np.float64) - steps[0]
    scale = np.log1p(since) / math.log1p(since[-1]) + since / since[-1]
    wanted = np.linspace(0, 2, most)
    after = np.searchsorted(scale, wanted).clip(1, len(scale) - 1)
    nearest = after - (wanted - scale[after - 1] < scale[after] - wanted)
    return np.unique(nearest).tolist()


def _by_step(moments: Iterable[Moment]) -> list[Moment]:
    """In the order of their steps; of several at one step the last."""
    found = {one.step: one for one in moments}
    return [found[step] for step in sorted(found)]


def _chosen(moments: list[Moment], numbers: int) -> list[Moment]:
    """Those that are kept of a network for which each moment has so many numbers."""
    most = max(LEAST_MOMENTS, min(MOMENTS, NUMBERS // max(1, numbers)))
    return [moments[place] for place in spread([one.step for one in moments], most)]


def _layers(moments: list[Moment]) -> Arrays:
    # a network may call other layers at another time: every name it ever called, where it was called last
    known = {layer.name: layer for moment in moments for layer in moment.layers}
    layers = sorted(known.values(), key=lambda one: one.depth)
    moments = _chosen(
        moments, sum(sum(measure(one) not in (None, 0.0) for measure in LAYER.values()) for one in layers)
    )
    rows = [{layer.name: layer for layer in moment.layers} for moment in moments]
    return {
        "layer_step": _steps(moments),
        "layer_probed": np.array([max((one.probed for one in moment.layers), default=0) for moment in moments], int),
        "layer_name": _texts(one.name for one in layers),
        "layer_kind": _texts(one.kind for one in layers),
        "layer_depth": np.array([one.depth for one in layers], int),
        "layer_units": np.array([one.units for one in layers], int),
        **{f"layer_{name}": _table(rows, [one.name for one in layers], measure) for name, measure in LAYER.items()},
    }


def _weights(moments: list[Moment]) -> Arrays:
    known = {one.name: one for moment in moments for one in moment.weights.values()}
    weights = list(known.values())
    moments = _chosen(moments, len(WEIGHT) * len(weights))
    rows = [moment.weights for moment in moments]
    return {
        "weight_step": _steps(moments),
        "weight_name": _texts(one.name for one in weights),
        "weight_kind": _texts(one.kind for one in weights),
        "weight_shape": _texts(" × ".join(map(str, one.shape)) for one in weights),
        "weight_trainable": np.array([one.trainable for one in weights], bool),
        **{f"weight_{name}": _table(rows, list(known), measure) for name, measure in WEIGHT.items()},
    }


def _losses(moments: Sequence[Moment]) -> Arrays:
    kept = [one for one in moments if one.loss is not None]
    if len(kept) > 2 * LOSSES:
        height = _rounded([one.loss for one in kept])
        parts = np.array_split(np.arange(len(kept)), LOSSES)
        ends = {0, len(kept) - 1}
        ends |= {int(part[place]) for part in parts for place in (height[part].argmin(), height[part].argmax())}
        kept = [kept[place] for place in sorted(ends)]
    return {
        "loss_step": _steps(kept),
        "loss": _rounded([one.loss for one in kept]),
        "lr": _rounded([one.lr for one in kept]),
    }


def _probes(moments: list[Moment]) -> Arrays:
    probes = [one.probe for one in moments if one.probe is not None]
    classes = max((len(one.predicted) for one in probes), default=0)
    padded = [[*one.predicted, *[None] * (classes - len(one.predicted))] for one in probes]
    shares = _rounded(padded).reshape(len(probes), classes)
    most = np.sort(np.argsort(-np.nan_to_num(shares).sum(0), kind="stable")[:CLASSES])
    places = spread([one.step for one in moments], MOMENTS)
    return {
        "probe_step": _steps([moments[place] for place in places]),
        "probe_loss": _rounded([probes[place].loss for place in places]),
        "probe_loss_eval": _rounded([probes[place].loss_eval for place in places]),
        "probe_accuracy": _rounded([probes[place].accuracy for place in places]),
        "probe_class": most.astype(int),
        "probe_predicted": shares[places][:, most],
    }


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], measure: Callable[[Any], float | None]) -> NDArray:
    """(rows, names) what is measured of each, NaN where there is nothing."""
    told = [[measure(row[name]) if name in row else None for name in names] for row in rows]
    return _rounded(told).reshape(len(rows), len(names))


def _rounded(values: Any) -> NDArray[np.float32]:
    """As float32 with few binary digits; None becomes NaN, and NaN becomes infinite."""
    measured = np.asarray(values, dtype=object)
    missing = np.array([one is None for one in measured.flat], bool).reshape(measured.shape)
    numbers = np.where(missing, 0.0, measured).astype(np.float64)
    with np.errstate(over="ignore"):
        exact = np.where(np.isnan(numbers), np.inf, numbers).astype(np.float32)
    dropped = 23 - BITS
    bits = exact.view(np.uint32).astype(np.uint64)
    near = (((bits + (1 << (dropped - 1))) >> dropped) << dropped).astype(np.uint32).view(np.float32)
    shown = np.where(np.isinf(exact), exact, near)
    return np.where(missing, np.float32(np.nan), shown).astype(np.float32)


def _steps(moments: Sequence[Moment]) -> NDArray[np.int64]:
    return np.array([one.step for one in moments], np.int64)


def _texts(words: Iterable[str]) -> NDArray[np.str_]:
    return np.array(list(words), np.str_)


def _check(arrays: Arrays, name: str) -> None:
    """Refuse what does not fit together, before a page is drawn from it."""
    lengths: dict[str, int] = {}
    for key, axes in AXES.items():
        array = arrays[key]
        kind = "U" if key in TEXTS else "b" if key == "weight_trainable" else "f" if _is_number(key) else "iu"
        fits = array.ndim == len(axes) and array.dtype.kind in kind
        fits = fits and all(
            lengths.setdefault(axis, size) == size for axis, size in zip(axes, array.shape, strict=True)
        )
        if not fits:
            raise UserError(f"{name} could not be read: {key} is {array.dtype} of shape {array.shape}")
    for key in ("layer_step", "weight_step", "loss_step", "probe_step"):
        if (np.diff(arrays[key]) < 0).any():
            raise UserError(f"{name} could not be read: {key} goes back")


def _is_number(key: str) -> bool:
    return len(AXES[key]) == 2 or key in ("loss", "lr", "probe_loss", "probe_loss_eval", "probe_accuracy")
