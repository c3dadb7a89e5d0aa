"""What is random in the rules: shares and moments within stated bounds, the course's seeded numbers, backward."""

from collections.abc import Callable
from math import erf, exp, pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engram import rules
from engram.errors import UserError
from engram.rules.function import function
from engram.rules.gradient_check import check_pair

KINDS = ["dropout", "vanilla_dropout", "spatial_dropout", "gaussian_dropout", "alpha_dropout"]


@pytest.fixture(params=["numpy", "torch"])
def array(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    return np.asarray if request.param == "numpy" else torch.from_numpy


def pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(rules, f"{name}_forward"), getattr(rules, f"{name}_backward")


def test_the_courses_numbers(array: Callable[[np.ndarray], Any]) -> None:
    np.random.seed(231)  # noqa: NPY002
    x = array(np.random.randn(500, 500) + 10)  # noqa: NPY002
    for keep, mean, zeros in (
        (0.25, 10.014059116977283, 0.749784),
        (0.4, 9.977917658761159, 0.600796),
        (0.7, 9.987811912159426, 0.30074),
    ):
        out, _ = rules.dropout_forward(x, {"mode": "train", "p": keep})
        assert float(out.mean()) == pytest.approx(mean, abs=1e-9)
        assert float((out == 0).sum()) / 250_000 == zeros
        out, _ = rules.dropout_forward(x, {"mode": "test", "p": keep})
        assert float(out.mean()) == pytest.approx(10.000207878477502, abs=1e-9)


@pytest.mark.parametrize("words", [{"p": 0.3}, {"keep": 0.3}, {"drop": 0.7}])
def test_three_words_for_one_share(words: dict[str, float], array: Callable[[np.ndarray], Any]) -> None:
    x = array(np.ones((200, 500)))
    out, _ = rules.dropout_forward(x, {"mode": "train", "rng": np.random.default_rng(0), **words})
    assert np.unique(out).tolist() == pytest.approx([0, 1 / 0.3])
    assert float((out != 0).sum()) / 1e5 == pytest.approx(0.3, abs=5 * sqrt(0.21 / 1e5))


@pytest.mark.parametrize("name", KINDS)
def test_backward(name: str, array: Callable[[np.ndarray], Any]) -> None:
    x = array(np.random.default_rng(1).standard_normal((4, 3, 5)))
    for extra in (
        lambda: {"mode": "train", "keep": 0.6, "seed": 123},
        lambda: {"mode": "train", "keep": 0.6, "rng": np.random.default_rng(0)},
        lambda: {"mode": "test", "drop": 0.4},
    ):
        report = check_pair(*pair(name), {"x": x}, settings=lambda extra=extra: {"dropout_param": extra()})
        assert report.error < 1e-8
    x = torch.as_tensor(x).requires_grad_()
    seeded = lambda x: function(*pair(name))(x, dropout_param={"mode": "train", "keep": 0.6, "seed": 1})  # noqa: E731
    assert torch.autograd.gradcheck(seeded, x)


@pytest.mark.parametrize("name", KINDS)
def test_both_libraries_draw_the_same(name: str) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3, 5))
    outs = [
        pair(name)[0](one, {"mode": "train", "keep": 0.6, "rng": np.random.default_rng(0)})[0]
        for one in (x, torch.from_numpy(x))
    ]
    np.testing.assert_allclose(*outs, rtol=1e-15)
    assert isinstance(outs[1], torch.Tensor)
    single = pair(name)[0](x.astype(np.float32), {"mode": "train", "keep": 0.6, "rng": np.random.default_rng(0)})[0]
    assert single.dtype == np.float32


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("keep", [0.25, 0.8])
def test_moments(name: str, keep: float) -> None:
    """Means within 5 standard errors; for SELU's own distribution alpha dropout keeps mean 0 and variance 1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 500)) + (0 if name == "alpha_dropout" else 2)
    param = {"mode": "train", "keep": keep, "rng": rng}
    out, _ = pair(name)[0](x, param)
    at_test, _ = pair(name)[0](x, {"mode": "test", "keep": keep})
    error = out.std() / sqrt(x.size)
    expected = at_test.mean() if name != "vanilla_dropout" else keep * x.mean()
    assert out.mean() == pytest.approx(expected, abs=5 * error)
    if name == "alpha_dropout":
        assert out.var() == pytest.approx(1, abs=0.02)
    if name == "gaussian_dropout":
        noise = out / x
        assert noise.var() == pytest.approx((1 - keep) / keep, rel=0.02)
        assert abs(((noise - noise.mean()) ** 3).mean()) < 0.15 * noise.std() ** 3  # no skew: normal, not two-valued
    np.testing.assert_array_equal(at_test, keep * x if name == "vanilla_dropout" else x)


def test_vanilla_keeps_the_size_of_what_stays() -> None:
    out, _ = rules.vanilla_dropout_forward(np.full(1000, 3.0), {"mode": "train", "keep": 0.4, "seed": 0})
    assert set(out) == {0.0, 3.0}
    assert (out > 0).mean() == pytest.approx(0.4, abs=0.08)


def test_spatial_takes_whole_channels() -> None:
    x = np.ones((50, 40, 3, 3))
    out, _ = rules.spatial_dropout_forward(x, {"mode": "train", "drop": 0.25, "rng": np.random.default_rng(0)})
    channels = out.reshape(2000, 9)
    assert (channels == channels[:, :1]).all()
    assert (channels[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.05)
    assert len({tuple(one) for one in out[:, :, 0, 0]}) == 50  # another choice for every image


def test_alpha_is_torchs() -> None:
    """Two values come out of a constant; torch's are the same two."""
    out, _ = rules.alpha_dropout_forward(np.ones(1000), {"mode": "train", "drop": 0.3, "seed": 0})
    theirs = F.alpha_dropout(torch.ones(1000, dtype=torch.float64), 0.3, training=True)
    np.testing.assert_allclose(np.unique(out), np.unique(theirs), rtol=1e-6)


def test_a_seed_gives_the_same_mask_and_a_generator_leaves_the_global_one_alone() -> None:
    x = np.ones(50)
    same = [rules.dropout_forward(x, {"mode": "train", "p": 0.5, "seed": 5})[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    before = np.random.get_state()[2]  # noqa: NPY002
    rng = np.random.default_rng(0)
    other = [rules.dropout_forward(x, {"mode": "train", "p": 0.5, "rng": rng})[0] for _ in range(2)]
    assert (other[0] != other[1]).any()
    assert np.random.get_state()[2] == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ({"mode": "train"}, "no share"),
        ({"mode": "train", "p": 0.5, "drop": 0.5}, "p and drop"),
        ({"mode": "train", "keep": 0}, "keeps is 0"),
        ({"mode": "train", "drop": 1.0}, "keeps is 0"),
        ({"mode": "train", "keep": 1.2}, "keeps is 1.2"),
        ({"mode": "eval", "keep": 0.5}, "mode 'eval' is not known"),
        ({"mode": "train", "keep": 0.5, "seed": 1, "rng": None}, "a seed and a generator"),
        ({"mode": "train", "kepp": 0.5}, "did you mean: keep"),
    ],
)
def test_settings_that_cannot_be(param: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        rules.dropout_forward(np.ones(3), param)
    assert said in str(error.value)


@pytest.mark.parametrize("mask", ["sample", "batch"])
def test_dropconnect(mask: str, array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (array(rng.standard_normal(shape)) for shape in ((5, 6), (6, 4), (4,)))
    settings = lambda: {"dropconnect_param": {"mode": "train", "keep": 0.6, "seed": 3, "mask": mask}}  # noqa: E731
    report = check_pair(*pair("dropconnect"), {"x": x, "w": w, "b": b}, settings=settings)
    assert report.error < 1e-8
    out, (_, _, masks) = rules.dropconnect_forward(x, w, b, **settings())
    assert tuple(masks.shape) == (5 if mask == "sample" else 1, 6, 4)
    by_hand = np.stack([np.asarray(x)[n] @ (np.asarray(w) * np.asarray(masks)[n % len(masks)]) for n in range(5)])
    np.testing.assert_allclose(out, by_hand + np.asarray(b), rtol=1e-12)
    at_test, cache = rules.dropconnect_forward(x, w, b, {"mode": "test", "keep": 0.6, "mask": mask})
    expected, affine_cache = rules.affine_forward(x, w, b)
    np.testing.assert_allclose(at_test, expected, rtol=1e-12)
    for mine, other in zip(
        rules.dropconnect_backward(out, cache), rules.affine_backward(out, affine_cache), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_dropconnect_averages_to_the_affine_layer_with_the_papers_variance() -> None:
    rng = np.random.default_rng(0)
    x, w, b, keep = rng.standard_normal((1, 30)), rng.standard_normal((30, 2)), rng.standard_normal(2), 0.7
    many = np.repeat(x, 20_000, axis=0)
    out, (_, _, masks) = rules.dropconnect_forward(many, w, b, {"mode": "train", "keep": keep, "rng": rng})
    assert set(np.unique(masks)) == {0.0, 1 / keep}
    variance = (1 - keep) / keep * (x**2 @ w**2)[0]
    np.testing.assert_allclose(out.mean(0), (x @ w)[0] + b, atol=5 * sqrt(variance.max() / 20_000))
    np.testing.assert_allclose(out.var(0), variance, rtol=0.06)


def test_dropconnect_inference_is_the_mean_over_masks(array: Callable[[np.ndarray], Any]) -> None:
    """The rectified normal has a closed mean; masks drawn one by one agree to what a normal sum allows."""
    rng = np.random.default_rng(0)
    x, w, b, keep = rng.standard_normal((3, 40)), rng.standard_normal((40, 2)), rng.standard_normal(2), 0.5
    relu = lambda a: rules.relu_forward(a)[0]  # noqa: E731
    found = rules.dropconnect_inference(array(x), array(w), array(b), keep, relu, samples=4000, rng=rng)
    mean, deviation = x @ w + b, np.sqrt((1 - keep) / keep * (x**2 @ w**2))
    z = mean / deviation
    share = np.vectorize(lambda one: 0.5 * (1 + erf(one / sqrt(2))))(z)
    density = np.vectorize(lambda one: exp(-(one**2) / 2) / sqrt(2 * pi))(z)
    np.testing.assert_allclose(found, mean * share + deviation * density, atol=5 * deviation.max() / sqrt(4000))
    masks = (rng.random((4000, 1, 40, 2)) < keep) / keep
    drawn = np.maximum((x[None, :, None] @ (masks * w))[:, :, 0] + b, 0).mean(0)
    np.testing.assert_allclose(found, drawn, atol=10 * deviation.max() / sqrt(4000))


def test_dropconnect_refuses() -> None:
    x, w, b = np.ones((1, 2)), np.ones((2, 2)), np.ones(2)
    with pytest.raises(UserError, match="mask 'weight' is not known"):
        rules.dropconnect_forward(x, w, b, {"mode": "train", "keep": 0.5, "mask": "weight"})
    with pytest.raises(UserError, match="0 samples"):
        rules.dropconnect_inference(x, w, b, 0.5, np.tanh, samples=0, rng=np.random.default_rng(0))
