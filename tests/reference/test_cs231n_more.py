"""More of the course's published numbers: from its notebooks, beside those in data/cs231n_checks.json.

Updates, whole sequences, the toy network of 2015 and its three training runs, what batch, layer, group and spatial
normalisation print, and the soft attention of the sister course. Published arrays have eight decimals, so 2e-7 is the
closest fair bound.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engram import rules

LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "torch": torch.from_numpy}


@pytest.fixture(params=list(LIBRARIES))
def array(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    return LIBRARIES[request.param]


def spaced(low: float, high: float, *shape: int) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def close(found: Any, expected: Any) -> None:
    assert rules.rel_error(found, np.asarray(expected)) < 2e-7


# -- assignment 2, FullyConnectedNets

RMSPROP_W = [
    [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247],
    [-0.132737, -0.08078555, -0.02881884, 0.02316247, 0.07515774],
    [0.12716641, 0.17918792, 0.23122175, 0.28326742, 0.33532447],
    [0.38739248, 0.43947102, 0.49155973, 0.54365823, 0.59576619],
]
RMSPROP_CACHE = [
    [0.5976, 0.6126277, 0.6277108, 0.64284931, 0.65804321],
    [0.67329252, 0.68859723, 0.70395734, 0.71937285, 0.73484377],
    [0.75037008, 0.7659518, 0.78158892, 0.79728144, 0.81302936],
    [0.82883269, 0.84469141, 0.86060554, 0.87657507, 0.8926],
]
ADAM_W = [
    [-0.40094747, -0.34836187, -0.29577703, -0.24319299, -0.19060977],
    [-0.1380274, -0.08544591, -0.03286534, 0.01971428, 0.0722929],
    [0.1248705, 0.17744702, 0.23002243, 0.28259667, 0.33516969],
    [0.38774145, 0.44031188, 0.49288093, 0.54544852, 0.59801459],
]
ADAM_V = [
    [0.69966, 0.68908382, 0.67851319, 0.66794809, 0.65738853],
    [0.64683452, 0.63628604, 0.6257431, 0.61520571, 0.60467385],
    [0.59414753, 0.58362676, 0.57311152, 0.56260183, 0.55209767],
    [0.54159906, 0.53110598, 0.52061845, 0.51013645, 0.49966],
]
ADAM_M = [
    [0.48, 0.49947368, 0.51894737, 0.53842105, 0.55789474],
    [0.57736842, 0.59684211, 0.61631579, 0.63578947, 0.65526316],
    [0.67473684, 0.69421053, 0.71368421, 0.73315789, 0.75263158],
    [0.77210526, 0.79157895, 0.81105263, 0.83052632, 0.85],
]


def test_rmsprop(array: Callable[[np.ndarray], Any]) -> None:
    w, dw, cache = (array(spaced(*ends, 4, 5)) for ends in ((-0.4, 0.6), (-0.6, 0.4), (0.6, 0.9)))
    next_w, config = rules.rmsprop(w, dw, {"learning_rate": 1e-2, "cache": cache})
    close(next_w, RMSPROP_W)
    close(config["cache"], RMSPROP_CACHE)


def test_adam(array: Callable[[np.ndarray], Any]) -> None:
    """t is raised before it is used; unraised, the step is off by 1.5e-3."""
    w, dw, m, v = (array(spaced(*ends, 4, 5)) for ends in ((-0.4, 0.6), (-0.6, 0.4), (0.6, 0.9), (0.7, 0.5)))
    next_w, config = rules.adam(w, dw, {"learning_rate": 1e-2, "m": m, "v": v, "t": 5})
    close(next_w, ADAM_W)
    close(config["v"], ADAM_V)
    close(config["m"], ADAM_M)
    assert config["t"] == 6


# -- assignment 2 of 2015: the toy network and 100 steps on it, full batch

TOY_SCORES = [
    [-0.5328368, 0.20031504, 0.93346689],
    [-0.59412164, 0.15498488, 0.9040914],
    [-0.67658362, 0.08978957, 0.85616275],
    [-0.77092643, 0.01339997, 0.79772637],
    [-0.89110401, -0.08754544, 0.71601312],
]


def toy(array: Callable[[np.ndarray], Any], reg: float) -> tuple[Any, Any, Any]:
    net = rules.TwoLayerNet(4, 10, 3, reg=reg, array=array)
    ends = {"W1": (-0.2, 0.6), "b1": (-0.3, 0.7), "W2": (-0.4, 0.1), "b2": (-0.5, 0.9)}
    for name, pair in ends.items():
        net.params[name] = array(spaced(*pair, *net.params[name].shape))
    return net, array(spaced(-0.2, 0.5, 5, 4)), array(np.array([0, 1, 2, 2, 1]))


def test_the_toy_network_of_2015(array: Callable[[np.ndarray], Any]) -> None:
    net, x, y = toy(array, 0.1)
    close(net.loss(x), TOY_SCORES)
    assert float(net.loss(x, y)[0]) == pytest.approx(1.38191946092, abs=1e-11)


TRAINED = {
    "sgd": (rules.sgd, {}, 0.940686),
    "momentum": (rules.sgd_momentum, {"momentum": 0.9}, 0.494394),
    "rmsprop": (rules.rmsprop, {"decay_rate": 0.99, "epsilon_inside": True}, 0.439368),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_hundred_steps_of_2015(name: str, array: Callable[[np.ndarray], Any]) -> None:
    """The last loss, which is the one before the last update; rmsprop had its epsilon under the root."""
    rule, settings, expected = TRAINED[name]
    net, x, y = toy(array, 0.001)
    configs: dict[str, dict[str, Any]] = {key: {"learning_rate": 0.1, **settings} for key in net.params}
    loss: Any = None
    for _ in range(100):
        loss, gradients = net.loss(x, y)
        for key, gradient in gradients.items():
            net.params[key], configs[key] = rule(net.params[key], gradient, configs[key])
    assert float(loss) == pytest.approx(expected, abs=5e-7)


# -- assignment 2: what the norms print


def test_batchnorm_at_test_time(array: Callable[[np.ndarray], Any]) -> None:
    """After 50 batches; a variance that starts at 1 or is unbiased prints other numbers."""
    rng = np.random.RandomState(231)
    W1, W2 = rng.randn(50, 60), rng.randn(60, 3)
    param: dict[str, Any] = {"mode": "train"}
    one, zero = array(np.ones(3)), array(np.zeros(3))
    for _ in range(50):
        rules.batchnorm_forward(array(np.maximum(0, rng.randn(200, 50) @ W1) @ W2), one, zero, param)
    param["mode"] = "test"
    out = rules.batchnorm_forward(array(np.maximum(0, rng.randn(200, 50) @ W1) @ W2), one, zero, param)[0]
    np.testing.assert_allclose(np.asarray(out).mean(0), [-0.03927354, -0.04349152, -0.10452688], atol=6e-9)
    np.testing.assert_allclose(np.asarray(out).std(0), [1.01531428, 1.01238373, 0.97819988], atol=6e-9)


def test_layernorm(array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(231)
    a = np.maximum(0, rng.randn(4, 50) @ rng.randn(50, 60)) @ rng.randn(60, 3)
    np.testing.assert_allclose(a.mean(1), [-59.06673243, -47.60782686, -43.31137368, -26.40991744], atol=6e-9)
    np.testing.assert_allclose(a.std(1), [10.07429373, 28.39478981, 35.28360729, 4.01831507], atol=6e-9)
    for scale, shift, deviations in (
        (1, 0, [0.99999995, 0.99999999, 1.0, 0.99999969]),
        (3, 5, [2.99999985, 2.99999998, 2.99999999, 2.99999907]),
    ):
        given = array(np.full(3, float(scale))), array(np.full(3, float(shift)))
        out = np.asarray(rules.layernorm_forward(array(a), *given, ln_param={})[0])
        np.testing.assert_allclose(out.mean(1), shift, atol=1e-12)
        np.testing.assert_allclose(out.std(1), deviations, atol=6e-9)


def test_spatial_batchnorm(array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(231)
    x = 4 * rng.randn(2, 3, 4, 5) + 10
    np.testing.assert_allclose(x.mean((0, 2, 3)), [9.33463814, 8.90909116, 9.11056338], atol=6e-9)
    np.testing.assert_allclose(x.std((0, 2, 3)), [3.61447857, 3.19347686, 3.5168142], atol=6e-9)
    out = rules.spatial_batchnorm_forward(array(x), array(np.ones(3)), array(np.zeros(3)), {"mode": "train"})[0]
    np.testing.assert_allclose(np.asarray(out).mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(np.asarray(out).std((0, 2, 3)), [0.99999962, 0.99999951, 0.9999996], atol=6e-9)


def test_spatial_batchnorm_at_test_time(array: Callable[[np.ndarray], Any]) -> None:
    rng, param = np.random.RandomState(231), {"mode": "train"}
    one, zero = array(np.ones(4)), array(np.zeros(4))
    for _ in range(50):
        rules.spatial_batchnorm_forward(array(2.3 * rng.randn(10, 4, 11, 12) + 13), one, zero, param)
    param["mode"] = "test"
    x = array(2.3 * rng.randn(10, 4, 11, 12) + 13)
    out = np.asarray(rules.spatial_batchnorm_forward(x, one, zero, param)[0])
    means, deviations = (
        [-0.08034406, 0.07562881, 0.05716371, 0.04378383],
        [0.96718744, 1.0299714, 1.02887624, 1.00585577],
    )
    np.testing.assert_allclose(out.mean((0, 2, 3)), means, atol=6e-9)
    np.testing.assert_allclose(out.std((0, 2, 3)), deviations, atol=6e-9)


def test_spatial_groupnorm(array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(231)
    x = 4 * rng.randn(2, 6, 4, 5) + 10
    groups = x.reshape(4, -1)
    np.testing.assert_allclose(groups.mean(1), [9.72505327, 8.51114185, 8.9147544, 9.43448077], atol=6e-9)
    np.testing.assert_allclose(groups.std(1), [3.67070958, 3.09892597, 4.27043622, 3.97521327], atol=6e-9)
    one, zero = array(np.ones((1, 6, 1, 1))), array(np.zeros((1, 6, 1, 1)))
    out = np.asarray(rules.spatial_groupnorm_forward(array(x), one, zero, 2, {})[0]).reshape(4, -1)
    np.testing.assert_allclose(out.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(out.std(1), [0.99999963, 0.99999948, 0.99999973, 0.99999968], atol=6e-9)


# -- assignment 3: whole sequences and captions

RNN = [
    [
        [-0.42070749, -0.27279261, -0.11074945, 0.05740409, 0.22236251],
        [-0.39525808, -0.22554661, -0.0409454, 0.14649412, 0.32397316],
        [-0.42305111, -0.24223728, -0.04287027, 0.15997045, 0.35014525],
    ],
    [
        [-0.55857474, -0.39065825, -0.19198182, 0.02378408, 0.23735671],
        [-0.27150199, -0.07088804, 0.13562939, 0.33099728, 0.50158768],
        [-0.51014825, -0.30524429, -0.06755202, 0.17806392, 0.40333043],
    ],
]
LSTM = [
    [
        [0.01764008, 0.01823233, 0.01882671, 0.0194232],
        [0.11287491, 0.12146228, 0.13018446, 0.13902939],
        [0.31358768, 0.33338627, 0.35304453, 0.37250975],
    ],
    [
        [0.45767879, 0.4761092, 0.4936887, 0.51041945],
        [0.6704845, 0.69350089, 0.71486014, 0.7346449],
        [0.81733511, 0.83677871, 0.85403753, 0.86935314],
    ],
]


def test_rnn_forward(array: Callable[[np.ndarray], Any]) -> None:
    given = (spaced(-0.1, 0.3, 2, 3, 4), spaced(-0.3, 0.1, 2, 5), spaced(-0.2, 0.4, 4, 5), spaced(-0.4, 0.1, 5, 5))
    close(rules.rnn_forward(*map(array, given), b=array(spaced(-0.7, 0.1, 5)))[0], RNN)


def test_lstm_forward(array: Callable[[np.ndarray], Any]) -> None:
    given = (spaced(-0.4, 0.6, 2, 3, 5), spaced(-0.4, 0.8, 2, 4), spaced(-0.2, 0.9, 5, 16), spaced(-0.3, 0.6, 4, 16))
    close(rules.lstm_forward(*map(array, given), b=array(spaced(0.2, 0.7, 16)))[0], LSTM)


WORDS = {"<NULL>": 0, "cat": 2, "dog": 3}


@pytest.mark.parametrize(
    ("cell", "ends", "expected"),
    [("rnn", (-1.5, 0.3), 9.83235591003), ("lstm", (-0.5, 1.7), 9.82445935443)],
)
def test_the_loss_of_the_captioner(
    cell: str, ends: tuple[float, float], expected: float, array: Callable[[np.ndarray], Any]
) -> None:
    net = rules.CaptioningRNN(WORDS, 20, 30, 40, cell, np.float64, array=array)
    for name, value in net.params.items():
        net.params[name] = array(spaced(-1.4, 1.3, *value.shape))
    captions = array((np.arange(130) % 3).reshape(10, 13))
    assert float(net.loss(array(spaced(*ends, 10, 20)), captions)[0]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gradients_of_the_captioner(cell: str) -> None:
    rng = np.random.RandomState(231)
    captions, features = rng.randint(3, size=(2, 3)), rng.randn(2, 4)
    net = rules.CaptioningRNN(WORDS, 4, 5, 6, cell, np.float64, rng=rng)
    report = rules.check_loss(lambda: net.loss(features, captions), net.params, samples=25)
    assert report.error < 3e-5, str(report)  # some slopes are 1e-6 of the largest


# -- EECS 498, assignment on attention

ATTENDED = [
    [-0.29784344, -0.07645979, 0.14492386, 0.36630751, 0.58769115],
    [0.81412643, 1.03551008, 1.25689373, 1.47827738, 1.69966103],
]
WEIGHTS = [
    [
        [0.06511126, 0.06475411, 0.06439892, 0.06404568],
        [0.06369438, 0.063345, 0.06299754, 0.06265198],
        [0.06230832, 0.06196655, 0.06162665, 0.06128861],
        [0.06095243, 0.06061809, 0.06028559, 0.05995491],
    ],
    [
        [0.05717142, 0.05784357, 0.05852362, 0.05921167],
        [0.05990781, 0.06061213, 0.06132473, 0.06204571],
        [0.06277517, 0.0635132, 0.06425991, 0.0650154],
        [0.06577977, 0.06655312, 0.06733557, 0.06812722],
    ],
]
STEPPED = [
    [0.53704256, 0.59980774, 0.6559682, 0.70569729, 0.74932626],
    [0.78729857, 0.82010653, 0.84828362, 0.87235677, 0.89283167],
]
WALKED = [
    [
        [0.56141729, 0.70274849, 0.80000386, 0.863494],
        [0.89556391, 0.92856726, 0.94950579, 0.96281018],
        [0.96792077, 0.97535465, 0.98039623, 0.98392994],
    ],
    [
        [0.9506588, 0.9713549, 0.98344373, 0.99045552],
        [0.99317679, 0.99607466, 0.99774317, 0.99870293],
        [0.99907382, 0.99946784, 0.99969426, 0.99982435],
    ],
]


def test_dot_product_attention(array: Callable[[np.ndarray], Any]) -> None:
    found = rules.dot_product_attention(array(spaced(-0.4, 0.6, 2, 5)), array(spaced(-0.4, 1.8, 2, 5, 4, 4)))
    for value, expected in zip(found, (ATTENDED, WEIGHTS), strict=True):
        close(value, expected)


def test_attention_lstm_step(array: Callable[[np.ndarray], Any]) -> None:
    """The first two of its three rows."""
    given = {
        "x": spaced(-0.4, 1.2, 3, 4),
        "prev_h": spaced(-0.3, 0.7, 3, 5),
        "prev_c": spaced(-0.4, 0.9, 3, 5),
        "Wx": spaced(-2.1, 1.3, 4, 20),
        "Wh": spaced(-0.7, 2.2, 5, 20),
        "b": spaced(0.3, 0.7, 20),
        "attn": spaced(0.6, 1.8, 3, 5),
        "Wattn": spaced(1.3, 4.2, 5, 20),
    }
    next_h, _, _ = rules.attention_lstm_step_forward(**{name: array(value) for name, value in given.items()})
    close(next_h[:2], STEPPED)


def test_attention_forward(array: Callable[[np.ndarray], Any]) -> None:
    given = {
        "x": spaced(-0.4, 0.6, 2, 3, 5),
        "A": spaced(-0.4, 1.8, 2, 4, 4, 4),
        "Wx": spaced(-0.2, 0.9, 5, 16),
        "Wh": spaced(-0.3, 0.6, 4, 16),
        "Wattn": spaced(1.3, 4.2, 4, 16),
        "b": spaced(0.2, 0.7, 16),
    }
    close(rules.attention_forward(**{name: array(value) for name, value in given.items()})[0], WALKED)
