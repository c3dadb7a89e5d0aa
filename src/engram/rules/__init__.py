"""Forward and backward of every operation by hand: the chain rule to read and to check against."""

# ruff: noqa: F401  what is imported here is what the package offers, under the course's names

from engram.rules.affine import affine_backward, affine_forward
from engram.rules.gelu import gelu_backward, gelu_forward, swish_backward, swish_forward
from engram.rules.maxout import affine_maxout_backward, affine_maxout_forward, maxout_backward, maxout_forward
from engram.rules.rectifiers import (
    elu_backward,
    elu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    prelu_backward,
    prelu_forward,
    relu6_backward,
    relu6_forward,
    relu_backward,
    relu_forward,
    selu_backward,
    selu_forward,
)
from engram.rules.sigmoids import (
    hard_sigmoid_backward,
    hard_sigmoid_forward,
    log_sigmoid_backward,
    log_sigmoid_forward,
    scaled_tanh_backward,
    scaled_tanh_forward,
    sigmoid,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
