"""Whether it knows what it does not know: how sure it says it is against how often it is right."""

from engram.report.charts import figure, reliability
from engram.report.markup import Markup, tag
from engram.report.run_folder import Evaluation, Run, finite
from engram.report.words import percent

ORDER = 60
TITLE = "How far its certainty can be trusted"


def section(run: Run) -> Markup | None:
    evaluation = run.evaluation
    if evaluation is None or not any(one.get("count") for one in evaluation.summary.get("reliability") or []):
        return None
    caption = (
        "Each dot is a group of examples, larger for more of them. On the dashed line certainty is deserved; below it "
        "the network is surer than it should be, above it less sure."
    )
    drawn = figure(reliability(evaluation.summary["reliability"]), "Certainty and correctness", caption)
    return tag("div", tag("p", told(evaluation)), drawn, class_="beside")


def told(evaluation: Evaluation) -> str:
    """The diagram in a sentence."""
    bins = [one for one in evaluation.summary["reliability"] if one.get("count")]
    total = sum(one["count"] for one in bins)
    sure, right = (
        sum((finite(one.get(key)) or 0) * one["count"] for one in bins) / total for key in ("confidence", "accuracy")
    )
    error = finite(evaluation.summary.get("ece"))
    by = f" (expected calibration error {percent(error)})" if error is not None else ""
    lead = f"It says it is {percent(sure)} sure on average and is right {percent(right)} of the time"
    if abs(sure - right) < 0.02:
        return f"{lead}: its certainty can be taken at its word{by}."
    if sure > right:
        return f"{lead}: it is surer than it should be{by}. Label smoothing or fewer epochs make it more modest."
    return f"{lead}: it is less sure than it could be{by}, as label smoothing and mixed examples teach it."
