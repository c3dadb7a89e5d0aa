"""Whole batches as what is remembered, as the notes had it, beside single examples.

    python bench/review/units.py --data DIR           tune and decide, or go on where it was stopped
    python bench/review/units.py --table              the results as Markdown

MNIST at 14 x 14 pixels, an MLP, five epochs' worth of visits. `batches shuffled` ties the examples into batches once
and shuffles those: what it costs that a batch is always the same. `batches reviewed` remembers each as a whole, and
`permuted` is the control that visits batches as unevenly and knows nothing of them. Four trials of every method on a
held-out tenth of the training split, 2 seeds; decided on the test split with 5 other seeds. Every run goes to
bench/results/review_units.json when it is done. One thread.
"""

import argparse

import torch
from growing import ROOT, TRIALS, Book, Scenario, decide, read, show, tune

RESULTS = ROOT / "bench" / "results" / "review_units.json"
SCENARIO = Scenario("mnist", "all of MNIST from the beginning, five epochs' worth", "mnist", 0.3, (None,), (5,))
BATCHES = {
    "batches shuffled": tuple({"method": "shuffle", "unit": "batch", **trial} for trial in TRIALS["shuffle"]),
    "batches reviewed": tuple(
        {"method": "forgetting_curve", "unit": "batch", **trial} for trial in TRIALS["forgetting_curve"]
    ),
}
COMPARED = {name: TRIALS[name] for name in ("shuffle", "forgetting_curve")} | BATCHES
OURS = "batches reviewed"
CONTROLS = {"permuted": {"permuted": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="data", help="the folder that holds mnist/")
    parser.add_argument("--cache", default="build/review", help="where made data are kept")
    parser.add_argument("--table", action="store_true", help="show the results and run nothing")
    chosen = parser.parse_args()
    if chosen.table:
        show(SCENARIO, read(RESULTS)[SCENARIO.name], OURS, CONTROLS)
        return
    torch.set_num_threads(1)
    book = Book(SCENARIO, chosen, RESULTS, "units.py")
    tune(book, COMPARED)
    decide(book, COMPARED, OURS, CONTROLS)


if __name__ == "__main__":
    main()
