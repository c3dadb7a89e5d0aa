"""From a recipe to the parts of a run: the review it asks for, and the precision that is timed."""

import numpy as np
import pytest
import torch

import engram
from engram import recipe
from engram.errors import UserError
from engram.review.course import COURSE
from engram.training import assemble, judge, loop, telling, threads


def made(**settings):
    return assemble.assemble(recipe.build({"model": "mlp", "device.threads": "1", "epochs": 4, **settings}))


def test_the_review_is_the_recipe_s():
    settings = {"review.save": "0.75", "review.clock": "steps", "review.measure": "correct", "review.permuted": "true"}
    assembled = made(review="forgetting_curve", label_smoothing=0.1, seed=7, **settings)
    reviewer = assembled.state.reviewer
    assert type(reviewer.method).__name__ == "ForgettingCurve"
    assert reviewer.method.save == 0.75
    assert (reviewer.kind_of_clock, reviewer.measure, reviewer.seed) == ("steps", "correct", 7)
    assert reviewer.permutation is not None
    assert reviewer.floor == pytest.approx(0.5003, abs=1e-4)
    assert torch.equal(reviewer.labels, assembled.prepared.train.labels)
    assert reviewer.total_steps == 4 * reviewer.steps_per_pass
    told = dict(telling.header(assembled, engram.__path__[0]))
    assert told["review"].startswith("forgetting_curve save=0.75 clock=steps")
    assert "review" not in dict(telling.header(made(), engram.__path__[0]))


@pytest.mark.parametrize(
    ("settings", "message", "near"),
    [
        ({"review": "forgeting_curve"}, "review 'forgeting_curve' is not known", "forgetting_curve"),
        ({"review": "forgetting_curve", "review.sav": 1}, "has no setting 'sav'", "save"),
        ({"review": "forgetting_curve", "review.cloc": "steps"}, "has no setting 'cloc'", "clock"),
        ({"review": "shuffle", "review.measur": "correct"}, "has no setting 'measur'", "measure"),
        ({"review": "forgetting_curve", "review.permute": True}, "has no setting 'permute'", "permuted"),
        ({"review": "forgetting_curve", "review.save": 3}, "save cannot be 3", None),
        ({"review": "shuffle", "review.clock": "step"}, "there is no clock 'step'", "steps"),
        ({"review": "shuffle", "review.measure": "los"}, "recall cannot be measured by 'los'", None),
        ({"review": "shuffle", "review.clock": "5"}, "there is no clock '5'", None),
        ({"review": "due", "review.memory": "5"}, "memory '5' is not known", None),
        ({"review": "forgetting_curve", "review.permuted": "False"}, "review: permuted cannot be 'False'", "false"),
        ({"review": "forgetting_curve", "review.permuted": "yes"}, "review: permuted cannot be 'yes'", "true"),
        ({"review": "forgetting_curve", "review.forgetting": "no"}, "forgetting cannot be 'no'", "false"),
        ({"model.batch_norm": "no"}, "model mlp: batch_norm cannot be 'no'", "false"),
    ],
)
def test_a_review_that_cannot_be_is_refused(settings, message, near):
    with pytest.raises(UserError, match=message) as caught:
        made(**settings)
    assert caught.value.nearest == near


def test_what_is_allowed_of_a_review_names_the_settings_of_every_method():
    with pytest.raises(UserError) as caught:
        made(**{"review": "shuffle", "review.cloc": "steps"})
    assert caught.value.allowed == "clock, measure, permuted"
    with pytest.raises(UserError) as caught:
        made(**{"review": "forgetting_curve", "review.cloc": "steps"})
    assert str(caught.value.allowed).startswith("memory, save, ")
    assert str(caught.value.allowed).endswith(", clock, measure, permuted")


@pytest.mark.parametrize("setting", COURSE)
def test_what_is_shown_as_a_setting_of_every_method_can_be_given(setting):
    for value in COURSE[setting].allowed:
        assert made(**{"review": "forgetting_curve", f"review.{setting}": value}).state.reviewer is not None


def test_a_resumed_run_keeps_its_review(tmp_path):
    run = engram.train(model="mlp", epochs=1, output=str(tmp_path / "run"), device={"threads": 1})
    with pytest.raises(UserError, match="review cannot change"):
        engram.resume(run.folder, review="infobatch", epochs=2)


def precision(monkeypatch, seconds, **settings):
    """What is decided where steps take so long: `seconds` of bfloat16 and float32 by threads."""
    assembled = made(**settings)
    assembled.set_precision(torch.bfloat16)
    assembled.step_seconds = seconds["bfloat16"]
    asked = []

    def calibrate(step, cores):
        asked.append(step)
        return seconds["float32"]

    monkeypatch.setattr(threads, "calibrate", calibrate)
    before = torch.get_num_threads()
    decision = assembled.calibrate_precision()
    chosen = torch.get_num_threads()
    torch.set_num_threads(before)
    return assembled, decision, chosen, asked


def test_small_networks_take_the_precision_that_is_faster(monkeypatch):
    times = {"bfloat16": {1: 0.006, 2: 0.007}, "float32": {1: 0.008, 2: 0.005}}
    assembled, decision, chosen, _ = precision(monkeypatch, times)
    assert assembled.machine.dtype == assembled.parts.machine.dtype == torch.float32
    assert (decision.setting, decision.value, chosen) == ("device.precision", "float32", 2)
    assert "5.0 ms on 2 threads, 6.0 ms in bfloat16" in decision.reason
    assert [one.setting for one in assembled.decisions].count("device.precision") == 0  # the caller adds the new one


@pytest.mark.parametrize(
    ("bfloat16", "float32", "settings", "timed"),
    [
        ({1: 0.006}, {1: 0.0059}, {}, True),  # hardly faster: not worth it
        ({1: 0.2}, {1: 0.01}, {}, False),  # large networks are not timed twice
        ({}, {1: 0.01}, {}, False),  # the thread count was given, nothing was timed
        ({1: 0.006}, {1: 0.001}, {"device.precision": "bfloat16"}, False),  # asked for
    ],
)
def test_bfloat16_stays_where_it_is_faster_or_asked_for(monkeypatch, bfloat16, float32, settings, timed):
    times = {"bfloat16": bfloat16, "float32": float32}
    assembled, decision, _, asked = precision(monkeypatch, times, **settings)
    assert decision is None
    assert assembled.machine.dtype == torch.bfloat16
    assert bool(asked) == timed


def test_the_initializer_s_words_give_the_first_weights_and_are_told():
    one = made(initializer="orthogonal,bias:0.25")
    linear = [module for module in one.state.net.modules() if isinstance(module, torch.nn.Linear)]
    gram = linear[0].weight @ linear[0].weight.T
    rows = min(linear[0].weight.shape)
    assert torch.linalg.matrix_rank(gram) == rows
    singular = torch.linalg.svdvals(linear[0].weight)
    assert torch.allclose(singular, singular[0].expand_as(singular), atol=1e-5)
    assert all((layer.bias == 0.25).all() for layer in linear[:-1])
    told = [line.value for line in one.decisions if line.setting == "initializer"]
    assert [line.partition(":")[0] for line in told] == ["orthogonal", "bias"]


def test_own_is_the_network_s_own_rule():
    own, again, other = (made(initializer=words) for words in ("own", (), "he"))
    assert same_weights(own, again)
    assert not same_weights(own, other)


def test_a_rule_that_measures_sees_the_examples_as_the_network_does():
    one = made(initializer="lsuv")
    hidden = next(module for module in one.state.net.modules() if isinstance(module, torch.nn.Linear))
    x = one.views(next(one.prepared.train.batches([torch.arange(256)]))[0], torch.float32)[0]
    seen: list[torch.Tensor] = []
    hidden.register_forward_hook(lambda module, given, y: seen.append(y))
    with torch.no_grad():
        one.state.net(x)
    assert abs(float(seen[0].std()) - 1) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initializer": "hee"}, "did you mean: he"),
        ({"initializer": "he", "weights": "some.safetensors"}, "give one of --initializer and --weights"),
    ],
)
def test_impossible_first_weights_are_refused(settings, message):
    with pytest.raises(UserError) as refusal:
        made(**settings)
    assert message in str(refusal.value)


def test_a_method_that_takes_all_examples_gets_its_schedule_and_precision():
    whole, batches = made(optimizer="lbfgs"), made()
    assert (whole.recipe.schedule.name, batches.recipe.schedule.name) == ("constant", "one_cycle")
    assert whole.machine.dtype == torch.float32
    assert [one.value for one in whole.decisions if one.setting == "device.precision"] == ["float32"]
    asked = made(optimizer="lbfgs", schedule="cosine", **{"device.precision": "bfloat16"})
    assert (asked.recipe.schedule.name, asked.machine.dtype) == ("cosine", torch.bfloat16)


@pytest.mark.parametrize("name", ["newton", "hessian_free", "bfgs"])
def test_methods_that_evaluate_the_loss_themselves_can_be_planned_and_run(name):
    one = made(optimizer=name, **{"model.widths": "12"})
    assert one.optimizer_slots() >= 0
    before = float(judged(one))
    list(loop.train(one.parts, one.state))
    assert float(judged(one)) < before


def judged(one):
    return one.parts.validate(one.state.net)["loss"]


def same_weights(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.state.net.parameters(), other.state.net.parameters(), strict=True))


def test_the_regularizer_s_words_reach_network_step_and_recipe():
    words = "dropout:0.25,l1:1e-2,max_norm:2,label_smoothing:0.1,early_stopping:3,mixup:0.2"
    one = made(regularizer=words, augment="none")
    assert one.parts.task.smoothing == 0.1
    assert one.parts.patience == 3
    assert one.recipe.augment == ("mixup:0.2",)
    told = [line.value.partition(":")[0] for line in one.decisions if line.setting == "regularizer"]
    assert told == ["dropout", "l1", "max_norm", "label_smoothing", "early_stopping", "mixup"]
    x = next(one.prepared.train.batches([torch.arange(4)]))[0].float()
    net = one.state.net.train()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    one.parts.constrain(net, 1.0)
    widths = [p.flatten(1).norm(dim=1).max() for p in net.parameters() if p.ndim > 1]
    assert max(widths) <= 2 + 1e-5
    assert any((p == 0).any() for p in net.parameters() if p.ndim > 1)  # the proximal step of l1


def test_a_decay_is_not_taken_twice():
    one = made(regularizer="l2:1e-2")
    assert {group["weight_decay"] for group in one.state.optimizer.param_groups} == {0.0}
    assert ("optimizer.weight_decay", "0") in [(line.setting, line.value) for line in one.decisions]
    assert any(group["weight_decay"] for group in made().state.optimizer.param_groups)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regularizer": "droput"}, "did you mean: dropout"),
        ({"regularizer": "l2:1e-2", "optimizer.weight_decay": 1e-3}, "are the same pull"),
        ({"regularizer": "label_smoothing:0.1", "label_smoothing": 0.2}, "label_smoothing is 0.2 by its setting"),
        ({"regularizer": "l1:1e-3", "optimizer": "lbfgs"}, "does not go with lbfgs"),
        ({"auxiliary": "1.5"}, "a share of the depth between 0 and 1"),
        ({"auxiliary": "hiden"}, "did you mean: hidden"),
        ({"auxiliary": "0.5", "auxiliary.head": "smal"}, "did you mean: small"),
        ({"auxiliary": "0.5", "auxiliary.weight": -1}, "auxiliary.weight cannot be -1"),
    ],
)
def test_words_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError) as refusal:
        made(**settings)
    assert message in str(refusal.value)


def test_heads_on_the_way_train_and_are_gone_afterwards(tmp_path):
    settings = {"auxiliary": {"at": [0.5], "weight": 0.5}, "regularizer": "dropout:0.1", "initializer": "orthogonal"}
    run = engram.train(model="mlp", epochs=2, output=str(tmp_path / "run"), device={"threads": 1}, **settings)
    assert run.net(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert not [name for name in run.net.state_dict() if name.startswith("auxiliary")]
    further = engram.resume(run.folder, epochs=3)
    assert further.reason == "finished"
    plain = made()
    taken = made(weights=str(run.folder / "weights" / "last.safetensors"))  # by a network that never had heads
    assert not same_weights(plain, taken)
    with pytest.raises(UserError, match="auxiliary cannot change"):
        engram.resume(run.folder, auxiliary="0.6", epochs=4)


def test_the_loss_of_heads_reaches_what_is_before_them_alone():
    one, two = made(auxiliary="0.5"), made(auxiliary="0.5", **{"auxiliary.weight": 0})
    assert one.state.net.auxiliary.weight == 0.3
    for assembled in (one, two):
        x, y = next(assembled.prepared.train.batches([torch.arange(64)]))
        loop.update(assembled.parts, assembled.state, x, y)
    assert not torch.equal(next(one.state.net.parameters()), next(two.state.net.parameters()))
    assert torch.equal(one.state.net.head.weight, two.state.net.head.weight)


def test_colour_noise_has_the_data_s_own_palette_by_either_word(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", x=rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8), y=np.arange(40) % 2)
    palettes = [
        made(data=str(tmp_path / "few.npz"), augment=word).parts.augment.palette for word in ("pca", "pca_noise")
    ]
    assert palettes[0] is not None
    assert all(torch.equal(one, other) for one, other in zip(*palettes, strict=True))
    assert made(data=str(tmp_path / "few.npz"), augment="flip").parts.augment.palette is None


def test_views_of_several_sizes_need_a_network_that_takes_them(tmp_path):
    with pytest.raises(UserError, match="this one takes 8x8 only"):
        made(views="dense:1:1.5")
    run = engram.train(model="mlp", epochs=1, output=str(tmp_path / "run"), device={"threads": 1})
    with pytest.raises(UserError, match="this one takes 8x8 only"):
        judge.judge(run.folder, views="dense:1:1.5")
    assert made(model="resnet20", views="dense:1:1.5").views is not None
