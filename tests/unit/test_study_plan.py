"""What is compared, in which order and with what: arms, the plan as a file, and everything that is refused."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest

from engram import recipe as recipes
from engram.errors import UserError
from engram.study import arms, budget, measures, plan
from engram.study import study as studying
from engram.study.arms import Arm
from engram.study.budget import Cost


def make(vary=None, named=(), **changes):
    given = {
        "seeds": 3, "measure": "validation.accuracy", "judged": "final", "equal": None, "baseline": None,
        "threads": 1, "margin": None, "target": None,
    } | changes  # fmt: skip
    base = given.pop("base", recipes.Recipe())
    vary = {"optimizer": ["sgd", "adam"]} if vary is None else vary
    return plan.make(base, [*arms.combinations(vary), *named], **given)


def cost(**changes):
    usual = Cost(1000, 100, 100, 100, 10, 3.0, "a", step_seconds=0.1, judge_seconds=0.0)
    return replace(usual, **changes)


def test_every_combination_is_an_arm():
    names = [arm.name for arm in arms.combinations({"optimizer": ["sgd", "adam"], "epochs": [5, 10]})]
    assert names == ["sgd, epochs=5", "sgd, epochs=10", "adam, epochs=5", "adam, epochs=10"]


def test_names_of_arms_are_short_and_tell_them_apart():
    of = {
        "optimizer": [{"name": "sgd", "lr": 0.2}],
        "optimizer.lr": [0.1],
        "augment": [["crop:4", "flip"]],
        "model.name": ["mlp"],
    }
    name = arms.combinations(of)[0].name
    assert name == "sgd lr=0.2, lr=0.1, augment=crop:4,flip, mlp"
    assert arms.combinations({"optimizer": [recipes.Choice("sgd", {"lr": 0.2})]})[0].settings == {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.2,
    }


def test_folders_of_arms_can_be_written_anywhere():
    assert Arm('a, b/c: "d"', {}).folder == "a-b-c-d"
    assert Arm("...", {}).folder == "arm"


def test_words_of_the_command_line():
    assert arms.parse_vary(["optimizer=sgd, adam", "--augment=crop:4,flip;none"]) == {
        "optimizer": ["sgd", "adam"],
        "augment": ["crop:4,flip", "none"],
    }
    assert arms.parse_arms(["long run: epochs=9 augment=crop:1,flip"]) == [
        Arm("long run", {"epochs": "9", "augment": "crop:1,flip"})
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arms.parse_vary(["optimizer"]), "names no values"),
        (lambda: arms.parse_vary(["a=1", "a=2"]), "a is varied twice"),
        (lambda: arms.parse_arms(["epochs=5"]), "has no name"),
        (lambda: arms.parse_arms(["a: epochs"]), "is not setting=value"),
        (lambda: arms.combinations({"optimizer": "sgd"}), "over a list of values"),
        (lambda: arms.combinations({"optimizer": []}), "over no values"),
        (lambda: make({"optimizer": ["sgd"]}), "two arms or more, not 1"),
        (lambda: make({}), "two arms or more, not 0"),
        (lambda: make(named=[Arm("sgd", {"epochs": 1})]), "'sgd' is there twice"),
        (lambda: make(named=[Arm("SGD", {"epochs": 1})]), "read alike"),
        (lambda: make(named=[Arm("same", {"optimizer": "adam"})]), "'adam' and 'same' are the same"),
        (lambda: make({"seed": [1, 2]}), "seed cannot differ between arms"),
        (lambda: make({"output": ["a", "b"]}), "output cannot differ"),
        (lambda: make({"device.threads": [1, 2]}), "device.threads cannot differ"),
        (lambda: make({"optimiser": ["sgd", "adam"]}), "there is no setting 'optimiser'"),
        (lambda: make(seeds=0), "0 seeds cannot be"),
        (lambda: make(seeds=10**12), "1000000000000 seeds cannot be"),
        (lambda: make(seeds=[1, 1]), "given twice"),
        (lambda: make(seeds=[-1]), "seeds cannot be"),
        (lambda: make(measure="validation.acuracy"), "measure 'validation.acuracy' is not known"),
        (lambda: make(measure="train.ece"), "is not known"),
        (lambda: make(judged="last"), "is not known"),
        (lambda: make(equal="time"), "is not known"),
        (lambda: make(baseline="adamw"), "baseline 'adamw' is not known"),
        (lambda: make(margin=0.0), "a margin of 0 cannot be"),
        (lambda: make(target=98), "a target of 98 cannot be"),
        (lambda: studying.prepare({"optimizer": ["sgd", "adam"]}, jobs=0), "0 jobs cannot be"),
    ],
)
def test_what_is_no_study_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings", "near"),
    [({"sedes": 2}, "seeds"), ({"arm": {}}, "arms"), ({"targt": 0.9}, "target"), ({"epocs": 2}, "epochs")],
)
def test_a_mistyped_argument_is_told_of_the_arguments_as_of_the_settings(settings, near):
    with pytest.raises(UserError) as refused:
        studying.study({"optimizer": ["sgd", "adam"]}, **settings)
    assert (refused.value.nearest, refused.value.then) == (near, "engram compare --help lists them")


def test_a_refusal_names_the_nearest():
    with pytest.raises(UserError) as refused:
        make(measure="validation.acuracy")
    assert refused.value.nearest == "validation.accuracy"


def test_too_many_seeds_are_refused_with_how_many_there_may_be():
    with pytest.raises(UserError) as refused:
        make(seeds=20_000)
    assert refused.value.allowed == "1 to 10,000; 5 or more show something"


def test_a_plan_comes_back_from_its_file(tmp_path):
    base = recipes.build({"model": "mlp", "optimizer.lr": "0.05", "augment": "crop:1,flip", "seed": 4})
    one = make(
        {"optimizer": ["sgd", {"name": "adam", "lr": 1e-5}], "augment": [["flip"], "none"]},
        base=base, margin=0.002, target=0.9, equal="steps", baseline="adam lr=1e-05, augment=none", judged="best",
    )  # fmt: skip
    path = tmp_path / "study.toml"
    path.write_text(plan.dumps(one), encoding="utf-8")
    again = plan.load(path)
    assert plan.dumps(again) == plan.dumps(one)
    assert replace(again, arms=()) == replace(one, arms=())
    for arm, other in zip(one.arms, again.arms, strict=True):
        assert again.recipe(other, 7, "x") == one.recipe(arm, 7, "x")
    assert set(tomllib.loads(path.read_text())) >= {"seeds", "measure", "margin", "arms", "base", "baseline"}


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    for content, message in (("seeds = 3", "is not the plan of a study"), ("[", "is not the plan")):
        (tmp_path / "study.toml").write_text(content)
        with pytest.raises(UserError, match=message):
            plan.load(tmp_path / "study.toml")
    with pytest.raises(UserError, match="cannot be read"):
        plan.load(tmp_path / "absent.toml")


def test_a_run_s_recipe_is_the_base_with_the_arm_and_the_seed():
    one = make({"optimizer": ["sgd", "adam"], "epochs": ["2"]}, base=recipes.build({"model": "mlp"}), threads=3)
    recipe = one.recipe(one.arms[1], 5, "there")
    assert (recipe.optimizer.name, recipe.training.epochs, recipe.model.name) == ("adam", 2.0, "mlp")
    assert (recipe.seed, recipe.output, recipe.device.threads) == (5, "there", "3")


def test_seeds_begin_with_the_recipe_s():
    assert make(base=recipes.Recipe(seed=10), seeds=3).seeds == (10, 11, 12)
    assert make(seeds=[7, 3]).seeds == (7, 3)


def test_runs_are_mixed_over_arms_seed_by_seed():
    one = make({"epochs": [1, 2, 3, 4]}, seeds=12)
    order = one.runs()
    assert sorted((arm.name, seed) for arm, seed in order) == sorted(
        (arm.name, seed) for arm in one.arms for seed in one.seeds
    )
    assert [seed for _, seed in order] == [seed for seed in one.seeds for _ in one.arms]
    firsts = {order[4 * at][0].name for at in range(12)}
    assert len(firsts) == 4  # no arm is always the first of its seed
    assert order == one.runs()


def test_settings_that_differ():
    one = make({"optimizer": ["sgd", "adam"]}, named=[Arm("long", {"training.epochs": 20, "optimizer": "sgd"})])
    assert plan.differing({arm.name: one.recipe(arm, 0) for arm in one.arms}) == {
        "optimizer.name": {"sgd": "sgd", "adam": "adam", "long": "sgd"},
        "training.epochs": {"sgd": 10.0, "adam": 10.0, "long": 20.0},
    }


def settle(one, **costs):
    return budget.settle(one, {arm.name: costs.get(arm.name, cost()) for arm in one.arms})


def test_what_is_equal_is_found_out_where_it_is_not_said():
    assert settle(make()).equal == "visits"
    assert settle(make(), adam=cost(epochs=4.0)).equal == "none"
    assert settle(make(equal="none"), adam=cost(epochs=4.0)).equal == "none"


def test_arms_that_differ_in_what_is_said_to_be_equal_are_refused():
    with pytest.raises(UserError, match="same number of visits: sgd 3,000, adam 4,000"):
        settle(make(equal="visits"), adam=cost(epochs=4.0))
    with pytest.raises(UserError, match="same number of visits"):
        settle(make(equal="visits"), adam=cost(examples=900))
    with pytest.raises(UserError, match="same number of steps: sgd 30, adam 60"):
        settle(make(equal="steps"), adam=cost(batch_size=50, steps_per_epoch=20))
    assert settle(make(equal="visits"), adam=cost(batch_size=50, steps_per_epoch=20)).equal == "visits"
    assert settle(make(equal="steps"), adam=cost(examples=2000, batch_size=100, steps_per_epoch=20, epochs=1.5))


CHARGED = 2 / 3  # of a method that looks at every example, and learns from half


def test_a_method_that_is_charged_less_makes_more_steps_of_the_same_work():
    looks = cost(charge=CHARGED)
    assert (looks.work, looks.visits, looks.steps, looks.made) == (3000, pytest.approx(4500), 45, 4500)
    assert looks.seconds == pytest.approx(4.5)
    assert settle(make(), adam=looks).equal == "work"
    assert settle(make(equal="work"), adam=looks).equal == "work"
    assert settle(make(), adam=looks, sgd=looks).equal == "visits"
    for equal, numbers in (("steps", "sgd 30, adam 45"), ("visits", "sgd 3,000, adam 4,500")):
        with pytest.raises(UserError, match=f"same number of {equal}: {numbers}") as refused:
            settle(make(equal=equal), adam=looks)
        assert "--equal work" in str(refused.value.allowed)
    with pytest.raises(UserError, match="same amount of work: sgd 3,000, adam 2,000"):
        settle(make(equal="work"), adam=cost(epochs=2.0))
    shorter = cost(charge=CHARGED, epochs=2.0)
    assert settle(make(equal="steps"), adam=shorter).equal == "steps"


def test_at_equal_seconds_the_charge_counts():
    looks = cost(charge=CHARGED, step_seconds=0.05)
    settled = settle(make(equal="seconds"), adam=looks)  # 3 s of 0.05 s: 60 steps
    assert budget.with_epochs(looks, settled.arm("adam").settings["epochs"]).steps == 60


def test_what_a_plan_says_of_arms_that_make_different_numbers_of_visits():
    def told(equal, adam):
        one = make(equal=equal)
        return budget.told(settle(one, adam=adam), {"sgd": cost(), "adam": adam})

    assert told(None, cost()) is None
    assert told(None, cost(charge=CHARGED)) == (
        "Every arm is given the same work: visits, a forward pass alone counted as a third of one. "
        "Visits: sgd 3,000 and adam 4,500."
    )
    assert "left out. Visits: sgd 3,000 and adam 2,970" in told(None, cost(batch_size=99))
    assert "may be one of the budget. Visits: sgd 3,000 and adam 4,000" in told(None, cost(epochs=4.0))


def test_arms_that_are_judged_on_different_examples_are_refused():
    ten, two = {"validation": "a", "test": "t"}, {"validation": "b", "test": "t"}
    first, other = cost(told_by=ten, classes=10), cost(told_by=two, classes=2, validation_examples=20)
    with pytest.raises(UserError) as refused:
        settle(make(), sgd=first, adam=other)
    told = "arm 'adam' is judged on other validation examples than 'sgd': 20 of 2 classes against 100 of 10 classes"
    assert refused.value.given == told
    assert refused.value.then == "--measure test.accuracy: the test examples are the same"
    with pytest.raises(UserError) as refused:
        settle(make(equal="none"), sgd=first, adam=replace(other, told_by={"validation": "b"}))
    assert "engram train" in str(refused.value.then)
    assert settle(make(measure="test.accuracy"), sgd=first, adam=other)
    with pytest.raises(UserError, match="other validation examples") as refused:
        settle(make(measure="test.accuracy", target=0.9), sgd=first, adam=other)
    assert "leave out --target" in str(refused.value.then)
    with pytest.raises(UserError, match="other train examples"):
        settle(make(measure="train.loss"), sgd=cost(told_by={"train": "a"}), adam=cost(told_by={"train": "b"}))


def test_a_budget_without_a_step_is_refused():
    with pytest.raises(UserError, match=r"arm 'adam': 0\.04 epochs are less than one step of 100"):
        settle(make(), adam=cost(epochs=0.04))


def test_a_split_that_is_not_there_is_not_measured():
    with pytest.raises(UserError, match=r"no test split, so there is no test\.loss"):
        settle(make(measure="test.loss"), adam=cost(test_examples=0))
    with pytest.raises(UserError, match="no validation split"):
        settle(make(), adam=cost(validation_examples=0))
    with pytest.raises(UserError, match="no validation split"):
        settle(make(measure="train.loss", target=0.9), adam=cost(validation_examples=0))
    assert settle(make(measure="train.loss"), adam=cost(validation_examples=0))


def test_equal_seconds_set_the_epochs_of_every_arm():
    # the baseline: 30 steps of 0.1 s and 3 validations of 0.5 s; adam: a pass takes 10 x 0.3 + 0.5 s
    costs = {"sgd": cost(judge_seconds=0.5), "adam": cost(step_seconds=0.3, judge_seconds=0.5)}
    settled = settle(make(equal="seconds"), **costs)
    epochs = {arm.name: arm.settings["epochs"] for arm in settled.arms}
    assert epochs == {"sgd": 3.0, "adam": 1.2}  # 4.5 s / 3.5 s a pass: 12 whole steps
    with pytest.raises(UserError, match=r"'adam': a step takes 50 s, the baseline's whole run 4\.5 s"):
        settle(make(equal="seconds"), **{**costs, "adam": cost(step_seconds=50.0)})
    with pytest.raises(UserError, match="epochs cannot be set at equal seconds"):
        settle(make({"epochs": [3, 4]}, equal="seconds"))


def test_expected_seconds():
    one = make()
    costs = {"sgd": cost(judge_seconds=0.5), "adam": cost(step_seconds=0.2, epochs=1.5)}
    assert budget.seconds(costs, one) == pytest.approx(3 * (30 * 0.1 + 3 * 0.5 + 15 * 0.2))


def test_measures_say_what_is_better():
    better = {name: measures.parse(name).more_is_better for name in ("test.accuracy", "validation.ece", "train.loss")}
    assert better == {"test.accuracy": True, "validation.ece": False, "train.loss": False}


def test_the_same_question_is_recognised_after_it_was_settled():
    asked = make(equal="seconds")
    settled = settle(asked)
    assert settled != asked
    assert studying._same_question(settled, asked)
    assert not studying._same_question(settled, make(equal="seconds", margin=0.1))
    assert studying._same_question(settle(make()), make())
    assert not studying._same_question(settle(make()), make(seeds=4))


WAITING = """
import multiprocessing, threading
from engram.study import worker

def serve(tasks, say):
    threading.Thread(target=tasks.read, daemon=True).start()
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join(20)
    say({"code": process.exitcode})

worker.serve = serve
worker.main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_worker_that_waits_for_tasks_may_fork():
    """The reader of standard input must not hold up a forked process, which closes it first."""
    command = [sys.executable, "-W", "ignore", "-c", WAITING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert json.loads(worker.stdout.readline()) == {"code": 0}
        finally:
            worker.kill()
