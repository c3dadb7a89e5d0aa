"""Attention over places: the equations written out in float64, and draws counted."""

import math

import pytest
import torch
from torch import Tensor

from engram.errors import UserError
from engram.layers.attention import HardAttention, SoftAttention, draw

B, L, D, H, A = 3, 5, 4, 6, 7


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(B, L, D, generator=rng).double(), torch.randn(B, H, generator=rng).double()


def build(kind: type[SoftAttention], **settings: object) -> SoftAttention:
    torch.manual_seed(1)
    return kind(D, H, A, **settings).double()


@torch.no_grad()
def alpha(attention: SoftAttention, annotations: Tensor, state: Tensor) -> Tensor:
    """Xu et al. 2015, equations 4 and 5, place by place."""
    found = torch.empty(B, L, dtype=torch.float64)
    for b in range(B):
        for i in range(L):
            inside = attention.of_place.weight @ annotations[b, i] + attention.of_place.bias
            inside = inside + attention.of_state.weight @ state[b]
            found[b, i] = math.exp(float(attention.score.weight[0] @ torch.tanh(inside)))
    return found / found.sum(1, keepdim=True)


@pytest.mark.parametrize("gate", [False, True])
def test_soft_attention_is_the_weighted_sum(gate: bool) -> None:
    attention = build(SoftAttention, gate=gate)
    annotations, state = inputs()
    look = attention(annotations, attention.keys(annotations), state)
    weights = alpha(attention, annotations, state)
    torch.testing.assert_close(look.attention, weights)
    for b in range(B):
        expected = sum(weights[b, i] * annotations[b, i] for i in range(L))
        if gate:
            asked = attention.gate.weight[0] @ state[b] + attention.gate.bias
            expected = expected / (1 + math.exp(-asked.item()))
        torch.testing.assert_close(look.context[b], expected)
    assert look.log_draw is None
    assert look.entropy is None


@pytest.mark.parametrize("gate", [False, True])
def test_hard_attention_sees_the_drawn_place_alone(gate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = build(HardAttention, gate=gate)
    annotations, state = inputs()
    weights = alpha(attention, annotations, state)
    places = torch.tensor([4, 0, 2])
    monkeypatch.setattr("engram.layers.attention.draw", lambda logs: places)
    look = attention(annotations, attention.keys(annotations), state)
    scale = attention.gate(state).sigmoid() if gate else 1
    torch.testing.assert_close(look.context, annotations[torch.arange(B), places] * scale)
    torch.testing.assert_close(look.attention, weights)
    torch.testing.assert_close(look.log_draw, weights[torch.arange(B), places].log())
    torch.testing.assert_close(look.entropy, -(weights * weights.log()).sum(1))


def test_who_expects_sees_the_mean_and_draws_nothing() -> None:
    attention = build(HardAttention)
    annotations, state = inputs()
    who = torch.tensor([True, False, True])
    look = attention(annotations, attention.keys(annotations), state, who)
    mean = (alpha(attention, annotations, state)[..., None] * annotations).sum(1)
    torch.testing.assert_close(look.context[who], mean[who])
    assert (annotations[1] == look.context[1]).all(1).sum() == 1
    assert look.log_draw[who].tolist() == [0, 0]
    assert look.log_draw[1] < 0


def test_judging_looks_at_the_likeliest_place_or_at_the_mean_and_draws_nothing() -> None:
    annotations, state = inputs()
    for judged in ("likeliest", "expected"):
        attention = build(HardAttention, judged=judged).eval()
        weights = alpha(attention, annotations, state)
        before = torch.get_rng_state()
        who = attention.who_expects(B, annotations.device)
        look = attention(annotations, attention.keys(annotations), state, who)
        assert torch.equal(before, torch.get_rng_state())
        one = annotations[torch.arange(B), weights.argmax(1)]
        mean = (weights[..., None] * annotations).sum(1)
        torch.testing.assert_close(look.context, one if judged == "likeliest" else mean)


def test_half_of_the_examples_expect_while_training() -> None:
    torch.manual_seed(0)
    shares = {
        share: float(HardAttention(D, H, A, expected=share).who_expects(10_000, torch.device("cpu")).double().mean())
        for share in (0.0, 0.5, 1.0)
    }
    assert shares[0.0] == 0
    assert shares[1.0] == 1
    assert abs(shares[0.5] - 0.5) < 0.02  # four standard deviations


def test_draws_come_with_their_probabilities_from_torch_s_own_generator() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    logs = probabilities.log().expand(40_000, 5)
    torch.manual_seed(3)
    first = draw(logs)
    torch.manual_seed(3)
    assert torch.equal(first, draw(logs))
    assert not torch.equal(first, draw(logs))
    counts = first.bincount(minlength=5).double()
    assert counts[4] == 0
    chi = ((counts - 40_000 * probabilities)[:4] ** 2 / (40_000 * probabilities[:4])).sum()
    assert chi < 16.3  # 99.9 % of a chi-squared with three degrees of freedom


def test_a_network_that_diverged_is_not_stopped_here() -> None:
    assert draw(torch.full((2, 3), torch.nan)).shape == (2,)
    attention = build(HardAttention)
    annotations, state = inputs()
    look = attention(annotations, attention.keys(annotations), state * torch.nan)
    assert look.attention.isnan().all()


def test_a_place_without_probability_has_no_part_in_the_entropy() -> None:
    attention = build(HardAttention)
    logs = torch.tensor([[0.5, 0.5, 0.0]]).double().log()
    look = attention.look(torch.zeros(1, 3, D).double(), logs, None)
    assert look.entropy.item() == pytest.approx(math.log(2))


def test_gradients_go_where_they_should() -> None:
    """Soft: through the weights. Hard: through the place seen and log_draw, never through the draw."""
    annotations, state = inputs()
    soft, hard = build(SoftAttention), build(HardAttention)
    reached = []
    for attention in (soft, hard):
        seen = annotations.clone().requires_grad_()
        attention(seen, attention.keys(seen.detach()), state).context.sum().backward()
        reached.append((seen.grad != 0).any(2).sum(1).tolist())
    assert reached == [[L] * B, [1] * B]
    assert soft.score.weight.grad.abs().sum() > 0
    assert hard.score.weight.grad is None
    hard(annotations, hard.keys(annotations), state).log_draw.sum().backward()
    assert hard.score.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attention_size": 0}, "attention_size cannot be 0"),
        ({"expected": 1.5}, "expected cannot be 1.5"),
        ({"judged": "likely"}, "judged cannot be 'likely'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        HardAttention(**{"annotation_size": D, "state_size": H, "attention_size": A, **settings})
