"""All trials of the zoo: controls, unusual healthy practice, and every disease of every body at every dose.

The held-out half was looked at twice. The first look was at the seeds from 0 on. The second, after the changes that it
asked for, is at runs that nobody had seen: the same held-out bodies with seeds from `SECOND_LOOK` on, and for every
disease a held-out body on which it had not been tried.
"""

from collections.abc import Iterator

from bodies import BODIES, HELD_OUT, SECOND_LOOK, half
from diseases import DISEASES, DOSES, FRESH, MORE
from healthy import HEALTHY
from trial import Trial

CONTROL_SEEDS, HEALTHY_SEEDS, SICK_SEEDS = range(4), range(4), range(3)
AGAIN = {"controls": 4, "healthy": 2, "sick": 3}
"""How many seeds of each the second look takes."""


def controls() -> Iterator[Trial]:
    """Every body at its own settings."""
    for seed in CONTROL_SEEDS:
        for body in BODIES:
            yield Trial("control", "plain", body, seed)
    for seed in range(SECOND_LOOK, SECOND_LOOK + AGAIN["controls"]):
        for body in HELD_OUT:
            yield Trial("control", "plain", body, seed)


def healthy() -> Iterator[Trial]:
    """Every practice of its bodies."""
    for seed in (*HEALTHY_SEEDS, *range(SECOND_LOOK, SECOND_LOOK + AGAIN["healthy"])):
        for name, (bodies, settings) in HEALTHY.items():
            for body in bodies:
                if seed < SECOND_LOOK or half(body) == "held-out":
                    yield Trial("healthy", name, body, seed, **settings)


def sick() -> Iterator[Trial]:
    """Every disease of its bodies at three doses; the second look is at the clear one."""
    for seed in SICK_SEEDS:
        for name, disease in DISEASES.items():
            for body in disease.bodies:
                for dose, settings in zip(DOSES, disease.doses, strict=True):
                    yield Trial("sick", name, body, seed, dose, **settings)
            for body in MORE.get(name, ()):
                yield Trial("sick", name, body, seed, "clear", **disease.doses[1])
    for seed in range(SECOND_LOOK, SECOND_LOOK + AGAIN["sick"]):
        for name, disease in DISEASES.items():
            again = [one for one in disease.bodies if half(one) == "held-out"]
            for body in (*again, *([FRESH[name]] if name in FRESH else ())):
                yield Trial("sick", name, body, seed, "clear", **disease.doses[1])


def trials() -> list[Trial]:
    """All of them, those that decide most first: what was stopped half-way then says most of it already."""

    def turn(one: Trial) -> tuple[int, int]:
        if one.kind == "control" or one.dose == "clear":
            return 0, one.seed
        return (1 if one.kind == "healthy" and (one.seed < 2 or one.seed >= SECOND_LOOK) else 2), one.seed

    return sorted([*controls(), *healthy(), *sick()], key=turn)
