"""Cells that mean something: found where they were put in by hand, and not where nothing is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from engram.errors import UserError
from engram.layers.recurrent import RNN
from engram.models.char_rnn import CharRNN, char_gru, char_lstm, char_rnn
from engram.recurrence import text_features
from engram.recurrence.cells import beyond, follow, most
from engram.recurrence.information import CUTS, above, entropy, information, levels
from engram.recurrence.look import look, look_back, profile, untrained
from engram.recurrence.reading import at_steps, read, spell
from engram.recurrence.text_features import features
from engram.text.vocabulary import Bytes, Characters, Words

SPEECH = 'He said "yes, {0}" and (so {1}) left.\n  Then "no" came.\n\nANNA:\nNever {0}!\n'


def passage(lines: int = 30, seed: int = 0) -> str:
    """Text in which quotes, brackets, names and indentation come and go."""
    rng = np.random.default_rng(seed)
    words = ["indeed", "o", "my lord 7", "go away", "if ever there was one", "so"]
    return "".join(SPEECH.format(*rng.choice(words, 2)) for _ in range(lines))


def quote_keeper(letters: Characters, others: int = 5) -> CharRNN:
    """A vanilla network whose first unit is near 1 inside quotes and near -1 outside; the others are random.

    a = g (h + 2 s) with s = 1 at a quote: h keeps its sign without one, and a quote has to turn it round, which a sum
    cannot do; so there are two marks, “ and ”, as typeset text has.
    """
    torch.manual_seed(0)
    net = CharRNN(len(letters), RNN(len(letters), 1 + others))
    weights = net.recurrent.weights_of(0)
    with torch.no_grad():
        for bias in weights.bias_ih, weights.bias_hh:
            bias[0] = 0
        weights.ih[0] = 0
        weights.hh[0] = 0
        weights.hh[:, 0] = 0  # the others do not hear of it
        weights.hh[0, 0] = 3
        weights.ih[0, letters.index["“"]] = 9
        weights.ih[0, letters.index["”"]] = -9
    return net.eval()


def typeset(text: str) -> str:
    """With typographic quotes."""
    parts = text.split('"')
    return "".join(
        part + ("“" if place % 2 == 0 else "”") * (place < len(parts) - 1) for place, part in enumerate(parts)
    )


def test_features_of_a_page() -> None:
    text = 'if (x[1]) {\n\t  say("It\'s — “so”");\n}\n\nLADY ANNE:\nNo.'
    found = features(text)
    assert set(found) == set(text_features.FEATURES)
    assert all(values.shape == (len(text),) for values in found.values())

    def where(name: str) -> str:
        return "".join(letter if value else "." for letter, value in zip(text, found[name], strict=True))

    assert where("in a number").strip(".") == "1"
    assert where("speaker's name").strip(".") == "LADY ANNE:"
    assert where("after a newline").count("\n") == text.count("\n")
    assert found["bracket depth"].max() == 2
    assert found["bracket depth"][text.index("say(") + 4] == 2
    assert found["bracket depth"][text.index("\n}")] == 1
    assert found["indentation"][text.index("say")] == 6  # a tab and two blanks
    assert found["indentation"][text.index("}")] == 0
    assert found["position in line"][text.index("x")] == 5
    assert found["position in word"][text.index("'s") + 1] == 4  # It's is one word
    assert found["upper case"][text.index("N")] == 1
    assert not found["upper case"][text.index("i")]
    assert found["at a space"].sum() == text.count(" ") + 1


def test_a_quote_that_nobody_closes_ends_with_its_paragraph() -> None:
    assert text_features.inside_quotes('"a\n\nb').tolist() == [1, 1, 1, 0, 0]
    assert text_features.inside_quotes("“a” b").tolist() == [1, 1, 0, 0, 0]
    assert text_features.bracket_depth("(a\n\nb").tolist() == [1, 1, 1, 0, 0]


def test_features_that_never_change_are_left_out_and_others_refused() -> None:
    assert "inside quotes" not in features("plain words")
    with pytest.raises(UserError, match="empty"):
        features("")
    with pytest.raises(UserError, match="did you mean: inside quotes"):
        features("a", ("inside quote",))


@pytest.mark.parametrize("few", [False, True])
def test_information_is_sklearns(few: bool) -> None:
    rng = np.random.default_rng(1)
    yes, many = rng.integers(0, 2, 500), rng.integers(0, 50, 500)
    cells = rng.normal(size=(500, 4)) + np.outer(yes, [0, 1, 2, 0]) + np.outer(many, [0, 0, 0, 0.1])
    if few:
        cells = np.sign(cells).clip(-0.5)
    over = above(cells)
    binned = over.sum(0).astype(int)  # how many cuts a value lies above
    sides = [levels(yes), levels(many)]
    found = information(over, sides)
    for row, side in enumerate(sides):
        for unit in range(4):
            expected = mutual_info_score(side.argmax(1), binned[unit]) / np.log(2)
            assert found[row, unit] == pytest.approx(expected, abs=1e-6)
        assert entropy(side) == pytest.approx(mutual_info_score(side.argmax(1), side.argmax(1)) / np.log(2))
    assert levels(many).sum(0).min() > 50
    assert len(CUTS) == len(over)


def test_a_cell_of_two_values_keeps_all_it_knows() -> None:
    for share in (0.02, 0.1, 0.25, 0.6, 0.9, 0.98):
        feature = (np.arange(1000) < 1000 * share).astype(int)
        found = information(above(feature[:, None] * 2.0 - 1), [levels(feature)])
        assert found[0, 0] == pytest.approx(entropy(levels(feature)), rel=1e-5)


def test_information_is_whatever_a_monotone_function_makes_of_a_cell() -> None:
    rng = np.random.default_rng(2)
    cells, feature = rng.normal(size=(300, 3)), rng.integers(0, 4, 300)
    np.testing.assert_allclose(
        information(above(cells), [levels(feature)]), information(above(np.exp(3 * cells)), [levels(feature)])
    )


def test_the_cell_that_keeps_quotes_is_found() -> None:
    text = typeset(passage())
    letters = Characters.of(text)
    net = quote_keeper(letters)
    found = read(net, torch.tensor(letters.encode(text)))
    told = at_steps(spell(letters, text), features(text), found.places)
    cells = follow(found.cells[:, 0], told)
    quotes = cells.names.index("inside quotes")
    assert cells.ranking()[0] == (quotes, 0)
    assert cells.bits[quotes, 0] > 0.9 * cells.entropy[quotes]
    assert cells.sign[quotes, 0] > 0.95
    control = most(read(untrained(net), torch.tensor(letters.encode(text))).cells[:, 0], told)
    assert beyond(cells, control)[quotes].tolist() == [True, *[False] * 5]


def test_what_knows_nothing_gives_no_more_alarms_than_are_stated() -> None:
    """Slow cells and slow features, independent. 100 trials at 1 in 20: over 12 has a probability of 0.15 %."""
    rng = np.random.default_rng(7)
    alarms = 0
    for seed in range(100):
        noise = rng.normal(size=(500, 8))
        slow = np.stack([np.convolve(one, np.exp(-np.arange(40) / 10), "same") for one in noise.T], 1)
        told = {
            "inside quotes": np.repeat(rng.integers(0, 2, 50), 10),
            "position in line": np.concatenate([np.arange(n) for n in rng.integers(5, 45, 60)])[:500],
        }
        alarms += bool(follow(slow, told, shifts=19, seed=seed).meaningful.any())
    assert 1 <= alarms <= 12, alarms


def test_the_text_itself_is_one_of_the_draws_that_set_the_scale() -> None:
    """With one shift the stated chance is a half, for all features together; over 46 of 70 has one of 0.3 %."""
    rng = np.random.default_rng(8)
    alarms = 0
    for seed in range(70):
        told = {str(name): rng.integers(0, 2, 200) for name in range(6)}
        alarms += bool(follow(rng.normal(size=(200, 3)), told, shifts=1, alarms=0.5, seed=seed).meaningful.any())
    assert 24 <= alarms <= 46, alarms


@pytest.mark.slow
def test_a_network_that_reads_another_text_gives_no_more_alarms_than_are_stated() -> None:
    """Random networks read text that has nothing to do with the features: both go on for long stretches.

    60 trials at 1 in 20: more than 8 alarms has a probability under 0.3 %.
    """
    text = passage(24)
    letters = Characters.of(text)
    told = features(text)
    alarms = 0
    for seed in range(60):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        lines = text.splitlines(keepends=True)
        shuffled = "".join(rng.permuted(lines))
        net = char_rnn(len(letters), hidden_size=12, depth=1)
        values = read(net, torch.tensor(letters.encode(shuffled)), length=2000, warm_up=0)
        here = {name: one[values.places] for name, one in told.items()}
        alarms += bool(follow(values.cells[:, 0], here, seed=seed).meaningful.any())
    assert alarms <= 8, alarms


def test_shifts_are_what_keeps_long_stretches_from_meaning_something() -> None:
    """Slow cells and a slow feature that are independent: far more bits than as many independent draws would give."""
    rng = np.random.default_rng(3)
    slow = np.cumsum(rng.normal(size=(3000, 20)), axis=0)
    feature = np.repeat(rng.integers(0, 2, 30), 100)
    found = follow(slow, {"inside quotes": feature})
    assert found.measured.max() > 20 * 5 / (2 * 3000 * np.log(2))  # twenty times the bias of independent places
    assert found.bits.mean() < 0.5 * found.measured.mean()  # what shifted texts give as well is taken off
    assert not found.meaningful.any()
    assert found.nothing == 20
    assert found.ranking() == []


def test_a_constant_cell_knows_nothing() -> None:
    feature = np.random.default_rng(6).integers(0, 2, 400)
    found = follow(np.stack((np.ones(400), feature * 1.0), 1), {"at a space": feature})
    assert found.ranking() == [(0, 1)]
    assert found.bits[0, 0] == 0
    assert found.sign[0].round(6).tolist() == [0, 1]


def test_what_cannot_be_told_from_chance_is_refused() -> None:
    feature = np.tile([0, 1], 100)
    values = np.zeros((200, 1))
    with pytest.raises(UserError, match="39 or more"):
        follow(values, {"a": feature}, shifts=39, alarms=0.025 / 1.01)
    for told, message in (({}, "no features"), ({"a": feature[:9]}, "9 places"), ({"a": feature * 0}, "never changes")):
        with pytest.raises(UserError, match=message):
            follow(values, told)
    with pytest.raises(UserError, match="no 39 shifts"):
        follow(values[:40], {"a": feature[:40]})


@pytest.mark.parametrize("build", [char_rnn, char_gru, char_lstm])
def test_reading_in_rows_is_reading_on(build) -> None:
    """What is kept of one row is what the cell gives step by step from the row's beginning."""
    torch.manual_seed(4)
    net = build(6, hidden_size=5, depth=2)
    tokens = torch.randint(6, (407,))
    found = read(net, tokens, length=130, warm_up=30)
    assert found.cells.shape == (3 * (135 - 30), 2, 5)
    assert found.row == 105
    assert found.places.tolist() == [2 + row * 135 + step for row in range(3) for step in range(30, 135)]
    inside = net.recurrent.gates(net.inputs(tokens[None, 2 + 135 : 2 + 270]))
    cell = (inside["c"].tanh() if "c" in inside else inside["h"]).detach()
    expected = cell[:, 0, 30:].movedim(0, 1).numpy()
    np.testing.assert_allclose(found.cells[105:210], expected, atol=1e-6)
    assert all(value.min() >= 0 and value.max() <= 1 for value in found.gates.shut.values())


def test_shares_of_gates_are_over_all_that_is_kept() -> None:
    torch.manual_seed(5)
    net = char_gru(6, hidden_size=4, depth=1)
    with torch.no_grad():
        net.recurrent.weight_ih_l0 *= 20
    tokens = torch.randint(6, (150,))
    found = read(net, tokens, length=150, warm_up=10)
    z = net.recurrent.gates(net.inputs(tokens[None]))["z"][0, 0, 10:]
    np.testing.assert_allclose(found.gates.shut["z"][0], (z < 0.1).double().mean(0))
    np.testing.assert_allclose(found.gates.open["z"][0], (z > 0.9).double().mean(0))
    with pytest.raises(UserError, match="too short"):
        read(net, tokens[:10], warm_up=10)


def test_steps_of_bytes_and_words_are_at_the_end_of_what_they_read() -> None:
    text = "Où? “oui”"
    steps = spell(Bytes(), text)
    assert len(steps.tokens) == len(text.encode())
    assert "".join(steps.pieces) == text
    found = at_steps(steps, features(text), np.arange(len(steps.tokens)))
    assert found["inside quotes"].tolist() == [0] * 5 + [1] * 6 + [0] * 3
    words = spell(Words.of("ANNA:\nNo, no.", style="text"), "ANNA:\nNo, no.")
    assert (words.text, "".join(words.pieces)) == ("ANNA:\nNo, no.", "ANNA:\nNo, no.")
    assert words.ends.tolist() == [3, 4, 5, 7, 8, 11, 12]
    captions = spell(Words.of("a dog and a cat"), "A dog, a bird")
    assert captions.text == "a dog a <unknown>"
    with pytest.raises(UserError, match="empty"):
        spell(Bytes(), "")


def test_a_look_writes_what_it_found(tmp_path: Path) -> None:
    text = typeset(passage(40))
    letters = Characters.of(text)
    net = quote_keeper(letters).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    told = look(net, letters, text, tmp_path, step=7)
    assert torch.equal(state, torch.get_rng_state())
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert told == json.loads((tmp_path / "probes" / "cells.json").read_text(encoding="utf-8"))
    first = told["shown"][0]
    assert (first["layer"], first["unit"], first["feature"], first["learned"]) == (0, 0, "inside quotes", True)
    assert [value for value, _ in first["profile"]] == [0, 1]
    assert first["profile"][0][1] < -0.8
    assert first["profile"][1][1] > 0.8
    assert told["cells"] == 6
    assert told["readable"] >= 1
    assert told["meaningful"] >= told["learned"] >= 1
    with np.load(tmp_path / "probes" / "cells.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["bits"].shape == (len(told["features"]), 1, 6)
    assert arrays["values"].shape == (len(told["shown"]), len(told["passage"]))
    inside = np.array(text_features.inside_quotes("".join(told["passage"])), bool)
    assert np.array_equal(arrays["values"][0] > 60, inside)
    assert told["features"][0]["best"] == first
    cells = [(one["layer"], one["unit"]) for one in told["shown"]]
    assert len(set(cells)) == len(cells)
    assert "".join(told["passage"]) in text


def test_moments_follow_one_another(tmp_path: Path) -> None:
    text = passage(20)
    letters = Characters.of(text)
    steps = spell(letters, text)
    net = char_lstm(len(letters), hidden_size=4, depth=2)

    def moments() -> list[int]:
        with np.load(tmp_path / "probes" / "time.npz", allow_pickle=False) as file:
            assert file["last"].shape == file["mean"].shape == (len(file["step"]), 2, 2, 100)
            assert file["largest"].shape == (len(file["step"]), 2, 4)
            assert file["steps"].shape == (len(file["step"]), 2, 16)
            assert "".join(file["state"]) + "".join(file["gate"]) == "hcifgo"
            return file["step"].tolist()

    for step, expected in ((0, [0]), (50, [0, 50]), (90, [0, 50, 90]), (60, [0, 50, 60])):  # the last: resumed
        look_back(net, steps, tmp_path, step=step)
        assert moments() == expected
    (tmp_path / "probes" / "time.npz").write_bytes(b"half a file")
    look_back(net, steps, tmp_path, step=70)
    assert moments() == [70]
    look_back(char_lstm(len(letters), hidden_size=4, depth=1), steps, tmp_path, step=80)
    with np.load(tmp_path / "probes" / "time.npz", allow_pickle=False) as file:
        assert file["step"].tolist() == [80]


def test_untrained_is_the_same_network_with_other_weights() -> None:
    net = char_lstm(6, hidden_size=4, depth=2, embedding=3, layer_norm=True)
    fresh = untrained(net)
    assert {name: value.shape for name, value in net.state_dict().items()} == {
        name: value.shape for name, value in fresh.state_dict().items()
    }
    assert not torch.equal(net.head.weight, fresh.head.weight)
    assert float(fresh.recurrent.bias_ih_l0.detach()[4:8].mean()) > 0.5  # forget gates begin open


def test_profiles_group_many_values() -> None:
    found = profile(np.arange(100.0), np.arange(100))
    assert len(found) == 12
    assert found[0] == [4.0, 4.0]
    assert [value for value, _ in found] == sorted(value for value, _ in found)


def test_a_text_too_short_is_refused(tmp_path: Path) -> None:
    letters = Characters.of(passage(1))
    with pytest.raises(UserError, match="too short"):
        look(char_gru(len(letters), hidden_size=4), letters, passage(1)[:50], tmp_path)
