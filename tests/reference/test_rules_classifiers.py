"""Linear classifiers, nearest neighbours and the captioner out of the rules, against torch, SciPy and the course."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist

from engram import rules
from engram.errors import UserError

LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "torch": torch.from_numpy}


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 4)), 2 * rng.standard_normal((9, 6)), rng.integers(4, size=9)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("way", ["naive", "vectorized"])
@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_linear_losses_equal_torch(kind: str, way: str, half: bool, library: str) -> None:
    W, X, y = example()
    w, target = torch.from_numpy(W).requires_grad_(), torch.from_numpy(y)
    scores = torch.from_numpy(X) @ w
    data = F.cross_entropy(scores, target) if kind == "softmax" else 4 * F.multi_margin_loss(scores, target)
    expected = data + 0.3 * w.square().sum() * (0.5 if half else 1)
    (gradient,) = torch.autograd.grad(expected, w)
    loss, dW = getattr(rules, f"{kind}_loss_{way}")(*map(LIBRARIES[library], (W, X, y)), 0.3, half=half)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(dW, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", [rules.LinearSVM, rules.Softmax])
def test_linear_classifiers_learn_what_a_line_can_part(kind: type, library: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    X = np.concatenate([4 * np.eye(3)[y] + rng.standard_normal((300, 3)), np.ones((300, 1))], axis=1)
    net = kind()
    array = LIBRARIES[library]
    history = net.train(array(X), array(y), 0.05, 1e-4, num_iters=200, batch_size=50, rng=rng)
    assert history[0] == pytest.approx(2 if kind is rules.LinearSVM else np.log(3), abs=0.05)
    assert np.mean(history[-20:]) < 0.2 * history[0]
    assert (np.asarray(net.predict(array(X))) == y).mean() > 0.95
    before = np.asarray(net.W).copy()
    net.train(array(X), array(y), 0.05, num_iters=1, rng=rng)  # goes on, from where it is
    assert 0 < np.abs(np.asarray(net.W) - before).max() < 0.2


@pytest.mark.parametrize("library", LIBRARIES)
def test_distances_are_scipys_and_votes_are_counted(library: str) -> None:
    rng, array = np.random.default_rng(0), LIBRARIES[library]
    known, new, labels = rng.standard_normal((40, 5)), rng.standard_normal((13, 5)), rng.integers(4, size=40)
    net = rules.KNearestNeighbor()
    net.train(array(known), array(labels))
    expected = cdist(new, known)
    for way in ("two_loops", "one_loop", "no_loops"):
        np.testing.assert_allclose(getattr(net, f"compute_distances_{way}")(array(new)), expected, rtol=1e-10)
    for k in (1, 3, 5):
        votes = [np.bincount(labels[np.argsort(row)[:k]]).argmax() for row in expected]
        for loops in (0, 1, 2):
            assert net.predict(array(new), k, loops).tolist() == votes
    assert np.asarray(net.compute_distances_no_loops(array(known))).diagonal().max() < 1e-6  # of twins, and no NaN


def test_ties_go_to_the_smaller_label() -> None:
    net = rules.KNearestNeighbor()
    net.train(np.zeros((4, 1)), np.array([3, 1, 3, 1]))
    assert net.predict_labels(np.array([[1.0, 2.0, 3.0, 4.0]]), k=4).tolist() == [1]
    assert net.predict_labels(np.array([[1.0, 2.0, 3.0, 4.0]]), k=3).tolist() == [3]


# -- the captioner

WORDS = {"<NULL>": 0, "<START>": 1, "<END>": 2, "a": 3, "b": 4, "c": 5}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_captioner_against_torchs_gradients(cell: str) -> None:
    """The same sums built by torch out of the forward rules, differentiated by torch."""
    rng = np.random.default_rng(0)
    features, captions = rng.standard_normal((3, 4)), np.array([[1, 3, 4, 2], [1, 5, 2, 0], [1, 2, 0, 0]])
    net = rules.CaptioningRNN(WORDS, 4, 5, 6, cell, np.float64, rng=rng)
    loss, gradients = net.loss(features, captions)
    p = {name: torch.from_numpy(value).requires_grad_() for name, value in net.params.items()}
    h = torch.from_numpy(features) @ p["W_proj"] + p["b_proj"]
    x = p["W_embed"][torch.from_numpy(captions[:, :-1])]
    states, _ = getattr(rules, f"{cell}_forward")(x, h, p["Wx"], p["Wh"], p["b"])
    scores = states @ p["W_vocab"] + p["b_vocab"]
    target = torch.from_numpy(captions[:, 1:])
    expected = F.cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=0, reduction="sum") / 3
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for (name, gradient), theirs in zip(
        gradients.items(), torch.autograd.grad(expected, [p[name] for name in gradients]), strict=True
    ):
        np.testing.assert_allclose(gradient, theirs, rtol=1e-9, atol=1e-13, err_msg=name)
    assert set(gradients) == set(net.params)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_captioner_learns_its_captions_and_says_them(cell: str, library: str) -> None:
    rng, array = np.random.default_rng(0), LIBRARIES[library]
    captions = np.array([[1, 3, 4, 5, 2, 0], [1, 5, 2, 0, 0, 0], [1, 4, 4, 3, 3, 2], [1, 3, 3, 2, 0, 0]])
    features = array(np.eye(4))
    net = rules.CaptioningRNN(WORDS, 4, 12, 24, cell, np.float64, rng=rng, array=array)
    configs: dict[str, dict[str, Any]] = {name: {"learning_rate": 0.02} for name in net.params}
    first = loss = float(net.loss(features, array(captions))[0])
    assert first == pytest.approx(15 / 4 * np.log(6), rel=0.2)  # 15 words that are not <NULL>, four captions
    for _ in range(150):
        loss, gradients = net.loss(features, array(captions))
        for name, gradient in gradients.items():
            net.params[name], configs[name] = rules.adam(net.params[name], gradient, configs[name])
    assert float(loss) < 0.1
    said = np.asarray(net.sample(features, 5))
    assert said.tolist() == captions[:, 1:].tolist()


def test_initial_weights_are_drawn_in_the_courses_order() -> None:
    net = rules.CaptioningRNN(WORDS, 4, 5, 6, "lstm", np.float64, rng=np.random.RandomState(3))
    rng = np.random.RandomState(3)
    expected = {
        "W_embed": rng.randn(6, 5) / 100,
        "W_proj": rng.randn(4, 6) / 2,
        "Wx": rng.randn(5, 24) / 5**0.5,
        "Wh": rng.randn(6, 24) / 6**0.5,
        "W_vocab": rng.randn(6, 6) / 6**0.5,
    }
    for name, value in net.params.items():
        np.testing.assert_allclose(value, expected.get(name, np.zeros_like(value)), rtol=1e-14)
    assert rules.CaptioningRNN(WORDS).params["Wx"].dtype == np.float32


KNOWN = rules.KNearestNeighbor()
KNOWN.train(np.zeros((4, 2)), np.zeros(4, dtype=int))
CAPTIONER = rules.CaptioningRNN({"<NULL>": 0}, 4, 5, 6, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rules.CaptioningRNN(WORDS, cell_type="lsmt"), "cell_type 'lsmt' is not known"),
        (lambda: rules.CaptioningRNN({"a": 0}), "a dictionary without <NULL>"),
        (lambda: CAPTIONER.sample(np.zeros((1, 4))), "a dictionary without <START>"),
        (lambda: CAPTIONER.loss(np.zeros((1, 4)), np.zeros((1, 1), dtype=int)), r"captions \(1, 1\)"),
        (lambda: CAPTIONER.loss(np.zeros((1, 4)), np.ones((1, 3), dtype=int)), "words from 1 to 1"),
        (lambda: rules.Softmax().predict(np.zeros((1, 2))), "has not been trained"),
        (lambda: rules.LinearSVM().train(np.zeros((3, 2)), np.zeros(2, dtype=int)), "examples"),
        (lambda: rules.KNearestNeighbor().predict(np.zeros((1, 2))), "neighbours of nothing"),
        (lambda: KNOWN.predict(np.zeros((1, 2)), num_loops=3), "num_loops is 3"),
        (lambda: KNOWN.predict(np.zeros((1, 2)), k=5), "k is 5"),
        (lambda: KNOWN.predict(np.zeros((1, 3))), r"examples \(1, 3\) beside \(4, 2\)"),
        (lambda: KNOWN.train(np.zeros((3, 2)), np.zeros(2)), "examples"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
