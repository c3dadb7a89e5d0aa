"""Lightning: a LightningModule and a Trainer as in its introduction, and the same with every flag.

documented   PIL images, two DataLoader workers (the Trainer asks for workers), progress bar, float32
fast         v2 transforms on tensors, precision "bf16-mixed", channels-last, fused optimiser, no progress bar
"""

import tempfile
from typing import Any

import lightning as L
import networks
import protocol
import torch
import torch.nn.functional as F
import torch_data
from torch import Tensor
from workloads import BATCH, MOMENTUM, Workload, load, rate


class Classifier(L.LightningModule):
    """A network, its loss, its optimiser and its schedule."""

    def __init__(self, workload: Workload, total: int, fast: bool) -> None:
        super().__init__()
        self.net = networks.build(workload)
        self.workload, self.total, self.fast = workload, total, fast
        self.correct = self.seen = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        if self.fast:
            x = x.to(memory_format=torch.channels_last)
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.correct += (self.net(x).argmax(1) == y).sum().item()
        self.seen += len(y)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.workload.lr,
            momentum=MOMENTUM,
            weight_decay=self.workload.weight_decay,
            nesterov=True,
            fused=True if self.fast else None,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, self.total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class AtGate(L.Callback):
    """Stops after every batch until the runner wants more."""

    def __init__(self, gate: protocol.Gate) -> None:
        self.gate = gate

    def on_train_batch_start(self, *_: object) -> None:
        self.gate.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.gate.step(len(batch[1]), outputs["loss"].item)


def main() -> None:
    chosen = protocol.arguments(["documented", "fast"])
    say = protocol.claim_stdout()
    workload, fast = chosen.workload, chosen.mode == "fast"
    torch.set_num_threads(chosen.threads)
    L.seed_everything(chosen.seed, verbose=False)

    train = load(workload, chosen.data, "train", chosen.limit)
    model = Classifier(workload, chosen.epochs * -(-len(train.labels) // BATCH), fast)
    test = load(workload, chosen.data, "test")
    if fast:
        model.to(memory_format=torch.channels_last)
        loader = torch_data.fast_loader(workload, train, True, chosen.workers)
        test_loader = torch_data.fast_loader(workload, test, False, 0)
    else:
        loader = torch_data.documented_loader(workload, train, True)
        test_loader = torch_data.documented_loader(workload, test, False)
    speed = chosen.task == "speed"
    gate = protocol.Gate(say, {"versions": {"torch": torch.__version__, "lightning": L.__version__}})
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1 if speed else chosen.epochs,
        precision="bf16-mixed" if fast else "32-true",
        enable_progress_bar=not fast,
        callbacks=[AtGate(gate)] if speed else [],
        default_root_dir=tempfile.mkdtemp(),
        logger=False,
        enable_checkpointing=False,  # no program writes files while it is measured
    )
    watch = protocol.Watch()
    trainer.fit(model, loader)
    trainer.test(model, test_loader, verbose=False)
    say(watch.row(model.correct / model.seen))


if __name__ == "__main__":
    main()
