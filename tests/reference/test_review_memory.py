"""Every memory model against its published formula, written out once more in plain Python, and published figures."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from engram.review import memory
from engram.review.memory import Memory, Record, half_life, multiscale, savings

DELAYS = (0.0, 0.3, 1.0, 4.0, 12.0, 50.0, 300.0)


def played(model: Memory, visits: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Strength and difficulty after each visit, a (delay, grade); the first one's delay means nothing."""
    state, states = None, []
    for delay, grade in visits:
        given = torch.tensor([grade])
        state = model.first(given) if state is None else model.visit(torch.tensor([delay]), *state, given)
        states.append((state[0].item(), state[1].item()))
    return states


def recalls(model: Memory, strength: float, difficulty: float, delays=DELAYS) -> list[float]:
    t = torch.tensor(delays)
    return model.recall(t, torch.full_like(t, strength), torch.full_like(t, difficulty)).tolist()


def some_visits(seed: int, count: int = 12) -> list[tuple[float, float]]:
    rng = random.Random(seed)
    return [(rng.choice([0.0, 0.5, 2.0, 9.0, 40.0]), rng.choice([0.0, 0.3, 0.5, 0.65, 0.9, 1.0])) for _ in range(count)]


# Ebbinghaus 1885


def test_ebbinghaus_s_formula_gives_his_own_table():
    """Section 29: t in minutes, counted from one minute before learning ended; from a day on he leaves that out."""
    model = memory.build("savings", memory.published("savings"))
    minutes = [19.0, 63.0, 525.0, 1440.0, 2880.0, 8640.0, 44640.0]
    saved = [100 * p for p in recalls(model, 1.0, 1.0, minutes)]
    assert saved == pytest.approx([57.0, 46.7, 34.5, 30.4, 28.1, 24.9, 21.2], abs=0.08)  # his second is rounded down
    assert list(savings.CALCULATED) == pytest.approx(saved, abs=0.08)


def test_ebbinghaus_s_formula_is_close_to_what_he_observed():
    model = memory.build("savings", memory.published("savings"))
    minutes, observed = zip(*savings.OBSERVED, strict=True)
    assert observed == (58.2, 44.2, 35.8, 33.7, 27.8, 25.4, 21.1)
    off = [p * 100 - b for p, b in zip(recalls(model, 1.0, 1.0, minutes), observed, strict=True)]
    assert off == pytest.approx([-1.2, 2.5, -1.3, -3.3, 0.3, -0.5, 0.1], abs=0.08)  # his column of differences
    assert recalls(model, 1.0, 1.0, [0.0]) == [1.0]


# the curves whose strength is given a rule of our own


def by_rule(p: float, strength: float, grade: float, growth: float, spacing: float) -> float:
    factor = 1 + grade * (growth + spacing * (1 - p)) if grade >= 0.5 else 0.3
    return min(max(strength * factor, 0.25), 64.0)


CURVES = {
    "exponential": ((0.6, 0.0), lambda t, s: 0.9 ** (t / s)),
    "savings": (
        (0.5, 2.0),
        lambda t, s: 1.84 / (math.log10(1 + (10 ** ((1.84 / 9) ** 0.8) - 1) * t / s) ** 1.25 + 1.84),
    ),
    "power_law": ((0.5, 2.0), lambda t, s: 1 / math.sqrt(1 + 19 / 81 * t / s)),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_its_formula_and_the_strength_its_rule(name, seed):
    (growth, spacing), curve = CURVES[name]
    model, visits, expected = memory.build(name), some_visits(seed), None
    for (delay, grade), (strength, difficulty) in zip(visits, played(model, visits), strict=True):
        if expected is None:
            expected = 7.0 * (grade if grade >= 0.5 else 0.3)
        else:
            expected = by_rule(curve(delay, expected), expected, grade, growth, spacing)
        assert strength == pytest.approx(expected, rel=1e-5)
        assert difficulty == 1.0
        assert recalls(model, strength, 1.0) == pytest.approx([curve(t, expected) for t in DELAYS], abs=2e-5)


def test_an_example_s_own_difficulty_speeds_its_forgetting():
    model = memory.build("exponential", {"difficulty": 0.2})
    assert recalls(model, 4.0, 3.0) == pytest.approx([math.exp(-0.2 * 3 * t / 4) for t in DELAYS], abs=1e-6)
    t = model.interval(0.5, torch.tensor([4.0]), torch.tensor([3.0])).item()
    assert t == pytest.approx(math.log(2) * 4 / 0.6)


def test_wickelgren_s_three_parameters():
    model = memory.build("power_law", {"level": 0.92, "beta": 0.5, "psi": 0.2})
    assert recalls(model, 5.0, 1.0) == pytest.approx([0.92 * (1 + 0.1 * t) ** -0.2 for t in DELAYS], abs=1e-6)
    one = torch.ones(1)
    assert model.interval(0.8, 5 * one, one).item() == pytest.approx(10 * ((0.8 / 0.92) ** -5 - 1), rel=1e-5)
    assert model.interval(0.95, 5 * one, one).item() == 0.0


# Settles and Meeder 2016


@pytest.mark.parametrize("seed", range(4))
def test_the_half_life_comes_from_the_counts(seed):
    weights = {"bias": 1.2, "right": 0.9, "wrong": -0.7}
    model = memory.build("half_life", {**weights, "shortest": 0.5, "longest": 30.0})
    visits, right, wrong = some_visits(seed, 30), 0, 0
    for (_, grade), (strength, difficulty) in zip(visits, played(model, visits), strict=True):
        right, wrong = right + (grade >= 0.5), wrong + (grade < 0.5)
        h = 2 ** (1.2 + 0.9 * math.sqrt(1 + right) - 0.7 * math.sqrt(1 + wrong))
        h = min(max(h, 0.5), 30.0)
        assert strength == pytest.approx(h, rel=1e-5)
        assert recalls(model, strength, difficulty) == pytest.approx([2 ** (-t / h) for t in DELAYS], abs=1e-6)


def test_counts_stay_exact_up_to_their_limit():
    model = memory.build("half_life")
    counted = half_life.packed(torch.tensor([4094.0, 0.0]), torch.tensor([4095.0, 4094.0]))
    for _ in range(3):
        _, counted = model.visit(torch.ones(2), torch.ones(2), counted, torch.tensor([1.0, 0.0]))
    assert [count.tolist() for count in half_life.counts(counted)] == [[4095.0, 0.0], [4095.0, 4095.0]]


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_half_life_s_fit_goes_down_the_paper_s_loss(alpha):
    """From the paper's start, weights of 0: after many rounds no small change of a weight lowers the loss."""
    given = {**memory.published("half_life"), "alpha": alpha, "ridge": 0.01, "shortest": 0.1, "longest": 50.0}
    model = memory.build("half_life", given)
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(0, 6, 900), rng.integers(0, 4, 900)
    t = rng.uniform(0.2, 8, 900)
    truth = 2 ** (-t / 2 ** (0.5 + 0.8 * np.sqrt(1 + right) - 0.5 * np.sqrt(1 + wrong)))
    outcome = (rng.random(900) < truth).astype(float)
    counted = half_life.packed(torch.tensor(right).float(), torch.tensor(wrong).float())
    column = torch.tensor(outcome).float()
    record = Record(torch.tensor(t).float(), torch.ones(900), counted, torch.ones(900), column)

    start = np.array([1.0, 0.0, 0.0, 0.0])

    def loss(values) -> float:
        level, bias, r, w = values
        h = np.clip(2 ** (bias + r * np.sqrt(1 + right) + w * np.sqrt(1 + wrong)), 0.1, 50.0)
        observed = np.clip(-t / np.log2(np.clip(outcome, 1e-4, 1 - 1e-4)), 0.1, 50.0)
        squares = (outcome - level * 2 ** (-t / h)) ** 2 + alpha * (observed - h) ** 2
        return squares.mean() + 0.01 * ((np.array(values) - start) ** 2).sum()

    for _ in range(150):
        model.fit(record)
    reached = [model.parameters[name] for name in ("level", "bias", "right", "wrong")]
    assert loss(reached) < loss(start) - 0.01
    for index in range(4):
        for change in (-0.02, 0.02):
            moved = list(reached)
            moved[index] += change
            low, high = model.bounds[model.fitted[index]]
            assert loss(moved) > loss(reached) - 1e-7 or not low <= moved[index] <= high


# Wozniak 1990


def sm2_by_the_book(qualities: list[float]) -> list[tuple[float, float]]:
    """The algorithm's steps with a repetition number, as the text has them."""
    easiness, repetition, interval, history = 2.5, 0, 0.0, []
    for q in qualities:
        if q >= 3:
            easiness = max(1.3, easiness + 0.1 - (5 - q) * (0.08 + (5 - q) * 0.02))
            repetition += 1
        else:
            repetition = 1
        interval = 1.0 if repetition == 1 else 6.0 if repetition == 2 else interval * easiness
        history.append((interval, easiness))
    return history


@pytest.mark.parametrize("seed", range(4))
def test_sm2_is_the_algorithm_whatever_is_answered(seed):
    """Easiness has a least value and no largest in the book; both agree below the largest that we have, 5."""
    rng = random.Random(seed)
    qualities = [q for _ in range(6) for q in (*rng.choices([3, 4, 5, 5, 5, 5, 5], k=5), rng.choice([0, 2]))]
    grades = [(q - 1) / 4 if q >= 3 else q / 6 for q in qualities]
    expected = sm2_by_the_book(qualities)
    assert 3.0 < max(easiness for _, easiness in expected) < 5.0
    assert max(interval for interval, _ in expected) < 36500
    model = memory.build("sm2", memory.published("sm2"))
    for state, wanted in zip(played(model, [(1.0, g) for g in grades]), expected, strict=True):
        assert state == pytest.approx(wanted, rel=1e-4)


def test_sm2_s_easiness_ends_at_5_which_is_ours():
    qualities = [5] * 40
    states = played(memory.build("sm2", memory.published("sm2")), [(1.0, 1.0)] * 40)
    book = [easiness for _, easiness in sm2_by_the_book(qualities)]
    assert [easiness for _, easiness in states] == pytest.approx([min(5.0, easiness) for easiness in book], rel=1e-5)
    assert book[23] < 5.0 < book[25]
    assert book[-1] == pytest.approx(6.5)


def test_sm2_is_the_algorithm():
    qualities = [5, 5, 5, 4, 3, 3, 2, 4, 5, 3, 3, 3, 0, 1, 5, 5, 4, 4, 4]
    grades = [(q - 1) / 4 if q >= 3 else q / 6 for q in qualities]
    model = memory.build("sm2", memory.published("sm2"))
    expected = sm2_by_the_book(qualities)
    for state, wanted in zip(played(model, [(1.0, g) for g in grades]), expected, strict=True):
        assert state == pytest.approx(wanted, rel=1e-5)
    assert min(easiness for _, easiness in expected) < 2.3  # the sequence goes below where it began


def test_sm2_by_hand():
    """1 day, 6 days, then 6 * 2.8 after three perfect answers; easiness never below 1.3."""
    model = memory.build("sm2", memory.published("sm2"))
    assert played(model, [(0, 1.0)] * 3)[-1] == pytest.approx((16.8, 2.8))
    assert played(model, [(0, 0.5)] * 30)[-1][1] == pytest.approx(1.3)
    assert recalls(model, 6.0, 2.5, [0.0, 3.0, 6.0, 12.0]) == pytest.approx([1.0, 0.9**0.5, 0.9, 0.81], abs=1e-6)


def test_a_network_s_sm2_starts_over_below_its_first_interval():
    states = played(memory.build("sm2"), [(0, 1.0), (7, 1.0), (11, 0.0), (2, 1.0), (7, 1.0), (11, 1.0)])
    assert [round(interval, 4) for interval, _ in states] == [7.0, 11.0, 2.0, 7.0, 11.0, round(11 * 1.9, 4)]
    assert played(memory.build("sm2"), [(0, 1.0)] * 20)[-1] == (64.0, pytest.approx(3.4))


# FSRS

W = (0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 3.0194, 0.001, 1.8722, 0.1666, 0.796, 1.4835, 0.0614, 0.2629,
     1.6483, 0.6014, 1.8729, 0.5425, 0.0912, 0.0658, 0.1542)  # fmt: skip
GRADES = {1: 0.2, 2: 0.6, 3: 0.8, 4: 0.99}
RATED = {"hard": 0.7, "easy": 0.95}


def fsrs_by_formula(ratings: list[int], delays: list[float], decay: float = W[20], same_day: float = 1.0):
    """Stability and difficulty after each review, days and float64."""
    factor = 0.9 ** (-1 / decay) - 1

    def start_of(g: int) -> float:
        return W[4] - math.exp(W[5] * (g - 1)) + 1

    history = []
    for g, t in zip(ratings, delays, strict=True):
        if not history:
            history.append((W[g - 1], min(max(start_of(g), 1), 10)))
            continue
        s, d = history[-1]
        r = (1 + factor * t / s) ** -decay
        if t < same_day:
            growth = math.exp(W[17] * (g - 3 + W[18])) * s ** -W[19]
            after = s * (max(growth, 1) if g >= 3 else growth)
        elif g == 1:
            kept = W[11] * d ** -W[12] * ((s + 1) ** W[13] - 1) * math.exp(W[14] * (1 - r))
            after = min(kept, s / math.exp(W[17] * W[18]))
        else:
            gain = math.exp(W[8]) * (11 - d) * s ** -W[9] * (math.exp(W[10] * (1 - r)) - 1)
            after = s * (1 + gain * (W[15] if g == 2 else 1) * (W[16] if g == 4 else 1))
        d = W[7] * start_of(4) + (1 - W[7]) * (d - W[6] * (g - 3) * (10 - d) / 9)
        history.append((max(after, 0.001), min(max(d, 1), 10)))
    return history


def human(**more) -> Memory:
    return memory.build("fsrs", {**memory.published("fsrs"), **RATED, **more})


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decay", [0.1542, 0.5])
def test_fsrs_is_its_formulas(seed, decay):
    rng = random.Random(seed)
    ratings = [rng.choice([1, 2, 3, 3, 4]) for _ in range(9)]
    delays = [rng.choice([0.0, 0.5, 1.0, 4.0, 30.0, 200.0]) for _ in range(9)]
    model, factor = human(decay=decay), 0.9 ** (-1 / decay) - 1
    states = played(model, [(t, GRADES[g]) for g, t in zip(ratings, delays, strict=True)])
    for state, (s, d) in zip(states, fsrs_by_formula(ratings, delays, decay), strict=True):
        assert state == pytest.approx((s, d), rel=2e-5)
        expected = [(1 + factor * t / s) ** -decay for t in DELAYS]
        assert recalls(model, *state) == pytest.approx(expected, abs=2e-5)


def test_fsrs_reaches_the_memory_state_of_the_project_s_own_tests():
    """The vector that fsrs-rs, py-fsrs and ts-fsrs share: again, then five times good after these days."""
    visits = [(t, GRADES[g]) for g, t in zip([1, 3, 3, 3, 3, 3], [0, 0, 1, 3, 8, 21], strict=True)]
    assert played(human(), visits)[-1] == pytest.approx((53.62691, 6.3574867), abs=1e-4)
    frozen = human(weights=(*W[:17], 0.0, 0.0, 0.0, W[20]))  # without a same-day step
    assert played(frozen, visits)[-1] == pytest.approx((53.335106, 6.3574867), abs=1e-4)


def test_fsrs_gives_the_intervals_of_the_project_s_own_tests():
    """Their second vector; steps of minutes are a delay of 0 days, everything else is due in whole days."""
    model, delay, due = human(), 0.0, []
    state = model.first(torch.tensor([GRADES[3]]))
    for rating in (3, 3, 3, 3, 3, 1, 1, 3, 3, 3, 3, 3):
        state = model.visit(torch.tensor([delay]), *state, torch.tensor([GRADES[rating]]))
        delay = 0.0 if rating == 1 else float(max(1, round(model.interval(0.9, *state).item())))
        due.append(int(delay))
    assert due == [2, 11, 46, 163, 498, 0, 0, 2, 4, 7, 12, 21]


def test_fsrs_in_clock_units_is_fsrs_in_days():
    """A day that is five clock units long changes nothing but the unit; stretch acts on what is read alone."""
    ratings, delays = [3, 3, 1, 2, 4, 3], [0.0, 2.0, 9.0, 1.0, 3.0, 40.0]
    model = memory.build("fsrs", {"day": 5.0, "longest": 1e6, **RATED})
    states = played(model, [(5 * t, GRADES[g]) for g, t in zip(ratings, delays, strict=True)])
    for (strength, difficulty), (s, d) in zip(states, fsrs_by_formula(ratings, delays, same_day=0.0), strict=True):
        assert (strength / 5, difficulty) == pytest.approx((s, d), rel=2e-5)
    slow = memory.build("fsrs", {"day": 5.0, "stretch": 3.0})
    assert slow.first(torch.ones(1)) == model.first(torch.tensor([GRADES[3]]))
    s, d = states[-1]
    assert recalls(slow, s, d, [3 * t for t in DELAYS]) == pytest.approx(recalls(model, s, d), abs=1e-6)
    assert slow.interval(0.9, torch.tensor([s]), torch.tensor([d])).item() == pytest.approx(3 * s, rel=1e-4)


def test_fsrs_keeps_stability_within_its_limits():
    model = memory.build("fsrs", {"longest": 20.0})
    assert played(model, [(9.0, 1.0)] * 6)[-1][0] == 20.0
    weak = memory.build("fsrs", {"day": 1.0})
    assert played(weak, [(0.0, 0.0)] * 400)[-1][0] == pytest.approx(0.001, rel=1e-5)


def test_fsrs_takes_other_weights_and_refuses_a_wrong_number():
    weights = list(W)
    weights[2] = 5.0
    assert memory.build("fsrs", {"weights": weights, "day": 1.0}).first(torch.ones(1))[0].item() == 5.0
    for wrong in (W[:20], "w", 3):
        with pytest.raises(memory.model.UserError, match="weights cannot be"):
            memory.build("fsrs", {"weights": wrong})


# Mozer et al. 2009


def cascade(visits, tau, gamma, boost: float, lapse: float) -> list[list[float]]:
    """The integrators after each visit, one at a time, as the paper has them."""
    x, history = [0.0] * len(tau), []
    for number, (delay, grade) in enumerate(visits):
        was_whole = sum(g * v for g, v in zip(gamma, x, strict=True)) > 0.99
        x = [v * math.exp(-delay / t) for v, t in zip(x, tau, strict=True)]
        recalled = grade >= 0.5
        epsilon = 1 + (boost - 1) * grade if recalled and was_whole and number else 1.0
        new = []
        for i in range(len(tau)):
            s = sum(gamma[j] * x[j] for j in range(i + 1)) / sum(gamma[: i + 1])
            new.append((x[i] + epsilon * max(0.0, 1 - s)) * (1 if recalled else lapse))
        x = new
        history.append(x)
    return history


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("boost", "lapse"), [(9.0, 0.3), (9.0, 1.0), (3.0, 0.5)])
def test_multiscale_is_the_cascade(seed, boost, lapse):
    given = {"time_constant": 4.0, "ratio": 5.0, "weight_ratio": 0.7, "level": 0.95, "boost": boost, "lapse": lapse}
    model, visits = memory.build("multiscale", given), some_visits(seed)
    tau, gamma = [4.0, 20.0, 100.0], [1 / 2.19, 0.7 / 2.19, 0.49 / 2.19]
    expected = cascade(visits, tau, gamma, boost, lapse)
    for state, x in zip(played(model, visits), expected, strict=True):
        held = multiscale.unpacked(*(torch.tensor([number]) for number in state)).flatten().tolist()
        assert held == pytest.approx(x, rel=4e-3, abs=1e-3)  # a float16 has 11 bits
        curve = [sum(g * v * math.exp(-t / c) for g, v, c in zip(gamma, x, tau, strict=True)) for t in DELAYS]
        assert recalls(model, *state) == pytest.approx([0.95 * min(1, s) for s in curve], abs=2e-3)


def test_a_multiscale_strength_is_the_area_ahead_on_the_scale_of_a_stability():
    model = memory.build("multiscale")
    fresh = played(model, [(0, 1.0)])[0]
    assert fresh[0] == pytest.approx(7.0, rel=0.008)
    state = played(model, [(0, 1.0), (20.0, 1.0)])[-1]
    tau = [24.77, 24.77 * 6, 24.77 * 36]
    x = cascade([(0, 1.0), (20.0, 1.0)], tau, [1 / 3] * 3, 9.0, 0.3)[-1]
    area = sum(v * t for v, t in zip(x, tau, strict=True)) / sum(tau)
    assert state[0] == pytest.approx(7.0 * area, rel=0.01)


def test_a_multiscale_curve_is_much_like_a_power_law():
    t = [0.0, 0.25, 1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 200.0]
    one = recalls(memory.build("multiscale"), *played(memory.build("multiscale"), [(0, 1.0)])[0], t)
    assert one == pytest.approx(recalls(memory.build("power_law"), 7.0, 1.0, t), abs=0.015)


def test_multiscale_has_the_spacing_effect_of_the_paper():
    """A fixed time after the second session most is left of neither the shortest spacing nor the longest."""
    model = memory.build("multiscale", {"time_constant": 1.0, "weight_ratio": 0.3, **memory.published("multiscale")})
    one, test = torch.ones(1), torch.tensor([5.0])

    def expected(spacing: float) -> float:
        """Recall at the test, whether or not the second session found the memory."""
        first, t = model.first(one), torch.tensor([spacing])
        found = model.recall(t, *first).item()
        chances = ((found, one), (1 - found, 0 * one))
        return sum(p * model.recall(test, *model.visit(t, *first, grade)).item() for p, grade in chances)

    scores = [expected(spacing) for spacing in (0.01, 0.3, 1.0, 10.0, 300.0)]
    assert scores[0] < scores[1] < scores[2] > scores[3] > scores[4]
    assert scores[2] > 3 * scores[0]  # spacing more than doubles retention, says the paper


def test_packed_numbers_are_finite_whatever_they_hold():
    x = torch.rand(3, 2000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 4, 2000)
    strength, difficulty = multiscale.packed(torch.linspace(0.01, 1000, 2000), x)
    assert strength.isfinite().all()
    assert difficulty.isfinite().all()
    assert (strength > 0).all()
    assert torch.equal(multiscale.unpacked(strength, difficulty), x.half().float())
    ratio: Tensor = strength / torch.linspace(0.01, 1000, 2000)
    assert (ratio - 1).abs().max() < 0.008
