"""What the course says its classifiers and fully connected networks reach on CIFAR-10, trained out of the rules.

They need a copy of CIFAR-10, which is not beside the tests: ENGRAM_CIFAR10 says where it is, in any form that
`--data` takes; without it they are skipped. Of the course's 20 thresholds that need data ten are here, seven in
test_cs231n_thresholds_convolution.py, two in test_cs231n_thresholds_captioning.py; LEFT says why one is nowhere.

    ENGRAM_CIFAR10=cifar10/ pytest tests/reference/test_cs231n_thresholds*.py

Where the course leaves settings to the student they were chosen by the 1 000 pictures that it keeps for that, never by
the test's. "Seen" is what came out with the copy that these were written with: packed as JPEG, in another order.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from course import CHECKS, WITHOUT_DATA
from course_features import features
from course_pictures import NEED_PICTURES, centred, raw
from course_solver import accuracy, solve
from engram import rules

LEFT = {
    "threshold.captioning.transformer.overfit": "a captioner out of transformer layers is not among the rules yet",
}


def test_no_threshold_is_left_out_without_a_reason() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_cs231n_thresholds*.py"))
    tried = set(re.findall(r'CHECKS\["(threshold\.[\w.]+)"\]', text))
    assert tried | set(LEFT) == set(CHECKS) - WITHOUT_DATA
    assert not tried & set(LEFT)


def rows(X: np.ndarray) -> np.ndarray:
    """Flat, with a column of ones for the bias."""
    return np.concatenate([X.reshape(len(X), -1), np.ones((len(X), 1), dtype=X.dtype)], axis=1)


def neighbours() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The course's 5 000 to know and 500 to ask about."""
    found = raw()
    flat = (X.reshape(len(X), -1).astype(np.float64) for X in (found.X[:5000], found.X_test[:500]))
    X, X_test = flat
    return X, found.y[:5000], X_test, found.y_test[:500]


@pytest.mark.slow
@NEED_PICTURES
def test_one_nearest_neighbour() -> None:
    """137 of 500 in the course; "about": within three deviations of 0.02, which is how sure 500 pictures are.

    Seen: 131. Over 20 random choices of 5 000 and 500: 134 on average, from 100 to 151.
    """
    assert CHECKS["threshold.knn.k1"]["expected"] == {"test_acc": "about 0.27 (137/500=0.274)"}
    X, y, X_test, y_test = neighbours()
    net = rules.KNearestNeighbor()
    net.train(X, y)
    assert (net.predict(X_test, k=1) == y_test).mean() == pytest.approx(0.274, abs=0.06)


@pytest.mark.slow
@NEED_PICTURES
def test_as_many_neighbours_as_five_parts_choose() -> None:
    """141 of 500 in the course, with 10 neighbours. Seen: 145, with 15; 10 would have given 152.

    Which pictures are asked about decides more than anything else: over 20 random choices of 5 000 and 500 it came to
    0.281 on average with a deviation of 0.020, all that 500 draws have by themselves, from 126 to 155 right; 8 of 20
    pass. With the course's own 500 in this copy's packing, 10 neighbours give 138.
    """
    assert CHECKS["threshold.knn.cv"]["expected"] == {"test_acc": ">0.28 (k=10: 141/500=0.282)"}
    X, y, X_test, y_test = neighbours()
    choices, parts = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100), np.array_split(np.arange(5000), 5)
    right = dict.fromkeys(choices, 0)
    for part in parts:
        others = np.setdiff1d(np.arange(5000), part)
        net = rules.KNearestNeighbor()
        net.train(X[others], y[others])
        distances = net.compute_distances_no_loops(X[part])
        for k in choices:
            right[k] += int((net.predict_labels(distances, k) == y[part]).sum())
    net = rules.KNearestNeighbor()
    net.train(X, y)
    assert (net.predict(X_test, k=max(choices, key=right.__getitem__)) == y_test).mean() > 0.28


@pytest.mark.slow
@NEED_PICTURES
@pytest.mark.parametrize(
    ("kind", "reg", "rates", "least"),
    [(rules.LinearSVM, 3e3, ((2e-7, 4000), (2e-8, 2000)), 0.37), (rules.Softmax, 3e2, ((2e-6, 3000),), 0.35)],
)
def test_linear_classifiers(kind: Any, reg: float, rates: tuple[tuple[float, int], ...], least: float) -> None:
    """Seen: 0.389 and 0.383 on the thousand to choose by, 0.403 and 0.408 on the test's; each is sure to 0.015."""
    assert CHECKS["threshold.svm.val"]["expected"] == {"val_acc": "about 0.39-0.40"}
    assert CHECKS["threshold.softmax.val"]["expected"] == {"val_acc": ">0.35 (2025: about 0.365)"}
    data, net, rng = centred(), kind(), np.random.default_rng(0)
    X = rows(data.X)
    for rate, steps in rates:
        net.train(X, data.y, rate, reg, num_iters=steps, rng=rng)
    assert (net.predict(rows(data.X_val)) == data.y_val).mean() > least
    assert (net.predict(rows(data.X_test)) == data.y_test).mean() > least


@pytest.mark.slow
@NEED_PICTURES
def test_two_layers() -> None:
    """Seen: 0.518."""
    assert CHECKS["threshold.two_layer.cifar"]["expected"] == {"val_acc": ">0.48; best about 0.52"}
    data, rng = centred(), np.random.default_rng(0)
    net = rules.TwoLayerNet(hidden_dim=100, reg=0.1, dtype=np.float32, rng=rng)
    reached = solve(
        net,
        (data.X, data.y),
        (data.X_val, data.y_val),
        rule=rules.sgd,
        rate=1e-3,
        decay=0.9,
        epochs=10,
        batch=200,
        rng=rng,
    )
    assert reached > 0.48


@pytest.mark.slow
@NEED_PICTURES
def test_softmax_on_features() -> None:
    """Seen: 0.47; the rates that the notebook begins with, 1e-7 and 1e-6, are too small for 2 000 steps (0.40)."""
    assert CHECKS["threshold.features.softmax"]["expected"] == {"val_acc": ">=0.42-0.44 on HOG+colour histogram"}
    data, net = features(), rules.Softmax()
    net.train(data.X, data.y, 0.1, 1e-4, num_iters=2000, rng=np.random.default_rng(0))
    assert (net.predict(data.X_val) == data.y_val).mean() >= 0.44


@pytest.mark.slow
@NEED_PICTURES
def test_two_layers_on_features() -> None:
    """500 hidden units, without the column of ones, as the course has it. Seen: 0.58, and as much to choose by."""
    assert CHECKS["threshold.features.nn"]["expected"] == {"test_acc": ">0.55 (2025: >0.58, best about 0.60)"}
    data, rng = features(), np.random.default_rng(0)
    X, X_val, X_test = (part[:, :-1].astype(np.float32) for part in (data.X, data.X_val, data.X_test))
    net = rules.TwoLayerNet(X.shape[1], 500, 10, reg=1e-4, dtype=np.float32, rng=rng)
    solve(net, (X, data.y), (X_val, data.y_val), rule=rules.sgd, rate=0.2, decay=0.95, epochs=15, batch=200, rng=rng)
    assert accuracy(net, X_test, data.y_test) > 0.55


@pytest.mark.slow
@NEED_PICTURES
@pytest.mark.parametrize(("layers", "scale", "rate"), [(3, 1e-2, 1e-2), (5, 5e-2, 5e-3)])
def test_fifty_pictures_can_be_learned_by_heart(layers: int, scale: float, rate: float) -> None:
    """20 passes of two batches of 25, by plain descent."""
    assert CHECKS["threshold.fcnet.overfit50.3layer"]["expected"] == {"train_acc": 1.0}
    assert CHECKS["threshold.fcnet.overfit50.5layer"]["expected"] == {"train_acc": 1.0}
    data = centred()
    X, y = data.X[:50], data.y[:50]
    net = rules.FullyConnectedNet([100] * (layers - 1), weight_scale=scale, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(20):
        for places in rng.permutation(50).reshape(2, 25):
            _, gradients = net.loss(X[places], y[places])
            for name, gradient in gradients.items():
                net.params[name], _ = rules.sgd(net.params[name], gradient, {"learning_rate": rate})
    assert accuracy(net, X, y) == 1


@pytest.mark.slow
@NEED_PICTURES
def test_a_fully_connected_network() -> None:
    """Four layers with batch normalisation, by Adam. Seen: 0.533."""
    assert CHECKS["threshold.fcnet.val"]["expected"] == {"val_acc": ">=0.50"}
    data, rng = centred(), np.random.default_rng(0)
    net = rules.FullyConnectedNet([100] * 3, weight_scale=5e-2, normalization="batchnorm", rng=rng)
    reached = solve(
        net, (data.X, data.y), (data.X_val, data.y_val), rule=rules.adam, rate=1e-3, decay=0.8, epochs=8, rng=rng
    )
    assert reached >= 0.50
