"""`engram show`, called as the command calls it; tests/cli/test_verbs.py starts the command itself."""

import json
import time
from importlib.resources import files

import pytest

from engram import registry
from engram.cli import network_memory, show_network
from engram.cli.show import KINDS, authors, show
from engram.errors import UserError
from engram.review.recall import MEASURES
from engram.review.reviewer import CLOCKS


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("NO_COLOR", "1")


def shown(capsys, *words, **options):
    assert show(*words, **options) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "models"])
def test_every_kind_has_a_list_a_card_and_json(capsys, kind):
    listed = shown(capsys, kind)
    rows = [json.loads(line) for line in shown(capsys, kind, json=True).splitlines()]
    assert rows
    for row in rows:
        assert row["name"] in listed
        assert set(row) >= {"name", "kind", "summary", "paper", "year", "settings"}
    card = shown(capsys, kind, rows[0]["name"])
    assert card.startswith(f"{rows[0]['kind']} {rows[0]['name']}\n")


def test_every_kind_of_the_registry_can_be_shown(capsys):
    assert set(KINDS) == {registry.plural(kind) for kind in registry.HOMES}
    contents = shown(capsys)
    assert all(f"engram show {kind}" in contents for kind in (*KINDS, "claims"))


def test_a_kind_that_is_still_empty_is_told(capsys, monkeypatch):
    monkeypatch.setitem(registry._entries, "regularizer", {})
    monkeypatch.setattr(registry, "_searched", {"regularizer"})
    assert shown(capsys, "regularizers") == "there are no regularizers\n"
    assert shown(capsys, "regularizers", json=True) == ""
    with pytest.raises(UserError, match="'l3' is not known"):
        show("regularizers", "l3")


@pytest.mark.parametrize("name", ["adam", "sgd", "momentum"])
def test_a_card_says_everything_once_and_shows_no_tests(capsys, name):
    card = shown(capsys, "optimizers", name)
    assert ">>>" not in card
    assert card.count(registry.find("optimizer", name).summary) == 1
    assert "--optimizer.lr" in card
    lines = [line for line in card.splitlines() if len(line) > 40]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("name", ["forgetting_curve", "shuffle"])
def test_the_card_of_a_review_has_the_settings_of_every_method(capsys, name):
    card = shown(capsys, "reviews", name)
    for line in (
        "--review.clock  [updates]  updates, steps, visits",
        "--review.measure  [probability]  probability, correct, relative",
        "--review.permuted  [False]  true, false",
    ):
        assert f"\n  {line}\n      " in card[card.index("settings of every method\n") :]
    of_every = json.loads(shown(capsys, "reviews", name, json=True))["settings_of_every_method"]
    assert list(of_every) == ["clock", "measure", "permuted"]
    assert of_every["clock"]["allowed"] == list(CLOCKS)
    assert of_every["measure"]["allowed"] == list(MEASURES)
    assert all(one["about"] for one in of_every.values())
    assert "settings of every method" not in shown(capsys, "optimizers", "adam")


def test_the_equation_of_a_card_keeps_its_place(capsys):
    assert "\n\n    m <- β₁m" in shown(capsys, "optimizers", "adam")


def test_networks_are_listed_with_what_they_cost_and_at_once(capsys):
    registry.names("model")
    began = time.process_time()
    listed = shown(capsys, "models")
    assert time.process_time() - began < 2
    for words in (("alexnet", "Krizhevsky et al.", "2012", "61.0 M", "724.4 M"), ("resnet20", "He et al.", "269,722")):
        line = next(line for line in listed.splitlines() if line.split()[:1] == [words[0]])
        assert all(word in line for word in words)
        assert "MiB" in line


def test_a_list_of_networks_fits_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = shown(capsys, "models")
    assert max(map(len, listed.splitlines())) <= 80
    assert "…" not in listed
    assert len([line for line in listed.splitlines() if "iB" in line]) == len(registry.names("model"))


def test_who_wrote_it():
    entry = registry.Entry("model", "x", str, "", "Simonyan and Zisserman 2014, table 1", 2014)
    assert authors(entry) == "Simonyan, Zisserman"
    assert authors(entry, most=1) == "Simonyan et al."


@pytest.mark.parametrize("columns", ["140", "80"])
def test_a_network_s_layers(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    card = shown(capsys, "models", "vgg_small")
    table = card[card.index("one input of 3x32x32") :]
    assert max(map(len, table.splitlines())) <= int(columns)
    assert "…" not in table
    for words in ("features.conv1_1 ", "sees", "training", "KiB", "adam", "batch of 128"):
        assert words in table
    assert ("multiply-adds" in table) == ("evaluation" in table) == (columns == "140")


def test_a_network_s_layers_in_other_directions():
    assert show_network.field([3, 5]) == "3x5"


def test_json_of_a_network_has_its_memory(capsys):
    facts = json.loads(shown(capsys, "models", "lenet5", json=True))
    assert facts["training_memory"] == network_memory.follow(registry.find("model", "lenet5"))


def test_every_network_is_on_file():
    held = json.loads(files("engram.cli").joinpath(network_memory.FILE).read_text(encoding="utf-8"))
    assert sorted(held) == sorted(registry.names("model"))


HEAVY = 45_000_000
"""Multiply-adds of networks that take seconds to follow."""


def entries_with(heavy):
    every = [registry.find("model", name) for name in registry.names("model")]
    return [entry for entry in every if (entry.facts["macs"] > HEAVY) == heavy]


@pytest.mark.parametrize("entry", entries_with(heavy=False), ids=lambda entry: entry.name)
def test_the_memory_on_file_is_what_is_found_afresh(entry):
    assert network_memory.training_memory(entry) == network_memory.follow(entry)


def one_of_each_family(entries):
    """The cheapest: the others are made of the same blocks, and following all takes minutes."""
    families = {entry.build.__module__: entry for entry in sorted(entries, key=lambda entry: -entry.facts["macs"])}
    return list(families.values())


@pytest.mark.slow
@pytest.mark.parametrize("entry", one_of_each_family(entries_with(heavy=True)), ids=lambda entry: entry.name)
def test_the_memory_on_file_of_large_networks(entry):
    assert network_memory.training_memory(entry) == network_memory.follow(entry)


def test_a_network_that_changed_is_followed_again(monkeypatch):
    entry = registry.find("model", "mlp")
    right = network_memory.follow(entry)
    facts = [entry.facts["parameters"], entry.facts["macs"]]
    for held, expected in (([*facts, 5], 5), ([facts[0] + 1, facts[1], 5], right), (None, right)):
        monkeypatch.setattr(network_memory, "_found", lambda held=held: {"mlp": held} if held else {})
        assert network_memory.training_memory(entry) == expected


def test_a_network_of_ones_own_has_a_card_without_costs(capsys, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text('from torch import nn\n\n\ndef net(num_classes):\n    """Mine."""\n    return nn.Linear(1, 1)\n')
    card = shown(capsys, "models", f"{own}:net")
    assert "Mine." in card
    assert json.loads(shown(capsys, "models", f"{own}:net", json=True))["training_memory"] is None


def test_claims(capsys):
    listed = shown(capsys, "claims")
    assert all(f" N{number} " in listed for number in range(1, 94))
    wrong = shown(capsys, "claims", "wrong")
    assert "N34" in wrong
    assert "N33" not in wrong
    whole = shown(capsys, "claims", "N34")
    for words in (
        "N34 · wrong",
        "the notes: ",
        "what is so: ",
        "AdaGrad",
        "engram.optimizers.adagrad",
        "test_adagrad_s_",
    ):
        assert words in whole
    assert "笔记：" in shown(capsys, "claims", "N34", language="zh")
    rows = [json.loads(line) for line in shown(capsys, "claims", json=True).splitlines()]
    assert [row["id"] for row in rows] == [f"N{number}" for number in range(1, 94)]
    assert json.loads(shown(capsys, "claims", "34", json=True))["verdict"] == "wrong"


def test_unknown_words_are_refused(capsys):
    with pytest.raises(UserError, match="'N99' is not known"):
        show("claims", "N99")
    with pytest.raises(UserError, match="language 'fr' is not known"):
        show("claims", language="fr")
    with pytest.raises(UserError) as refusal:
        show("claim_s")
    assert refusal.value.nearest == "claims"
