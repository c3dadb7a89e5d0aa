"""What every augmentation in the registry keeps, found by itself."""

import inspect

import pytest
import torch

from engram import augment, registry
from engram.augment.compose import GIVEN, STAGES

NAMES = registry.names("augmentation")
SHAPES = {1: (20,), 2: (12, 10), 3: (6, 7, 8)}


def settings(entry, size, channels):
    given = {"size": size, "mean": torch.full((channels,), 0.5), "palette": (torch.ones(3), torch.eye(3))}
    return {name: given[name] for name in GIVEN if name in entry.build.__annotations__}


def every_case():
    for name in NAMES:
        facts = registry.find("augmentation", name).facts
        for dimensions in facts.get("dimensions", (1, 2, 3)):
            for channels in facts.get("channels", (1, 3)):
                yield pytest.param(name, dimensions, channels, id=f"{name}-{dimensions}D-{channels}")


CASES = list(every_case())


def test_all_are_there():
    words = (
        "brightness center_crop color contrast crop cutout flip lens_distortion mixup pca_noise random_erasing "
        "resized_crop rotation saturation scaled_crop shear stretch translation"
    )
    assert set(words.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_facts(name):
    entry = registry.find("augmentation", name)
    assert entry.facts["stage"] in STAGES
    assert entry.summary.endswith(".")
    assert entry.paper
    assert entry.year


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("crop", {"padding": 4, "fill": "mean"}),  # He et al. 2016
        ("resized_crop", {"smallest": 0.08, "largest": 1, "aspect": 4 / 3}),  # Szegedy et al. 2015
        ("flip", {"probability": 0.5}),
        ("rotation", {"degrees": 15, "fill": "mean"}),
        ("color", {"strength": 0.2}),
        ("pca_noise", {"deviation": 0.1}),  # Krizhevsky et al. 2012
        ("scaled_crop", {"smallest": 256 / 224, "largest": 480 / 224}),  # He et al. 2016, ImageNet
        ("shear", {"degrees": 15, "along": "x", "fill": "mean"}),
        ("stretch", {"factor": 1.2, "axes": "apart", "fill": "mean"}),
        ("translation", {"share": 0.1, "fill": "mean"}),
        ("lens_distortion", {"strength": 0.2, "fill": "mean"}),
        ("cutout", {"side": 8}),  # DeVries and Taylor 2017, CIFAR-100
        (  # Zhong et al. 2017
            "random_erasing",
            {"probability": 0.5, "smallest": 0.02, "largest": 0.4, "aspect": 10 / 3, "fill": "noise"},
        ),
        ("mixup", {"strength": 0.2}),  # Zhang et al. 2018, ImageNet
    ],
)
def test_settings_and_defaults_are_the_papers_in_this_order(name, defaults):
    parameters = inspect.signature(registry.find("augmentation", name).build).parameters.values()
    assert {one.name: one.default for one in parameters if one.name not in GIVEN} == defaults
    assert [one.name for one in parameters if one.name not in GIVEN] == list(defaults)


@pytest.mark.parametrize(("name", "dimensions", "channels"), CASES)
@pytest.mark.parametrize("layout", ["rows", "planes"])
def test_shape_dtype_strides_and_repetition(name, dimensions, channels, layout):
    entry = registry.find("augmentation", name)
    shape = SHAPES[dimensions]
    dtypes = {"pixels": [torch.uint8, torch.float32], "color": [torch.float32]}
    for dtype in dtypes.get(entry.facts["stage"], [torch.float32, torch.bfloat16]):
        x = torch.rand(5, *shape, channels, generator=torch.Generator().manual_seed(1)).movedim(-1, 1)
        x = (x * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)
        x = x.contiguous() if layout == "planes" else x
        before = x.clone()
        apply = entry.build(**settings(entry, shape, channels))
        results = []
        for _ in range(2):
            result = apply(x, torch.Generator().manual_seed(7))
            results.append(result[0] if entry.facts["stage"] == "mix" else result)
        assert results[0].shape == x.shape
        assert results[0].dtype == dtype
        assert torch.equal(*results)
        assert torch.equal(x, before)
        assert results[0].movedim(1, -1).is_contiguous() or name == "center_crop"  # a view of what it was given


@pytest.mark.parametrize(("name", "dimensions", "channels"), CASES)
def test_draws_depend_on_the_shape_alone(name, dimensions, channels):
    entry = registry.find("augmentation", name)
    apply = entry.build(**settings(entry, SHAPES[dimensions], channels))
    states = []
    for seed in range(4):
        rng = torch.Generator().manual_seed(7)
        apply(torch.rand(5, channels, *SHAPES[dimensions], generator=torch.Generator().manual_seed(seed)), rng)
        rng.set_state(rng.get_state())
        states.append(torch.rand(3, generator=rng))
    assert all(torch.equal(states[0], state) for state in states)


@pytest.mark.parametrize(("name", "dimensions", "channels"), CASES)
def test_every_picture_has_its_own_draw(name, dimensions, channels):
    if name == "center_crop":
        return
    entry = registry.find("augmentation", name)
    one = torch.rand(1, *SHAPES[dimensions], channels, generator=torch.Generator().manual_seed(1)).movedim(-1, 1)
    other = torch.rand(1, *SHAPES[dimensions], channels, generator=torch.Generator().manual_seed(2)).movedim(-1, 1)
    many = one.expand(24, *one.shape[1:])
    if entry.facts["stage"] == "mix":
        many = torch.cat([many, other.expand_as(many)])
    result = entry.build(**settings(entry, SHAPES[dimensions], channels))(many, torch.Generator().manual_seed(3))
    result = result[0] if entry.facts["stage"] == "mix" else result
    distinct = len(result.reshape(len(result), -1).unique(dim=0))
    assert distinct == 2 if name == "flip" else distinct >= 8


@pytest.mark.parametrize("name", NAMES)
def test_its_word_alone_trains(name):
    x = torch.randint(0, 256, (4, 3, 14, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = augment.compose(name, size=(12, 12), mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    batch = made(x, torch.Generator().manual_seed(0), torch.bfloat16)
    assert batch.x.shape == (4, 3, 12, 12)
    assert batch.x.dtype == torch.bfloat16
    assert batch.x.isfinite().all()
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    assert (batch.partner is not None) == (registry.find("augmentation", name).facts["stage"] == "mix")
