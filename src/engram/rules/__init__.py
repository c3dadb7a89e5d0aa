"""Forward and backward of every operation by hand: the chain rule to read and to check against."""

# ruff: noqa: F401  what is imported here is what the package offers, under the course's names

from engram.rules.adaptive_pool import (
    adaptive_avg_pool_backward,
    adaptive_avg_pool_forward,
    adaptive_max_pool_backward,
    adaptive_max_pool_forward,
)
from engram.rules.adaptive_updates import adadelta, adagrad, adam, adamw, rmsprop
from engram.rules.affine import affine_backward, affine_forward
from engram.rules.attention import (
    attention_backward,
    attention_forward,
    attention_lstm_step_backward,
    attention_lstm_step_forward,
    dot_product_attention,
    dot_product_attention_backward,
    dot_product_attention_forward,
)
from engram.rules.batchnorm import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_backward_nodes,
    batchnorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from engram.rules.captioning import CaptioningRNN
from engram.rules.convolution import (
    conv_backward,
    conv_backward_fast,
    conv_backward_im2col,
    conv_backward_naive,
    conv_forward,
    conv_forward_fast,
    conv_forward_im2col,
    conv_forward_naive,
)
from engram.rules.convolution_fft import conv_backward_fft, conv_forward_fft
from engram.rules.curvature_updates import bfgs, lbfgs, newton
from engram.rules.decays import (
    cosine_decay,
    cosine_restarts,
    exponential_decay,
    inverse_decay,
    one_cycle,
    polynomial_decay,
    step_decay,
    warm_up,
)
from engram.rules.dropconnect import dropconnect_backward, dropconnect_forward, dropconnect_inference
from engram.rules.dropout import (
    alpha_dropout_backward,
    alpha_dropout_forward,
    dropout_backward,
    dropout_forward,
    gaussian_dropout_backward,
    gaussian_dropout_forward,
    spatial_dropout_backward,
    spatial_dropout_forward,
    vanilla_dropout_backward,
    vanilla_dropout_forward,
)
from engram.rules.embedding import word_embedding_backward, word_embedding_forward
from engram.rules.engine import Value
from engram.rules.fractional_pool import fractional_max_pool_backward, fractional_max_pool_forward
from engram.rules.gelu import gelu_backward, gelu_forward, swish_backward, swish_forward
from engram.rules.gradient_check import (
    Checked,
    DegenerateGradient,
    Report,
    check_loss,
    check_pair,
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    grad_check_sparse,
    rel_error,
)
from engram.rules.groupnorm import (
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    spatial_instancenorm_backward,
    spatial_instancenorm_forward,
)
from engram.rules.gru import gru_backward, gru_forward, gru_step_backward, gru_step_forward
from engram.rules.layernorm import layernorm_backward, layernorm_forward
from engram.rules.linear import (
    LinearSVM,
    Softmax,
    softmax_loss_naive,
    softmax_loss_vectorized,
    svm_loss_naive,
    svm_loss_vectorized,
)
from engram.rules.local_response import lrn_backward, lrn_forward
from engram.rules.losses import softmax, softmax_loss, svm_loss
from engram.rules.lstm import lstm_backward, lstm_forward, lstm_step_backward, lstm_step_forward
from engram.rules.maxout import affine_maxout_backward, affine_maxout_forward, maxout_backward, maxout_forward
from engram.rules.nearest_neighbor import KNearestNeighbor
from engram.rules.nesterov import look_ahead, nesterov
from engram.rules.networks import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from engram.rules.penalties import elastic_net_penalty, l1_penalty, l2_penalty
from engram.rules.pooling import (
    avg_pool_backward,
    avg_pool_forward,
    global_avg_pool_backward,
    global_avg_pool_forward,
    global_max_pool_backward,
    global_max_pool_forward,
    l2_pool_backward,
    l2_pool_forward,
    max_pool_backward,
    max_pool_backward_fast,
    max_pool_backward_naive,
    max_pool_forward,
    max_pool_forward_fast,
    max_pool_forward_naive,
    max_pool_indices,
    max_unpool_backward,
    max_unpool_forward,
)
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
from engram.rules.rnn import rnn_backward, rnn_forward, rnn_step_backward, rnn_step_forward
from engram.rules.rrelu import rrelu_backward, rrelu_forward
from engram.rules.sandwich import (
    affine_bn_relu_backward,
    affine_bn_relu_forward,
    affine_ln_relu_backward,
    affine_ln_relu_forward,
    affine_relu_backward,
    affine_relu_forward,
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
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
from engram.rules.stochastic_pool import stochastic_pool_backward, stochastic_pool_forward
from engram.rules.temporal import temporal_affine_backward, temporal_affine_forward, temporal_softmax_loss
from engram.rules.updates import sgd, sgd_momentum
from engram.rules.windows import im2col
from engram.rules.winograd import conv_backward_winograd, conv_forward_winograd
