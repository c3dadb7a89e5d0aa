"""What every registered review method keeps: the run's steps, the batch size, its weights and state, its own draws."""

import inspect
import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram import registry
from engram.errors import UserError
from engram.review import export
from engram.review.ledger import Ledger
from engram.review.method import Method, check_permutable
from engram.review.methods import build
from engram.review.reviewer import Reviewer

NAMES = registry.names("review")
ISSUE = {
    *("shuffle", "forgetting_curve", "infobatch", "order_dp", "repb", "seta", "repeat_before_forgetting", "leitner"),
    *("due", "fsrs", "sm2_due", "rs2", "dynamic_random", "static_random", "selective_backprop", "hard_first"),
    *("importance", "pool_then_forgotten", "forgetting_events", "el2n", "self_paced", "super_loss", "kakurenbo"),
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("forgetting_curve", {"save": "auto"}),
    ("forgetting_curve", {"save": 0.2, "exponent": 1.0}),
    ("forgetting_curve", {"suspend": True}),
    ("infobatch", {"rescale": "normalised"}),
    ("infobatch", {"rescale": "none", "drop": 0.9, "delta": 0.5}),
    ("repb", {"rescale": "normalised", "window": 3}),
    ("repeat_before_forgetting", {"kernel": "secant"}),
    ("repeat_before_forgetting", {"kernel": "gaussian", "eta": 0.8}),
    ("leitner", {"jitter": 1.0, "boxes": 3}),
    ("due", {"weigh": True, "memory": "power_law"}),
    ("rs2", {"replacement": True}),
    ("selective_backprop", {"form": "rank", "start": 0.0, "end": 1.0}),
    ("super_loss", {"rescale": "normalised"}),
]
CASES = [*((name, {}) for name in NAMES), *VARIANTS]
PUBLISHED = {"infobatch", "repb"}
"""Published with weights whose mean is not 1."""

every_case = pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=["-".join([name, *map(str, settings.values())]) for name, settings in CASES]
)
every_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("earlier")


def made(name: str, settings: dict[str, Any], examples: int, folder: Path) -> Method:
    """The method; those that look at an earlier run get one of so many examples."""
    if "scores" in inspect.signature(registry.find("review", name).build).parameters:
        path = folder / f"{examples}.parquet"
        if not path.exists():
            ledger = Ledger(examples)
            ledger.visits += 3
            ledger.lapses.copy_(torch.arange(examples) % 4)
            ledger.recall.copy_(torch.arange(examples) / examples)
            export.write(ledger, path)
        settings = {"scores": str(path), **settings}
    return build(name, settings)


def review(name: str, settings: dict[str, Any], folder: Path, examples: int = 60, **more: Any) -> Reviewer:
    given: dict[str, Any] = {"batch_size": 6, "epochs": 4.0} | more
    return Reviewer(examples, made(name, settings, examples, folder), **given)


def learning(indices: torch.Tensor, share: float) -> torch.Tensor:
    """Losses that fall during the run at paces of their own, and some (wrong labels) that never do."""
    places = indices.double()
    hardness = 2 + torch.sin(places * 12.9898)
    fall = torch.exp(-4 * share * (1.5 + torch.cos(places * 78.233)))
    return torch.where(indices % 19 == 3, 4.0, hardness * fall + 0.05 * torch.sin(places + 99 * share) ** 2).float()


def equal(indices: torch.Tensor, share: float) -> torch.Tensor:
    return torch.full((len(indices),), 0.7)


def zero(indices: torch.Tensor, share: float) -> torch.Tensor:
    return torch.zeros(len(indices))


Batches = list[list[int]]


def drive(reviewer: Reviewer, losses=learning, steps: int = 10**9) -> tuple[list[Batches], list[float]]:
    """Grade up to so many batches: what came, round by round, and the means that were returned."""
    rounds, means = [], []
    while not reviewer.finished and steps > 0:
        batches = reviewer.batches()
        assert batches
        rounds.append([])
        for batch in batches[:steps]:
            share = reviewer.steps / reviewer.total_steps
            means.append(float(reviewer.grade(losses(batch, share), lr=1.0 - 0.9 * share)))
            rounds[-1].append(batch.tolist())
        steps -= len(rounds[-1])
    return rounds, means


def test_the_issue_s_methods_are_there():
    assert set(NAMES) >= ISSUE


@every_name
def test_its_card_is_complete(name):
    entry = registry.find("review", name)
    assert entry.build.__module__ == f"engram.review.methods.{name}"
    assert entry.summary.endswith(".")
    assert entry.paper or name == "shuffle"
    assert (entry.year is None) == (not entry.paper)
    assert entry.year is None or 1850 < entry.year < 2100
    card = str(sys.modules[entry.build.__module__].__doc__)
    assert len(card) > 300
    if name != "shuffle":
        assert "elps" in card
        assert "urts" in card
    described = str(entry.build.__doc__).partition("Args:")[2]
    for setting in inspect.signature(entry.build).parameters.values():
        assert f"{setting.name}: " in described, f"{name} does not say what {setting.name} is"
        assert setting.default is None or isinstance(setting.default, bool | int | float | str)


@every_name
def test_it_refuses_an_unknown_setting(name):
    with pytest.raises(UserError, match="has no setting"):
        build(name, {"no_such_setting": 1})


@every_case
@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "drop_last"),
    [(61, 6, 3.3, True), (25, 4, 5.0, False), (13, 1, 1.5, True)],
)
def test_it_makes_the_steps_of_the_run(name, settings, folder, examples, batch_size, epochs, drop_last):
    given = {"examples": examples, "batch_size": batch_size, "epochs": epochs, "drop_last": drop_last}
    reviewer = review(name, settings, folder, **given)
    passes = examples // batch_size if drop_last else -(-examples // batch_size)
    assert reviewer.total_steps == round(epochs * passes / reviewer.method.charge)
    assert reviewer.planned is None or sum(reviewer.planned) == reviewer.total_steps
    rounds, _ = drive(reviewer)
    assert sum(map(len, rounds)) == reviewer.steps == reviewer.total_steps
    assert len(rounds) <= reviewer.rounds
    if reviewer.planned is not None:
        assert list(map(len, rounds)) == reviewer.planned
    for round_ in rounds:
        indices = [index for batch in round_ for index in batch]
        assert min(indices) >= 0
        assert max(indices) < examples
        assert len(set(indices)) == len(indices)
        whole = round_ if drop_last or len(indices) < examples else round_[:-1]
        assert all(len(batch) == batch_size for batch in whole)
    assert reviewer.batches() == []


@every_case
def test_its_weights_are_finite_and_of_mean_1(name, settings, folder):
    reviewer = review(name, settings, folder)
    published = name in PUBLISHED and settings.get("rescale", "published") == "published"
    most = 1.0
    while not reviewer.finished:
        for place, batch in enumerate(reviewer.batches()):
            if reviewer.weights is not None and not place:
                assert torch.isfinite(reviewer.weights).all()
                assert (reviewer.weights > 0).all()
                most = max(most, float(reviewer.weights.max()))
                assert published or reviewer.weights.mean() == pytest.approx(1, rel=1e-5)
            losses = learning(batch, reviewer.steps / reviewer.total_steps)
            inside = reviewer.method.weigh(losses, reviewer.rng)
            if inside is not None:
                assert torch.isfinite(inside).all()
                assert (inside >= 0).all()
                assert (name, settings) == ("super_loss", {}) or inside.mean() == pytest.approx(1, rel=1e-5)
            reviewer.observe(losses)
    assert not published or most > 1


@every_case
def test_nothing_starves_over_a_long_run(name, settings, folder):
    facts = registry.find("review", name).facts
    reviewer = review(name, settings, folder, examples=30, epochs=50.0)
    rounds, _ = drive(reviewer)
    batches = [batch for round_ in rounds for batch in round_]
    late = {index for batch in batches[len(batches) // 2 :] for index in batch}
    if facts.get("static"):  # never visits what it leaves out, and says so
        assert 0 < int((reviewer.ledger.visits == 0).sum()) < 30
    elif facts.get("starves"):
        assert 0 < int(reviewer.ledger.visits.min()) < 10
    else:
        assert int(reviewer.ledger.visits.min()) >= 3
        assert late == set(range(30))


@every_case
def test_the_seed_decides(name, settings, folder):
    first, again, other = (drive(review(name, settings, folder, seed=seed, epochs=2.5)) for seed in (1, 1, 2))
    assert first == again
    if name == "in_order":
        assert first == other
        return
    assert first != other
    flat = [[index for round_ in one[0] for batch in round_ for index in batch] for one in (first, other)]
    assert flat[0] != flat[1]


@every_case
@pytest.mark.parametrize("stop", [1, 23])
def test_it_resumes_exactly_in_the_middle_of_a_round(name, settings, folder, stop):
    whole = review(name, settings, folder)
    drive(whole, steps=stop)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    resumed = review(name, settings, folder)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert drive(whole) == drive(resumed)
    assert same(whole.state_dict(), resumed.state_dict())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a, b, strict=True))
    return bool(a == b)


@every_case
@pytest.mark.parametrize(
    ("losses", "examples", "epochs"),
    [(equal, 3, 5.0), (zero, 1, 3.0), (learning, 60, 0.5), (equal, 30, 3.0), (zero, 30, 3.0)],
)
def test_it_works_at_the_extremes(name, settings, folder, losses, examples, epochs):
    reviewer = review(name, settings, folder, examples=examples, batch_size=8, epochs=epochs)
    rounds, means = drive(reviewer, losses)
    assert sum(map(len, rounds)) == reviewer.total_steps
    assert all(np.isfinite(means))


@every_case
def test_no_generator_but_its_own_is_touched(name, settings, folder):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    drive(review(name, settings, folder, epochs=3.0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002


@every_case
def test_it_takes_in_examples_that_come_during_the_run(name, settings, folder):
    reviewer = review(name, settings, folder, examples=24, epochs=10.0)
    steps = reviewer.total_steps
    drive(reviewer, steps=14)
    reviewer.grow(31)
    drive(reviewer)
    assert reviewer.steps == reviewer.total_steps == steps
    new = reviewer.ledger.visits[24:]
    assert int(new.max()) > 0
    assert name == "static_random" or int(new.min()) > 0


@every_case
def test_its_permuted_control_is_another_method_or_is_refused(name, settings, folder):
    def visits(permuted: bool) -> list[Batches]:
        reviewer = review(name, settings, folder, epochs=6.0)
        if permuted:
            reviewer.permutation = reviewer.exchanged(60)  # also where a reviewer refuses to be made so
        return drive(reviewer)[0]

    method = made(name, settings, 60, folder)
    assert method.permutable == (visits(False) != visits(True))
    if method.permutable:
        check_permutable(method)
        return
    with pytest.raises(UserError, match=f"^{name} has no permuted control: ") as caught:
        check_permutable(method)
    assert len(str(caught.value).splitlines()) <= 5


def test_a_reviewer_refuses_a_control_that_would_be_the_method_itself(folder):
    review("forgetting_curve", {}, folder, permuted=True)
    with pytest.raises(UserError, match="super_loss has no permuted control"):
        review("super_loss", {}, folder, permuted=True)


def test_rounds_of_nearly_a_pass_never_ask_for_more_than_one():
    reviewer = Reviewer(60, build("forgetting_curve", {"save": 0.2}), batch_size=6, epochs=2.3)
    assert reviewer.planned == [10, 5, 6, 2]
    assert sum(map(len, drive(reviewer)[0])) == 23
