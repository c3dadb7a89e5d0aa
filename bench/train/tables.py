"""What a results file says, as Markdown: medians over rounds, ratios within rounds, shares of the measured peak."""

from statistics import mean, median, stdev
from typing import Any

CLOCKS = {"one thread": "cpu", "all threads": "wall"}
OURS = "Engram, as it comes"
PEAK = 6  # floating-point operations of training, a multiply-add of the forward pass


def rate(row: dict[str, Any], clock: str) -> float:
    """Images a second of one program's turn."""
    return row["images"] / row[clock]


def round_line(row: dict[str, Any], clock: str) -> str:
    """A round in one line, for the console."""
    parts = [f"{name} {rate(turn, clock):,.0f}" for name, turn in sorted(row["programs"].items())]
    return "; ".join(parts) + f" (load {row['load']:.1f})"


def rates(rounds: list[dict[str, Any]], name: str, clock: str) -> list[float]:
    """Images a second of a program in every round in which it had a turn."""
    return [rate(row["programs"][name], clock) for row in rounds if name in row["programs"]]


def ratios(rounds: list[dict[str, Any]], name: str, clock: str) -> list[float]:
    """How many times as fast Engram was in each round as the program of that name in the same round."""
    both = [row["programs"] for row in rounds if name in row["programs"] and OURS in row["programs"]]
    return [rate(programs[OURS], clock) / rate(programs[name], clock) for programs in both]


def precision(name: str, choices: dict[str, Any]) -> str:
    """What the multiplications of a row are in, and so which peak it is held against."""
    if "dtype" in choices.get(name, {}):
        return choices[name]["dtype"]
    return "bfloat16" if name.endswith("fast") else "float32"


def table(results: dict[str, Any]) -> str:
    """The whole comparison of one workload."""
    workload, here = results["workload"], results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
    names = rows(results)
    titles = ["program"]
    columns = [names]
    for setting, clock in CLOCKS.items():
        rounds = results["speed"].get(setting, [])
        if not rounds:
            continue
        unit = "images a CPU-second, 1 thread" if clock == "cpu" else f"images a second, {here['cores']} threads"
        titles += [unit, "Engram is", "of the peak"]
        columns += speed_columns(results, names, setting, clock)
    if results["accuracy"]:
        titles += ["test accuracy", "training, CPU s"]
        columns += accuracy_columns(results, names)
    lines = [f"### {workload['name']}", ""]
    lines.append(f"{workload['parameters']:,} parameters, {workload['macs']:,} multiply-adds an image, batch 128. ")
    lines[-1] += f"{here['cores']} cores of {here['processor']}, {here['memory_gib']} GiB; {versions}."
    lines += ["", "| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    lines += ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    return "\n".join([*lines, "", *headlines(results), ""])


def rows(results: dict[str, Any]) -> list[str]:
    """The programs that have any result, Engram first, documented before fast."""
    seen = {name for rounds in results["speed"].values() for row in rounds for name in row["programs"]}
    seen |= {row["program"] for row in results["accuracy"]}
    order = ["Engram", "PyTorch", "Lightning", "fastai", "Keras"]
    forms = ["as it comes", "float32", "documented", "fast"]

    def place(name: str) -> tuple[int, int]:
        program, _, form = name.partition(", ")
        return order.index(program), forms.index(form)

    return sorted(seen, key=place)


def speed_columns(results: dict[str, Any], names: list[str], setting: str, clock: str) -> list[list[str]]:
    """Rate, how many times as fast Engram is, and the share of the peak, for every row."""
    rounds, choices = results["speed"][setting], results.get("choices", {}).get(setting, {})
    flops = PEAK * results["workload"]["macs"]
    found: list[list[str]] = [[], [], []]
    for name in names:
        measured = rates(rounds, name, clock)
        if not measured:
            for column in found:
                column.append("")
            continue
        kind = precision(name, choices)
        peak = max(row["peak"][kind][clock] for row in rounds) * 1e9
        times = ratios(rounds, name, clock)
        found[0].append(f"{median(measured):,.0f}")
        found[1].append(
            f"{median(times):.2f}x ({min(times):.2f} to {max(times):.2f})" if times and name != OURS else ""
        )
        found[2].append(f"{100 * median(measured) * flops / peak:.1f} % of {kind}")
    return found


def accuracy_columns(results: dict[str, Any], names: list[str]) -> list[list[str]]:
    """Mean test accuracy with its deviation over seeds, and the CPU time of a training; each program's longest."""
    found: list[list[str]] = [[], []]
    for name in names:
        own = [row for row in results["accuracy"] if row["program"] == name]
        longest = max((row["epochs"] for row in own), default=0)
        done = [row for row in own if row["epochs"] == longest]
        values = [100 * row["accuracy"] for row in done]
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        found[0].append(f"{mean(values):.2f}{spread} % ({longest} epochs, n = {len(values)})" if values else "")
        times = [row["cpu"] for row in done if "machine" not in row]  # one that says its machine ran on another
        found[1].append(f"{median(times):,.0f}" if times else "")
    return found


def headlines(results: dict[str, Any]) -> list[str]:
    """Engram against the fastest of the others in either form."""
    lines = []
    for setting, clock in CLOCKS.items():
        rounds = results["speed"].get(setting, [])
        for form in ("documented", "fast"):
            medians = {
                name: median(found)
                for name in rows(results)
                if name.endswith(form) and (found := rates(rounds, name, clock)) and ratios(rounds, name, clock)
            }
            if medians:
                best = max(medians, key=lambda name: medians[name])
                times = ratios(rounds, best, clock)
                lines.append(
                    f"- {setting}, against the fastest {form} form ({best.partition(',')[0]}): "
                    f"**{median(times):.2f}x** (rounds {min(times):.2f} to {max(times):.2f}, n = {len(times)})"
                )
    return lines
