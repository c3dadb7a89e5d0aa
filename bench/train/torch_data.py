"""The data of the PyTorch programs, image by image, as torchvision's documentation has it."""

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms
from torchvision.transforms import v2
from workloads import BATCH, Split, Workload


class Pictures(Dataset):
    """Decoded images in memory, each made a PIL image when it is asked for: what torchvision.datasets.CIFAR10 does."""

    def __init__(self, split: Split, transform: transforms.Compose) -> None:
        self.images, self.labels, self.transform = split.images, split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index]
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return self.transform(picture), self.labels[index]


class Tensors(Dataset):
    """Decoded images in memory as one uint8 tensor: no PIL, the fastest input of torchvision's v2 transforms."""

    def __init__(self, split: Split, transform: v2.Compose) -> None:
        self.images = torch.from_numpy(split.images.copy()).permute(0, 3, 1, 2).contiguous()
        self.labels, self.transform = split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def pil_transform(workload: Workload, train: bool) -> transforms.Compose:
    """Pad, crop and flip a PIL image, then a normalised tensor."""
    steps: list[object] = []
    if train and workload.crop:
        steps.append(transforms.RandomCrop(workload.shape[1:], padding=workload.crop))
    if train and workload.flip:
        steps.append(transforms.RandomHorizontalFlip())
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(workload.mean, workload.std)])


def tensor_transform(workload: Workload, train: bool) -> v2.Compose:
    """The same on uint8 tensors, in the order that torchvision's v2 guide recommends."""
    steps: list[object] = []
    if train and workload.crop:
        steps.append(v2.RandomCrop(workload.shape[1:], padding=workload.crop))
    if train and workload.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(workload.mean, workload.std)])


def documented_loader(workload: Workload, split: Split, train: bool) -> DataLoader:
    """Two workers and PIL transforms, as in the tutorials."""
    return DataLoader(Pictures(split, pil_transform(workload, train)), BATCH, shuffle=train, num_workers=2)


def fast_loader(workload: Workload, split: Split, train: bool, workers: int) -> DataLoader:
    """Tensors in memory, v2 transforms, workers that live on; without augmentation everything is done beforehand."""
    data: Dataset = Tensors(split, tensor_transform(workload, train))
    if not workload.crop and not workload.flip:
        data = TensorDataset(data.transform(data.images), torch.from_numpy(split.labels))
    return DataLoader(data, BATCH, shuffle=train, num_workers=workers, persistent_workers=workers > 0)
