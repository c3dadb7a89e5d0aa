"""How far two groups of losses stand apart at the end of every run of the studies, and who is suspected.

    python bench/review/told_apart.py CACHE [CACHE ...]       folders that run.py kept studies and made data in

Where labels were replaced (`..._wrong40.npz` beside its clean set) it says what share of the suspects was labelled
wrongly, and what share of the wrong labels was suspected; for a long tail, how often the examples of every class came,
over the average. Ranges over the runs of an arm go to bench/results/review_told_apart.json.
"""

import argparse
import json
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from run import RESULTS, commit

from engram.review import export
from engram.review.suspects import VISITS, suspects, two_groups


def look(run: Path) -> dict[str, list[float]] | None:
    """One run; none where no example came often enough, or it left no ledger."""
    path = run / "ledger.parquet"
    if not path.exists():
        return None
    ledger, table = export.read(path), pq.read_table(path, columns=["name", "label"])
    judged = ledger.visits >= VISITS
    if not bool(judged.any()):
        return None
    labels = torch.tensor(table["label"].to_numpy())
    told = {"apart": [two_groups(ledger.smoothed[judged])[1]]}
    found = suspects(ledger, labels)
    told["suspected"] = [float(found.double().mean())]
    data = Path(tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))["data"]["path"])
    if "_wrong" in data.name:
        places = [int(name.partition("[")[2][:-1]) for name in table["name"].to_pylist()]
        clean = np.load(data.with_name(data.name.partition("_wrong")[0] + ".npz"))["y_train"][places]
        wrong = labels != torch.tensor(clean)
        if bool(found.any()):
            told["of the suspects wrong"] = [float(wrong[found].double().mean())]
        told["of the wrong suspected"] = [float(found[wrong].double().mean())]
    if "_tail" in data.name:
        visits = ledger.visits.double()
        told["visits by class"] = (torch.bincount(labels, visits) / torch.bincount(labels) / visits.mean()).tolist()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("caches", nargs="+", type=Path)
    results: dict[str, dict[str, dict[str, object]]] = {}
    for study in sorted(path for cache in parser.parse_args().caches for path in (cache / "studies").iterdir()):
        arms: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        for run in sorted((study / "runs").iterdir()):
            for key, values in (look(run) or {}).items():
                arms[run.name.rpartition("-seed")[0]][key].append(values)
        results[study.name] = {
            arm: {"runs": len(told["apart"])}
            | {
                key: np.mean(rows, 0).round(3).tolist()
                if key == "visits by class"
                else [round(min(rows)[0], 4), round(max(rows)[0], 4)]
                for key, rows in told.items()
            }
            for arm, told in arms.items()
        }
        print(study.name, sum(one["runs"] for one in results[study.name].values()), flush=True)
    told = {"command": "python bench/review/told_apart.py CACHE", "commit": commit(), "studies": results}
    (RESULTS / "review_told_apart.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
