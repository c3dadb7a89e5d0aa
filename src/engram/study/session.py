"""A run inside a study: it draws no page and no pictures, looks at the test split only when the measure is of it, and
judges the final weights or the best ones, as the plan says.

What training computes is untouched: same recipe, same seed, same weights as `engram train`.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from engram.study import examples
from engram.training import weights
from engram.training.session import Session

ORIGIN = "origin.json"
"""Where a run keeps what its initial weights and its examples are told by, and what it pays for a visit."""


class StudySession(Session):
    """One process's part of a run of a study."""

    def __init__(self, *given: Any, judged: str, test: bool) -> None:
        super().__init__(*given)
        self.judged, self.test = judged, test

    def open(self) -> None:
        if not self.resumed:
            origin = {
                "initial": fingerprint(self.assembled.state.net),
                "examples": examples.fingerprints(self.assembled),
                "charge": self.assembled.state.reviewer.method.charge,
            }
            self.folder.write_json(ORIGIN, origin)
        super().open()

    def evaluate(self) -> None:
        """The best weights on validation, as in every run folder; the judged ones on every split that is asked for."""
        prepared, machine = self.assembled.prepared, self.assembled.machine
        for which in dict.fromkeys(("best", self.judged)):
            file = "last" if which == "final" else which
            net = weights.load(self.path / "weights" / f"{file}.safetensors")[0].to(machine.device)
            if machine.memory_format is not torch.contiguous_format:
                net.to(memory_format=machine.memory_format)  # type: ignore[call-overload]
            pools = {"validation": prepared.validation}
            if self.test and which == self.judged:
                pools["test"] = prepared.test
            for split, pool in pools.items():
                if pool is None:
                    continue
                name = f"final_{split}" if which == "final" else split
                self.evaluations[name] = self.assembled.judge(net, self.path, name, pool)

    def describe_data(self) -> None:
        """One study, one set of data: its card is `engram data`'s to show."""

    def describe_network(self) -> None:
        """`engram show models` tells it."""

    def look_on(self) -> None:
        """A study measures its arms; `engram examine` looks for faults in a run of it."""

    def save_pictures(self, shown: list[int]) -> None:
        """Pictures are for the page, which a study's run has none of."""

    def write_report(self) -> None:
        """`engram report` draws it when somebody wants to see this run."""

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        yield


def fingerprint(net: nn.Module) -> str:
    """16 letters that two networks share when every parameter and buffer of theirs is equal, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
