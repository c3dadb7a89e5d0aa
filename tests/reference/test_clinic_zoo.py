"""A small part of the disease zoo (bench/clinic): what is sick is found, what is unusual and well is no alarm.

The whole zoo, its precision and recall and the rivals' stand in docs/clinic.md.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "clinic"))

import bodies
import oracles
import trial as trials
import zoo
from digits import pictures
from diseases import DISEASES, DOSES, FRESH, LADDERS, MORE, THIRD
from healthy import HEALTHY
from score import Score, part, step_found, wilson
from truths import Truths, effect

from engram import registry
from engram.clinic.measured import Figures, History, Moment, Setup

# what the zoo measures beside the diagnoses is there for its own tests alone, whatever else their worker runs
ENTRIES = {name: registry.find("diagnosis", name) for name in registry.names("diagnosis")}
OWN = {name: entry for name, entry in ENTRIES.items() if not entry.build.__module__.startswith("engram.")}
for name in OWN:
    del registry._entries["diagnosis"][name]


@pytest.fixture(autouse=True)
def of_the_zoo(monkeypatch):
    monkeypatch.setitem(registry._entries, "diagnosis", {**registry._entries["diagnosis"], **OWN})


BY_KEY = {one.key: one for one in zoo.trials()}

SICK = {  # key: steps, as little as shows it
    "sick/last layer too large/mlp/clear/0": 4,
    "sick/units that are copies/tanh_mlp/clear/0": 4,
    "sick/blind to its input/mlp/clear/0": 4,
    "sick/answers mixed/mlp/clear/0": 4,
    "sick/left out of the optimiser/mlp/clear/0": 4,
    "sick/wrong backward/mlp/clear/0": 4,
    "sick/weights too small for the depth/tanh_mlp/gross/0": 8,
    "sick/a logarithm of 0/mlp/clear/0": 4,
    "sick/biases pushed down/lenet/clear/0": 8,
    "sick/rate too high, momentum/mlp/clear/0": 40,
    "sick/rate too low, momentum/mlp/clear/0": 40,
    "sick/decay too strong/mlp/clear/0": 40,
}

WELL = (
    "healthy/class weights on uneven classes/mlp/-/0",
    "healthy/residual branches that begin at 0/residual_mlp/-/0",
    "healthy/one layer used three times/deep_mlp/-/0",
    "healthy/last layer at a thousandth/mlp/-/0",
    "healthy/maxout/mlp/-/0",
    "healthy/mixup/mlp/-/0",
    "healthy/pixels of three values/mlp/-/0",
    "healthy/LAMB/mlp/-/0",
    "healthy/focal loss/mlp/-/0",
    "healthy/ReLU squared/mlp/-/0",
    "healthy/leaky ReLU/deep_mlp/-/0",
    "healthy/one linear layer/mlp/-/0",
)


@pytest.mark.slow
@pytest.mark.parametrize("key", SICK)
def test_a_clear_disease_is_found(key: str) -> None:
    trial = replace(BY_KEY[key], steps=SICK[key], total_steps=SICK[key])
    row = trials.carry_out(trial, pictures()).row
    assert step_found(row, DISEASES[trial.name].diagnosis) is not None, row["findings"]


@pytest.mark.slow
@pytest.mark.parametrize("key", WELL)
def test_unusual_practice_is_no_critical_alarm(key: str) -> None:
    trial = replace(BY_KEY[key], steps=57, total_steps=57)
    found = trials.carry_out(trial, pictures()).row["findings"]
    assert [one for one in found if one[1] == "critical"] == []


def test_every_body_stands_in_one_half_and_every_disease_in_both() -> None:
    assert not set(bodies.CALIBRATION) & set(bodies.HELD_OUT)
    assert set(bodies.CALIBRATION) | set(bodies.HELD_OUT) == set(bodies.BODIES)
    for name, disease in DISEASES.items():
        assert {bodies.half(one) for one in disease.bodies} == {"calibration", "held-out"}, name
        assert disease.diagnosis in registry.names("diagnosis")
    assert len({one.diagnosis for one in DISEASES.values()}) >= 20
    assert len(HEALTHY) >= 25
    assert sum(one.kind == "healthy" for one in BY_KEY.values()) >= 100


def test_the_second_look_is_at_runs_that_nobody_had_seen() -> None:
    second = [one for one in BY_KEY.values() if bodies.look(one.seed) == 2]
    assert {bodies.half(one.body) for one in second} == {"held-out"}
    for name, body in FRESH.items():
        assert bodies.half(body) == "held-out"
        assert body not in DISEASES[name].bodies
        seeds = {one.seed for one in BY_KEY.values() if one.name == name and one.body == body}
        assert {one for one in seeds if bodies.look(one) < 3} == {10, 11, 12}
    for name, more in MORE.items():
        assert {bodies.half(one) for one in more} == {"calibration"}
        assert not set(more) & set(DISEASES[name].bodies)
    assert part({"seed": 10, "body": "gru"}) == "second look"
    assert (part({"seed": 0, "body": "gru"}), part({"seed": 9, "body": "mlp"})) == ("held-out", "calibration")


def test_the_third_look_is_at_new_seeds_and_at_bodies_that_nothing_was_trained_of() -> None:
    third = [one for one in BY_KEY.values() if bodies.look(one.seed) == 3]
    assert {bodies.half(one.body) for one in third} == {"held-out"}
    assert {one.name for one in third if one.kind == "sick"} == set(THIRD)
    assert {one.body for one in third if one.kind == "control"} == {one for many in THIRD.values() for one in many}
    for body in bodies.FOR_THE_THIRD:
        assert {bodies.look(one.seed) for one in BY_KEY.values() if one.body == body} == {3}
    assert part({"seed": 20, "body": "vgg"}) == "third look"
    for name, ladder in LADDERS.items():
        assert {bodies.half(one) for one in ladder} == {"calibration"}
        for body in ladder:
            assert {one.dose for one in BY_KEY.values() if one.name == name and one.body == body} == set(DOSES)


def test_the_intervals_and_the_effect_are_the_textbook_ones() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)  # Wilson 1927, as R's prop.test without correction
    p, d = effect([3.0, 4.0, 5.0], [1.0, 2.0, 3.0], "last_loss")
    assert d == pytest.approx(2.0)
    assert p == pytest.approx(0.0353, abs=1e-3)  # t = 2.449 on 4 degrees of freedom, one side
    assert effect([3.0, 4.0, 5.0], [1.0, 2.0, 3.0], "accuracy")[0] > 0.9  # more is better there


def test_the_gradient_ratio_is_that_of_a_product_of_slopes() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), *(torch.nn.Linear(4, 4, bias=False) for _ in range(5)))
    for layer in net[1:]:
        torch.nn.init.eye_(layer.weight)
        layer.weight.data *= 0.5
    x, y = torch.randn(8, 1, 2, 2), torch.arange(8) % 4
    # four hidden layers: from the last to the first the gradient is halved three times
    assert oracles.gradient_ratio(net, x, y, trials.cross_entropy) == pytest.approx(0.125)


def test_a_run_is_right_or_wrong_by_its_oracle() -> None:
    measured = {"finite": True, "ratios": [1.0, 1.0], "start": {}, "still": 0.0, "dead": 0.4, "favourite": 0.1,
                "favourite_given": 0.1, "validation_accuracy": 0.9}  # fmt: skip
    row = {"key": "a", "kind": "sick", "name": "biases pushed down", "body": "mlp", "dose": "clear", "seed": 0,
           "findings": [["dead_relus", "warning", 4], ["overfitting", "critical", 9]], "measured": measured,
           "rivals": {}}  # fmt: skip
    well = {**row, "key": "b", "kind": "healthy", "measured": {**measured, "dead": 0.0}}
    assert Truths([row]).has("dead_relus", row) is True
    assert Truths([row]).has("lr_too_high", row) is None  # beside another disease nobody says
    score = Score([row, well])
    assert score.recall("dead_relus", "clear") == (1, 1)
    assert score.precision("dead_relus") == (1, 2)
    assert score.precision("overfitting") == (0, 2)
    assert score.alarmed(("critical",)) == 1


def test_an_accuracy_that_still_rises_has_not_fallen() -> None:
    def of(*accuracies: float) -> list[str]:
        moments = [Moment(e, figures=Figures(e, 1.0 - 0.1 * e, None, 1.0, one)) for e, one in enumerate(accuracies)]
        return [one.severity for one in registry.find("diagnosis", "overfitting").build(History(tuple(moments)))]

    assert of(0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9) == []  # the last five have a lower mean than the last three
    assert of(0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8) == ["critical"]


def test_a_loss_that_is_back_for_a_few_batches_is_not_lost() -> None:
    def of(back: int) -> list[str]:
        losses = [2.3] * 10 + [0.4] * 110 + [1.0] * back
        moments = tuple(Moment(step, loss=one, lr=0.1) for step, one in enumerate(losses, 1))
        history = History(moments, Setup(num_classes=10, total_steps=200))
        return [one.severity for one in registry.find("diagnosis", "lr_too_high").build(history)]

    assert of(14) == []  # the mean of 24 has not doubled
    assert of(24) == ["warning"]
