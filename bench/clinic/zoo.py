"""All trials of the zoo: controls, unusual healthy practice, and every disease of every body at every dose.

The held-out half was looked at three times. The first look was at the seeds from 0 on. The second, after the changes
that it asked for, is at runs that nobody had seen: the same held-out bodies with seeds from `SECOND_LOOK` on, and for
every disease a held-out body on which it had not been tried. The third is of one disease, for the diagnosis that the
second had found wanting: new seeds again, from `THIRD_LOOK` on, and bodies that nothing had been trained of.
"""

from collections.abc import Iterator

from bodies import BODIES, FOR_THE_THIRD, HELD_OUT, SECOND_LOOK, THIRD_LOOK, half, look
from diseases import DISEASES, DOSES, FRESH, LADDERS, MORE, THIRD
from healthy import FRESH_HEALTHY, HEALTHY
from trial import Trial

CONTROL_SEEDS, HEALTHY_SEEDS, SICK_SEEDS = range(4), range(4), range(3)
AGAIN = {"controls": 4, "healthy": 2, "sick": 3}
"""How many seeds of each the second look takes, and the third."""


def again(kind: str, start: int) -> range:
    """Seeds of one kind of a later look."""
    return range(start, start + AGAIN[kind])


def controls() -> Iterator[Trial]:
    """Every body at its own settings."""
    for seed in CONTROL_SEEDS:
        for body in BODIES:
            if body not in FOR_THE_THIRD:
                yield Trial("control", "plain", body, seed)
    for seed in again("controls", SECOND_LOOK):
        for body in HELD_OUT:
            if body not in FOR_THE_THIRD:
                yield Trial("control", "plain", body, seed)
    for seed in again("controls", THIRD_LOOK):
        for body in sorted({one for bodies in THIRD.values() for one in bodies}):
            yield Trial("control", "plain", body, seed)


def healthy() -> Iterator[Trial]:
    """Every practice of its bodies."""
    for seed in (*HEALTHY_SEEDS, *again("healthy", SECOND_LOOK), *again("healthy", THIRD_LOOK)):
        for name, (bodies, settings) in HEALTHY.items():
            for body in (*bodies, *(FRESH_HEALTHY.get(name, ()) if look(seed) == 3 else ())):
                if look(seed) == 1 or half(body) == "held-out":
                    yield Trial("healthy", name, body, seed, **settings)


def sick() -> Iterator[Trial]:
    """Every disease of its bodies at three doses; the later looks are at the clear one."""
    for seed in SICK_SEEDS:
        for name, disease in DISEASES.items():
            for body in (*disease.bodies, *LADDERS.get(name, ())):
                for dose, settings in zip(DOSES, disease.doses, strict=True):
                    yield Trial("sick", name, body, seed, dose, **settings)
            for body in MORE.get(name, ()):
                yield Trial("sick", name, body, seed, "clear", **disease.doses[1])
    for seed in again("sick", SECOND_LOOK):
        for name, disease in DISEASES.items():
            before = [one for one in disease.bodies if half(one) == "held-out"]
            for body in (*before, *([FRESH[name]] if name in FRESH else ())):
                yield Trial("sick", name, body, seed, "clear", **disease.doses[1])
    for seed in again("sick", THIRD_LOOK):
        for name, bodies in THIRD.items():
            for body in bodies:
                yield Trial("sick", name, body, seed, "clear", **DISEASES[name].doses[1])


def trials() -> list[Trial]:
    """All of them, those that decide most first: what was stopped half-way then says most of it already."""

    def turn(one: Trial) -> tuple[int, int]:
        if one.kind == "control" or one.dose == "clear":
            return 0, one.seed
        return (1 if one.kind == "healthy" and (one.seed < 2 or one.seed >= SECOND_LOOK) else 2), one.seed

    return sorted([*controls(), *healthy(), *sick()], key=turn)
