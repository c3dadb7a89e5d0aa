"""Running the command within the tests' own process: the same words, the same messages, and no start of Python each."""

import pytest

from engram.cli import app


def engram(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """`engram WORDS`: the code it ends with, and what it printed on standard output and standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        app.main([str(word) for word in words])
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


def done(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command printed that must succeed."""
    code, out, err = engram(capsys, *words)
    assert (code, err) == (0, ""), (code, out, err)
    return out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The message of a command that must be refused: exit code 2, at most five lines, nothing else printed."""
    code, out, err = engram(capsys, *words)
    message = err.strip()
    assert code == 2, (code, out, err)
    assert message.startswith("error: "), message
    assert len(message.splitlines()) <= 5, message
    assert "Traceback" not in message
    assert out == ""
    return message
