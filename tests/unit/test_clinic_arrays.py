"""The clinic's measurements in one small file: every number in its place, thinned out evenly, refused when damaged."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engram.clinic import arrays
from engram.clinic.measured import History, Layer, Moment, Probe, Weights
from engram.errors import UserError


def layer(name: str, depth: int, **numbers: float | None) -> Layer:
    told = {"mean": 0.5, "std": 1.5, "largest": 4.0, "zeros": 0.25, "gradient": 0.125, "units": 8} | numbers
    return Layer(name, "ReLU" if "relu" in name else "Linear", depth, **told)  # type: ignore[arg-type]


def weights(name: str, *shape: int, **numbers: float | None) -> Weights:
    return Weights(name, "Linear", shape, True, True, **({"norm": 4.0} | numbers))  # type: ignore[arg-type]


@pytest.fixture
def history() -> History:
    first = Moment(
        0,
        layers=(layer("fc", 0), layer("relu", 1, dead=2, probed=1024)),
        weights={"fc.weight": weights("fc.weight", 8, 3), "fc.bias": weights("fc.bias", 8, norm=0.0)},
        probe=Probe(2.5, 2.25, 0.5, (0.75, 0.25)),
    )
    losses = tuple(Moment(step, loss=3.0 - step, lr=0.5) for step in (1, 2))
    last = Moment(
        3,
        loss=math.nan,
        layers=(layer("relu", 1, std=math.nan, gradient=None, dead=None, saturated=0.75), layer("late", 0)),
        weights={"fc.weight": weights("fc.weight", 8, 3, norm=2.0, gradient=1e300, update=0.5)},
        probe=Probe(math.inf, 1.0),
    )
    return History((first, *losses, last))


def test_every_number_stands_at_its_step_and_name(tmp_path: Path, history: History) -> None:
    path = tmp_path / "probes" / "clinic.npz"
    arrays.write(path, history)
    found = arrays.read(path)
    assert list(found) == list(arrays.AXES)
    assert found["layer_step"].tolist() == found["weight_step"].tolist() == found["probe_step"].tolist() == [0, 3]
    names = found["layer_name"].tolist()
    assert sorted(names) == ["fc", "late", "relu"]
    assert names.index("fc") < names.index("relu")
    fc, late, relu = (names.index(name) for name in ("fc", "late", "relu"))
    assert found["layer_kind"][[fc, relu]].tolist() == ["Linear", "ReLU"]
    assert found["layer_depth"][[fc, late, relu]].tolist() == [0, 0, 1]
    assert found["layer_units"].tolist() == [8, 8, 8]
    assert found["layer_probed"].tolist() == [1024, 0]
    for name, value in (("mean", 0.5), ("std", 1.5), ("largest", 4.0), ("zeros", 0.25), ("gradient", 0.125)):
        np.testing.assert_array_equal(found[f"layer_{name}"][:, fc], [value, np.nan])
        np.testing.assert_array_equal(found[f"layer_{name}"][:, late], [np.nan, value])
    np.testing.assert_array_equal(found["layer_std"][:, relu], [1.5, np.inf])  # measured, and not a number
    np.testing.assert_array_equal(found["layer_gradient"][:, relu], [0.125, np.nan])  # not measured
    np.testing.assert_array_equal(found["layer_dead"][:, relu], [0.25, np.nan])
    np.testing.assert_array_equal(found["layer_saturated"][:, relu], [np.nan, 0.75])
    assert found["weight_name"].tolist() == ["fc.weight", "fc.bias"]
    assert found["weight_shape"].tolist() == ["8 × 3", "8"]
    assert found["weight_trainable"].tolist() == [True, True]
    np.testing.assert_array_equal(found["weight_norm"], [[4.0, 0.0], [2.0, np.nan]])
    np.testing.assert_array_equal(found["weight_gradient"], [[np.nan, np.nan], [np.inf, np.nan]])
    np.testing.assert_array_equal(found["weight_update"], [[np.nan, np.nan], [0.5, np.nan]])
    assert found["loss_step"].tolist() == [1, 2, 3]
    assert found["loss"].tolist() == [2.0, 1.0, math.inf]
    np.testing.assert_array_equal(found["lr"], [0.5, 0.5, np.nan])
    assert found["probe_loss"].tolist() == [2.5, math.inf]
    assert found["probe_loss_eval"].tolist() == [2.25, 1.0]
    np.testing.assert_array_equal(found["probe_accuracy"], [0.5, np.nan])
    assert found["probe_class"].tolist() == [0, 1]
    np.testing.assert_array_equal(found["probe_predicted"], [[0.75, 0.25], [np.nan, np.nan]])
    assert all(found[name].dtype == np.float32 for name, axes in arrays.AXES.items() if len(axes) == 2)


def test_numbers_are_right_to_one_part_in_a_thousand() -> None:
    values = np.exp(np.random.default_rng(0).normal(0, 9, 2000)) * np.random.default_rng(1).choice([-1, 1], 2000)
    rounded = arrays._rounded(values)
    assert np.abs(rounded / values - 1).max() < 1e-3
    assert len(np.unique(rounded.view(np.uint32) & ((1 << (23 - arrays.BITS)) - 1))) == 1


def test_an_empty_history_is_a_file_too(tmp_path: Path) -> None:
    arrays.write(tmp_path / "clinic.npz", History(()))
    found = arrays.read(tmp_path / "clinic.npz")
    assert found["layer_mean"].shape == found["weight_norm"].shape == found["probe_predicted"].shape == (0, 0)


def test_of_two_moments_at_a_step_the_later_counts() -> None:
    moments = (Moment(5, layers=(layer("fc", 0),)), Moment(5, layers=(layer("fc", 0, mean=2.0),)))
    found = arrays.to_arrays(History(moments))
    assert found["layer_step"].tolist() == [5]
    assert found["layer_mean"].tolist() == [[2.0]]


@pytest.mark.parametrize("total", [61, 300, 20_000])
def test_moments_lie_close_at_first_and_evenly_to_the_end(total: int) -> None:
    steps = [one for one in range(total + 1) if one % 10 == 0 or one & (one - 1) == 0]
    places = arrays.spread(steps, 40)
    chosen = np.array([steps[place] for place in places])
    assert len(chosen) <= 40
    assert (chosen[0], chosen[-1]) == (0, steps[-1])
    assert (np.diff(chosen) > 0).all()
    gaps = np.diff(chosen)
    assert gaps[: len(gaps) // 4].max() <= gaps[len(gaps) // 2 :].max()
    assert gaps.max() <= max(10, 0.07 * total)
    if total == 20_000:
        assert (chosen < 200).sum() > 8
        assert (chosen > total / 2).sum() > 8


def test_a_deep_network_and_a_long_run_stay_small(tmp_path: Path) -> None:
    """As many layers and parameters as ResNet-152 has, numbers that cannot be foreseen, ten thousand steps."""
    rng = np.random.default_rng(0)

    def moment(step: int) -> Moment:
        draws = np.exp(rng.normal(0, 1, (465, 7)))
        layers = tuple(
            Layer(f"layer{i // 100}.{i % 100}.conv", "Conv2d", i, *row[:3], row[3] * (i % 3 == 0), row[4], 256)
            for i, row in enumerate(draws.tolist())
        )
        held = {one.name: replaced(one.name, row) for one, row in zip(layers, draws.tolist(), strict=True)}
        return Moment(step, loss=draws[0, 0], lr=0.1, layers=layers, weights=held)

    def replaced(name: str, row: list[float]) -> Weights:
        return weights(f"{name}.weight", 64, 64, 3, 3, norm=row[4], gradient=row[5], update=row[6])

    shown = [moment(step) for step in range(0, 10_000, 150)]
    losses = [Moment(step, loss=float(rng.normal()), lr=0.1) for step in range(1, 10_000) if step % 150]
    history = History(tuple(sorted([*shown, *losses], key=lambda one: one.step)))
    arrays.write(tmp_path / "clinic.npz", history)
    assert (tmp_path / "clinic.npz").stat().st_size < 300_000
    found = arrays.read(tmp_path / "clinic.npz")
    assert len(found["layer_step"]) >= 25
    assert len(found["weight_step"]) >= 35
    assert {0, 9_900} <= set(found["layer_step"].tolist())


def test_losses_keep_their_peaks_and_their_ends() -> None:
    losses = [1.0] * 5000
    losses[1234], losses[4321] = 77.0, math.nan
    found = arrays.to_arrays(History(tuple(Moment(step, loss=loss, lr=0.1) for step, loss in enumerate(losses))))
    assert len(found["loss"]) <= 2 * arrays.LOSSES + 2
    assert {0, 1234, 4321, 4999} <= set(found["loss_step"].tolist())
    assert found["loss"].max() == math.inf


def test_the_classes_predicted_most_are_kept() -> None:
    shares = [0.0] * 300
    shares[7], shares[250] = 0.5, 0.5
    probe = Probe(1.0, 1.0, 0.5, tuple(shares))
    found = arrays.to_arrays(History((Moment(1, probe=probe),)))
    assert len(found["probe_class"]) == arrays.CLASSES
    kept = dict(zip(found["probe_class"].tolist(), found["probe_predicted"][0].tolist(), strict=True))
    assert (kept[7], kept[250], sum(kept.values())) == (0.5, 0.5, 1.0)


@pytest.mark.parametrize("name", ["layer_mean", "weight_update", "loss", "layer_name", "probe_predicted", "lr"])
def test_another_shape_or_kind_is_refused(tmp_path: Path, history: History, name: str) -> None:
    path = tmp_path / "clinic.npz"
    for wrong in (np.zeros((9, 9), np.float32), np.zeros(3, np.complex64), np.array([["a"]])):
        np.savez(path, **(arrays.to_arrays(history) | {name: wrong}))
        with pytest.raises(UserError, match=f"clinic.npz could not be read: {name} is "):
            arrays.read(path)


def test_steps_that_go_back_are_refused(tmp_path: Path, history: History) -> None:
    np.savez(tmp_path / "clinic.npz", **(arrays.to_arrays(history) | {"layer_step": np.array([3, 0])}))
    with pytest.raises(UserError, match="layer_step goes back"):
        arrays.read(tmp_path / "clinic.npz")


def test_what_is_no_such_file_is_refused(tmp_path: Path, history: History) -> None:
    path = tmp_path / "clinic.npz"
    with pytest.raises(FileNotFoundError):
        arrays.read(path)
    arrays.write(path, history)
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="clinic"):
            arrays.read(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(UserError, match="holds no measurements"):
        arrays.read(path)
    arrays_with_objects = arrays.to_arrays(history) | {"layer_name": np.array([{}, [], ()], dtype=object)}
    np.savez(path, allow_pickle=True, **arrays_with_objects)
    with pytest.raises(UserError, match="could not be read"):
        arrays.read(path)


def test_reading_and_writing_needs_no_torch() -> None:
    code = "import sys, engram.clinic.arrays; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
