"""TensorBoard: what a run says, as event files, with the findings as text.

    engram train --tensorboard logs
    tensorboard --logdir logs

A sink as any other: it gets the rows of metrics.jsonl and writes scalars over the step: `loss` and `accuracy` of the
batch, of a pass over the training split and on the validation split, `lr` and `images_per_second` (of a text
`tokens_per_second`); and under Text the head of the run and every finding. Runs lie beside each other in the folder by
their own folders' names; one that is resumed goes on in its curves, and what it had written beyond its saved state is
taken back.

Needs the package `tensorboard`, by which torch writes these files: the extra `[tensorboard]`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engram.clinic.finding import Finding
from engram.errors import UserError


class TensorBoardSink:
    """Rows of a run as events below a folder.

    Args:
        folder: where TensorBoard is told to look; the run gets a folder in it.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "the package tensorboard, which writes event files, is not installed", then="pip install tensorboard"
            ) from None
        self.writer_of = SummaryWriter
        self.folder, self.head = folder, ""
        self.writer: Any = None

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write what one row says; rows that say nothing to draw are passed over."""
        match row["event"]:
            case "header":
                lines = dict(row["lines"])
                self.folder = self.folder / Path(lines.get("folder", "run")).name
                self.head = listed(row["lines"])
            case "start":
                self.open()
                self.writer.add_text("run", self.head, 0)
            case "resumed":
                self.open(purge_step=row["step"] + 1)
            case "step" | "epoch" if self.writer is not None:
                for name, value in scalars(row).items():
                    self.writer.add_scalar(name, value, row["step"])
            case "finding" if self.writer is not None:
                found = Finding.from_dict(row["finding"])
                self.writer.add_text(f"findings/{found.diagnosis}", markdown(found), found.step)
            case "end" if self.writer is not None:
                self.writer.flush()

    def open(self, **settings: Any) -> None:
        """Begin an event file.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            self.writer = self.writer_of(str(self.folder), **settings)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Everything is on the disk afterwards."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


@contextmanager
def opened(folder: Path | None) -> Iterator[list[TensorBoardSink]]:
    """The sink for a folder, closed whatever happens; none without a folder.

    >>> with opened(None) as sinks:
    ...     sinks
    []
    """
    if folder is None:
        yield []
        return
    sink = TensorBoardSink(folder)
    try:
        yield [sink]
    finally:
        sink.close()


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by TensorBoard's names: those that begin alike share a group of charts.

    >>> scalars({"event": "step", "step": 7, "loss": 0.5, "lr": 0.1, "images_per_second": None})
    {'loss/batch': 0.5, 'lr': 0.1}
    """
    if row["event"] == "step":
        rates = ("images_per_second", "tokens_per_second")
        found = {"loss/batch": row.get("loss"), **{name: row.get(name) for name in ("lr", *rates)}}
    else:
        found = {
            f"{measure}/{split}": (row.get(split) or {}).get(measure)
            for measure in ("loss", "accuracy")
            for split in ("train", "validation")
        }
    return {name: float(value) for name, value in found.items() if value is not None}


def markdown(finding: Finding) -> str:
    """A finding as TensorBoard's Text shows it: a bold head and a list.

    >>> from engram.clinic.finding import Remedy
    >>> one = Finding("lr_too_high", "critical", "the loss rose", "it cannot settle", Remedy("less"), "a fall", 0.9)
    >>> print(markdown(one).splitlines()[0])
    **critical: lr too high**
    """
    head, *lines = str(finding).split("\n")
    pairs = [line.strip().partition(": ") for line in lines]
    return f"**{escaped(head)}**\n\n" + listed([(label, text) for label, _, text in pairs])


def listed(lines: Sequence[tuple[str, str]]) -> str:
    """Labelled lines as a Markdown list."""
    return "\n".join(f"- **{escaped(label)}**: {escaped(text)}" for label, text in lines)


def escaped(text: str) -> str:
    """Text in which Markdown sees no marks: names of layers have underscores.

    >>> print(escaped("running_mean * 2"))
    running\\_mean \\* 2
    """
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|" else letter for letter in text)
