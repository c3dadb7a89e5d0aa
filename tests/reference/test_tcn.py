"""The temporal convolutional network against its equations, written out with convolutions of torch in float64."""

import pytest
import torch
import torch.nn.functional as F

from engram.errors import UserError
from engram.models.tcn import TCN, tcn


def by_hand(net: TCN, x):
    """Every block by the formula: direction times length, zeros on the left, two ReLUs, a shortcut, a ReLU."""
    for place, block in enumerate(net.blocks):
        y = x
        for conv in (block.first, block.second):
            v = conv.direction
            weight = conv.length[:, None, None] * v / v.square().sum((1, 2), keepdim=True).sqrt()
            back = (weight.shape[2] - 1) * 2**place
            padded = torch.cat([torch.zeros(*y.shape[:2], back, dtype=y.dtype), y], dim=2)
            total = conv.bias[:, None].expand(-1, x.shape[2]).clone()
            rows = []
            for t in range(x.shape[2]):
                seen = padded[:, :, t : t + back + 1 : 2**place]  # steps t - back .. t, every 2^place of them
                rows.append(torch.einsum("bck,ock->bo", seen, weight))
            y = (torch.stack(rows, 2) + total).clamp_min(0)
        own = (
            x
            if block.shortcut.__class__ is torch.nn.Identity
            else F.conv1d(x, block.shortcut.weight, block.shortcut.bias)
        )
        x = (own + y).clamp_min(0)
    return x


@pytest.mark.parametrize("read", ["last", "every"])
def test_it_is_the_paper_s_blocks(read):
    torch.manual_seed(0)
    net = tcn(num_classes=3, in_channels=2, width=4, blocks=3, kernel_size=3, read=read).double()
    for p in net.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 2, 20, dtype=torch.float64)
    inside = by_hand(net, x)
    expected = F.linear(inside.movedim(1, 2), net.head.weight, net.head.bias)
    expected = expected if read == "every" else expected[:, -1]
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


def test_an_answer_depends_on_its_view_back_and_on_nothing_later():
    torch.manual_seed(0)
    net = tcn(num_classes=1, width=3, blocks=3, kernel_size=3, read="every").double()
    for block in net.blocks:  # nothing shall be cut to zero
        for conv in (block.first, block.second):
            torch.nn.init.constant_(conv.direction, 1.0)
    x = torch.ones(1, 1, 60, dtype=torch.float64, requires_grad=True)
    net(x)[0, 40, 0].backward()
    touched = x.grad[0, 0].nonzero().flatten()
    assert net.view == 29
    assert (int(touched.min()), int(touched.max())) == (40 - 28, 40)


def test_its_size_is_counted_by_hand():
    first = (5 * 1 * 32 + 2 * 32) + (5 * 32 * 32 + 2 * 32) + (32 + 32)  # weights, lengths and biases; the projection
    others = 4 * 2 * (5 * 32 * 32 + 2 * 32)
    assert sum(p.numel() for p in tcn().parameters()) == first + others + 32 * 10 + 10


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"width": 0}, "width"), ({"blocks": 0}, "blocks"), ({"drop": 1.0}, "drop"), ({"read": "mean"}, "read")],
)
def test_settings_out_of_range_are_named(settings, told):
    with pytest.raises(UserError, match=told):
        tcn(**settings)
