"""All trials of the zoo: controls, unusual healthy practice, and every disease of every body at every dose."""

from collections.abc import Iterator

from bodies import BODIES, half  # noqa: F401
from diseases import DISEASES, DOSES
from healthy import HEALTHY
from trial import Trial

CONTROL_SEEDS, HEALTHY_SEEDS, SICK_SEEDS = range(4), range(4), range(3)


def controls() -> Iterator[Trial]:
    """Every body at its own settings."""
    return (Trial("control", "plain", body, seed) for seed in CONTROL_SEEDS for body in BODIES)


def healthy() -> Iterator[Trial]:
    """Every practice of its bodies."""
    for seed in HEALTHY_SEEDS:
        for name, (bodies, settings) in HEALTHY.items():
            for body in bodies:
                yield Trial("healthy", name, body, seed, **settings)


def sick() -> Iterator[Trial]:
    """Every disease of its bodies at three doses."""
    for seed in SICK_SEEDS:
        for name, disease in DISEASES.items():
            for body in disease.bodies:
                for dose, settings in zip(DOSES, disease.doses, strict=True):
                    yield Trial("sick", name, body, seed, dose, **settings)


def trials() -> list[Trial]:
    """All of them, those that decide most first: what was stopped half-way then says most of it already."""

    def turn(one: Trial) -> tuple[int, int]:
        if one.kind == "control" or one.dose == "clear":
            return 0, one.seed
        return (1 if one.kind == "healthy" and one.seed < 2 else 2), one.seed

    return sorted([*controls(), *healthy(), *sick()], key=turn)
