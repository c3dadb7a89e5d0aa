"""What every registered thing keeps of its settings: a switch is true or false, a number a number, or it is refused."""

import inspect
import math
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
import torch
from torch import nn

from engram import registry
from engram.errors import UserError
from engram.review import export, memory, methods
from engram.review.ledger import Ledger

SWITCHES = [
    (kind, name, setting)
    for kind in registry.HOMES
    for name in registry.names(kind)
    for setting, parameter in inspect.signature(registry.find(kind, name).build).parameters.items()
    if isinstance(parameter.default, bool) or bool in (parameter.annotation, *get_args(parameter.annotation))
]
NO_TRUTH: list[Any] = ["no", "yes", "False", "True", "off", "", "abc", 0, 1, 0.0, math.nan, (), (True,)]
NO_NUMBER: list[Any] = ["abc", "", "nan", "-1", "0.5", math.nan, math.inf, -math.inf, True, False, (1, 2), [0.5]]
NEGATIVE = {("half_life", "bias"), ("half_life", "right"), ("half_life", "wrong")}
"""Weights of a sum, which may be below 0."""

ids = "-".join


def parameter_of(kind: str, name: str, setting: str) -> inspect.Parameter:
    return inspect.signature(registry.find(kind, name).build).parameters[setting]


def test_there_are_switches_of_many_kinds():
    assert {"model", "writer", "captioner", "optimizer", "review"} <= {kind for kind, _, _ in SWITCHES}


@pytest.mark.parametrize(("kind", "name", "setting"), SWITCHES, ids=map(ids, SWITCHES))
def test_a_switch_says_that_it_is_one(kind, name, setting):
    """By its annotation, from which it is known: without one it would take any word as true."""
    annotation = parameter_of(kind, name, setting).annotation
    assert annotation is bool or set(get_args(annotation)) <= {bool, NoneType, str}


@pytest.mark.parametrize(("kind", "name", "setting"), SWITCHES, ids=map(ids, SWITCHES))
def test_a_switch_takes_true_and_false_and_nothing_else(kind, name, setting):
    entry, types = registry.find(kind, name), get_args(parameter_of(kind, name, setting).annotation)
    for value in (True, False, *([None] if NoneType in types else [])):
        registry.check_settings(entry, {setting: value})
    if str in types:  # it takes words as well, and its builder knows which
        return
    for value in (*NO_TRUTH, *([] if NoneType in types else [None])):
        with pytest.raises(UserError, match=f"{name}: {setting} cannot be ") as told:
            registry.check_settings(entry, {setting: value})
        assert str(told.value.allowed).endswith("true or false")
        assert told.value.exit_code == 2


@pytest.mark.parametrize("name", registry.names("attribution"))
def test_a_map_is_signed_or_not(name):
    build = registry.find("attribution", name).build
    if "signed" in inspect.signature(build).parameters:
        with pytest.raises(UserError, match=f"{name}: signed cannot be 'no'"):
            build(nn.Linear(4, 2), torch.ones(1, 4), signed="no")


BUILT = [
    (kind, name, setting)
    for kind in ("review", "memory")
    for name in registry.names(kind)
    for setting in inspect.signature(registry.find(kind, name).build).parameters
]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("earlier") / "ledger.parquet"
    export.write(Ledger(4), path)
    return path


@pytest.mark.parametrize("route", ["by name", "its function"])
@pytest.mark.parametrize(("kind", "name", "setting"), BUILT, ids=map(ids, BUILT))
def test_no_setting_of_a_review_or_a_memory_takes_nonsense(kind, name, setting, route, ledger):
    """What is of the wrong kind is refused in words, by a recipe's way and by Python's; no traceback, and no NaN."""
    entry, parameter = registry.find(kind, name), parameter_of(kind, name, setting)
    types = set(get_args(parameter.annotation)) or {parameter.annotation}
    if types & {int, float}:
        wrong = [*NO_NUMBER, *([] if (name, setting) in NEGATIVE else [-1]), *([] if NoneType in types else [None])]
    elif bool in types:
        wrong = [*NO_TRUTH, None]
    else:
        wrong = [*NO_NUMBER, None]
    given = {"scores": str(ledger)} if "scores" in inspect.signature(entry.build).parameters else {}
    build = {"review": methods.build, "memory": memory.build}[kind]
    for value in wrong:
        settings = {**given, setting: value}
        with pytest.raises(UserError) as told:
            build(name, settings) if route == "by name" else entry.build(**settings)
        assert told.value.exit_code == 2
        if types & {int, float, bool}:
            assert f"{setting} cannot be {value!r}" in told.value.given
            assert told.value.allowed
