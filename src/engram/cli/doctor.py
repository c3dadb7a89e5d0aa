"""`engram doctor`: what this machine is, what Engram would choose on it, and whether training works here."""


def doctor() -> int:
    """Say what this machine is, what would be chosen on it, and try a short training."""
    import platform
    import shutil
    import tempfile
    from pathlib import Path

    import torch

    from engram import __version__
    from engram.recipe import Device
    from engram.training import device, peak, threads
    from engram.training.train import train

    def say(label: str, text: str) -> None:
        print(f"{label:<15}{text}", flush=True)

    say(
        "engram", f"{__version__}, Python {platform.python_version()}, torch {torch.__version__}, {platform.platform()}"
    )
    say("processor", f"{device.describe_processor()}, {threads.available_cores()} cores")
    say("memory", memory())
    say("disk", f"{shutil.disk_usage('.').free / 2**30:,.0f} GiB free here")
    machine = device.choose(Device())
    for decision in machine.decisions:
        say(decision.setting.removeprefix("device."), f"{decision.value}: {decision.reason}")
    for count in threads.candidates(threads.available_cores()):
        torch.set_num_threads(count)
        dtype = str(machine.dtype).removeprefix("torch.")
        say("peak", f"{peak.matmul_gflops(machine):,.0f} GFLOP/s of {dtype} products, {count} of the cores")
    with tempfile.TemporaryDirectory() as folder:
        run = train(model="mlp", epochs=3, output=str(Path(folder) / "run"))
        accuracy = run.evaluations["validation"]["accuracy"]
    works = run.reason == "finished" and accuracy > 0.5
    say("training", f"{'works' if works else 'DOES NOT WORK'}: digits to {100 * accuracy:.0f} % in 3 epochs")
    return 0 if works else 1


def memory() -> str:
    """What is there and what is free, where the system tells it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        total, free = (int(rows[key].split()[0]) / 2**20 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return "unknown"
    return f"{free:.1f} of {total:.1f} GiB free"
