"""Where it ran, and every choice that was made for it, with the reason."""

from engram.report.markup import Markup, facts, join, table, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import big

ORDER = 90
TITLE = "Environment"


def section(run: Run) -> Markup | None:
    known = run.environment
    if not known:
        return None
    model = known.get("model") or {}
    versions = [f"{name} {text(known[name])}" for name in ("engram", "torch", "python") if known.get(name)]
    cores = f", {text(known['cores'])} cores" if known.get("cores") else ""
    about = facts(
        [
            ("software", ", ".join(versions)),
            ("processor", f"{text(known['processor'])}{cores}" if known.get("processor") else ""),
            ("device", text(known.get("device") or "")),
            ("model", text(model.get("name") or "")),
            ("parameters", big(finite(model.get("parameters")))),
            ("multiply-adds an example", big(finite(model.get("macs")))),
            ("input", " × ".join(text(size) for size in model.get("input") or [])),
        ]
    )
    rows = [
        tuple(text(one.get(key, ""), limit=300) for key in ("setting", "value", "reason"))
        for one in known.get("choices") or []
    ]
    rows = [(tag("span", setting, class_="option" if len(setting) < 32 else None), *rest) for setting, *rest in rows]
    chosen = table("What was chosen for this machine, and why", ("setting", "value", "reason"), rows, numbers_from=9)
    return join([about, chosen if rows else None])
