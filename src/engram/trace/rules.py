"""The local rules in words: what each operation does with the gradient that arrives at it.

Backpropagation needs nothing else. An operation knows no network; it multiplies what arrives by its own derivative and
hands that on. For a few operations the derivative is so simple that they have names of their own in the lecture: the
add gate distributes, the max gate routes, the multiply gate swaps.

Where two are equal, torch.maximum halves the gradient, a max pooling gives it to the first, and rectifiers at 0 give
nothing: the words say torch's choice, and the tests check it.

Stanford CS231n, notes on back-propagation, "Patterns in backward flow".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """How an operation passes a gradient on.

    Attributes:
        words: the rule.
        settings: names of what the operation takes, in its order, "" for tensors and what is not worth showing.
    """

    words: str
    settings: tuple[str, ...] = ()


UNKNOWN = Rule("hands on the gradient times its own derivative")
NO_GRADIENT = "hands nothing back: it is flat almost everywhere, or was computed without gradients"
LEAVES = {
    "input": "adds up what its consumers send back",
    "parameter": "adds up what its consumers send back; the optimiser steps against it",
    "buffer": "is not learnt, so that nothing comes back",
    "constant": "is fixed, so that nothing comes back",
}

SHAPE = Rule("only changes the shape: the gradient is brought back into the old one, each number to its place")
PICK = Rule("sends each gradient back to the place it was read from; what was not read gets nothing")
SAME = Rule("hands the gradient on as it is")
SPLIT = Rule("lays the gradients of the parts together again")
RECTIFIER = "passes the gradient on where the input is above 0"
WINDOW = ("", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
MAX_POOL = Rule("routes each window's gradient to the winner, the first of equals; the others get nothing", WINDOW)
AVERAGE = ("", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
AVERAGE_POOL = Rule("shares each window's gradient out: every number of the window gets the same part", AVERAGE)
ADAPTIVE_AVERAGE = Rule(
    "shares each window's gradient out: every number of the window gets the same part", ("", "output")
)
ADAPTIVE_MAX = Rule("routes each window's gradient to the winner; the others get nothing", ("", "output"))
CONVOLUTION = Rule(
    "x gets the gradient laid back through the flipped filter, the weight what its window saw times the gradient, the "
    "bias the sum",
    ("", "", "", "stride", "padding", "dilation", "groups"),
)
NORMALIZED = "takes out of the gradient its mean and its part along the output, divides by the standard deviation"
BATCH = ("", "", "", "", "", "training")
RECURRENT = Rule(
    "carries the gradient back step by step, through the gates, to every input and the shared weights",
    ("", "", "", "", "layers", "dropout", "", "bidirectional"),
)

RULES: dict[str, Rule] = {
    "add": Rule("hands the gradient on to both as it is"),
    "subtract": Rule("hands the gradient on to the first, and with its sign turned to the second"),
    "multiply": Rule("swaps: each side gets the gradient times the other"),
    "divide": Rule("the numerator gets the gradient / denominator, the denominator −gradient × result / denominator"),
    "negate": Rule("turns the gradient's sign"),
    "power": Rule("scales the gradient by exponent × base^(exponent − 1); an exponent gets result × ln(base)"),
    "square": Rule("scales the gradient by 2 × input"),
    "sqrt": Rule("scales the gradient by 1 / (2 × result)"),
    "rsqrt": Rule("scales the gradient by −result³ / 2"),
    "reciprocal": Rule("scales the gradient by −result²"),
    "absolute": Rule("gives the gradient the input's sign; at 0 it gives nothing"),
    "exp": Rule("scales the gradient by the result: the exponential is its own derivative"),
    "log": Rule("scales the gradient by 1 / input"),
    "log1p": Rule("scales the gradient by 1 / (1 + input)"),
    "sin": Rule("scales the gradient by cos(input)"),
    "cos": Rule("scales the gradient by −sin(input)"),
    "tanh": Rule("scales the gradient by 1 − result², at most 1, nearly 0 where saturated"),
    "sigmoid": Rule("scales the gradient by result × (1 − result), at most 1/4, nearly 0 where saturated"),
    "maximum": Rule("routes all of it to the winner; equals share it"),
    "minimum": Rule("routes all of it to the winner, the smaller; equals share it"),
    "max": Rule("routes all of it to the winner; the others get nothing", ("", "dim", "keepdim")),
    "min": Rule("routes all of it to the winner, the smallest; the others get nothing", ("", "dim", "keepdim")),
    "amax": Rule("routes all of it to the winner; equals share it", ("", "dim", "keepdim")),
    "amin": Rule("routes all of it to the winner, the smallest; equals share it", ("", "dim", "keepdim")),
    "logsumexp": Rule("shares the gradient out in proportion to the softmax: a maximum with soft edges", ("", "dim")),
    "clamp": Rule("passes the gradient on inside the bounds, stops it outside", ("", "min", "max")),
    "where": Rule("routes the gradient to the side that was chosen, place by place"),
    "sum": Rule("hands the gradient on to every number alike", ("", "dim", "keepdim")),
    "mean": Rule("hands every number the gradient / how many there are", ("", "dim", "keepdim")),
    "prod": Rule("each number gets the gradient times the product of the others", ("", "dim")),
    "var": Rule("each number gets the gradient times twice its distance from the mean / (n − 1)", ("", "dim")),
    "std": Rule("each number gets the gradient times its distance from the mean / ((n − 1) × result)", ("", "dim")),
    "norm": Rule(
        "each number gets the gradient times its share in the result: of length 2, number / result", ("", "p")
    ),
    "matmul": Rule("swaps, with the other side transposed: A gets gradient Bᵀ, B gets Aᵀ gradient"),
    "linear": Rule("x gets gradient W, the weight gradientᵀ x, the bias the gradient summed over the rows"),
    "einsum": Rule("swaps: each factor gets the gradient contracted with all the others", ("equation",)),
    "relu": Rule(f"{RECTIFIER}, stops it elsewhere"),
    "relu6": Rule("passes the gradient on where the input is between 0 and 6, stops it elsewhere"),
    "leaky_relu": Rule(f"{RECTIFIER}, a small share of it elsewhere", ("", "negative_slope")),
    "prelu": Rule(f"{RECTIFIER}, the learnt share of it elsewhere"),
    "elu": Rule(f"{RECTIFIER}, times exp(input) elsewhere", ("", "alpha")),
    "selu": Rule("scales the gradient by 1.05 above 0, by 1.76 × exp(input) below"),
    "gelu": Rule("scales the gradient by Φ(input) + input × φ(input): about 1 far above 0, about 0 far below"),
    "silu": Rule("scales the gradient by s × (1 + input × (1 − s)), s being the sigmoid of the input"),
    "softplus": Rule("scales the gradient by the sigmoid of the input"),
    "softmax": Rule(
        "result × (gradient − the mean gradient weighted by the result): a rise of one lowers others", ("", "dim")
    ),
    "log_softmax": Rule("gradient − softmax × the gradient's sum", ("", "dim")),
    "cross_entropy": Rule("the scores get softmax − 1 for the true class, averaged over the batch", ("", "")),
    "nll_loss": Rule("only the true class's log-probability gets a gradient, −1 / how many examples"),
    "mse_loss": Rule("the prediction gets 2 × (prediction − target) / how many numbers", ("", "")),
    "l1_loss": Rule("the prediction gets the sign of its error / how many numbers", ("", "")),
    "binary_cross_entropy_with_logits": Rule("the score gets (sigmoid − target) / how many numbers"),
    "multi_margin_loss": Rule("each class inside the margin gets one part, the true class minus their sum"),
    **{f"conv{d}d": CONVOLUTION for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": Rule("x gets the gradient convolved, the weight what it saw") for d in (1, 2, 3)},
    **{f"max_pool{d}d": MAX_POOL for d in (1, 2, 3)},
    **{f"max_pool{d}d_with_indices": MAX_POOL for d in (1, 2, 3)},
    **{f"avg_pool{d}d": AVERAGE_POOL for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": ADAPTIVE_AVERAGE for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": ADAPTIVE_MAX for d in (1, 2, 3)},
    **{f"lp_pool{d}d": Rule("each number gets a part by its share in the window's length") for d in (1, 2, 3)},
    "batch_norm": Rule(f"{NORMALIZED} (over the batch; fixed statistics only divide)", BATCH),
    "layer_norm": Rule(f"{NORMALIZED} (over each example)", ("", "", "")),
    "group_norm": Rule(f"{NORMALIZED} (over each group of channels)", ("", "groups")),
    "instance_norm": Rule(f"{NORMALIZED} (over each map)", ("", "")),
    "local_response_norm": Rule("scales the gradient down as the value was, less what it took from its neighbours"),
    "normalize": Rule("takes out of the gradient its part along the result, divides by the length"),
    "dropout": Rule("the same mask again: kept numbers get gradient / keep, dropped ones nothing", ("", "p")),
    "scaled_dot_product_attention": Rule("values by the weights of attention, queries and keys through its softmax"),
    "embedding": Rule("adds each gradient to the row that was looked up; the other rows get nothing"),
    "cat": Rule("cuts the gradient where the parts were joined, each gets its own", ("", "dim")),
    "stack": Rule("hands each its own slice of the gradient", ("", "dim")),
    "pad": Rule("cuts the border off again: the padding gets nothing", ("", "pad")),
    "interpolate": Rule("adds up for each number what was read from it, by the weights of the interpolation"),
    "getitem": PICK,
    "gather": PICK,
    "index_select": PICK,
    "select": PICK,
    "narrow": PICK,
    "setitem": Rule("what was written gets its places of the gradient; what was overwritten gets nothing"),
    "write": Rule("what was written gets its places of the gradient; what was overwritten gets nothing"),
    "expand": Rule("was used many times, so that the gradients of all the copies add up"),
    "repeat": Rule("was used many times, so that the gradients of all the copies add up"),
    "cumsum": Rule("each number gets the sum of the gradients from its place on", ("", "dim")),
    "clone": SAME,
    "to": SAME,
    "contiguous": SAME,
    **dict.fromkeys(("float", "double", "half", "bfloat16", "cpu", "type", "alias"), SAME),
    **dict.fromkeys(
        ("reshape", "view", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute"), SHAPE
    ),
    **dict.fromkeys(("t", "T", "mT", "movedim", "swapaxes", "flip", "roll", "pixel_shuffle", "unfold", "fold"), SHAPE),
    **dict.fromkeys(("split", "chunk", "unbind", "tensor_split"), SPLIT),
    **dict.fromkeys(("rnn_tanh", "rnn_relu", "lstm", "gru", "rnn_tanh_cell", "lstm_cell", "gru_cell"), RECURRENT),
    "detach": Rule("cuts: nothing goes back beyond it"),
}

NAMES = {
    "sub": "subtract",
    "rsub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "true_divide": "divide",
    "truediv": "divide",
    "rdiv": "divide",
    "rtruediv": "divide",
    "neg": "negate",
    "negative": "negate",
    "pow": "power",
    "rpow": "power",
    "abs": "absolute",
    "rmatmul": "matmul",
    "mm": "matmul",
    "bmm": "matmul",
    "concat": "cat",
    "radd": "add",
    "rmul": "multiply",
    "clip": "clamp",
    "special_expit": "sigmoid",
}
"""Torch's many spellings of one operation."""
TURNED = {"__rsub__", "__rdiv__", "__rtruediv__", "__rpow__", "__rmatmul__", "rsub"}
"""Spellings in which the tensor stands second."""


def plain_name(spelling: str) -> str:
    """The operation that one of torch's spellings means.

    >>> plain_name("__rsub__"), plain_name("add_"), plain_name("__getitem__"), plain_name("relu")
    ('subtract', 'add', 'getitem', 'relu')
    """
    bare = spelling.strip("_") if spelling.startswith("__") else spelling.rstrip("_")
    if spelling.startswith("__i") and bare[1:] in {*NAMES, "add"}:  # __iadd__, __imul__
        bare = bare[1:]
    return NAMES.get(bare, bare)


def rule_of(name: str) -> Rule:
    """The rule of an operation by its plain name.

    >>> rule_of("add").words
    'hands the gradient on to both as it is'
    """
    return RULES.get(name, UNKNOWN)


def words(name: str, inputs: Sequence[tuple[str, Tensor]], settings: str) -> str:
    """The rule, said of the very numbers where they are single ones.

    Args:
        inputs: names and values of the tensors that the operation reads.
        settings: what else it reads, for a person.

    >>> import torch
    >>> words("maximum", [("z", torch.tensor(2.0)), ("w", torch.tensor(-1.0))], "")
    'routes all of it to the winner, z'
    >>> words("relu", [("x", torch.tensor(-2.0))], "")
    'stops the gradient, since the input is not above 0'
    >>> words("multiply", [("x", torch.tensor(-2.0))], "3")
    'scales the gradient by 3'
    """
    one = ONE_SIDED.get(name)
    if one and len(inputs) == 1 and settings:
        return one.format(settings)
    single = SINGLE.get(name)
    if single and inputs and all(value.numel() == 1 and not value.is_complex() for _, value in inputs):
        return single([label for label, _ in inputs], [value.item() for _, value in inputs]) or rule_of(name).words
    return rule_of(name).words


ONE_SIDED = {
    "multiply": "scales the gradient by {}",
    "add": "hands the gradient on as it is; the constant {} needs none",
    "subtract": "hands the gradient on, with its sign turned where the tensor is what is taken away",
}
"""Of operations that mostly join two, what they do where one side is a number that is written down."""


def _winner(best: Callable[..., Any], otherwise: str) -> Callable[[list[str], list[Any]], str | None]:
    def say(names: list[str], values: list[Any]) -> str | None:
        if len(values) < 2 or any(value != value for value in values):
            return None
        if values[0] == values[1]:
            return "both are equal and share it, half each"
        return f"routes all of it to the {otherwise}, {names[values.index(best(values))]}"

    return say


def _rectifier(names: list[str], values: list[Any]) -> str | None:
    if values[0] != values[0]:
        return None
    return (
        "passes the gradient on, since the input is above 0"
        if values[0] > 0
        else "stops the gradient, since the input is not above 0"
    )


SINGLE: dict[str, Callable[[list[str], list[Any]], str | None]] = {
    "maximum": _winner(max, "winner"),
    "minimum": _winner(min, "smaller"),
    "relu": _rectifier,
}
