"""The registry: names, near matches, a user's own file, and settings that are refused before anything is built."""

import pytest
import torch

from engram import models, registry
from engram.errors import UserError


def test_names_are_in_natural_order_and_match_patterns():
    names = registry.names("model", "resnet*")
    assert names.index("resnet20") < names.index("resnet110")
    assert all(name.startswith("resnet") for name in names)


def test_the_nearest_name_is_offered():
    with pytest.raises(UserError) as caught:
        registry.find("model", "resnet21")
    assert "did you mean: resnet20" in str(caught.value)
    assert "engram show models" in str(caught.value)


def test_a_builder_in_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('def net(num_classes, in_channels, width=8):\n    """Mine."""\n    return (num_classes, width)\n')
    entry = registry.find("model", f"{file}:net")
    assert entry.build(num_classes=3, in_channels=1) == (3, 8)
    assert entry.summary == "Mine."
    with pytest.raises(UserError, match="did you mean: net"):
        registry.find("model", f"{file}:nett")
    with pytest.raises(UserError, match="there is no file"):
        registry.find("model", "absent.py:net")


def test_a_network_that_is_built_already_is_taken_as_it_is(tmp_path):
    (tmp_path / "mine.py").write_text("from torch import nn\n\nnet = nn.Linear(4, 2)\nprint_it = print\n")
    name = f"{tmp_path / 'mine.py'}:net"
    entry = registry.find("model", name)
    with pytest.raises(UserError, match="has no setting 'width'"):
        registry.check_settings(entry, {"width": 3})
    assert "linear transformation" in entry.summary

    def built(seed):
        before = torch.get_rng_state()
        net = models.build(name, shape=(4,), num_classes=2, rng=torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), before)
        return net

    first, again, other = built(0), built(0), built(1)
    assert first is not again
    assert torch.equal(first.weight, again.weight)  # drawn by the seed, as those of any network are
    assert not torch.equal(first.weight, other.weight)


def test_unknown_settings_are_refused_with_the_nearest(tmp_path):
    entry = registry.find("optimizer", "adam")
    registry.check_settings(entry, {"lr": 1})
    with pytest.raises(UserError, match="did you mean: weight_decay"):
        registry.check_settings(entry, {"weight_decai": 1})
    with pytest.raises(UserError, match="has no setting 'parameters'"):
        registry.check_settings(entry, {"parameters": 1}, reserved=("parameters",))


def test_settings_that_go_with_every_entry_are_offered_and_not_taken():
    entry = registry.find("review", "shuffle")
    with pytest.raises(UserError) as caught:
        registry.check_settings(entry, {"cloc": 1}, beside=("clock", "measure"))
    assert (caught.value.allowed, caught.value.nearest) == ("clock, measure", "clock")
    with pytest.raises(UserError, match="has no setting 'clock'"):
        registry.check_settings(entry, {"clock": 1}, beside=("clock",))  # the caller has taken out what is right


def test_one_name_has_one_builder():
    def resnet20():
        """Another."""

    with pytest.raises(ValueError, match="already registered"):
        registry.register("model")(resnet20)


def test_other_words_that_people_know_a_thing_by_are_taken():
    assert registry.find("augmentation", "pca").name == "pca_noise"
    assert "pca" not in registry.names("augmentation")


def test_a_second_word_takes_no_name_that_is_a_thing_of_its_own():
    for kind in registry.HOMES:
        also = [word for name in registry.names(kind) for word in registry.find(kind, name).facts.get("also", ())]
        assert len(also) == len(set(also))
        assert not set(also) & set(registry.names(kind))
