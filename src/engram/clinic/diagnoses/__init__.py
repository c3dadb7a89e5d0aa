"""One file a diagnosis, found by the registry: a pure function from the history of measurements to findings.

    @register("diagnosis", paper="Nobody 2026, section 1", year=2026, when="before", level="quick",
              causes=("lr_too_high",))
    def loss_at_start(history: History) -> list[Finding]: ...

The module's docstring is its card: the sign looked for and its formula; why it matters; sick and healthy networks; what
it cannot see; the source. Every threshold is a named constant with its source beside it, and is among `seen`. A
diagnosis that has not what it needs (too few moments, no labels) returns an empty list.

Facts:
    when: `before` (once, on the untrained network), `during` (after every moment that has more than a loss), or `after`
        (once, when training ends).
    level: the lowest of `quick`, `standard` and `full` at which it runs.
    of_trained: whether a check of `before` also says something of a network that was trained already.
    causes: the diagnoses that it may be the cause of.
    measure: where the common measurements do not do, a function `(Subject) -> Mapping | None` that measures on copies
        of the network; its result is `history.own(name)`. It runs with torch's generators put back afterwards. None:
        it does not apply to this network.
"""
