"""One shape for every message a person gets when something they gave cannot be used.

What was given, what is allowed, the nearest match, what to run next: at most five lines, exit code 2, no traceback.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


class UserError(Exception):
    """Something a person gave that cannot be used, with the way out.

    Args:
        given: what was given and why it cannot be used, one or two lines.
        allowed: what would be accepted.
        nearest: the most likely intention.
        then: a command or an action to try next.

    >>> print(UserError("model 'resnet21' is not known", nearest="resnet20", then="engram show models"))
    model 'resnet21' is not known
      did you mean: resnet20
      next: engram show models
    """

    exit_code = 2

    def __init__(
        self, given: str, *, allowed: str | None = None, nearest: str | None = None, then: str | None = None
    ) -> None:
        self.given, self.allowed, self.nearest, self.then = given, allowed, nearest, then
        super().__init__(given)

    def __str__(self) -> str:
        hints = (("allowed", self.allowed), ("did you mean", self.nearest), ("next", self.then))
        return "\n".join([self.given, *(f"  {label}: {text}" for label, text in hints if text)])


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing comes close.

    >>> nearest("resnet21", ["vgg16", "resnet20"])
    'resnet20'
    """
    known = {candidate.lower(): candidate for candidate in words}
    given = word.lower()
    close = get_close_matches(given, known, n=5, cutoff=0.55)
    if not close:
        return None
    # of equally close words the one that begins alike: resnet21 means resnet20 rather than resnet32
    best = max(close, key=lambda one: (SequenceMatcher(None, one, given).ratio(), _begins_alike(one, given)))
    return known[best]


def _begins_alike(one: str, other: str) -> int:
    """How many first letters two words share."""
    return next((index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def unknown(kind: str, word: str, words: Iterable[str], *, then: str | None = None) -> UserError:
    """The error for a name that is not among `words`: lists them where they are few, and names the nearest.

    >>> print(unknown("optimizer", "adm", ["adam", "sgd"]))
    optimizer 'adm' is not known
      allowed: adam, sgd
      did you mean: adam
    """
    words = sorted(words)
    allowed = ", ".join(words) if len(words) <= 24 else None
    return UserError(f"{kind} {word!r} is not known", allowed=allowed, nearest=nearest(word, words), then=then)
