"""Every captioner learns thirty scenes by heart, at half their size to save time, and says them word for word."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engram import registry
from engram.data.scenes.scene import make_scenes
from engram.tasks import caption
from engram.text.describe import describe
from engram.text.vocabulary import PADDING, Words

STEPS = {"captioner_rnn": 80, "captioner_lstm": 80, "captioner_soft_attention": 60, "captioner_hard_attention": 110}


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("captioner"))
def test_thirty_scenes_are_learned_by_heart(name: str) -> None:
    scenes = make_scenes(30)
    sentences = [str(scene.captions[place % 5]) for place, scene in enumerate(scenes)]
    words = Words.of(sentences)
    rows = [words.enclose(sentence) for sentence in sentences]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [words.index[PADDING]] * (longest - len(row)) for row in rows])
    x = torch.from_numpy(np.stack([scene.image for scene in scenes])).float() / 127.5 - 1
    x = F.avg_pool2d(x, 2)
    torch.manual_seed(0)
    net = registry.find("captioner", name).build(len(words), shape=(3, 24, 24), encoder_halvings=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for step in range(STEPS[name]):
        optimizer.param_groups[0]["lr"] = 2e-3 if step < 0.85 * STEPS[name] else 4e-4
        found = caption.losses_of(net, net(x, tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        found.objective.mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    net.eval()
    with torch.no_grad():
        decoded = net(x, tokens[:, :-1])
    assert caption.losses(decoded, tokens[:, 1:]).cross_entropy.mean() < 0.05
    assert caption.correct(decoded.scores, tokens[:, 1:]).all()
    for width in (1, 3):
        assert [said.sentence for said in describe(net, x, words, width=width)] == sentences
