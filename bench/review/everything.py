"""Everything that docs/review_results.md says of what review is worth, measured anew by one command.

    python bench/review/everything.py --data DIR              begin, or go on where it was stopped
    python bench/review/everything.py --list                  the commands it runs

It takes about a day and a half of one core. The results in bench/results/ are set aside first, in the cache folder, so
that no figure is taken over from them; what is measured then takes their place, and `git diff` shows what came out
otherwise. A command that is over is not run again; one that was stopped goes on after the runs that it has finished.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[0] / "results"

COMMANDS = """
run.py tune mnist --only shuffle infobatch order_dp repb forgetting_curve auto
run.py decide mnist --only shuffle infobatch order_dp repb forgetting_curve --budgets 0.5 0.25
run.py decide mnist --only shuffle infobatch order_dp forgetting_curve --budgets 1.0
run.py decide mnist --only shuffle infobatch forgetting_curve --budgets 0.75
run.py decide mnist --again auto --only shuffle infobatch auto --controls --budgets 0.5 0.25 0.75
run.py decide mnist --again auto --only shuffle auto --controls --budgets 1.0
run.py decide mnist-again --tuned mnist --budgets 1.0 --first-seed 5 --only shuffle forgetting_curve \
--controls permuted
run.py ablate mnist --seeds 3
run.py ablate mnist --seeds 6 --changes "floor 0.02" "save 0.8" "save 0.8, floor 0.02"
run.py ablate mnist --seeds 6 --changes "window 0.25" "window 0.1"
run.py ablate mnist --at 1 --seeds 6 --changes "save auto" "save auto, not asked"
run.py tune mnist --only leitner repeat_before_forgetting rs2 seta selective_backprop self_paced
run.py tune mnist --only dynamic_random el2n forgetting_events
run.py decide mnist-others --tuned mnist --budgets 0.5 --only shuffle forgetting_curve
run.py decide mnist-others --tuned mnist --budgets 0.5 --only leitner repeat_before_forgetting rs2 seta \
selective_backprop self_paced
run.py decide mnist-pruned --tuned mnist --budgets 0.5 --controls permuted \
--only shuffle dynamic_random el2n forgetting_events forgetting_curve
run.py decide mnist-pruned --tuned mnist --budgets 0.4 --controls --only shuffle el2n
run.py decide mnist-wrong20 --tuned mnist --only shuffle infobatch forgetting_curve auto
run.py decide mnist-wrong20 --tuned mnist --budgets 0.25 0.75 1.0 --only shuffle --controls "not suspended" \
"permuted, not suspended" "no forgetting, not suspended"
run.py decide mnist-wrong20-others --tuned mnist --budgets 0.5 --only shuffle forgetting_curve --controls \
"not suspended"
run.py ablate mnist-wrong20 --seeds 6 --changes "save auto" "save auto, rate 2" shuffle "shuffle, rate 1"
run.py decide mnist-wrong40 --tuned mnist --only shuffle infobatch forgetting_curve auto \
--controls permuted "no forgetting" "not suspended"
run.py decide mnist-wrong40 --tuned mnist --budgets 1.0 --only shuffle \
--controls "permuted, not suspended" "no forgetting, not suspended"
run.py tune digits
run.py decide digits --only shuffle infobatch order_dp repb seta leitner repeat_before_forgetting rs2 \
selective_backprop self_paced forgetting_curve
run.py decide digits --again auto --only shuffle infobatch auto --controls
run.py tune cifar10-lenet --only shuffle infobatch order_dp repb forgetting_curve auto
run.py decide cifar10-lenet --only shuffle infobatch order_dp repb forgetting_curve --budgets 0.5 0.25
run.py decide cifar10-lenet --only shuffle infobatch forgetting_curve --budgets 0.75
run.py decide cifar10-lenet --only shuffle infobatch forgetting_curve auto --budgets 1.0
run.py decide cifar10-lenet --again auto --only shuffle infobatch auto --controls --budgets 0.5 0.25
run.py decide cifar10-lenet --again auto --only shuffle auto --controls --budgets 0.75
run.py ablate cifar10-lenet --changes "save auto" --seeds 6
run.py tune cifar10-lenet --only seta leitner repeat_before_forgetting rs2 selective_backprop self_paced \
dynamic_random el2n forgetting_events
run.py decide cifar10-lenet-others --tuned cifar10-lenet --budgets 0.5 --controls permuted --only shuffle seta leitner \
repeat_before_forgetting rs2 selective_backprop self_paced dynamic_random el2n forgetting_events forgetting_curve
run.py decide cifar10-lenet-tail --tuned cifar10-lenet --budgets 0.5 0.25 \
--only shuffle infobatch order_dp forgetting_curve
run.py decide cifar10-lenet-tail --tuned cifar10-lenet --budgets 0.75 --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-lenet-tail --tuned cifar10-lenet --budgets 1.0 --only shuffle infobatch forgetting_curve
run.py decide cifar10-lenet-tail --again auto --tuned cifar10-lenet --budgets 0.25 0.5 1.0 \
--only shuffle infobatch auto --controls
run.py ablate cifar10-lenet-tail --changes "class quotas" "not suspended" --seeds 5
run.py ablate cifar10-lenet-tail --changes "save auto" "save auto, not asked" --seeds 6
run.py decide cifar10-lenet-wrong20 --tuned cifar10-lenet --only shuffle infobatch forgetting_curve
run.py decide cifar10-lenet-wrong20 --again auto --tuned cifar10-lenet --only shuffle auto --controls
run.py decide cifar10-lenet-wrong40 --tuned cifar10-lenet --budgets 0.5 0.25 --only shuffle infobatch forgetting_curve
run.py decide cifar10-lenet-wrong40 --again auto --tuned cifar10-lenet --budgets 0.5 0.25 --only shuffle auto --controls
run.py decide cifar10-lenet-wrong40 --tuned cifar10-lenet --budgets 0.75 1.0 --only shuffle infobatch forgetting_curve \
auto
run.py decide cifar10-16 --tuned cifar10-lenet --budgets 0.5 --only shuffle infobatch --controls
run.py decide cifar10-16 --tuned cifar10-lenet --budgets 0.5 --only forgetting_curve --controls permuted
run.py tune cifar10-16-rates --only shuffle infobatch forgetting_curve auto
run.py tune cifar10-16-rates --further --tuned cifar10-16-rates --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-16-rates --budgets 0.5 0.25 0.75 --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-16-rates --budgets 1.0 --only shuffle infobatch forgetting_curve auto --controls permuted
run.py tune cifar10-three --only shuffle infobatch forgetting_curve auto
run.py tune cifar10-three --further --tuned cifar10-three --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-three --budgets 0.5 0.25 0.75 --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-three --budgets 1.0 --only shuffle infobatch forgetting_curve auto --controls permuted
run.py decide cifar10-three-wide --tuned cifar10-three --budgets 0.25 0.5 0.75 \
--only shuffle infobatch forgetting_curve auto --controls permuted
run.py decide cifar10-three-wide --tuned cifar10-three --budgets 1.0 \
--only shuffle infobatch forgetting_curve auto --controls
run.py ablate cifar10-three --seeds 3 --changes "save auto" "save auto, not asked"
run.py ablate cifar10-three --seeds 3 --changes "save 0.3" "last phase 0.25" "rate 3" "floor 0.25" "exponent 1" \
"window 0.25" "save auto, not asked, rate 3"
run.py tune cifar10-10k-vgg --only shuffle forgetting_curve "auto, not asked" infobatch order_dp
run.py decide cifar10-10k-vgg --budgets 0.5 --only shuffle infobatch order_dp forgetting_curve
run.py decide cifar10-10k-vgg --budgets 1.0 --only shuffle "auto, not asked"
run.py ablate cifar10-10k-vgg --seeds 3 --changes "save auto, not asked" "rate 3" "save auto, not asked, rate 3" \
"save auto, not asked, retention 0.95" "exponent 1" "floor 0.25" "save 0.3" "last phase 0.25" permuted shuffle
run.py ablate cifar10-10k-vgg --seeds 6 --changes "save auto, not asked, retention 0.95, rate 3" shuffle
run.py ablate cifar10-10k-vgg --at 1 --seeds 3 --changes "save auto" "save auto, not asked"
run.py tune cifar10-10k-vgg-rates --further --tuned cifar10-10k-vgg --only shuffle infobatch forgetting_curve \
"auto, not asked"
run.py decide cifar10-10k-vgg-rates --budgets 0.5 --only shuffle infobatch forgetting_curve
run.py decide cifar10-10k-vgg-rates --budgets 0.25 0.75 --only shuffle infobatch forgetting_curve "auto, not asked"
run.py decide cifar10-10k-vgg-rates --again auto --budgets 0.5 1.0 --controls --only shuffle "auto, not asked"
run.py tune cifar10-10k-vgg-others --only shuffle infobatch forgetting_curve auto
run.py decide cifar10-10k-vgg-others --only shuffle infobatch forgetting_curve auto --controls permuted
run.py ablate cifar10-10k-vgg-others --at 0.75 --seeds 6 --changes "save auto" "save auto, not asked" shuffle
growing.py all fine-tuning
growing.py all fine-tuning-short
growing.py all classes
growing.py all examples
growing.py all cifar10
growing.py ideas fine-tuning
growing.py ideas fine-tuning-short
growing.py ideas classes
growing.py ideas examples
growing.py explain cifar10
growing.py paced cifar10
units.py
streams.py all digits
streams.py all mnist
streams.py all mnist-domains
streams.py all cifar10
streams.py decide cifar10-wrong20
streams.py decide cifar10-wrong40
streams.py decide cifar10-tail
retention.py mnist --seeds 0
retention.py cifar10-16 --seeds 0
retention.py cifar10-lenet --seeds 0
retention.py cifar10-lenet-tail --seeds 0
retention.py cifar10-10k-vgg --seeds 0 1 2
absence.py measure digits
absence.py measure mnist
absence.py measure mnist-wrong40 --tuned mnist
absence.py measure cifar10-lenet
absence.py measure cifar10-lenet-tail --tuned cifar10-lenet
absence.py measure cifar10-10k-vgg --tuned mnist --rate 2
absence.py measure cifar10-10k-vgg --tuned mnist --rate 3
memories.py measure digits mnist cifar10-lenet
told_apart.py
ledger_cost.py
"""
"""In an order in which each finds the settings that it needs; two seeds of every trial, five of every decision."""


def commands() -> list[list[str]]:
    """Every command as words, the name of its script first."""
    return [shlex.split(line) for line in COMMANDS.replace("\\\n", "").split("\n") if line]


def line(words: list[str], data: str, cache: str) -> list[str]:
    """What is run: the command with its folders."""
    own = {"told_apart.py": [cache], "ledger_cost.py": ["--to", str(RESULTS / "review_ledger_cost.json")]}
    folders = own.get(words[0], ["--data", data, "--cache", cache])
    return [sys.executable, str(HERE / words[0]), *words[1:], *folders]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
    parser.add_argument("--cache", default="build/review", help="where made data, studies and earlier results are kept")
    parser.add_argument("--list", action="store_true", help="show the commands and run none")
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(shlex.join(["python", f"bench/review/{words[0]}", *words[1:]]) for words in commands()))
        return
    cache = Path(chosen.cache)
    over = cache / "over.txt"
    if not over.exists():
        set_aside(cache / "before")
        over.write_text("", encoding="utf-8")
    done = over.read_text(encoding="utf-8").splitlines()
    for words in commands():
        told = shlex.join(words)
        if told in done:
            continue
        print(told, flush=True)
        if code := subprocess.run(line(words, chosen.data, chosen.cache)).returncode:
            sys.exit(f"error: {told} ended with code {code}\n  next: the same command goes on from here")
        with over.open("a", encoding="utf-8") as file:
            file.write(told + "\n")


def set_aside(folder: Path) -> None:
    """Move the results of earlier measurements there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(RESULTS.glob("review_*.json")):
        if path.name != "review_sequences.json":  # of `engram compare`; the file names its commands
            shutil.move(path, folder / path.name)


if __name__ == "__main__":
    main()
