"""What the zoo's calibration half taught single diagnoses: each rule on the numbers that it must tell apart."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engram import registry
from engram.clinic.finding import Finding
from engram.clinic.measured import Figures, History, Moment, Probe, Setup, Weights
from engram.clinic.residuals import additions
from engram.clinic.subject import Subject


def diagnose(name: str, moments: list[Moment], **setup: Any) -> list[Finding]:
    return list(registry.find("diagnosis", name).build(History(tuple(moments), Setup(num_classes=10, **setup))))


def weights(norm: float, update: float | None, name: str = "fc.weight") -> dict[str, Weights]:
    return {name: Weights(name, "Linear", (4, 4), True, True, norm, 1.0, update)}


def first_steps(length: float, loss: float, *, start: float = 1.0, steps: int = 30) -> list[Moment]:
    """A run whose first step is so many times as long as the weights, and which comes down to a loss."""
    losses = [2.3 - (2.3 - loss) * min(1.0, step / 20) for step in range(1, steps + 1)]
    moments = [Moment(step, one, 0.2) for step, one in enumerate(losses, 1)]
    moments[0] = replace(moments[0], weights=weights(math.hypot(start, length), length))
    return [Moment(0, weights=weights(start, None)), *moments]


@pytest.mark.parametrize(
    ("length", "loss", "start", "expected"),
    [
        (1.5, 1.2, 1.0, ["warning"]),  # an LSTM under forty times its rate: 2.4, and the loss goes on down
        (0.9, 1.2, 1.0, []),
        (1.5, 0.5, 1.0, []),  # most of the task is learned all the same
        (1.5, 1.2, 0.0, []),  # a matrix that begins at 0 is all step
    ],
)
def test_a_first_step_longer_than_the_weights_is_a_rate_too_high(
    length: float, loss: float, start: float, expected: list[str]
) -> None:
    moments = first_steps(length, loss, start=start)
    found = diagnose("lr_too_high", moments, total_steps=128, lr=0.2)
    assert [one.severity for one in found] == expected
    if found:
        assert found[0].remedy.change == {"optimizer.lr": 0.02}
        assert found[0].seen["first_step"] == pytest.approx(length / start)
        assert diagnose("lr_too_high", moments[:20], total_steps=128, lr=0.2) == []  # under a fifth of the run
        assert diagnose("lr_too_high", moments[1:], total_steps=128, lr=0.2) == []  # unknown what was before


@pytest.mark.parametrize(
    ("before", "since", "at", "loss", "expected"),
    [
        (2e-3, 3e-5, 12, 2.2, ["warning"]),  # the loss had not begun to fall
        (2e-3, 3e-4, 12, 2.2, []),  # the steps still lead somewhere
        (1e-4, 1e-5, 12, 2.2, []),  # they never did: `lr_too_low` says so
        (2e-3, 3e-5, 70, 2.2, []),  # in the second half
        (2e-3, 3e-5, 12, 0.5, []),  # little is left to learn
    ],
)
def test_a_rate_taken_before_the_loss_fell_is_told_by_the_steps(
    before: float, since: float, at: int, loss: float, expected: list[str]
) -> None:
    moments = [Moment(step, 2.3 if step < 8 else loss, 0.1 if step < at else 0.001) for step in range(1, 101)]
    moments[9] = replace(moments[9], weights=weights(1.0, before))
    moments[89] = replace(moments[89], weights=weights(1.0, since))
    found = diagnose("lr_decayed_early", moments, total_steps=128)
    assert [one.severity for one in found if one.severity != "information"] == expected
    assert all((one.seen["update_before"], one.seen["update"]) == (before, since) for one in found)


@pytest.mark.parametrize(
    ("accuracy", "validation", "expected"),
    [
        (0.47, 0.33, ["underfitting"]),  # 0.50 is missing in training, 0.14 more in validation
        (0.70, 0.40, []),  # more is lost on the way to validation than is missing in training
        (0.70, 0.65, ["underfitting"]),
        (0.80, 0.75, []),
    ],
)
def test_what_is_missing_in_training_is_held_against_the_gap(
    accuracy: float, validation: float, expected: list[str]
) -> None:
    own = {"underfitting": {"neighbour": 0.97, "linear": 0.94, "examples": 1024}}
    given = (0.1,) * 10
    moments = [Moment(step, 1.3) for step in range(1, 101)]
    moments.append(Moment(100, figures=Figures(7.0, 1.3, accuracy, 1.5, validation)))
    moments.append(Moment(100, probe=Probe(1.3, 1.3, accuracy, given, given, given), own=own))
    assert [one.diagnosis for one in diagnose("underfitting", moments)] == expected


@pytest.mark.parametrize(
    ("apart", "loss", "expected"), [(3.0, 2.5, 1), (3.0, 1.5, 0), (2.6, 2.5, 0), (3.0, 0.95 * math.log(10) + 1e-6, 1)]
)
def test_suspects_cost_as_much_as_guessing(apart: float, loss: float, expected: int) -> None:
    own = {"count": 40, "of": 1000, "apart": apart, "indices": [1], "names": ["a"], "loss": loss, "loss_of_others": 0.1}
    assert len(diagnose("label_errors", [Moment(240, own={"label_errors": own})])) == expected


class Shifted(nn.Module):
    """A branch behind a norm whose factor has faded: what is left is its shift, the same for every example."""

    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        nn.init.constant_(self.norm.weight, factor)
        nn.init.constant_(self.norm.bias, shift)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.inner(x))


def of_blocks(*nets: nn.Module) -> list[Moment]:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 8, generator=rng), torch.arange(64) % 10
    measure = registry.find("diagnosis", "residual_identity").facts["measure"]
    return [
        Moment(step, 1.0, own={"residual_identity": measure(Subject(net, x, y, num_classes=10))})
        for step, net in enumerate(nets, 1)
    ]


def test_a_branch_that_adds_the_same_to_every_example_is_the_identity() -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 10)
    fresh, faded = nn.Sequential(Shifted(1.0, 0.0), head), nn.Sequential(Shifted(1e-4, 0.3), head)
    (found,) = diagnose("residual_identity", of_blocks(fresh, faded))
    assert found.severity == "warning"
    assert diagnose("residual_identity", of_blocks(fresh, nn.Sequential(Shifted(0.1, 0.0), head))) == []


def test_the_ratio_of_a_branch_is_that_of_what_varies() -> None:
    torch.manual_seed(0)
    block, x = Shifted(0.5, 7.0).train(), torch.randn(64, 8)
    with torch.no_grad(), additions(block) as seen:
        block(x)
    # batch norm gives every unit the variance 0.25; what it shifts by counts for nothing
    expected = 0.5 / x.double().std(0, correction=0).square().mean().sqrt().item()
    assert seen.found[0].ratio == pytest.approx(expected, rel=1e-3)
