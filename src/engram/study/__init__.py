"""The study: arms x seeds, paired, and the only way anything here is compared.

    import engram
    study = engram.study(vary={"optimizer": ["sgd", "adam"]}, seeds=5, data="digits", model="mlp", epochs=3)
    for verdict in study.verdicts: print(verdict)

An arm is a set of settings laid over the base recipe. Every arm is run with the same seeds, and a seed decides the
initial weights, the split and the order, so that arms are compared seed by seed: what a lucky split gives to all of
them falls out of the difference. One idea a file:

    arms.py        what is compared             statistics.py  intervals, tests, what could have been seen
    measures.py    by which figure              power.py       ... before which nothing can be concluded
    plan.py        the study as a file          verdicts.py    the sentence for each arm
    budget.py      who gets how much            table.py       one row a run
    examples.py    who is judged on which       page.py        study.html
    pilot.py       what a step takes            study.py       all of it in order
    workers.py     processes that run runs

The package can be called: `engram.study(...)` is `engram.study.study.study(...)`.
"""

import sys

from engram.called import CalledPackage

CALLED = "engram.study.study:study"

sys.modules[__name__].__class__ = CalledPackage
