"""The disease zoo: sick networks, unusual healthy ones, and who finds what in them.

    python bench/clinic/run.py run                       carry out what is not in the results yet
    python bench/clinic/run.py run --data DIR            the same on MNIST at 8 by 8; DIR holds mnist/
    python bench/clinic/run.py judge                     ask the diagnoses as they are now of the runs measured before
    python bench/clinic/run.py cure                      carry out the remedies of the clear findings
    python bench/clinic/run.py table [--write]           docs/clinic.md's tables from bench/results/clinic_zoo.json

About a thousand networks of a second or two on scikit-learn's digits: every diagnosis that small data can show, at
three doses, of bodies in two halves (`bodies.py`), with three seeds; beside them healthy practice that looks ill
(`healthy.py`), and the bodies alone as matched controls. Whether a run is sick is for the oracles to say
(`oracles.py`), which know nothing of the clinic; the rules of four published tools are asked of the same runs
(`rivals.py`).

Thresholds are set on the calibration half and judged on the held-out one; which body stands where is in `bodies.py`.
The held-out half was looked at three times, each time at new runs (`zoo.py`); what the first two looks saw is kept in
the results as `first_look` and `second_look`. Everything is asked, also the diagnoses that run at level full, at
standard's rates.

A run that is in the results is not repeated, so what was stopped goes on. The clinic's measurements of each run are
kept in build/clinic, so that a changed threshold needs no training; a changed measurement does: delete its runs there
and in the results.
"""

import argparse
import gzip
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import score
import torch
import trial as trials
import zoo
from digits import pictures

from engram.training.device import describe_processor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "clinic.md"
SAVE_EVERY = 5


def results_file(data: str | None) -> Path:
    """Where the results are committed."""
    return RESULTS / ("clinic_zoo_mnist.json" if data else "clinic_zoo.json")


def read(path: Path) -> dict[str, Any]:
    """What is there, or the beginning of it."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"commands": [], "machine": {}, "seeds": {}, "rows": []}


def write(path: Path, results: dict[str, Any]) -> None:
    """Whole, with a line a run."""
    head = {name: value for name, value in results.items() if name != "rows"}
    text = json.dumps(head, indent=1)[:-2]
    lines = ",\n".join(json.dumps(_rounded(row), separators=(",", ":")) for row in results["rows"])
    part = path.with_suffix(".part")
    part.write_text(f'{text},\n "rows": [\n{lines}\n]\n}}\n', encoding="utf-8")
    os.replace(part, path)


def run(chosen: argparse.Namespace) -> None:
    """Carry out what is missing."""
    torch.set_num_threads(1)
    path, kept = results_file(chosen.data), Path(chosen.cache) / ("mnist" if chosen.data else "digits")
    kept.mkdir(parents=True, exist_ok=True)
    path = Path(chosen.to) if chosen.to else path
    results = read(path)
    given = pictures(f"{chosen.data}/mnist" if chosen.data else None)
    done = {row["key"] for row in results["rows"]}
    missing = [
        one for one in zoo.trials() if one.key not in done and (not chosen.only or re.search(chosen.only, one.key))
    ]
    note(results)
    begin = time.monotonic()
    for number, one in enumerate(missing, 1):
        outcome = trials.carry_out(one, given)
        with gzip.open(kept / f"{_name(one.key)}.pkl.gz", "wb", 1) as file:
            pickle.dump(outcome.history, file)
        results["rows"].append(outcome.row)
        if number % SAVE_EVERY == 0 or number == len(missing):
            write(path, results)
            print(f"{number} of {len(missing)}, {time.monotonic() - begin:.0f} s", flush=True)


def judge(chosen: argparse.Namespace) -> None:
    """The findings anew from the measurements that were kept."""
    path, kept = results_file(chosen.data), Path(chosen.cache) / ("mnist" if chosen.data else "digits")
    results, missing = read(path), 0
    for row in results["rows"]:
        measured = kept / f"{_name(row['key'])}.pkl.gz"
        missing += not measured.exists()
        if not measured.exists() or (chosen.part and score.part(row) != chosen.part):
            continue
        with gzip.open(measured, "rb") as file:
            history = pickle.load(file)
        row["findings"] = trials.judge_again(history)
    if missing:
        print(f"the measurements of {missing} runs are not in {kept}: their findings are left as they were")
    known = {one.key for one in zoo.trials()}
    results["rows"] = [row for row in results["rows"] if row["key"] in known]
    note(results)
    write(Path(chosen.to) if chosen.to else path, results)


def cure(chosen: argparse.Namespace) -> None:
    """The remedies of the clear findings, carried out."""
    import cure as cures

    torch.set_num_threads(1)
    path, kept = results_file(chosen.data), Path(chosen.cache) / ("mnist" if chosen.data else "digits")
    rows = cures.cures(zoo.trials(), kept, _name, pictures(f"{chosen.data}/mnist" if chosen.data else None))
    results = read(path)
    results["cures"] = _rounded(rows)
    note(results)
    write(path, results)
    for row in rows:
        print(row["key"], row["change"], "recovered", row["recovered"])


def table(chosen: argparse.Namespace) -> None:
    """The results as Markdown."""
    import markdown

    results = read(Path(chosen.file) if chosen.file else results_file(chosen.data))
    known = {one.key for one in zoo.trials()}
    results["rows"] = [row for row in results["rows"] if row["key"] in known]
    parts = {"diagnoses": markdown.diagnoses_known(), "results": markdown.page(results, chosen.part)}
    if not chosen.write:
        print("\n\n".join(parts.values()))
        return
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = text.index(f"<!-- {name}: begin"), text.index(f"<!-- {name}: end -->")
        first = text.index("\n", begin) + 1
        text = f"{text[:first]}\n{part}\n\n{text[end:]}"
    PAGE.write_text(text, encoding="utf-8")


def note(results: dict[str, Any]) -> None:
    """The command, the commit and the machine."""
    words, hidden = sys.argv[1:], {"--data": "DIR", "--cache": "CACHE", "--to": "FILE"}
    told = [hidden.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    results["machine"] = {
        "processor": describe_processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": 1,
        "torch": torch.__version__,
    }
    results["seeds"] = {
        "controls": list(zoo.CONTROL_SEEDS),
        "healthy": list(zoo.HEALTHY_SEEDS),
        "sick": list(zoo.SICK_SEEDS),
        "second look": [zoo.SECOND_LOOK, zoo.AGAIN],
        "third look": [zoo.THIRD_LOOK, zoo.AGAIN],
    }
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    command = shlex.join(["python", "bench/clinic/run.py", *told])
    results["commands"].append({"command": command, "commit": commit(), "at": at})


def commit() -> str:
    """Of the sources, with a mark where they were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "src/engram/clinic", "bench/clinic")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")


def _name(key: str) -> str:
    return "".join(one if one.isalnum() or one in "-_" else "_" for one in key)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="task", required=True)
    for name in ("run", "judge", "cure", "table"):
        verb = verbs.add_parser(name)
        verb.add_argument("--data", help="the folder that holds mnist/; without it, scikit-learn's digits")
        verb.add_argument("--cache", default=str(ROOT / "build" / "clinic"), help="where measurements are kept")
        if name == "run":
            verb.add_argument("--only", help="runs whose key this regular expression finds")
        if name in ("judge", "table"):
            verb.add_argument("--part", choices=score.PARTS)
        if name in ("run", "judge"):
            verb.add_argument("--to", help="another file than the results")
        if name == "table":
            verb.add_argument("--file", help="another file than the results")
            verb.add_argument("--write", action="store_true", help="into docs/clinic.md")
    chosen = parser.parse_args()
    {"run": run, "judge": judge, "cure": cure, "table": table}[chosen.task](chosen)


if __name__ == "__main__":
    main()
