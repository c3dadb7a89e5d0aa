"""What a caption's loss is made of, word by word in float64, and what is called foreseen."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from engram.errors import UserError
from engram.tasks.caption import correct, follow, foreseen, losses, losses_of, own_share

B, T, V, L = 4, 5, 7, 6
LENGTHS = (5, 1, 3, 2)
Y = torch.tensor([[4, 3, 6, 5, 2], [2, 0, 0, 0, 0], [4, 4, 2, 0, 0], [6, 2, 0, 0, 0]])


def decoded(seed: int = 0, dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    """What a network may have given, with numbers past the ends too, which must not count."""
    rng = torch.Generator().manual_seed(seed)
    scores, energies = torch.randn(B, T, V, generator=rng), torch.randn(B, T, L, generator=rng)
    log_draws, entropies = -torch.rand(B, T, generator=rng), torch.rand(B, T, generator=rng)
    parts = (3 * scores, energies.softmax(2), log_draws, entropies)
    return SimpleNamespace(
        **{
            name: part.to(dtype).requires_grad_()
            for name, part in zip(("scores", "attention", "log_draws", "entropies"), parts, strict=True)
        }
    )


def by_hand(given: SimpleNamespace, penalty: float, reinforce: float, entropy: float, baseline: float) -> np.ndarray:
    """Xu et al. 2015, equations 12 to 14, over the number of words."""
    scores, attention, log_draws, entropies = (
        getattr(given, name).detach().numpy() for name in ("scores", "attention", "log_draws", "entropies")
    )
    found = []
    for b, n in enumerate(LENGTHS):
        log_p = 0.0
        for t in range(n):
            log_p += scores[b, t, Y[b, t]] - math.log(sum(math.exp(score) for score in scores[b, t]))
        objective = -log_p
        for i in range(L):
            objective += penalty * (1 - sum(attention[b, t, i] for t in range(n))) ** 2
        objective -= entropy * sum(entropies[b, t] for t in range(n))
        # the surrogate whose gradient is (log p - b) d log p(s), with the mean over words for log p
        reward = log_p / n
        drawn = sum(log_draws[b, t] for t in range(n))
        found.append((-log_p / n, objective / n - reinforce * (reward - baseline) * drawn))
    return np.array(found).T


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize(("reinforce", "entropy", "baseline"), [(0.0, 0.0, 0.0), (1.3, 0.2, -2.5)])
def test_every_term_is_its_equation(penalty: float, reinforce: float, entropy: float, baseline: float) -> None:
    given = decoded()
    found = losses(given, Y, penalty=penalty, reinforce=reinforce, entropy=entropy, baseline=baseline)
    cross_entropy, objective = by_hand(given, penalty, reinforce, entropy, baseline)
    np.testing.assert_allclose(found.cross_entropy.detach(), cross_entropy, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.objective.detach(), objective, rtol=0, atol=1e-12)


def test_the_reward_itself_has_no_gradient() -> None:
    """d objective / d log_draws is the reward less the baseline, and scores hear nothing of the draws."""
    given = decoded()
    found = losses(given, Y, baseline=-2.0)
    found.objective.sum().backward()
    for b, n in enumerate(LENGTHS):
        advantage = -found.cross_entropy[b].detach() + 2.0
        expected = torch.cat([-advantage.expand(n), torch.zeros(T - n, dtype=torch.float64)])
        torch.testing.assert_close(given.log_draws.grad[b], expected)
    alone = decoded()
    losses(alone, Y).cross_entropy.sum().backward()
    torch.testing.assert_close(given.scores.grad, alone.scores.grad)


def test_padding_has_no_gradient_and_no_part() -> None:
    given, other = decoded(), decoded()
    padding = Y == 0
    with torch.no_grad():
        for part in (other.scores, other.attention, other.log_draws, other.entropies):
            part[padding] = 5.0
    settings = {"penalty": 0.5, "reinforce": 1.0, "entropy": 0.1}
    torch.testing.assert_close(losses(given, Y, **settings), losses(other, Y, **settings))
    losses(given, Y, **settings).objective.sum().backward()
    for part in (given.scores, given.attention, given.log_draws, given.entropies):
        assert part.grad[padding].eq(0).all()
        assert part.grad[~padding].ne(0).any()


def test_without_attention_there_is_cross_entropy_alone() -> None:
    scores = decoded().scores
    found = losses(
        SimpleNamespace(scores=scores, attention=None, log_draws=None, entropies=None), Y, penalty=1.0, entropy=1.0
    )
    torch.testing.assert_close(found.objective, found.cross_entropy)


def test_16_bit_scores_give_32_bit_losses() -> None:
    given = decoded(dtype=torch.bfloat16)
    found = losses(given, Y, penalty=1.0, entropy=0.1)
    assert found.cross_entropy.dtype == found.objective.dtype == torch.float32
    exact = SimpleNamespace(**{name: part.double() for name, part in vars(given).items()})
    torch.testing.assert_close(
        found.objective.double(), losses(exact, Y, penalty=1.0, entropy=0.1).objective, rtol=1e-2, atol=1e-2
    )


def test_the_baseline_moves_after_its_use_and_only_while_training() -> None:
    net = torch.nn.Module()
    net.loss_terms = {"reinforce": 1.0, "entropy": 0.0}
    net.register_buffer("baseline", torch.tensor(-1.0, dtype=torch.float64))
    given = decoded()
    expected = losses(given, Y, baseline=-1.0)
    torch.testing.assert_close(losses_of(net, given, Y), expected)
    moved = -0.9 - 0.1 * expected.cross_entropy.mean().item()
    assert net.baseline.item() == pytest.approx(moved)
    losses_of(net.eval(), given, Y)
    assert net.baseline.item() == pytest.approx(moved)
    assert not net.baseline.requires_grad


def test_the_baseline_nears_a_steady_reward() -> None:
    baseline = torch.tensor(0.0)
    for _ in range(100):
        follow(baseline, torch.tensor([2.0, 4.0]))
    assert baseline.item() == pytest.approx(-3.0, abs=1e-3)


def test_a_network_without_terms_has_cross_entropy_alone() -> None:
    given = decoded()
    given.log_draws = None
    found = losses_of(torch.nn.Linear(1, 1), given, Y)
    torch.testing.assert_close(found.objective, found.cross_entropy)


def scores_for(said: list[list[int]]) -> Tensor:
    return torch.eye(V)[torch.tensor(said)]


def test_foreseen_and_correct_count_words_and_the_end_alone() -> None:
    said = [[4, 3, 6, 5, 1], [2, 6, 6, 6, 6], [4, 3, 2, 2, 2], [1, 1, 0, 0, 0]]
    assert foreseen(scores_for(said), Y).tolist() == pytest.approx([4 / 5, 1, 2 / 3, 0])
    assert correct(scores_for(said), Y).tolist() == [False, True, False, False]
    assert correct(scores_for(Y.tolist()), Y).all()
    assert foreseen(scores_for(Y.tolist()), Y).tolist() == [1, 1, 1, 1]


def test_own_words_come_in_evenly() -> None:
    assert [own_share(done, most=0.5) for done in (0.0, 0.25, 1.0, 1.1)] == [0.0, 0.125, 0.5, 0.5]
    assert own_share(0.2, begins=0.2) == 0
    assert own_share(0.6, most=1.0, begins=0.2) == pytest.approx(0.5)
    with pytest.raises(UserError, match="most cannot be 2"):
        own_share(0.5, most=2)
