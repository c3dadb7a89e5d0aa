"""Where the time went, and how much of the machine was used."""

from engram.report.markup import Markup, facts, join, table
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, duration, number, percent

ORDER = 100
TITLE = "Timing"


def section(run: Run) -> Markup | None:
    if run.seconds is None:
        return None
    rates = run.rates
    rate = rates[len(rates) // 2] if rates else None
    work, peak = (finite(run.environment.get(name)) for name in ("model_gflop_per_image", "peak_gflops"))
    reached = rate * work if rate and work else None
    ends = [finite(epoch.get("seconds")) or 0.0 for epoch in run.epochs]
    lengths = sorted(later - earlier for earlier, later in zip([0.0, *ends], ends, strict=False))
    about = facts(
        [
            ("whole run", duration(run.seconds)),
            ("an epoch, median", duration(lengths[len(lengths) // 2]) if lengths else None),
            ("steps", f"{count(run.step)} of {count(run.total_steps)}" if run.total_steps else count(run.step)),
            (f"{run.unit} a second, median", count(rate)),
            (f"work {'a token' if run.task == 'write' else 'an example'}", f"{number(work)} GFLOP" if work else None),
            ("work a second", f"{number(reached)} GFLOP/s" if reached else None),
            ("of what a matrix product reaches here", percent(reached / peak) if reached and peak else None),
            ("resumed", ", ".join(f"at step {count(finite(one.get('step')))}" for one in run.resumed)),
        ]
    )
    rows = [
        (count(finite(one.get("step"))), text(one.get("threads", "")), text(one.get("why", ""))) for one in run.threads
    ]
    changed = table("Threads, timed while training", ("step", "threads", "why"), rows, numbers_from=9) if rows else None
    return join([about, changed])
