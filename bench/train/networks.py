"""The networks of the PyTorch programs, written once: plain, PyTorch, Lightning and fastai train the same modules."""

import torch.nn.functional as F
from torch import Tensor, nn
from workloads import Workload


class LeNet5(nn.Module):
    """LeNet-5 on 28x28 images, padded to 32x32 by its first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: zeros for new channels (`project=False`) or a 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - in_channels
        self.projection = None
        if project and self.added:
            self.projection = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.projection is not None:
            x = self.projection(x)
        elif self.added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(x + y)


class ResNet(nn.Module):
    """A 3x3 stem, stages of blocks that halve the image and double the channels, the mean, a linear layer."""

    def __init__(self, width: int, depths: tuple[int, ...], project: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, channels = [], width
        for stage, depth in enumerate(depths):
            for position in range(depth):
                wide = width * 2**stage
                blocks.append(Block(channels, wide, 2 if stage and not position else 1, project))
                channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.fc(x.mean((2, 3)))


def build(workload: Workload) -> nn.Module:
    """The workload's network; its parameters are counted, so that a slip cannot make it a different one."""
    net = {
        "lenet5": LeNet5,
        "resnet20": lambda: ResNet(16, (3, 3, 3), project=False),
        "resnet18": lambda: ResNet(64, (2, 2, 2, 2), project=True),
    }[workload.network]()
    counted = sum(parameter.numel() for parameter in net.parameters())
    if counted != workload.parameters:
        raise SystemExit(f"{workload.network} has {counted} parameters, not {workload.parameters}")
    return net
