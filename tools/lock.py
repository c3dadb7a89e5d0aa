"""Write locks/run.txt and locks/dev.txt: every package the two commands install, by exact version.

`make lock` takes the newest versions that pyproject.toml allows. torch stays where locks/run.txt has it: change that
line by hand, run `make lock`, run the tests and the benchmarks.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"

HEAD = {
    "run": """\
# What `make demo` installs: engram's dependencies and the tools that build it, each by exact version.
# Written by `make lock`; only torch's version is changed by hand.
#
# No hashes. torch 2.13.0 is a different file on PyPI, in PyTorch's CPU index and in a company's mirror, and hash
# checking is all or nothing: one list of digests would refuse two of the three. The exact versions make the
# environment the same; who needs the files verified can add them: pip-compile --generate-hashes locks/run.txt
#
# The CUDA libraries that torch brings on Linux are not listed: torch pins them itself, and a CPU build has none.
""",
    "dev": """\
# What `make test` installs beside run.txt: the test tools, the linter and the type checker.
# Written by `make lock`.
""",
}

# Which of these come with torch depends on the platform and on the index it is taken from.
WITH_TORCH = re.compile(r"nvidia-|cuda-|triton$")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    torch = re.search(r"^torch==\S+", (LOCKS / "run.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if torch is None:
        raise SystemExit("locks/run.txt does not pin torch: add a line such as torch==2.13.0")
    # hatchling needs `editables` for an editable installation and does not list it
    run = [*project["project"]["dependencies"], *project["build-system"]["requires"], "editables", torch[0]]
    dev = [*run, *project["project"]["optional-dependencies"]["dev"]]
    packages = {"run": resolve(run)}
    packages["dev"] = {name: line for name, line in resolve(dev).items() if name not in packages["run"]}
    for group, lines in packages.items():
        body = "".join(f"{line}\n" for _, line in sorted(lines.items()))
        (LOCKS / f"{group}.txt").write_text(f"{HEAD[group]}\n{body}", encoding="utf-8")
        print(f"locks/{group}.txt: {len(lines)} packages")


def resolve(requirements: list[str]) -> dict[str, str]:
    """Lower-case name to `name==version` for all that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "--quiet", "install", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), *requirements], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    rows = {item["name"].lower().replace("_", "-"): item for item in found}
    # a local label (+cpu) names one index's build; without it the version is found everywhere
    return {
        name: f"{name}=={item['version'].partition('+')[0]}"
        for name, item in rows.items()
        if not WITH_TORCH.match(name)
    }


if __name__ == "__main__":
    main()
