"""Running the command as a person does: a process of its own, what it printed, and the code it ended with."""

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}


def engram(*words: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """`engram WORDS` in the folder `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "engram", *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def refused(*words: object, cwd: Path) -> str:
    """The message of a command that must be refused: exit code 2, at most five lines, no traceback."""
    done = engram(*words, cwd=cwd)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    message = done.stderr.strip()
    assert message.startswith("error: "), message
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 5, message
    return message


SHORT = ("--model", "mlp", "--epochs", "2", "--device.threads", "1", "--device.precision", "float32")
"""A run of a few seconds on the embedded digits."""
