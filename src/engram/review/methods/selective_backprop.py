"""Look at the loss of every example in a batch, and learn from the hardest: Selective-Backprop.

After the forward pass an example takes part in the backward pass with probability

    P = CDF(loss)^beta

where CDF(loss) is the share of the last `history` losses that are smaller (equal ones count half). On average 1 / (1
+ beta) of the examples take part. Those that do weigh alike, the others 0, with a mean of 1 over the batch: the step
is the mean over those that take part. If none does, the hardest one does.

`form="rank"` is the form of the Composer library: in a part of the run's steps (from `start` to `end`), and there in
all but every `interrupt`-th, exactly `keep` of a batch are drawn without replacement, with chances that go by the rank
of the loss, ((rank + 1/2) / B)^(1 / keep - 1).

The price is charged: a run has as many steps as its epochs pay for. With a full visit (forward and backward) as 1,
and a forward pass as a third of it, a looked-at example costs 1/3, and one that takes part 2/3 more where its forward
pass is used again (`forwards=1`, which is what masking does here), or 1 more where it is run again (`forwards=2`, as
Composer does).

Helps where a backward pass is dear. Published: up to 3.5 times faster to a target error. Composer's own figures:
ImageNet, ResNet-50, the same 76.46 % in 6 % less time; CIFAR-10, ResNet-56, 93.3 instead of 93.2 % in 8 % less.
Others found no gain over random subsets (Balles et al.), or none against a fully decayed learning rate with the
selection charged (Kaddour et al. 2023). Hurts under wrong labels as all hard selection does.

In the paper: beta by the wanted selectivity (1 for a half, 2 for a third), and batches are filled up with selected
examples from several forward passes. Where we differ: a step is one looked-at batch, so that its selected examples
are fewer; this program also runs the backward pass with weights of 0, so that the charge is what the method would
cost and not what it does cost here; Composer's second forward pass in training mode, which moves batch normalisation
twice, is not copied. In Composer: keep 0.5, start 0.5, end 0.9, interrupt 2; a run whose length is given in epochs
enters and leaves its part between epochs, and every epoch alternates anew. Here both go by the steps of the run, so
that what is charged is looked at within a step, also in a run of one epoch.

Jiang et al. 2019, "Accelerating Deep Learning by Focusing on the Biggest Losers", section 3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.grammar import choice, number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import everything

FORWARD = 1 / 3  # of a visit


class SelectiveBackprop(Method):
    """What both forms have: plain shuffling, and a share `keep` of each batch that is learned from.

    Args:
        keep: share of the looked-at examples that take part.
        forwards: forward passes of an example that takes part.
        active: share of the steps that look before they learn.
    """

    permutable = False  # a batch's own losses are all that it looks at

    def __init__(self, *, keep: float, forwards: int, active: float) -> None:
        self.keep = keep
        looked_at = FORWARD + keep * (1.0 - FORWARD * (2 - forwards))
        self.charge = active * looked_at + 1.0 - active

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(steps_per_pass, total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        return everything(ledger, moment)


class ByDistribution(SelectiveBackprop):
    """The paper's form.

    Attributes:
        losses: the last `history` losses, the newest at the end.
    """

    def __init__(self, *, beta: float, history: int, forwards: int) -> None:
        super().__init__(keep=1.0 / (1.0 + beta), forwards=forwards, active=1.0)
        self.beta, self.history = beta, history
        self.losses = torch.zeros(0)

    def weigh(self, losses: Tensor, rng: torch.Generator) -> Tensor:
        losses = losses.float()
        self.losses = torch.cat([self.losses.to(losses.device), losses])[-self.history :]
        chances = distribution(losses, self.losses) ** self.beta
        taken = torch.rand(len(losses), generator=rng).to(losses.device) < chances
        taken = torch.where(taken.any(), taken, torch.arange(len(losses), device=losses.device) == losses.argmax())
        return taken / taken.float().mean()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.losses = state["losses"].clone()


class ByRank(SelectiveBackprop):
    """Composer's form.

    Attributes:
        steps: of the whole run.
        begun: of these, made before the round began.
        batch_size: examples a step.
        seen: examples weighed since; the gradient of a batch may be gathered in parts.
    """

    def __init__(self, *, keep: float, start: float, end: float, interrupt: int, forwards: int) -> None:
        alternating = 1.0 - 1.0 / interrupt if interrupt else 1.0
        super().__init__(keep=keep, forwards=forwards, active=max(0.0, end - start) * alternating)
        self.start, self.end, self.interrupt = start, end, interrupt
        self.steps, self.begun, self.batch_size, self.seen = 1, 0, 1, 0

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        left = moment.left / moment.batch_size
        self.steps = round(left / (1.0 - moment.spent))
        self.begun, self.batch_size, self.seen = self.steps - round(left), moment.batch_size, 0
        return super().choose(ledger, moment)

    def looks(self, step: int) -> bool:
        """Whether that step of the run, counted from 0, looks before it learns."""
        interrupted = self.interrupt > 0 and (step + 1) % self.interrupt == 0
        return not interrupted and self.start <= step / self.steps < self.end

    def weigh(self, losses: Tensor, rng: torch.Generator) -> Tensor | None:
        step = self.begun + self.seen // self.batch_size
        self.seen += len(losses)
        if not self.looks(step):
            return None
        places = torch.arange(len(losses), dtype=torch.float64)
        chances = ((places + 0.5) / len(losses)) ** (1.0 / self.keep - 1.0)
        number = max(1, int(self.keep * len(losses)))
        ranks = torch.multinomial(chances, number, replacement=False, generator=rng).to(losses.device)
        weights = torch.zeros(len(losses), device=losses.device)
        weights[torch.argsort(losses, stable=True)[ranks]] = len(losses) / number
        return weights

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "begun": self.begun, "batch_size": self.batch_size, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.begun = int(state["steps"]), int(state["begun"])
        self.batch_size, self.seen = int(state["batch_size"]), int(state["seen"])


def distribution(losses: Tensor, history: Tensor) -> Tensor:
    """(B,) the share of the history below each loss, equal ones counting half.

    >>> distribution(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 1.0, 2.0, 3.0]))
    tensor([0.3750, 1.0000])
    """
    ordered = torch.sort(history).values
    below, up_to = torch.searchsorted(ordered, losses), torch.searchsorted(ordered, losses, right=True)
    return (below + up_to) / (2 * len(history))


@register("review", paper="Jiang et al., Selective-Backprop, 2019, section 3; Composer", year=2019)
def selective_backprop(
    *,
    form: str = "distribution",
    beta: float = 1.0,
    history: int = 1024,
    keep: float = 0.5,
    start: float = 0.5,
    end: float = 0.9,
    interrupt: int = 2,
    forwards: int = 1,
) -> Method:
    """Learns from the hardest examples of each batch, by their loss after the forward pass.

    Args:
        form: distribution (the paper's) or rank (Composer's).
        beta: the paper's exponent; 1 / (1 + beta) of the examples take part.
        history: losses that an example's is compared with.
        keep: share of a batch that takes part in the rank form.
        start: share of the steps after which the rank form begins.
        end: share of the steps after which it ends.
        interrupt: one in so many steps of the rank form is an ordinary one; 0 for none.
        forwards: forward passes that an example which takes part is charged for, 1 or 2.
    """
    name = "selective_backprop"
    forwards = int(number(name, "forwards", forwards, 1, 2, whole=True))
    beta = number(name, "beta", beta, 0)
    history = int(number(name, "history", history, 1, whole=True))
    keep = number(name, "keep", keep, 0, 1, above=True)
    start, end = number(name, "start", start, 0, 1), number(name, "end", end, 0, 1)
    interrupt = int(number(name, "interrupt", interrupt, 0, whole=True))
    if choice(name, "form", form, ("distribution", "rank")) == "distribution":
        return ByDistribution(beta=beta, history=history, forwards=forwards)
    return ByRank(keep=keep, start=start, end=end, interrupt=interrupt, forwards=forwards)
