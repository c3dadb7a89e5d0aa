"""What a rule cannot use is refused with what it could, and settings that nobody reads are not passed over."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engram import rules
from engram.errors import UserError
from engram.rules import arrays, windows

IMAGE, KERNEL = np.ones((2, 4, 5, 5)), np.ones((6, 4, 3, 3))


def conv(**param: Any) -> Callable[[], Any]:
    return lambda: rules.conv_forward(IMAGE, KERNEL, None, param)


def pool(**param: Any) -> Callable[[], Any]:
    return lambda: rules.max_pool_forward(IMAGE, param)


def winograd(kernel: np.ndarray = KERNEL, **param: Any) -> Callable[[], Any]:
    return lambda: rules.conv_forward_winograd(IMAGE, kernel, None, param)


REFUSED = {
    "rows": (lambda: rules.affine_forward(IMAGE, np.ones((9, 2))), "100 values an example, the weights have 9 rows"),
    "word": (conv(strid=1), "did you mean: stride"),
    "channels": (lambda: rules.conv_forward(IMAGE, np.ones((6, 3, 3, 3))), "do not go together"),
    "dimensions": (lambda: rules.conv_forward(IMAGE, np.ones((6, 4, 3))), "do not go together"),
    "groups": (lambda: rules.conv_forward(IMAGE, np.ones((5, 2, 3, 3)), None, {"groups": 2}), "groups 2 do not go"),
    "no groups": (conv(groups=0), "groups 0 do not go together"),
    "stride": (conv(stride=0), "stride 0 does not fit 2 dimensions"),
    "strides": (conv(stride=(1, 1, 1)), "or 2 of them"),
    "half": (conv(stride=1.5), "stride 1.5"),
    "truth": (conv(stride=True), "stride True"),
    "pad": (conv(pad=-1), "pad -1"),
    "dilation": (conv(dilation=3), "a window of 7 x 7 does not fit into 5 x 5"),
    "winograd's stride": (winograd(stride=2), "3 x 3 at stride 1"),
    "winograd's groups": (winograd(groups=2), "3 x 3 at stride 1"),
    "winograd's kernel": (winograd(np.ones((6, 4, 2, 3))), "conv_forward does all of them"),
    "winograd's window": (lambda: rules.conv_forward_winograd(IMAGE[:, :, :2], KERNEL), "does not fit into 2 x 5"),
    "pooling's word": (pool(kernel=2, strid=1), "did you mean: stride"),
    "no size": (pool(stride=2), "pool_height and pool_width"),
    "one side": (pool(pool_height=2), "2 dimensions"),
    "pooling's pad": (pool(kernel=3, pad=2), "at most half a window"),
    "pooling's window": (pool(kernel=6), "a window of 6 x 6 does not fit into 5 x 5"),
    "dilated mean": (lambda: rules.avg_pool_forward(IMAGE, {"kernel": 2, "dilation": 2}), "average pooling with dilat"),
    "batch of images": (
        lambda: rules.batchnorm_forward(IMAGE, np.ones(4), np.ones(4), {"mode": "train"}),
        "spatial_batchnorm_forward takes",
    ),
    "mode": (
        lambda: rules.batchnorm_forward(IMAGE[0, 0], np.ones(5), np.ones(5), {"mode": "trian"}),
        "did you mean: train",
    ),
    "group": (lambda: rules.spatial_groupnorm_forward(IMAGE, np.ones(4), np.ones(4), 3), "4 channels in 3 groups"),
    "no group": (lambda: rules.spatial_groupnorm_forward(IMAGE, np.ones(4), np.ones(4), 0), "4 channels in 0 groups"),
    "pieces": (lambda: rules.maxout_forward(IMAGE, 3), "4 channels cannot be shared out in runs of 3"),
    "no pieces": (lambda: rules.maxout_forward(IMAGE, 0), "runs of 0"),
    "gelu": (lambda: rules.gelu_forward(IMAGE, approximate="tan"), "did you mean: tanh"),
    "neighbours": (lambda: rules.lrn_forward(IMAGE, {"n": 4}), "a neighbourhood of 4 has no middle"),
    "no neighbours": (lambda: rules.lrn_forward(IMAGE, {"n": -1}), "a neighbourhood of -1"),
    "region": (lambda: rules.lrn_forward(IMAGE, {"region": "without"}), "did you mean: within"),
    "lrn's word": (lambda: rules.lrn_forward(IMAGE, {"size": 5}), "lrn_param 'size' is not known"),
    "labels": (lambda: rules.softmax_loss(np.ones((2, 3)), np.array([0, 3])), "labels from 0 to 3"),
    "negative": (lambda: rules.svm_loss(np.ones((2, 3)), np.array([-1, 0])), "labels from -1 to 0"),
    "too few labels": (lambda: rules.svm_loss(np.ones((2, 3)), np.array([1])), "scores (2, 3) and labels (1,)"),
    "flat scores": (lambda: rules.softmax_loss(np.ones(3), np.array([1])), "scores (3,) and labels (1,)"),
    "share": (lambda: arrays.share(1, "drop", whole=False), "above 0, below 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, said = REFUSED[case]
    with pytest.raises(UserError) as error:
        call()
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu", "relu6"])
def test_at_zero_the_derivative_is_torchs(name: str) -> None:
    x = torch.tensor([0.0, 6.0], dtype=torch.float64, requires_grad=True)
    getattr(F, name)(x).sum().backward()
    out, cache = getattr(rules, f"{name}_forward")(x.detach())
    gradient = getattr(rules, f"{name}_backward")(torch.ones_like(out), cache)
    torch.testing.assert_close(gradient, x.grad)


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_padding_and_cropping_undo_each_other(make: Callable[[np.ndarray], Any]) -> None:
    x = make(np.arange(12.0).reshape(1, 3, 4))
    wide = arrays.pad(x, [(1, 0), (0, 2)], value=7.0)
    assert tuple(wide.shape) == (1, 4, 6)
    assert (wide[:, 0] == 7).all()
    assert (wide[:, :, 4:] == 7).all()
    assert (arrays.crop(wide, [(1, 0), (0, 2)]) == x).all()
    assert arrays.pad(x, [(-1, 1), (0, -1)]).tolist() == [[[4, 5, 6], [8, 9, 10], [0, 0, 0]]]
    assert arrays.pad(make(np.ones((1, 1), dtype=np.int64)), [(1, 1)]).dtype == make(np.ones(1, dtype=np.int64)).dtype


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_folding_is_the_transpose_of_unfolding(make: Callable[[np.ndarray], Any]) -> None:
    """⟨unfold x, y⟩ = ⟨x, fold y⟩ for any x and y."""
    rng = np.random.default_rng(0)
    kernel, stride, dilation, sides = (3, 2), (2, 1), (1, 2), (8, 7)
    out = windows.output_shape(sides, kernel, stride, [(0, 0)] * 2, dilation)
    x, y = make(rng.standard_normal((2, 3, *sides))), make(rng.standard_normal((2, 3, 6, *out)))
    gathered = windows.unfold(x, kernel, stride, dilation, out)
    assert float((gathered * y).sum()) == pytest.approx(
        float((x * windows.fold(y, sides, kernel, stride, dilation)).sum())
    )


def test_parameters_of_alexnets_first_layer_shared_and_not() -> None:
    out = windows.output_shape((227, 227), (11, 11), (4, 4), [(0, 0)] * 2, (1, 1))
    neurons = out[0] * out[1] * 96
    assert (out, neurons) == ((55, 55), 290_400)
    assert neurons * (11 * 11 * 3 + 1) == 105_705_600
    assert 96 * 11 * 11 * 3 == 34_848
