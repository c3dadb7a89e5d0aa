"""The clinic on networks that foresee a token at every place: writers, and captioners that read the words so far."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import engram
from engram import registry
from engram.clinic.clinic import Clinic
from engram.clinic.diagnoses.gradient_through_time import horizons
from engram.clinic.finding import Finding
from engram.clinic.measured import History, Moment, Probe, Setup
from engram.clinic.probe import run_probe
from engram.clinic.subject import Subject, foreseen
from engram.errors import UserError
from engram.models.char_rnn import CharRNN, char_lstm
from engram.review.ledger import Ledger

V, T = 12, 16
PADDING = 0


def text(count: int = 96) -> tuple[Tensor, Tensor]:
    """Tokens and what follows: each is the one before plus a step that the text's first token says."""
    rng = torch.Generator().manual_seed(0)
    first = torch.randint(0, V, (count, 1), generator=rng)
    tokens = (first + (1 + first % 3) * torch.arange(T + 1)) % V
    return tokens[:, :-1], tokens[:, 1:]


def writer(hidden: int = 24) -> CharRNN:
    torch.manual_seed(0)
    return char_lstm(V, hidden_size=hidden, depth=1)


def train(
    net: nn.Module, lr: float, steps: int = 41, x_y: tuple[Tensor, Tensor] | None = None, **more: Any
) -> tuple[Clinic, list[Finding], float]:
    x, y = x_y or text()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    clinic = Clinic(net, optimizer, probe=(x, y), setup=Setup(total_steps=steps), **more)
    found, rng = clinic.examine(), torch.Generator().manual_seed(0)
    loss = torch.zeros(())
    for _ in range(steps):
        rows = torch.randint(0, len(x), (16,), generator=rng)
        net.train()
        loss = clinic.loss(clinic.call(net, x[rows], y[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found += clinic.step(loss)
    return clinic, found + clinic.finish(), loss.item()


def said(found: list[Finding], name: str) -> list[str]:
    return [one.severity for one in found if one.diagnosis == name]


def failed(found: list[Finding]) -> list[str]:
    return [one.says for one in found if "could not be measured" in one.says]


def test_a_network_that_writes_is_watched_and_is_well() -> None:
    clinic, found, loss = train(writer(), 0.03, steps=41, level="full")
    assert loss < 0.5 * math.log(V)  # it does learn
    assert [one for one in found if one.severity == "critical"] == []
    assert failed(found) == []
    assert (clinic.setup.num_classes, clinic.setup.sequences) == (V, True)
    assert {"cannot_overfit_one_batch", "softmax_twice", "ignores_input", "gradient_through_time"} <= {
        name for moment in clinic.history.moments for name in moment.own
    }


def test_a_rate_a_thousand_times_too_high_is_found() -> None:
    _, found, _ = train(writer(), 20.0, steps=30, level="quick")
    assert said(found, "lr_too_high") == ["critical"]
    assert failed(found) == []


def test_scores_of_every_place_are_judged_and_places_that_do_not_count_are_not() -> None:
    x, y = text(8)
    y = y.clone()
    y[:, :5] = -100
    net = writer()
    probed = run_probe(net, x, y, num_classes=V)
    scores = net(x)[0][:, 5:].flatten(0, 1)
    labels = y[:, 5:].flatten()
    assert probed.probe.loss == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-5)
    assert probed.probe.accuracy == pytest.approx((scores.argmax(1) == labels).float().mean().item())
    assert probed.probe.given == pytest.approx((torch.bincount(labels, minlength=V) / len(labels)).tolist())
    shares = torch.bincount(labels) / len(labels)
    clinic = Clinic(net, probe=(x, y))
    assert clinic.setup.entropy == pytest.approx(-(shares * shares.log()).nansum().item(), rel=1e-5)


def test_labels_that_no_score_is_for_are_refused() -> None:
    x, y = text(8)
    with pytest.raises(UserError, match=f"labels go from 0 to {V}, and the network gives {V} scores"):
        Clinic(writer(), probe=(x, torch.where(y == 3, V, y)))
    with pytest.raises(UserError, match="none of the labels"):
        Clinic(writer(), probe=(x, torch.full_like(y, -100)))


class Softmaxed(nn.Module):
    """A writer that gives probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.net = writer()

    def forward(self, tokens: Tensor) -> tuple[Tensor, Any]:
        scores, state = self.net(tokens)
        return scores.softmax(2), state


class Detached(nn.Module):
    """A writer that no gradient comes to."""

    def __init__(self) -> None:
        super().__init__()
        self.net = writer()

    def forward(self, tokens: Tensor) -> tuple[Tensor, Any]:
        scores, state = self.net(tokens)
        return scores.detach() + 0 * self.net.head.bias.sum(), state


def test_preflight_checks_are_asked_of_tokens() -> None:
    assert said(engram.examine(Softmaxed(), text(), level="quick"), "softmax_twice") == ["critical"]
    found = engram.examine(Detached(), text())
    (overfit,) = [one for one in found if one.diagnosis == "cannot_overfit_one_batch"]
    assert overfit.severity == "critical"
    assert overfit.seen["samples"] == 16  # places of one text
    assert failed(found) == []


def test_a_loss_that_takes_the_networks_own_output_is_not_asked_of_scores() -> None:
    def own(output: Any, y: Tensor) -> Tensor:
        scores, (hidden, _) = output
        return F.cross_entropy(scores.flatten(0, 1), y.flatten()) + 0 * hidden.sum()

    clinic = Clinic(Softmaxed(), probe=text(), loss=own, level="quick")
    found = clinic.examine()
    assert clinic.data is not None
    assert not clinic.data.takes_scores
    assert failed(found) == []
    assert said(found, "softmax_twice") == []
    assert clinic.history.now.own.get("softmax_twice") is None
    assert clinic.history.now.probe is not None
    assert clinic.history.now.probe.accuracy is not None


class Captioner(nn.Module):
    """The picture is the state in which it begins to write."""

    def __init__(self, *, blind: bool = False, mixing: bool = False) -> None:
        super().__init__()
        self.look, self.blind, self.mixing = nn.Linear(9, 24), blind, mixing
        self.words, self.cell, self.head = nn.Embedding(V, 8), nn.GRU(8, 24, batch_first=True), nn.Linear(24, V)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.look(images.flatten(1)).tanh()
        seen = 0 * seen if self.blind else seen.roll(1, 0) if self.mixing else seen
        output, state = self.cell(self.words(tokens), seen[None])
        return self.head(output), state


def pictures(count: int = 64) -> tuple[Tensor, Tensor]:
    """Pictures (B, 1, 3, 3), and captions (B, 6): a start, two or three words that a picture says, an end, padding."""
    rng = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 4, (count,), generator=rng)
    images = 0.3 * torch.randn(count, 1, 3, 3, generator=rng)
    images.flatten(1)[torch.arange(count), kinds] += 3.0
    captions = torch.full((count, 6), PADDING)
    captions[:, 0], captions[:, 1], captions[:, 2], captions[:, 3] = 1, 3 + kinds, 7 + kinds, 2
    longer = kinds == 3
    captions[longer, 3], captions[longer, 4] = 11, 2
    return images, captions


def read(net: nn.Module, x: Tensor, y: Tensor) -> Any:
    return net(x, y[:, :-1])


def words(output: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    scores, labels = output[0].flatten(0, 1), y[:, 1:].flatten()
    return scores[labels != PADDING], labels[labels != PADDING]


def captioner(**kind: bool) -> Captioner:
    torch.manual_seed(0)
    return Captioner(**kind)


def test_a_network_that_captions_is_watched_through_its_own_call_and_outputs() -> None:
    clinic, found, loss = train(captioner(), 0.02, x_y=pictures(), call=read, outputs=words, level="full")
    assert loss < 0.2
    assert [one for one in found if one.severity == "critical"] == []
    assert failed(found) == []
    assert clinic.setup.num_classes == V
    probe = clinic.history.probed(1)[0].probe
    assert probe is not None
    assert probe.given[PADDING] == 0  # padding counts for nothing
    images, captions = (one[: len(one)] for one in pictures())
    assert clinic.data is not None
    with torch.no_grad():
        scores, labels = words(read(clinic.net.eval(), clinic.data.x[:64], clinic.data.y[:64]), clinic.data.y[:64])
    assert probe.loss_eval == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-4)
    assert len(images) == len(captions)


def test_a_captioner_that_does_not_look_is_found_though_its_words_differ() -> None:
    found = engram.examine(captioner(blind=True), pictures(), call=read, outputs=words, level="quick")
    assert said(found, "ignores_input") == ["critical"]
    found = engram.examine(captioner(), pictures(), call=read, outputs=words, level="quick")
    assert said(found, "ignores_input") == []


def test_a_captioner_that_looks_at_its_neighbours_picture_is_found() -> None:
    found = engram.examine(captioner(mixing=True), pictures(), call=read, outputs=words, level="quick")
    assert said(found, "mixed_samples") == ["critical"]


def test_who_knows_the_shares_alone_has_time_to_learn_more() -> None:
    def found(last: int, *, sequences: bool) -> list[str]:
        favourite = Probe(2.0, 2.0, 0.2, predicted=(1.0, 0.0), labelled=(0.2, 0.8), given=(0.2, 0.8))
        moments = tuple(Moment(last - 20 * one, probe=favourite) for one in (2, 1, 0))
        setup = Setup(num_classes=2, sequences=sequences, total_steps=1000)
        return [one.severity for one in registry.find("diagnosis", "class_collapse").build(History(moments, setup))]

    assert found(490, sequences=True) == []
    assert found(490, sequences=False) == ["critical"]
    assert found(600, sequences=True) == ["warning"]


def slow_start(last: int, *, sequences: bool) -> list[str]:
    matrix = {"w": _moved()}
    moments = tuple(Moment(step, loss=3.0, lr=0.1, weights=matrix if step < 50 else {}) for step in range(1, last))
    setup = Setup(num_classes=20, entropy=3.0, sequences=sequences, total_steps=last)
    return [one.severity for one in registry.find("diagnosis", "lr_too_high").build(History(moments, setup))]


def _moved() -> Any:
    from engram.clinic.measured import Weights

    return Weights("w", "Linear", (4, 4), True, True, 1.0, gradient=1.0, update=0.05)


def test_a_loss_that_stays_at_the_shares_means_nothing_at_the_beginning_of_a_text() -> None:
    assert slow_start(300, sequences=False) == ["warning"]
    assert slow_start(300, sequences=True) == []
    assert slow_start(700, sequences=True) == ["warning"]


class Fading(nn.Module):
    """h_t = half of h_{t-1} + x_t, and the states themselves as scores of two."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.cell = form, nn.RNN(2, 2, batch_first=True, bias=False, nonlinearity="relu")
        self.cell.load_state_dict({"weight_ih_l0": torch.eye(2), "weight_hh_l0": 0.5 * torch.eye(2)})
        self.register_buffer("lengths", torch.tensor([9] * 16 + [5] * 16))

    def forward(self, x: Tensor) -> Any:
        if self.form == "every place":
            return self.cell(x)
        if self.form == "the last":
            return self.cell(x)[0][:, -1]
        lengths = self.lengths[: len(x)]  # type: ignore[index]
        if self.form == "packed":
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.cell(packed)[1][0]
        return self.cell(x)[0][torch.arange(len(x)), lengths - 1]


@pytest.fixture
def numbers() -> Tensor:
    return torch.rand(32, 9, 2, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.mark.parametrize("form", ["every place", "the last", "packed", "padded"])
def test_the_gradient_is_counted_back_from_the_last_step_of_each(form: str, numbers: Tensor) -> None:
    y = torch.zeros(32, 9, dtype=torch.long) if form == "every place" else torch.zeros(32, dtype=torch.long)
    own = horizons(Subject(Fading(form), numbers, y, num_classes=2))
    assert own is not None
    norms = own["layers"]["cell"]["norms"]
    # the sequences of 9 steps are half of them: the longer half
    assert [norms[place] / norms[-1] for place in range(9)] == pytest.approx([0.5**back for back in range(8, -1, -1)])


def test_places_that_do_not_count_have_no_last_step(numbers: Tensor) -> None:
    y = torch.zeros(32, 9, dtype=torch.long)
    y[:, 6:] = -100
    own = horizons(Subject(Fading("every place"), numbers, y, num_classes=2))
    assert own is not None
    norms = own["layers"]["cell"]["norms"]
    assert len(norms) == 6
    assert norms[0] / norms[-1] == pytest.approx(0.5**5)


def test_recurrent_networks_are_differentiated_without_cudnn(numbers: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[bool] = set()
    backward = torch.autograd.grad

    def noted(*given: Any, **named: Any) -> Any:
        used.add(torch.backends.cudnn.enabled)
        return backward(*given, **named)

    monkeypatch.setattr(torch.autograd, "grad", noted)
    y = torch.zeros(32, dtype=torch.long)
    for look in (
        lambda net: horizons(Subject(net, numbers, y, num_classes=2)),
        lambda net: run_probe(net, numbers, y, num_classes=2),
    ):
        assert torch.backends.cudnn.enabled
        look(Fading("the last"))
        assert used == {False}
        used.clear()
    run_probe(nn.Sequential(nn.Flatten(), nn.Linear(18, 2)), numbers, y, num_classes=2)
    assert used == {True}  # others keep it


def test_a_text_has_no_label_that_could_be_wrong() -> None:
    measure = registry.find("diagnosis", "label_errors").facts["measure"]
    ledger = Ledger(200)
    ledger.visits += 9
    ledger.recall += 1
    ledger.smoothed += torch.linspace(0.01, 0.05, 200)
    ledger.smoothed[:8], ledger.recall[:8] = 4.0, 0
    x, y, facts = torch.zeros(8, 2), torch.zeros(8, dtype=torch.long), {"ledger": ledger}
    assert measure(Subject(nn.Linear(2, 2), x, y, num_classes=2, facts=facts)) is not None
    assert measure(Subject(nn.Linear(2, 2), x, y[:, None], num_classes=2, facts=facts)) is None


def test_scores_by_place_are_told_from_scores_by_example() -> None:
    scores, labels = foreseen(torch.zeros(4, 5), torch.zeros(4))
    assert (scores.shape, labels.shape) == ((4, 5), (4,))
    maps, classes = foreseen(torch.zeros(2, 5, 3, 3), torch.zeros(2, 3, 3))  # as torch has it for pictures: left alone
    assert (maps.shape, classes.shape) == ((2, 5, 3, 3), (2, 3, 3))
