"""What a person sees while a network trains: a header, one live line, a row an epoch, a closing block.

On a terminal the live line is redrawn in place; elsewhere only whole lines are printed, at most one every half minute
between epochs; with `json` every row is printed as it stands in metrics.jsonl.
"""

import json as jsonlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PLAIN_SECONDS = 30.0  # between two lines of progress where nothing can be redrawn
LABEL = 13  # columns


class JsonSink:
    """Every row as one JSON object a line, on standard output."""

    def __call__(self, row: Mapping[str, Any]) -> None:
        print(jsonlib.dumps(dict(row)), flush=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Machines are not told how far reading has come."""

    def close(self) -> None:
        """Nothing is left open."""


class ConsoleSink:
    """Rows of a run as text, through rich: colours only where they are wanted, a live line only on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(highlight=False, soft_wrap=True)
        self.live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        )
        self.running = False
        self.titled = False  # whether the table of epochs has its head
        self.told = time.monotonic()
        self.start: Mapping[str, Any] = {}
        self.first_step: tuple[float, int] | None = None  # when and where this process began to train

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show one row."""
        match row["event"]:
            case "header":
                from engram import __version__

                self.lines([("engram", __version__), *row["lines"]])
                self.rule()
                self.titled, self.first_step = False, None
            case "start":
                self.start = row
            case "resumed":
                self.start = row
                self.say(f"going on at step {row['step']:,} of {row['total_steps']:,}")
            case "step":
                self.step(row)
            case "epoch":
                self.epoch(row)
            case "threads":
                self.say(f"step {row['step']:,}: now {row['threads']} threads; {row['why']}")
            case "notice":
                self.say(row["text"], style="yellow")
            case "finding":
                self.finding(row["finding"])
            case "closing" | "fix":
                self.close()
                self.rule()
                self.lines(row["lines"])

    def progress(self, what: str, done: int, total: int) -> None:
        """How far downloading or reading has come."""
        if done >= total:
            self.hide()
        elif self.live is not None:
            self.show(f"{what:<{LABEL}}{bar(done / max(1, total))} {done:,} of {total:,}")
        elif time.monotonic() - self.told > PLAIN_SECONDS:
            self.say(f"{what}: {done:,} of {total:,}")

    def step(self, row: Mapping[str, Any]) -> None:
        """The live line: where it is, the loss, the rate, the time left."""
        if self.first_step is None:
            self.first_step = (time.monotonic(), row["step"])
        total = self.start.get("total_steps", 0)
        share = row["step"] / total if total else 0.0
        text = (
            f"epoch {row['epoch']:6.2f} {bar(share)} step {row['step']:,}/{total:,}"
            f"   loss {row['loss']:.4f}   {rate(row)}   {self.left(row['step'], total)}"
        )
        if self.live is not None:
            self.show(text)
        elif time.monotonic() - self.told > PLAIN_SECONDS:
            self.say(text)

    def left(self, step: int, total: int) -> str:
        """Time left, from the pace of this process so far."""
        began, first = self.first_step or (0.0, step)
        if step <= first or not total:
            return ""
        return clock((time.monotonic() - began) / (step - first) * (total - step)) + " left"

    def epoch(self, row: Mapping[str, Any]) -> None:
        """A row of the table: what the pass gave."""
        if not self.titled:
            self.titled = True
            unit = rate(row).partition(" ")[2]
            self.say(f"epoch   train loss   accuracy    valid loss   accuracy  {unit:>9}     time", style="bold")
        validation = row["validation"]
        judged = f"{loss(validation['loss'])}   {100 * validation['accuracy']:6.2f} %" if validation else f"{'':>21}"
        pace = rate(row).partition(" ")[0]
        self.say(
            f"{row['epoch']:5d}   {loss(row['train']['loss'])}   {100 * row['train']['accuracy']:6.2f} %    {judged}"
            f"  {pace:>9}  {clock(row['seconds']):>7}{' *' if row['best'] and validation else ''}"
        )

    def finding(self, found: Mapping[str, Any]) -> None:
        """What the clinic has just found: what was seen, and what to try; the report has the rest."""
        style = {"critical": "bold red", "warning": "yellow"}.get(found["severity"])
        when = f"step {found['step']:,}" if found["step"] else "before the first step"
        title = str(found["diagnosis"]).replace("_", " ")
        self.say(f"{found['severity']}, {when}: {title}: {found['says']}", style=style)
        if found["severity"] != "information":
            self.say(f"    try: {found['remedy']['says']}")

    def lines(self, rows: list[tuple[str, str]]) -> None:
        for label, text in rows:
            self.say(f"[bold]{escape(label):<{LABEL}}[/bold]{escape(text)}", markup=True)

    def rule(self) -> None:
        self.say("")

    def say(self, text: str, *, style: str | None = None, markup: bool = False) -> None:
        self.told = time.monotonic()
        self.console.print(text, style=style, markup=markup)
        if self.live is None:
            sys.stdout.flush()

    def show(self, text: str) -> None:
        if self.live is None:
            return
        if not self.running:
            self.live.start()
            self.running = True
        from rich.text import Text

        self.live.update(Text(text, no_wrap=True, overflow="ellipsis"))

    def hide(self) -> None:
        if self.live is not None and self.running:
            self.live.update("")

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self.live is not None and self.running:
            self.live.stop()
            self.running = False


@contextmanager
def open_console(*, json: bool = False) -> Iterator[ConsoleSink | JsonSink]:
    """The sink for this terminal; closed whatever happens, so that a message after it stands on a line of its own."""
    sink = JsonSink() if json else ConsoleSink()
    try:
        yield sink
    finally:
        sink.close()


def bar(share: float, width: int = 24) -> str:
    """A line that fills from the left.

    >>> bar(0.5, 4)
    '━━──'
    """
    full = round(max(0.0, min(1.0, share)) * width)
    return "━" * full + "─" * (width - full)


def loss(value: float) -> str:
    """A loss in ten columns, however far it has run away.

    >>> loss(2.302585), loss(3.38e30)
    ('    2.3026', '  3.38e+30')
    """
    return f"{value:10.4f}" if abs(value) < 10_000 else f"{value:10.3g}"


def rate(row: Mapping[str, Any]) -> str:
    """How fast it went, as a row of a step or a pass has it.

    >>> rate({"tokens_per_second": 1234.5}), rate({"images_per_second": 70.0}), rate({})
    ('1,234 tok/s', '70 img/s', '')
    """
    for unit, short in (("images", "img/s"), ("tokens", "tok/s")):
        if row.get(f"{unit}_per_second"):
            return f"{row[f'{unit}_per_second']:,.0f} {short}"
    return ""


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours.

    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def escape(text: str) -> str:
    """Text in which rich sees no markup."""
    return text.replace("[", r"\[")
