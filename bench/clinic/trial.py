"""One training run of the zoo, with the clinic around it and the rivals' record beside it.

A trial says everything that is done: the body, what is changed in it, in its data and in its training. Its row holds
what was found and when, what the rivals' rules said, and what the oracles measured; the history of the clinic's
measurements is kept apart, so that a changed threshold is judged on the same runs without training again.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import oracles
import recorded
import rivals
import torch
import torch.nn.functional as F
from bodies import BODIES, Attentive, K
from digits import Pictures
from torch import Tensor, nn

from engram import registry
from engram.clinic.clinic import LEVELS, Clinic
from engram.clinic.finding import Finding
from engram.clinic.measured import History, Setup
from engram.clinic.subject import Subject
from engram.review.ledger import Ledger, Observed

STEPS, BATCH = 128, 64

LOOKED_INTO = (nn.RNNBase, nn.MaxPool2d, Attentive)
"""What the diagnoses of level full look into; other networks have nothing for them, and standard is asked."""

Batch = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """(B,) loss by example."""
    return F.cross_entropy(scores, y, reduction="none")


@dataclass(frozen=True)
class Trial:
    """What is trained, and how.

    Args:
        kind: control, healthy or sick.
        name, dose: of the practice or the disease; the dose of a sick one is subclinical, clear or gross.
        lr: None is the body's own; `times_lr` multiplies it.
        change: made to the network before it is trained.
        data: made of the pictures before training.
        batch_of: made of every batch before it is shown, as augmentation is.
        schedule: factor of the rate by the share of the run that is done.
        groups: parameter groups for the optimiser, in place of all that are trainable.
        loss: by example, of scores and labels; the clinic is given its mean.
    """

    kind: str
    name: str
    body: str
    seed: int
    dose: str = ""
    steps: int = STEPS
    batch: int = BATCH
    optimizer: str | None = None
    lr: float | None = None
    times_lr: float = 1.0
    weight_decay: float = 0.0
    clip: float | None = None
    total_steps: int | None = None
    build: Callable[[], nn.Module] | None = None
    change: Callable[[nn.Module], nn.Module] = lambda net: net
    data: Callable[[Pictures], Pictures] = lambda pictures: pictures
    batch_of: Batch = lambda x, y, rng: (x, y)
    schedule: Callable[[float], float] = lambda done: 1.0
    groups: Callable[[nn.Module], Iterable[Any]] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name among all."""
        return "/".join((self.kind, self.name, self.body, self.dose or "-", str(self.seed)))


class Lamb(torch.optim.Optimizer):
    """Adam's direction, scaled by layer to the length of the weights (You et al. 2020, algorithm 2)."""

    def __init__(self, parameters: Iterable[Any], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                state["m"].lerp_(p.grad, 0.1)
                state["v"].lerp_(p.grad.square(), 0.001)
                m, v = state["m"] / (1 - 0.9 ** state["step"]), state["v"] / (1 - 0.999 ** state["step"])
                move = m / (v.sqrt() + 1e-6) + group["weight_decay"] * p
                length, far = p.norm(), move.norm()
                trust = (length / far).item() if length > 0 and far > 0 else 1.0
                p.add_(move, alpha=-group["lr"] * trust)


def optimizer_of(trial: Trial, net: nn.Module) -> torch.optim.Optimizer:
    """The trial's, or its body's."""
    body = BODIES[trial.body]
    lr = (body.lr if trial.lr is None else trial.lr) * trial.times_lr
    held = trial.groups(net) if trial.groups else [one for one in net.parameters() if one.requires_grad]
    decay = trial.weight_decay
    match trial.optimizer or body.optimizer:
        case "sgd":
            return torch.optim.SGD(held, lr, weight_decay=decay)
        case "momentum":
            return torch.optim.SGD(held, lr, momentum=0.9, weight_decay=decay)
        case "nesterov":
            return torch.optim.SGD(held, lr, momentum=0.9, nesterov=True, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(held, lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(held, lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(held, lr, weight_decay=decay)
        case "lamb":
            return Lamb(held, lr, decay)
        case other:
            raise ValueError(other)


@dataclass
class Outcome:
    """A trial that is done: its row for the results, and the clinic's measurements."""

    row: dict[str, Any]
    history: History


def build(trial: Trial) -> nn.Module:
    """The trial's network before its first step."""
    torch.manual_seed(1000 + trial.seed)
    return trial.change((trial.build or BODIES[trial.body].build)())


@cache
def _simple_rules() -> None:
    """The simple rules that under-fitting is judged by depend on the data alone: once for all runs with the same."""
    entry = registry.find("diagnosis", "underfitting")
    plain, known = entry.facts["measure"], {}

    def remembered(subject: Subject) -> Any:
        key = (len(subject.x), float(subject.x.double().sum()), int((subject.y * torch.arange(len(subject.y))).sum()))
        if key not in known:
            known[key] = plain(subject)
        return known[key]

    registry._entries["diagnosis"]["underfitting"] = replace(entry, facts={**entry.facts, "measure": remembered})


def carry_out(trial: Trial, given: Pictures) -> Outcome:
    """Train, watch, and measure what is true of it."""
    begin = time.process_time()
    _simple_rules()
    pictures = trial.data(given)
    x, y = pictures.x, pictures.y
    net = build(trial)
    optimizer = optimizer_of(trial, net)
    rng = torch.Generator().manual_seed(trial.seed)

    def mean_loss(scores: Any, labels: Tensor) -> Tensor:
        return trial.loss(scores, labels).mean()

    total = trial.total_steps or trial.steps
    data = {"counts": {"train": torch.bincount(y, minlength=K).tolist()}, **trial.facts}
    setup = Setup(total_steps=total, batch_size=trial.batch, num_classes=K, data=data)
    # all diagnoses that have something to say are asked, at the rates of the standard level
    level = "full" if any(isinstance(one, LOOKED_INTO) for one in net.modules()) else "standard"
    ledger = Ledger(len(y))
    facts = {"ledger": ledger}
    clinic = Clinic(net, optimizer, probe=(x, y), level=level, loss=mean_loss, setup=setup, facts=facts)
    clinic.rates = LEVELS["standard"]
    told: list[Finding] = list(clinic.examine())
    before = oracles.Before.of(net, x, y, trial.loss)
    record = recorded.Record.of(net, optimizer, pictures, trial.loss)
    base = [group["lr"] for group in optimizer.param_groups]
    order = torch.empty(0, dtype=torch.long)
    # what each example cost is only kept where it is asked for, as it takes a third of a small network's time
    remembers = trial.kind != "sick" or pictures.flipped is not None
    seen: list[tuple[float, float]] = []
    held: list[Tensor] = []
    each, clip = max(1, len(x) // trial.batch), trial.clip or BODIES[trial.body].clip
    for step in range(1, trial.steps + 1):
        if len(order) < trial.batch:
            order = torch.randperm(len(x), generator=rng)
        rows, order = order[: trial.batch], order[trial.batch :]
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * trial.schedule((step - 1) / total)
        images, labels = trial.batch_of(x[rows], y[rows], rng)
        net.train()
        with record.listening(step):
            scores = net(images)
        losses = trial.loss(scores, labels)
        loss = losses.mean()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        with record.stepping(step):
            optimizer.step()
        told += clinic.step(loss)
        value, right = loss.item(), (scores.argmax(1) == y[rows]).float()
        record.losses.append(value)
        seen.append((value, right.mean().item()))
        if remembers and bool(torch.isfinite(losses).all()):
            clocks, batches = torch.full((len(rows),), step / each), torch.full((len(rows),), step % each)
            ledger.record(Observed(rows, losses.detach().float(), right, clocks, batches))
        if step == max(2, trial.steps // 8):
            before.look_again(net, x, y, trial.loss)
        if not math.isfinite(value):
            told += clinic.look()
            break
        if step % each == 0:
            figures, by_example = _judge(net, pictures, seen[-each:])
            held.append(by_example)
            record.passes.append(figures)
            told += clinic.judged(step / each, *figures)
    told += clinic.finish()
    history = clinic.history
    measured = oracles.measure(net, pictures, trial.loss, before, seen)
    measured |= oracles.harm_of_going_on(held)
    own = history.own("label_errors")
    if pictures.flipped is not None and own is not None:
        first = own["indices"][: int(pictures.flipped.sum())]
        measured["suspects_right"] = sum(bool(pictures.flipped[one]) for one in first) / max(1, len(first))
    if trial.name == "wrong backward":
        measured["gradient_error"] = oracles.gradient_error(build(trial), x, y, trial.loss)
    row = {
        "key": trial.key, "kind": trial.kind, "name": trial.name, "body": trial.body, "dose": trial.dose,
        "seed": trial.seed, "steps": len(seen), "findings": [_short(one) for one in told],
        "rivals": rivals.said(record, net, pictures, measured), "measured": measured,
        "cpu": round(time.process_time() - begin, 2),
    }  # fmt: skip
    return Outcome(row, history)


def judge_again(history: History, ledger_findings: bool = True) -> list[list[Any]]:
    """What the diagnoses as they are now say of a run that was measured before, at the moments they were asked then."""
    told: list[Finding] = []
    worst: dict[str, int] = {}
    entries = [registry.find("diagnosis", name) for name in registry.names("diagnosis")]
    severities = ("critical", "warning", "information")

    def ask(moments: tuple[Any, ...], when: str) -> None:
        past = History(moments, history.setup)
        for entry in entries:
            if when not in _times(entry):
                continue
            found = list(entry.build(past))
            rank = min((severities.index(one.severity) for one in found), default=9)
            if rank < worst.get(entry.name, 9):
                worst[entry.name] = rank
                told.extend(found)

    moments = history.moments
    for place, moment in enumerate(moments):
        if place == 0:
            ask(moments[:1], "before")
        elif moment.weights or moment.layers or moment.figures:
            ask(moments[: place + 1], "during")
    ask(moments, "after")
    return [_short(one) for one in told]


def _times(entry: registry.Entry) -> tuple[str, ...]:
    when = entry.facts.get("when", "during")
    return (when,) if isinstance(when, str) else tuple(when)


def _judge(
    net: nn.Module, pictures: Pictures, seen: list[tuple[float, float]]
) -> tuple[tuple[float, float, float, float], Tensor]:
    """Loss and accuracy of the pass and of validation, and the validation examples' losses."""
    losses, right = zip(*seen, strict=True)
    net.eval()
    with torch.no_grad():
        held = net(pictures.held_x)
        by_example = F.cross_entropy(held, pictures.held_y, reduction="none")
    accuracy = (held.argmax(1) == pictures.held_y).float().mean().item()
    return (sum(losses) / len(losses), sum(right) / len(right), by_example.mean().item(), accuracy), by_example


def _short(finding: Finding) -> list[Any]:
    return [finding.diagnosis, finding.severity, finding.step]
