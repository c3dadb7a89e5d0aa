"""The course's three networks, put together from the rules: two layers, any number of layers, and one convolution.

The idea: a network is nothing but the rules in a row. `loss(X, y)` runs them forward, asks the loss for the first
gradient and runs the backward rules in reverse order; `loss(X)` gives the scores. Parameters stand in a dictionary by
the course's names, gradients in another under the same names:

    TwoLayerNet        affine - relu - affine - softmax
    FullyConnectedNet  (affine - [batch or layer norm] - relu - [dropout]) x (L - 1) - affine - softmax
    ThreeLayerConvNet  conv - relu - 2 x 2 max pool - affine - relu - affine - softmax

    total loss = softmax loss + ½ λ Σ w², over weights, not biases nor γ and β (half=False leaves out the ½)

They are for following every step and for checking one's own solutions, and slow beside `engram.models`. Weights are
normal with `weight_scale`, biases 0, γ = 1, β = 0, as the course has them; with `weight_scale` 1e-3 a deep one hardly
learns, which is one of the exercises. The losses they begin with are a check: log 10 = 2.3 without λ.

Where we differ: draws come from `rng` where one is given, and from NumPy's global generator otherwise, in the course's
order, W1 first. `array` turns each initial weight into another library's array: torch.from_numpy.

Stanford CS231n, assignment 1 (`TwoLayerNet`) and 2 (`FullyConnectedNet`, `ThreeLayerConvNet`), 2016 to 2026.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.affine import affine_backward, affine_forward
from engram.rules.arrays import Array, share
from engram.rules.batchnorm import batchnorm_backward_alt, batchnorm_forward
from engram.rules.dropout import dropout_backward, dropout_forward
from engram.rules.layernorm import layernorm_backward, layernorm_forward
from engram.rules.losses import softmax_loss
from engram.rules.penalties import l2_penalty
from engram.rules.rectifiers import relu_backward, relu_forward
from engram.rules.sandwich import (
    affine_relu_backward,
    affine_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)


class _Network:
    """What the three share: where parameters come from and what a loss is made of."""

    def __init__(
        self, reg: float, half: bool, dtype: Any, rng: Any, array: Callable[[np.ndarray], Array] | None
    ) -> None:
        self.reg, self.half, self.dtype = reg, half, dtype
        self.params: dict[str, Array] = {}
        self._rng, self._array = rng or np.random, array or np.asarray

    def _draw(self, name: str, shape: Sequence[int], scale: float) -> None:
        """A weight W<name> with normal numbers; its bias b<name> with zeros, one for each output."""
        drawn = scale * self._rng.standard_normal(tuple(shape))
        self.params[f"W{name}"] = self._array(drawn.astype(self.dtype))
        self._fill(f"b{name}", shape[0] if len(shape) > 2 else shape[1], 0.0)

    def _fill(self, name: str, size: int, value: float) -> None:
        self.params[name] = self._array(np.full(size, value, dtype=self.dtype))

    def _input(self, x: Array) -> Array:
        """The input in the precision of the weights."""
        return array_namespace(x).astype(x, self.params["W1"].dtype)

    def _penalize(self, loss: Any, gradients: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
        """The loss with the penalty of all weights, and its gradient added to theirs."""
        for name in gradients:
            if name.startswith("W"):
                penalty, slope = l2_penalty(self.params[name], self.reg, half=self.half)
                loss, gradients[name] = loss + penalty, gradients[name] + slope
        return loss, gradients


class TwoLayerNet(_Network):
    """Affine, ReLU, affine, softmax.

    Args:
        input_dim: values of an example, after flattening.
        hidden_dim: hidden units.
        weight_scale: deviation of the initial weights.
        reg: λ.
        half: whether the penalty has its ½.

    >>> net = TwoLayerNet(4, 10, 3, rng=np.random.default_rng(0))
    >>> net.loss(np.ones((5, 4))).shape
    (5, 3)
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        *,
        half: bool = True,
        dtype: Any = np.float64,
        rng: Any = None,
        array: Callable[[np.ndarray], Array] | None = None,
    ) -> None:
        super().__init__(reg, half, dtype, rng, array)
        self._draw("1", (input_dim, hidden_dim), weight_scale)
        self._draw("2", (hidden_dim, num_classes), weight_scale)

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores (N, C) of X (N, *D); with labels y (N,) the loss, and gradients by name."""
        p = self.params
        hidden, hidden_cache = affine_relu_forward(self._input(X), p["W1"], p["b1"])  # (N, H)
        scores, scores_cache = affine_forward(hidden, p["W2"], p["b2"])  # (N, C)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        g: dict[str, Any] = {}
        dhidden, g["W2"], g["b2"] = affine_backward(dscores, scores_cache)
        _, g["W1"], g["b1"] = affine_relu_backward(dhidden, hidden_cache)
        return self._penalize(loss, g)


class FullyConnectedNet(_Network):
    """Any number of hidden layers, with or without normalisation and dropout.

    Args:
        hidden_dims: hidden units, layer by layer.
        dropout_keep_ratio: the share that stays; 1 for no dropout.
        normalization: None, "batchnorm" or "layernorm", before each ReLU.
        reg: λ.
        weight_scale: deviation of the initial weights.
        seed: seeds NumPy's global generator before each dropout, so that the loss is the same function each time.
        half: whether the penalty has its ½.

    Raises:
        UserError: another normalisation, or a share outside of 0 to 1.

    >>> net = FullyConnectedNet([20, 30], 15, 10, normalization="layernorm", rng=np.random.default_rng(0))
    >>> sorted(net.params)
    ['W1', 'W2', 'W3', 'b1', 'b2', 'b3', 'beta1', 'beta2', 'gamma1', 'gamma2']
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        *,
        half: bool = True,
        rng: Any = None,
        array: Callable[[np.ndarray], Array] | None = None,
    ) -> None:
        super().__init__(reg, half, dtype, rng, array)
        if normalization not in (None, "batchnorm", "layernorm"):
            raise unknown("normalization", normalization, ("batchnorm", "layernorm"))
        self.normalization, self.num_layers = normalization, 1 + len(hidden_dims)
        sides = [input_dim, *hidden_dims, num_classes]
        for layer, shape in enumerate(pairwise(sides), 1):
            self._draw(str(layer), shape, weight_scale)
            if normalization and layer < self.num_layers:
                self._fill(f"gamma{layer}", shape[1], 1.0)
                self._fill(f"beta{layer}", shape[1], 0.0)
        keep = share(dropout_keep_ratio, "dropout_keep_ratio")
        draws = {"rng": self._rng} if seed is None else {"seed": seed}
        self.dropout_param = {"keep": keep, **draws} if keep < 1 else None
        self.norm_params: list[dict[str, Any]] = [{} for _ in hidden_dims]

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores (N, C) of X (N, *D) as at test; with labels y (N,) the loss in training, and gradients by name."""
        mode = "test" if y is None else "train"
        out, caches = self._input(X), []
        for layer in range(1, self.num_layers):
            out, cache = self._layer_forward(out, layer, mode)
            caches.append(cache)
        last = self.num_layers
        scores, cache = affine_forward(out, self.params[f"W{last}"], self.params[f"b{last}"])  # (N, C)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        g: dict[str, Any] = {}
        dout, g[f"W{last}"], g[f"b{last}"] = affine_backward(dscores, cache)
        for layer in range(last - 1, 0, -1):
            dout = self._layer_backward(dout, layer, caches[layer - 1], g)
        return self._penalize(loss, g)

    def _layer_forward(self, x: Array, layer: int, mode: str) -> tuple[Array, dict[str, Any]]:
        p, cache = self.params, {}
        out, cache["affine"] = affine_forward(x, p[f"W{layer}"], p[f"b{layer}"])
        if self.normalization:
            gamma, beta, param = p[f"gamma{layer}"], p[f"beta{layer}"], self.norm_params[layer - 1]
            if self.normalization == "batchnorm":
                param["mode"] = mode
                out, cache["norm"] = batchnorm_forward(out, gamma, beta, param)
            else:
                out, cache["norm"] = layernorm_forward(out, gamma, beta, param)
        out, cache["relu"] = relu_forward(out)
        if self.dropout_param:
            out, cache["dropout"] = dropout_forward(out, {**self.dropout_param, "mode": mode})
        return out, cache

    def _layer_backward(self, dout: Array, layer: int, cache: dict[str, Any], g: dict[str, Any]) -> Array:
        if self.dropout_param:
            dout = dropout_backward(dout, cache["dropout"])
        dout = relu_backward(dout, cache["relu"])
        if self.normalization:
            backward = batchnorm_backward_alt if self.normalization == "batchnorm" else layernorm_backward
            dout, g[f"gamma{layer}"], g[f"beta{layer}"] = backward(dout, cache["norm"])
        dx, g[f"W{layer}"], g[f"b{layer}"] = affine_backward(dout, cache["affine"])
        return dx


class ThreeLayerConvNet(_Network):
    """One convolution that keeps the sides, ReLU, 2 x 2 max pooling, then two affine layers.

    Args:
        input_dim: (C, H, W), sides even.
        num_filters: of the convolution.
        filter_size: its side, odd.
        hidden_dim: units of the layer behind.
        weight_scale: deviation of the initial weights.
        reg: λ.
        half: whether the penalty has its ½.

    Raises:
        UserError: an even filter_size or odd sides.

    >>> net = ThreeLayerConvNet((3, 8, 8), rng=np.random.default_rng(0))
    >>> net.loss(np.ones((2, 3, 8, 8))).shape
    (2, 10)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: Any = np.float32,
        *,
        half: bool = True,
        rng: Any = None,
        array: Callable[[np.ndarray], Array] | None = None,
    ) -> None:
        super().__init__(reg, half, dtype, rng, array)
        channels, height, width = input_dim
        if filter_size % 2 == 0 or height % 2 or width % 2:
            raise UserError(
                f"a filter of {filter_size} and images of {height} x {width}", allowed="an odd filter, even sides"
            )
        self.conv_param = {"stride": 1, "pad": (filter_size - 1) // 2}
        self.pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        self._draw("1", (num_filters, channels, filter_size, filter_size), weight_scale)
        self._draw("2", (num_filters * height * width // 4, hidden_dim), weight_scale)
        self._draw("3", (hidden_dim, num_classes), weight_scale)

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores (N, 10) of X (N, C, H, W); with labels y (N,) the loss, and gradients by name."""
        p = self.params
        maps, maps_cache = conv_relu_pool_forward(self._input(X), p["W1"], p["b1"], self.conv_param, self.pool_param)
        hidden, hidden_cache = affine_relu_forward(maps, p["W2"], p["b2"])  # (N, hidden_dim)
        scores, scores_cache = affine_forward(hidden, p["W3"], p["b3"])  # (N, classes)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        g: dict[str, Any] = {}
        dhidden, g["W3"], g["b3"] = affine_backward(dscores, scores_cache)
        dmaps, g["W2"], g["b2"] = affine_relu_backward(dhidden, hidden_cache)
        _, g["W1"], g["b1"] = conv_relu_pool_backward(dmaps, maps_cache)
        return self._penalize(loss, g)
