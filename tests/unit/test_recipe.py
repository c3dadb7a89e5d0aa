"""The recipe: three ways of giving one meet in the same value, and every mistake has a way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram import recipe as recipes
from engram.errors import UserError
from engram.recipe import Choice, Recipe


def test_dotted_nested_and_typed_settings_are_the_same_recipe():
    dotted = recipes.build({"model": "mlp", "optimizer.lr": "1e-3", "epochs": "3", "augment": "crop:4,flip"})
    nested = recipes.build(
        {"model": {"name": "mlp"}, "optimizer": {"lr": 1e-3}, "training": {"epochs": 3}, "augment": ["crop:4", "flip"]}
    )
    chosen = recipes.build(
        {
            "model": Choice("mlp"),
            "optimizer": Choice("nesterov", {"lr": 1e-3}),
            "epochs": 3.0,
            "augment": ("crop:4", "flip"),
        }
    )
    assert dotted == nested == chosen
    assert dotted.training.epochs == 3.0
    assert isinstance(dotted.training.epochs, float)


def test_dashes_and_underscores_are_one_word():
    assert recipes.build({"batch-size": 3}) == recipes.build({"training.batch_size": "3"})


def test_later_settings_come_over_earlier_and_another_name_drops_the_settings_of_the_first():
    base = recipes.build({"optimizer": "adam", "optimizer.lr": 0.5})
    assert recipes.build({"optimizer.weight_decay": 0.1}, base).optimizer.settings == {"lr": 0.5, "weight_decay": 0.1}
    assert recipes.build({"optimizer": "sgd"}, base).optimizer == Choice("sgd")


@given(
    st.builds(
        dict,
        seed=st.integers(0, 2**63 - 1),
        epochs=st.floats(0.01, 1e6),
        batch_size=st.integers(1, 10**6),
        label_smoothing=st.floats(0, 0.99),
        augment=st.lists(st.from_regex(r"[a-z_]{1,9}(:[0-9.]{1,4})?", fullmatch=True).filter(lambda w: w != "none")),
        output=st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    )
)
def test_a_written_recipe_reads_back_equal(tmp_path_factory, settings):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    recipe = recipes.build({**settings, "model.widths": "8,4", "optimizer.decay_all": "true", "model.drop": "none"})
    path.write_text(recipes.dumps(recipe), encoding="utf-8")
    read = recipes.load(path)
    without_none = {key: value for key, value in recipe.model.settings.items() if value is not None}
    assert read.model.settings == without_none
    assert (read.seed, read.training, read.augment, read.output) == (
        recipe.seed,
        recipe.training,
        recipe.augment,
        recipe.output,
    )


def test_every_setting_of_the_default_recipe_is_listed_for_help_with_a_sentence():
    rows = recipes.options()
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names))
    assert all(about.strip() for _, about, _ in rows)
    for name, _, default in rows:
        if name not in ("augment", "views"):
            recipes.build({name: default})  # what help shows can be given


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epocs": 3}, "did you mean: epochs"),
        ({"optimzer": "adam"}, "did you mean: optimizer"),
        ({"data.imagesize": 3}, "did you mean: data.image_size"),
        ({"training": 3}, "section of settings"),
        ({"seed.x": 3}, "no setting 'seed.x'"),
        ({"epochs": "many"}, "epochs is a number, not 'many'"),
        ({"batch_size": "1.5"}, "batch_size is a whole number"),
        ({"batch_size": True}, "batch_size is a whole number"),
        ({"augment": 3}, "augment is a list of words"),
        ({"model.name": 3}, "a name is a word"),
        ({"epochs": -1}, "epochs cannot be -1.0"),
        ({"data.validation": 1.0}, "from 0 up to 1"),
        ({"device.precision": "float31"}, "did you mean: float32"),
        ({"device.threads": "0"}, "auto, or 1 or more"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"epochs": "inf"}, "epochs cannot be inf"),
        ({"batch_size": float("inf")}, "batch_size is a whole number"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_way_out(settings, said):
    with pytest.raises(UserError) as caught:
        recipes.build(settings)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("word", "near"),
    [("jobz", "jobs"), ("targt", "target"), ("epocs", "epochs"), ("data.imagesize", "data.image_size")],
)
@pytest.mark.parametrize("check", [recipes.build, recipes.refuse_unknown])
def test_a_mistyped_option_of_whoever_takes_settings_is_told_of_its_options(check, word, near):
    with pytest.raises(UserError) as caught:
        check({word: "2"}, where="here", own=("jobs", "target"), then="here --help")
    assert caught.value.given == f"here: there is no setting {word!r}"
    assert (caught.value.nearest, caught.value.then) == (near, "here --help")


def test_what_a_recipe_has_is_not_refused_whatever_its_value():
    recipes.refuse_unknown({"epochs": "many", "training.clip-norm": 1, "data": {"path": 3}, "optimizer.mine": 1})
    with pytest.raises(UserError, match=r"there is no setting 'data\.pth'"):
        recipes.refuse_unknown({"data": {"pth": "x"}})


def test_nan_is_no_number_of_epochs():
    with pytest.raises(UserError, match="epochs cannot be nan"):
        recipes.build({"epochs": "nan"})


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    with pytest.raises(UserError, match=r"there is no recipe file .*mine\.toml"):
        recipes.load(path)
    path.write_text("epochs = = 3")
    with pytest.raises(UserError, match=r"mine\.toml is not a TOML file"):
        recipes.load(path)
    path.write_text("[training]\nepochz = 3")
    with pytest.raises(UserError, match=r"mine\.toml: there is no setting 'training\.epochz'"):
        recipes.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a TOML file"):
        recipes.load(path)


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        Recipe().seed = 3  # type: ignore[misc]
