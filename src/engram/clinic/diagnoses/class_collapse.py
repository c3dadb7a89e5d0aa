"""One-class collapse: nearly every image gets the same answer.

    share of the predictions that the favourite class gets,  against the share of the labels that it has

An untrained network often answers one class for everything, so it is looked at only after a fifth of the run, three
measurements running. Collapsed is a network whose favourite gets over 0.9 of the answers and less than half of the
labels; leaning, one whose favourite gets more than twice what it has. Mostly something else came before: dead units, a
rate too high, decay that leaves only the last bias, classes that differ much in number.

Sick: 95 examples of one class to 5 of the others and a network that answers the first. Healthy: shares that follow the
labels, and an untrained network.

Who foresees tokens and knows their shares alone gives the commonest to everything, and is right to. Every such network
begins so, so that it is asked later, of a collapse alone, and warns.

What it cannot see: two classes that were exchanged, and a collapse of some classes only, which the confusion matrix
has.

Buda, Maki and Mazurowski 2018, arXiv:1710.05381, section 2; SageMaker Debugger's Confusion rule looks at the same
matrix.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, persists
from engram.clinic.signals import changed_rate, may_know_shares_alone
from engram.registry import register

LEANING = 2.0
"""Times the share of the labels."""

OVER = 0.1
"""And so much more than that share: with many classes twice little is little."""

COLLAPSED = 0.9
"""Share of the predictions."""

MINORITY = 0.5
"""Share of the labels under which the favourite is no majority."""

TIMES = 3

WAITED = 0.2
"""Share of the run, or `STEPS` where its length is not known."""

STEPS = 100


@register(
    "diagnosis",
    paper="Buda, Maki and Mazurowski 2018, section 2",
    year=2018,
    when="during",
    level="quick",
    causes=("underfitting",),
)
def class_collapse(history: History) -> list[Finding]:
    """Nearly every image gets the same answer."""

    tokens = bool(history.setup.sequences)

    def has_waited(moment: Moment) -> bool:
        if may_know_shares_alone(history, moment.step):
            return False
        progress = history.progress(moment.step)
        return moment.step >= STEPS if progress is None else progress >= WAITED

    seen = (one for one in history.moments if one.probe is not None and one.probe.predicted)
    moments = tuple(one for one in seen if has_waited(one))
    if len(moments) < TIMES:
        return []

    def leans(moment: Moment) -> bool:
        share, given = _favourite(moment)
        return share > LEANING * given and share > given + OVER

    def collapsed(moment: Moment) -> bool:
        share, given = _favourite(moment)
        return share > COLLAPSED and given < MINORITY

    critical = persists(moments, collapsed, times=TIMES, of=TIMES)
    if not critical and (tokens or not persists(moments, leans, times=TIMES, of=TIMES)):
        return []
    probe = moments[-1].probe
    if probe is None:
        return []
    share, given = _favourite(moments[-1])
    favourite = probe.predicted.index(share)
    names = [str(one) for one in history.setup.data.get("classes", ())]
    name = names[favourite] if favourite < len(names) else f"class {favourite}"
    return [
        Finding(
            "class_collapse",
            "critical" if critical and not tokens else "warning",
            f"{100 * share:.0f} % of the answers are {name}, which is {100 * given:.0f} % of the labels",
            means="the network knows how common each token is, and nothing of what came before"
            if tokens
            else "the answer hardly depends on the image"
            if critical
            else "the network prefers this class beyond what the data give",
            remedy=Remedy(
                "look at the causes found; else a third of the rate, and classes weighed by how rare they are",
                changed_rate(history, 1 / 3),
            ),
            refuted_by="another batch, in the order of the data, on which the answers are spread",
            confidence=0.9 if critical else 0.6,
            step=moments[-1].step,
            seen={
                "class": favourite,
                "predicted": share,
                "given": given,
                "collapsed": COLLAPSED,
                "leaning": LEANING,
            },
        )
    ]


def _favourite(moment: Moment) -> tuple[float, float]:
    """(share of the predictions, share of the labels) of the class that is predicted most."""
    if moment.probe is None:
        return 0.0, 1.0
    share = max(moment.probe.predicted)
    place = moment.probe.predicted.index(share)
    # of the very examples that were answered: sixty of them may well hold twice a class's share
    return share, moment.probe.labelled[place] if place < len(moment.probe.labelled) else 0.0
