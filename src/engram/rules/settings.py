"""The course's `config` of an update rule: what is left out is filled in, what is not known is refused.

The course fills a dictionary with `setdefault`, so that a mistyped `learning_rat` is taken for a wish and the default
rate is used without a word. Here a word that no one reads is an error. The dictionary is the one that was given: state
goes into it, as in the course, and the next call finds it there.
"""

from collections.abc import Mapping
from typing import Any

from engram.errors import UserError, unknown

Config = dict[str, Any]
"""Settings and state of an update rule, by the course's names."""


def completed(config: Config | None, settings: Mapping[str, Any], state: tuple[str, ...] = ()) -> Config:
    """The configuration with defaults for what it leaves out.

    Args:
        settings: defaults by name.
        state: names that a rule keeps there from call to call.

    Raises:
        UserError: a word that is neither, or a rate that is no number of 0 or more.

    >>> completed({"momentum": 0.5}, {"learning_rate": 0.01, "momentum": 0.9})
    {'momentum': 0.5, 'learning_rate': 0.01}
    """
    config = {} if config is None else config
    for name in config:
        if name not in settings and name not in state:
            raise unknown("config", name, (*settings, *state))
    for name, value in settings.items():
        config.setdefault(name, value)
    rate = config.get("learning_rate", 0.0)
    if not rate >= 0:
        raise UserError(f"learning_rate is {rate!r}", allowed="0 or more: the minus sign stands in the rule")
    return config
