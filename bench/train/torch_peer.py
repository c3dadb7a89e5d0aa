"""Plain PyTorch: the training loop of PyTorch's own "Training a classifier" tutorial, and the same with every flag.

documented   PIL images, two DataLoader workers, float32, default optimiser implementation
fast         v2 transforms on tensors, bfloat16 autocast, channels-last, fused optimiser
"""

import itertools

import networks
import protocol
import torch
import torch_data
import torchvision
from torch import nn
from workloads import BATCH, MOMENTUM, load, rate


def main() -> None:
    chosen = protocol.arguments(["documented", "fast"])
    say = protocol.claim_stdout()
    workload, fast = chosen.workload, chosen.mode == "fast"
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)

    train = load(workload, chosen.data, "train", chosen.limit)
    net = networks.build(workload)
    if fast:
        net.to(memory_format=torch.channels_last)
        loader = torch_data.fast_loader(workload, train, True, chosen.workers)
    else:
        loader = torch_data.documented_loader(workload, train, True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=workload.lr,
        momentum=MOMENTUM,
        weight_decay=workload.weight_decay,
        nesterov=True,
        fused=True if fast else None,
    )
    total = chosen.epochs * -(-len(train.labels) // BATCH)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    gate = protocol.Gate(say, {"versions": {"torch": torch.__version__, "torchvision": torchvision.__version__}})

    watch = protocol.Watch()
    net.train()
    for _ in itertools.count() if chosen.task == "speed" else range(chosen.epochs):
        running_loss = 0.0
        for inputs, labels in loader:
            if chosen.task == "speed":
                gate.begin()
            optimizer.zero_grad()
            if fast:
                inputs = inputs.to(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = criterion(net(inputs), labels)
            else:
                loss = criterion(net(inputs), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running_loss += loss.item()
            if chosen.task == "speed":
                gate.step(len(labels), loss.item)
    say(watch.row(accuracy(net, chosen, fast), loss=running_loss / len(loader)))


def accuracy(net: nn.Module, chosen: object, fast: bool) -> float:
    """Share of the test images that are classified correctly."""
    test = load(chosen.workload, chosen.data, "test")
    if fast:
        loader = torch_data.fast_loader(chosen.workload, test, False, 0)
    else:
        loader = torch_data.documented_loader(chosen.workload, test, False)
    net.eval()
    correct = 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
        for inputs, labels in loader:
            correct += (net(inputs).argmax(1) == labels).sum().item()
    return correct / len(test.labels)


if __name__ == "__main__":
    main()
