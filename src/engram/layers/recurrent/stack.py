"""Recurrent layers over time: any depth, any lengths, from a state to a state, fused or step by step.

The idea: a cell says what happens in one step. A stack walks it along the sequence, and each layer reads the states of
the layer below it; more layers give a deeper function at every step, as they do in an image (Graves 2013 writes with
three to seven). Dropout goes between the layers only: on the way through time it would wipe out what is to be kept
(Zaremba et al. 2014).

    h^l_t = step(x^l_t, h^l_{t-1}),     x^0 = x,     x^l = dropout(h^{l-1})

Sequences of unlike lengths lie in one batch, padded at their ends. Past its end a sequence stands still: its state is
that of its own last step, its outputs are 0, and its padding has no gradient.

It is torch's own module, a subclass: `state_dict()` has torch's names and layout (`weight_ih_l0`, `weight_hh_l0`,
`bias_ih_l0`, `bias_hh_l0`, then `_l1` and so on; with layer normalisation also `norms.0.input.weight` and so on), and
what knows `nn.LSTM` knows this. Without layer normalisation torch's fused kernels run (cuDNN on CUDA, oneDNN on the
CPU), but for what is quicker while training on the CPU: `fused_rnn`, `fused_gru`, `token_input`. With it, with
`readable=True`, or when `gates` are asked for, the cell of the file beside runs step by step, on the same weights, with
the same numbers.

Where we differ from torch: always batch first, one direction, with biases. On the CPU autocast is left out: gates that
are added up over hundreds of steps keep their 32 bits, and torch's bfloat16 LSTM stops with an error on processors
without AMX.

Graves 2013, Generating sequences with recurrent neural networks, arXiv:1308.0850, section 2; Zaremba, Sutskever,
Vinyals 2014, Recurrent neural network regularization, arXiv:1409.2329, section 3; Saxe, McClelland, Ganguli 2014,
arXiv:1312.6120 (orthogonal start).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from engram.errors import UserError
from engram.layers.recurrent.gate_norm import GateNorm, Norms
from engram.layers.recurrent.token_input import one_hot, quickest, torch_layers

State = Tensor | tuple[Tensor, ...]
"""h (layers, B, H); of an LSTM (h, c)."""


OWN_FROM = 4
"""Steps from which a layer as one operation of our own is quicker than torch's loop of operations."""


class Weights(NamedTuple):
    """Of one layer, as torch keeps them: rows of G gates, one below the other."""

    ih: Tensor  # (G H, D)
    hh: Tensor  # (G H, H)
    bias_ih: Tensor  # (G H,)
    bias_hh: Tensor  # (G H,)


class Stack(nn.RNNBase):
    """What `RNN`, `LSTM` and `GRU` have in common; make one of those.

    Args:
        input_size: D, values at each step.
        hidden_size: H, units of each layer.
        depth: layers.
        drop: share of values set to zero between layers while training.
        orthogonal: recurrent weights start as an orthogonal matrix for each gate, and not uniform within ±1/sqrt(H).
        layer_norm: normalise what enters the gates, see `gate_norm`; every step then runs by itself.
        readable: run the cell step by step; may be set at any time.

    Raises:
        UserError: a size or depth below 1, a share outside 0 to 1, or a share to drop between layers where one is all.
    """

    fused: ClassVar[Any]
    """torch's class."""
    step: Callable[..., dict[str, Tensor]]
    """One step of time: (x, state, weights, norms) to the gates and the new state by name."""
    states: tuple[str, ...]
    """Which of these are carried to the next step; the first is what the layer gives."""
    normalized: ClassVar[dict[str, int]]
    """The sums that layer normalisation is for, and how many gates each has."""
    over_time: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
    """A layer as one operation, for training on the CPU: W_ih x, tokens or None, weights, state -> (T, B, H), state."""
    look_up_from: ClassVar[float] = 0.0
    """See `token_input.quickest`: 0 where `over_time` is quicker than torch's layer whatever the input."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int = 1,
        *,
        drop: float = 0.0,
        orthogonal: bool = False,
        layer_norm: bool = False,
        readable: bool = False,
    ) -> None:
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("depth", depth)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} cannot be {value}", allowed="whole numbers from 1 up")
        if not 0 <= drop < 1:
            raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
        if drop and depth == 1:
            raise UserError(f"drop {drop} is between layers, and there is one", then="a depth of 2 or more, or drop 0")
        # torch's classes take these by word and pass them on with their own name, which RNNBase's signature hides
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": depth}
        given: dict[str, Any] = {**sizes, "batch_first": True, "dropout": drop}
        super().__init__(**given)
        self.readable = readable
        norms = range(depth if layer_norm else 0)
        self.norms = nn.ModuleList(nn.ModuleDict(self._norms()) for _ in norms)
        if orthogonal:
            for layer in range(depth):
                for gate in self.weights_of(layer).hh.detach().split(hidden_size):
                    nn.init.orthogonal_(gate)

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        lengths: Tensor | None = None,
        table: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """The states of the last layer at every step, and the states of all layers after the last.

        Args:
            x: (B, T, D), or packed by torch, or (B, T) tokens: integers below V.
            state: before the first step, (layers, B, H); of an LSTM (h, c). Zeros unless given.
            lengths: (B,) steps of each sequence, from 1 to T. All T unless given.
            table: (V, D), a row for each token; one-hot without.

        Returns:
            (B, T, H), or packed as `x` was; and the state, in the form in which it is given.

        Raises:
            UserError: another shape, lengths outside 1 to T or beside a packed sequence.
        """
        if isinstance(x, Tensor) and not x.is_floating_point():
            return self._tokens(x, state, lengths, table)
        self._check(x, lengths)
        with self._full_precision(x):
            if x.data.device.type == "cpu":  # a layer below may have answered autocast in bfloat16
                x, state = x.to(self.weights_of(0).ih.dtype), _to(state, self.weights_of(0).ih.dtype)
            if isinstance(x, PackedSequence):
                return self._packed(x, state)
            if self.readable or len(self.norms):
                output, state, _ = self._walk(x, state, lengths)
                return output, state
            if lengths is None and not self.look_up_from and x.shape[1] >= OWN_FROM and self._is_own(*x.shape):
                before = self._begin(len(x), x, state)
                return self._own(F.linear(x.transpose(0, 1), self.weights_of(0).ih), None, before)
            if lengths is None:
                return super().forward(x, state)
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            output, state = super().forward(packed, state)
            return pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0], state

    def gates(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Everything inside at every step, computed step by step with the same numbers as `forward` gives.

        Args: see `forward`; `x` is not packed.

        Returns:
            i, f, o, g, c and h of an LSTM, r, z, n and h of a GRU, h of a vanilla network; (layers, B, T, H) each, 0
            past a sequence's end. Gradients go through them.

        >>> from engram.layers.recurrent import GRU
        >>> {name: tuple(value.shape) for name, value in GRU(3, 5, depth=2).gates(torch.zeros(4, 7, 3)).items()}
        {'r': (2, 4, 7, 5), 'z': (2, 4, 7, 5), 'n': (2, 4, 7, 5), 'h': (2, 4, 7, 5)}
        """
        self._check(x, lengths)
        with self._full_precision(x):
            dtype = self.weights_of(0).ih.dtype
            return self._walk(x.to(dtype), _to(state, dtype), lengths)[2]

    def weights_of(self, layer: int) -> Weights:
        """The weights of one layer, themselves and not copies.

        >>> from engram.layers.recurrent import RNN
        >>> RNN(3, 5, depth=2).weights_of(1).ih.shape
        torch.Size([5, 5])
        """
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Weights(*(getattr(self, f"{name}_l{layer}") for name in names))

    @classmethod
    def from_torch(cls, module: nn.RNNBase) -> Self:
        """The same layers with a copy of the weights of torch's module; batch first, whichever way that one is.

        Raises:
            UserError: not torch's class of the same name, or with two directions, a projection, without biases or
                with ReLU.

        >>> from engram.layers.recurrent import LSTM
        >>> theirs = nn.LSTM(3, 5, num_layers=2)
        >>> torch.equal(LSTM.from_torch(theirs).weight_hh_l1, theirs.weight_hh_l1)
        True
        """
        if not isinstance(module, cls.fused):
            raise UserError(f"a {type(module).__name__} is no {cls.__name__}", allowed=f"nn.{cls.fused.__name__}")
        unlike = {
            "two directions": module.bidirectional,
            "a projection": module.proj_size > 0,
            "no biases": not module.bias,
            "ReLU": getattr(module, "nonlinearity", "tanh") != "tanh",
        }
        for what, found in unlike.items():
            if found:
                raise UserError(f"this {cls.__name__} has {what}", allowed="one direction, biases, no projection, tanh")
        drop = module.dropout if module.num_layers > 1 else 0.0  # torch warns, and drops nothing
        own = cls(module.input_size, module.hidden_size, module.num_layers, drop=drop)
        own.to(next(module.parameters()))
        own.load_state_dict(module.state_dict())
        return own.train(module.training)

    def to_torch(self) -> nn.RNNBase:
        """torch's module with a copy of the weights, batch first.

        Raises:
            UserError: layer normalisation, which it lacks.

        >>> from engram.layers.recurrent import GRU
        >>> GRU(3, 5).to_torch()
        GRU(3, 5, batch_first=True)
        """
        if len(self.norms):
            raise UserError(f"nn.{self.fused.__name__} has no layer normalisation, and this one has")
        more: dict[str, Any] = {"num_layers": self.num_layers, "batch_first": True, "dropout": self.dropout}
        module = self.fused(self.input_size, self.hidden_size, **more).to(self.weights_of(0).ih)
        module.load_state_dict(self.state_dict())
        return module.train(self.training)

    def _norms(self) -> dict[str, nn.Module]:
        return {
            name: GateNorm(gates, self.hidden_size, shift=name == "cell") for name, gates in self.normalized.items()
        }

    def _walk(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Output, state and everything inside, by the cell."""
        before = self._begin(x.shape[0], x, state)
        x = x.transpose(0, 1)  # (T, B, D), the order in which torch's kernels draw their dropout
        steps = torch.arange(len(x), device=x.device)[:, None, None]
        alive = None if lengths is None else steps < lengths.to(x.device)[:, None]  # (T, B, 1)
        every: list[dict[str, Tensor]] = []
        after: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            inside, last = self._layer(layer, x, tuple(one[layer] for one in before), alive)
            x = inside[self.states[0]]  # (T, B, H)
            every.append(inside)
            after.append(last)
        kept = {name: torch.stack([one[name] for one in every]).transpose(1, 2) for name in every[0]}  # (L, B, T, H)
        ended = tuple(torch.stack(one) for one in zip(*after, strict=True))  # (L, B, H) each
        return x.transpose(0, 1), ended if len(ended) > 1 else ended[0], kept

    def _layer(
        self, layer: int, x: Tensor, state: tuple[Tensor, ...], alive: Tensor | None
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """One layer along time: everything inside, (T, B, H) each, and the state after the last step."""
        weights = self.weights_of(layer)
        norms: list[Norms] = [dict(self.norms[layer].named_children())] if len(self.norms) else []
        inside: list[dict[str, Tensor]] = []
        for t, now in enumerate(x.unbind()):
            found = self.step(now, state, weights, *norms)
            new = tuple(found[name] for name in self.states)
            if alive is not None:
                new = tuple(torch.where(alive[t], one, old) for one, old in zip(new, state, strict=True))
                found = {name: torch.where(alive[t], value, 0) for name, value in found.items()}
            state = new
            inside.append(found)
        return {name: torch.stack([one[name] for one in inside]) for name in inside[0]}, state

    def _begin(self, batch: int, like: Tensor, state: State | None) -> tuple[Tensor, ...]:
        """The states before the first step, (layers, B, H) each; zeros are of the type and device of `like`."""
        shape = (self.num_layers, batch, self.hidden_size)
        if state is None:
            return tuple(like.new_zeros(shape) for _ in self.states)
        given = (state,) if isinstance(state, Tensor) else tuple(state)
        if [tuple(one.shape) for one in given] != [shape] * len(self.states):
            shapes = ", ".join(str(tuple(one.shape)) for one in given)
            raise UserError(f"a state of {shapes}", allowed=f"{' and '.join(self.states)} of {shape}")
        return given

    def _is_own(self, *sizes: int) -> bool:
        """Whether something that learns runs on the CPU, with nobody who looks inside; then layers may be our own."""
        looked_at = self.readable or bool(len(self.norms)) or not torch.is_grad_enabled()
        return self.weights_of(0).ih.device.type == "cpu" and min(sizes) > 0 and not looked_at and not _is_transformed()

    def _tokens(
        self, tokens: Tensor, state: State | None, lengths: Tensor | None, table: Tensor | None
    ) -> tuple[Tensor, State]:
        """`forward` for tokens, by the quickest way there is."""
        weights, tokens = self.weights_of(0), tokens.long()
        vocabulary = self.input_size if table is None else len(table)
        way = "rows"
        if lengths is None and tokens.dim() == 2 and self._is_own(*tokens.shape):
            way = quickest(tokens.numel(), vocabulary, self.input_size, self.hidden_size, self.look_up_from)
        if way == "rows":
            x = one_hot(tokens, weights.ih) if table is None else F.embedding(tokens, table)  # (B, T, D)
            return self.forward(x, state, lengths)
        with self._full_precision(tokens):
            entering = weights.ih if table is None else F.linear(weights.ih, table)  # (G H, V)
            before = self._begin(len(tokens), entering, _to(state, entering.dtype))
            if way == "look up":
                return self._own(entering.T, tokens.T.contiguous(), before)
            others: list[Any] = self._flat_weights[1:]
            output, after = torch_layers(self, one_hot(tokens, entering), before, [entering, *others])
            return output, after if len(after) > 1 else after[0]

    def _own(self, entering: Tensor, tokens: Tensor | None, before: tuple[Tensor, ...]) -> tuple[Tensor, State]:
        """All layers from W_ih x of the first, by `over_time` as far as it is quicker than torch's."""
        x, after = self.over_time(entering, tokens, self.weights_of(0), tuple(one[0] for one in before))  # (T, B, H)
        ended = [tuple(one[None] for one in after)]
        if self.look_up_from and self.num_layers > 1:
            others: list[Any] = self._flat_weights[4:]
            x = F.dropout(x, self.dropout, self.training).transpose(0, 1)
            x, after = torch_layers(self, x, tuple(one[1:] for one in before), others)
            x = x.transpose(0, 1)
            ended.append(after)
        elif not self.look_up_from:
            for layer in range(1, self.num_layers):
                weights, state = self.weights_of(layer), tuple(one[layer] for one in before)
                x = F.dropout(x, self.dropout, self.training)
                x, after = self.over_time(F.linear(x, weights.ih), None, weights, state)
                ended.append(tuple(one[None] for one in after))
        state = tuple(torch.cat(every) for every in zip(*ended, strict=True))  # (L, B, H) each
        return x.transpose(0, 1), state if len(state) > 1 else state[0]

    def _packed(self, x: PackedSequence, state: State | None) -> tuple[PackedSequence, State]:
        if not self.readable and not len(self.norms):
            return super().forward(x, state)
        padded, lengths = pad_packed_sequence(x, batch_first=True)
        output, state, _ = self._walk(padded, state, lengths)
        if x.sorted_indices is not None:
            output, lengths = output[x.sorted_indices], lengths[x.sorted_indices.cpu()]
        return PackedSequence(pack_padded_sequence(output, lengths, batch_first=True).data, *x[1:]), state

    def _full_precision(self, x: Tensor | PackedSequence) -> AbstractContextManager[Any]:
        """Without autocast on the CPU."""
        return torch.autocast("cpu", enabled=False) if x.data.device.type == "cpu" else nullcontext()

    def _check(self, x: Tensor | PackedSequence, lengths: Tensor | None) -> None:
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise UserError("a packed sequence knows its lengths, and others were given")
            return
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise UserError(
                f"a {type(self).__name__} was given {tuple(x.shape)}", allowed=f"(batch, steps, {self.input_size})"
            )
        if not x.shape[1]:
            raise UserError(f"a {type(self).__name__} was given a sequence without steps", allowed="1 step or more")
        if lengths is None:
            return
        if tuple(lengths.shape) != (x.shape[0],) or int(lengths.min()) < 1 or int(lengths.max()) > x.shape[1]:
            raise UserError(
                f"lengths of {lengths.tolist()} for {x.shape[0]} sequences", allowed=f"one each, from 1 to {x.shape[1]}"
            )


def _is_transformed() -> bool:
    """Whether torch looks into what runs, and wants its own operators."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _to(state: State | None, dtype: torch.dtype) -> State | None:
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.to(dtype)
    return tuple(one.to(dtype) for one in state)
