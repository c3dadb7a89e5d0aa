"""Every diagnosis, found by the registry: a card, named thresholds, facts that hold, quiet where it knows nothing."""

import ast
import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from engram import registry
from engram.clinic.clinic import LEVELS, Clinic
from engram.clinic.measured import History, Layer, Moment, Probe, Setup

NAMES = registry.names("diagnosis")


def module(name: str) -> object:
    return sys.modules[registry.find("diagnosis", name).build.__module__]


def test_there_are_diagnoses() -> None:
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_card_of_its_own_file(name: str) -> None:
    entry = registry.find("diagnosis", name)
    assert Path(inspect.getfile(entry.build)).stem == name
    assert len(module(name).__doc__ or "") > 500
    assert entry.summary.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_its_facts_hold(name: str) -> None:
    facts = registry.find("diagnosis", name).facts
    when = facts.get("when", "during")
    assert set((when,) if isinstance(when, str) else when) <= {"before", "during", "after"}
    assert facts.get("level", "standard") in LEVELS
    assert name not in facts.get("causes", ())
    assert all(one.isidentifier() for one in facts.get("causes", ()))


@pytest.mark.parametrize("name", NAMES)
def test_every_constant_says_where_it_comes_from(name: str) -> None:
    body = ast.parse(inspect.getsource(module(name))).body
    # a text behind a constant, or behind the last of several that stand together
    told = False
    for statement in reversed(body):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            told = True
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = statement.value
            number = isinstance(value, ast.Constant) and isinstance(value.value, float)
            assert told or not number, f"{name}: {statement.targets[0].id}"
        else:
            told = False


@pytest.mark.parametrize("name", NAMES)
def test_it_is_quiet_where_nothing_was_measured(name: str) -> None:
    build = registry.find("diagnosis", name).build
    assert build(History((Moment(0),))) == []
    assert build(History((Moment(0), Moment(1, loss=2.3, lr=0.1), Moment(2, loss=2.2)), Setup(num_classes=10))) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_numbers_at_their_limits_raise_nothing(name: str, value: float) -> None:
    layers = tuple(
        Layer(f"{place}", kind, place, value, value, value, 1.0, value, 4, dead=4, saturated=1.0, probed=1024)
        for place, kind in enumerate(["Conv2d", "ReLU", "Linear", "Tanh", "Linear", "ReLU", "Linear"])
    )
    probe = Probe(value, value, 0.1, (1.0, 0.0), (0.5, 0.5), (0.5, 0.5), value, value)
    moments = tuple(Moment(step, value, 0.1, value, layers=layers, probe=probe) for step in range(6))
    for finding in registry.find("diagnosis", name).build(History(moments, Setup(num_classes=2, total_steps=6))):
        assert finding.diagnosis == name
        assert str(finding)


def test_a_healthy_network_trains_without_a_critical_finding() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    y = (x[:, 0] + x[:, 1] > 0).long()
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    clinic = Clinic(net, optimizer, probe=(x, y), setup=Setup(total_steps=150))
    clinic.examine()
    for step in range(150):
        batch = slice(step % 8 * 64, step % 8 * 64 + 64)
        loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clinic.step(loss)
    clinic.finish()
    assert [str(one) for one in clinic.findings if one.severity != "information"] == []
    assert not [one for one in clinic.findings if "could not be measured" in one.says]
