"""Every diagnosis, found by the registry: a card, named thresholds, facts that hold, quiet where it knows nothing."""

import ast
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from engram import recipe as recipes
from engram import registry
from engram.cli import app
from engram.cli.settings import split
from engram.clinic.clinic import LEVELS, Clinic
from engram.clinic.finding import Remedy
from engram.clinic.measured import History, Layer, Moment, Probe, Setup
from engram.training import settle

NAMES = registry.names("diagnosis")


def module(name: str) -> object:
    return sys.modules[registry.find("diagnosis", name).build.__module__]


def changes(name: str) -> Iterator[dict[str, object]]:
    """Every change of the recipe that the file of a diagnosis writes down; what is computed in it is taken for 1."""
    known = vars(module(name))
    for node in ast.walk(ast.parse(inspect.getsource(module(name)))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy"):
            continue
        for part in (one for argument in node.args[1:] for one in ast.walk(argument)):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "changed_rate":
                yield {"optimizer.lr": 0.003}
            if not isinstance(part, ast.Dict):
                continue
            change = {}
            for key, value in zip(part.keys, part.values, strict=True):
                if isinstance(key, ast.Constant):
                    try:
                        change[str(key.value)] = eval(compile(ast.Expression(value), name, "eval"), dict(known))
                    except NameError:
                        change[str(key.value)] = 1
            if change:
                yield change


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
    assert set(facts.get("causes", ())) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_comes_from(name: str) -> None:
    entry = registry.find("diagnosis", name)
    assert (entry.paper and entry.year) or "no published rule" in (module(name).__doc__ or "")


def test_all_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as ended:
        app.main(["show", "diagnoses"])
    assert not ended.value.code
    told = capsys.readouterr().out
    for name in NAMES:
        assert re.search(rf"^ {name} .* {re.escape(registry.find('diagnosis', name).summary[:40])}", told, re.MULTILINE)


CHANGES = [(name, place, change) for name in NAMES for place, change in enumerate(changes(name))]


def test_changes_are_found() -> None:
    assert len(CHANGES) >= 15
    assert ("symmetric_weights", 0, {"initializer": ("he",)}) in CHANGES


@pytest.mark.parametrize(("name", "place", "change"), CHANGES)
def test_what_it_says_to_change_can_be_run(name: str, place: int, change: dict[str, object]) -> None:
    laid = recipes.build(change)
    settle.check_names(settle.suited(laid, full_batch=False)[0])
    # and the same as words of a command line
    words, settings = split(["train", *shlex.split(Remedy("", change).options)])
    assert words == ["train"]
    assert recipes.build(settings) == laid
    assert laid != recipes.Recipe() or change == {"regularizer": ()}, "it changes nothing"


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
