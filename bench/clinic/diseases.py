"""Ways to make a network sick, each at three doses and of several bodies, and how it is known that it is.

A disease is a change to a body that learns well; the body alone is its matched control. Doses: subclinical, which may
do no harm; clear, which a person who looked would see; gross. Which of them did harm, the oracle says and not the name.
"""

from dataclasses import dataclass

from changes import (
    Blind,
    LogOf,
    Mixed,
    Scaled,
    Settings,
    Times,
    Wronged,
    branch_decay,
    copied,
    decayed,
    ended,
    favouring,
    few,
    flipped,
    hidden_gain,
    instead,
    last_gain,
    left_out,
    low_biases,
    rare,
    recurrent_gain,
    scaled,
    sharp,
    sigmoids,
    slow_averages,
    three,
    waist,
)
from torch import nn

DOSES = ("subclinical", "clear", "gross")


@dataclass(frozen=True)
class Disease:
    """A family of sick runs.

    Args:
        diagnosis: what should be found.
        bodies: of both halves.
        doses: settings of a `Trial`, by dose.
        oracle: how it is known that a run has it: `exact`, a fact measured of each run (`TRUTHS` in score.py); or
            statistical, by the figure named, in which it is worse than its control.
        counts: the least severity that counts as found.
    """

    diagnosis: str
    bodies: tuple[str, ...]
    doses: tuple[Settings, Settings, Settings]
    oracle: str
    counts: str = "warning"


DISEASES: dict[str, Disease] = {
    "last layer too large": Disease("loss_at_start", ("mlp", "sigmoid_mlp"), three(last_gain, 3, 20, 100), "mean_loss"),
    "hidden layers too large": Disease(
        "scale_at_start", ("deep_mlp", "vgg"), three(hidden_gain, 1.2, 2, 4), "mean_loss"
    ),
    "units that are copies": Disease(
        "symmetric_weights", ("tanh_mlp", "wide_mlp"), three(copied, 0.2, 0.8, 1.0), "exact"
    ),
    "raw inputs": Disease(
        "input_scale",
        ("mlp", "sigmoid_mlp"),
        (scaled(0.35, 0.6), scaled(6, 5), scaled(90, 80)),
        "mean_loss",
    ),
    "scores squashed": Disease(
        "cannot_overfit_one_batch",
        ("mlp", "wide_mlp"),
        three(lambda limit: ended(lambda: Scaled(limit)), 2.0, 0.5, 0.05),
        "last_loss",
    ),
    "blind to its input": Disease(
        "ignores_input",
        ("mlp", "wide_mlp"),
        three(lambda share: {"change": lambda net: nn.Sequential(Blind(share), net)}, 1e-2, 1e-6, 0.0),
        "exact",
    ),
    "softmax before the loss": Disease(
        "softmax_twice",
        ("lenet", "gru"),
        (ended(lambda: nn.Softmax(1), lambda: Times(20.0)), ended(lambda: nn.Softmax(1)), ended(lambda: nn.Sigmoid())),
        "last_loss",
    ),
    "answers mixed": Disease(
        "mixed_samples",
        ("mlp", "tanh_lenet"),
        three(lambda share: {"change": lambda net: Mixed(net, share)}, 0.01, 0.3, 1.0),
        "exact",
    ),
    "left out of the optimiser": Disease(
        "unused_parameters", ("mlp", "tanh_lenet"), three(left_out, "bias", "layer", "body"), "exact"
    ),
    "wrong backward": Disease(
        "wrong_gradient",
        ("mlp", "tanh_lenet"),
        three(lambda factor: instead(lambda act: Wronged(act, factor)), 0.98, 0.5, -1.0),
        "exact",
    ),
    "deep sigmoids": Disease("vanishing_gradient", ("deep_mlp", "sigmoid_mlp"), three(sigmoids, 4, 7, 10), "exact"),
    "weights too small for the depth": Disease(
        "vanishing_gradient", ("tanh_mlp", "vgg"), three(hidden_gain, 0.75, 0.4, 0.2), "exact"
    ),
    "weights too large for the depth": Disease(
        "exploding_gradient",
        ("deep_mlp", "vgg"),
        three(lambda gain: {**hidden_gain(gain), "times_lr": 1e-4}, 1.3, 2.6, 5.0),
        "exact",
    ),
    "a logarithm of 0": Disease(
        "not_finite", ("mlp", "wide_mlp"), three(lambda eps: instead(lambda act: LogOf(eps)), 1e-2, 0.0, 0.0), "exact"
    ),
    "rates that break the weights": Disease(
        "not_finite",
        ("deep_mlp", "vgg"),
        three(lambda times: {"times_lr": times, "optimizer": "sgd", "lr": 0.05}, 2, 2000, 1e6),
        "exact",
    ),
    "biases pushed down": Disease("dead_relus", ("lenet", "vgg"), three(low_biases, -0.3, -3.0, -9.0), "exact"),
    "tanh and sigmoid at their ends": Disease(
        "saturation", ("tanh_mlp", "tanh_lenet"), three(hidden_gain, 2, 10, 40), "saturated"
    ),
    "rate too high, momentum": Disease(
        "lr_too_high",
        ("mlp", "norm_vgg", "tanh_lenet"),
        three(lambda times: {"times_lr": times}, 4, 30, 300),
        "last_loss",
    ),
    "rate too high, Adam": Disease(
        "lr_too_high", ("attention", "gru"), three(lambda times: {"times_lr": times}, 4, 40, 300), "last_loss"
    ),
    "rate too low, momentum": Disease(
        "lr_too_low",
        ("mlp", "tanh_lenet"),
        three(lambda times: {"times_lr": 1 / times}, 5, 300, 3000),
        "last_loss",
    ),
    "rate too low, Adam": Disease(
        "lr_too_low", ("rnn", "wide_mlp"), three(lambda times: {"times_lr": 1 / times}, 5, 300, 3000), "last_loss"
    ),
    "rate taken away early": Disease(
        "lr_decayed_early",
        ("mlp", "tanh_lenet"),
        (
            {**decayed(0.5, 0.1), "times_lr": 0.3},
            {**decayed(0.1, 0.01), "times_lr": 0.3},
            {**decayed(0.07, 0.001), "times_lr": 0.3},
        ),
        "last_loss",
    ),
    "learnt by heart": Disease(
        "overfitting",
        ("mlp", "wide_mlp"),
        (
            {"data": few(400), "steps": 200},
            {"data": lambda p: flipped(0.3)(few(300)(p)), "steps": 400},
            {"data": lambda p: flipped(0.5)(few(120)(p)), "steps": 400},
        ),
        "exact",
    ),
    "a waist": Disease("underfitting", ("mlp", "tanh_lenet"), three(waist, 4, 1, 1), "accuracy"),
    "decay too strong": Disease(
        "regularizer_dominates",
        ("mlp", "tanh_lenet"),
        three(lambda decay: {"weight_decay": decay}, 0.01, 0.5, 2.0),
        "last_loss",
    ),
    "decay of the branches": Disease(
        "residual_identity", ("residual_mlp", "resnet"), three(branch_decay, 0.03, 0.5, 1.0), "exact"
    ),
    "decay of the branches and their norms": Disease(
        "residual_identity", ("narrow_resnet", "resnet"), three(branch_decay, 0.5, 2.0, 4.0), "exact"
    ),
    "averages that trail": Disease(
        "train_eval_mismatch", ("norm_mlp", "norm_vgg"), three(slow_averages, 0.03, 0.002, 0.0002), "exact"
    ),
    "one class favoured": Disease(
        "class_collapse",
        ("mlp", "tanh_lenet"),
        three(lambda times: {"loss": favouring(times)}, 10, 1000, 100_000),
        "exact",
    ),
    "rare classes": Disease(
        "class_imbalance", ("mlp", "wide_mlp"), three(lambda ratio: {"data": rare(ratio)}, 5, 20, 60), "worst_recall"
    ),
    "labels exchanged": Disease(
        "label_errors",
        ("mlp", "wide_mlp"),
        three(lambda share: {"data": flipped(share), "steps": 240}, 0.02, 0.1, 0.2),
        "exact",
        "information",
    ),
    "fading through time": Disease(
        "gradient_through_time", ("rnn", "relu_rnn"), three(recurrent_gain, 0.8, 0.4, 0.1), "exact"
    ),
    "growing through time": Disease(
        "gradient_through_time", ("rnn", "relu_rnn"), three(recurrent_gain, 1.3, 4.0, 10.0), "exact"
    ),
    "attention on one place": Disease(
        "attention_collapse", ("attention", "vit"), three(sharp, 2.0, 8.0, 30.0), "exact"
    ),
}

MORE: dict[str, tuple[str, ...]] = {
    "rate too high, momentum": ("deep_mlp",),
    "rate too high, Adam": ("rnn", "lstm"),
    "rate taken away early": ("tanh_mlp", "lenet"),
    "a waist": ("tanh_mlp", "lenet"),
    "labels exchanged": ("broad_mlp", "norm_mlp"),
}
"""Bodies added to the calibration half after the first look at the held-out one, to see there what was missed."""

LADDERS: dict[str, tuple[str, ...]] = {
    "hidden layers too large": ("mlp", "broad_mlp", "lenet", "residual_mlp", "leaky_mlp", "silu_mlp", "strided"),
}
"""Bodies added to the calibration half after the second look, at all three doses: of two to nine hidden layers, where
there had been eight alone."""

THIRD: dict[str, tuple[str, ...]] = {
    "hidden layers too large": ("wide_mlp", "vgg", "slim_mlp", "mish_mlp", "elu_strided"),
}
"""Held-out bodies of the third look: those of the second with new seeds, and three that nobody had trained."""

FRESH: dict[str, str] = {
    "last layer too large": "tanh_lenet",
    "hidden layers too large": "wide_mlp",
    "units that are copies": "tanh_lenet",
    "raw inputs": "vgg",
    "scores squashed": "tanh_lenet",
    "blind to its input": "sigmoid_mlp",
    "softmax before the loss": "norm_vgg",
    "answers mixed": "gru",
    "left out of the optimiser": "vgg",
    "wrong backward": "vgg",
    "deep sigmoids": "tanh_lenet",
    "weights too small for the depth": "tanh_vgg",
    "weights too large for the depth": "tanh_vgg",
    "a logarithm of 0": "vgg",
    "rates that break the weights": "wide_mlp",
    "biases pushed down": "vit",
    "tanh and sigmoid at their ends": "sigmoid_mlp",
    "rate too high, momentum": "resnet",
    "rate too high, Adam": "vit",
    "rate too low, momentum": "norm_vgg",
    "rate too low, Adam": "gru",
    "rate taken away early": "norm_vgg",
    "learnt by heart": "tanh_lenet",
    "a waist": "norm_vgg",
    "decay too strong": "vgg",
    "decay of the branches and their norms": "pre_resnet",
    "averages that trail": "resnet",
    "one class favoured": "gru",
    "rare classes": "norm_vgg",
    "labels exchanged": "tanh_lenet",
}
"""A held-out body for the second look on which nobody had tried this disease. Fading or growing through time, and
attention, need bodies of their own kind, of which there is no other family: those have new seeds alone."""
