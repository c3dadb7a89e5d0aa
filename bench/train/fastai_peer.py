"""fastai: a DataBlock and a Learner as its documentation builds them, and the same with every flag.

documented   PIL item transforms, its default number of workers, progress bar, float32
fast         bfloat16, channels-last, fused optimiser, no progress bar, and PyTorch's loaders in place of its own, which
             its guide to migrating from pure PyTorch shows

fastai's `to_bf16` names "cuda" in its autocast, so it changes nothing on a CPU; `OnCPU` is the same callback for one.
The images come from memory, which `PILImage.create` takes as well as a path.
"""

import contextlib
from functools import partial

import fastai
import networks
import protocol
import torch
import torch_data
from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds
from fastai.data.all import CategoryBlock, DataBlock, DataLoaders, IndexSplitter, Normalize
from fastai.learner import CancelValidException, Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastai.torch_core import set_seed
from fastai.vision.all import Callback, CropPad, FlipItem, ImageBlock, PILImage, PILImageBW, RandomCrop
from workloads import BATCH, MOMENTUM, WARMUP, Split, Workload, load


class AtGate(Callback):
    """Stops after every batch until the runner wants more; in that task nothing is validated."""

    def __init__(self, gate: protocol.Gate) -> None:
        self.gate = gate

    def before_batch(self) -> None:
        if self.training:
            self.gate.begin()

    def after_batch(self) -> None:
        if self.training:
            self.gate.step(len(self.yb[0]), self.loss.item)

    def before_validate(self) -> None:
        raise CancelValidException


class OnCPU(Callback):
    """fastai's MixedPrecision in bfloat16, for the CPU."""

    order = 10

    def before_batch(self) -> None:
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        self.autocast.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.autocast.__exit__(None, None, None)

    def after_cancel_batch(self) -> None:
        self.autocast.__exit__(None, None, None)


def loaders(workload: Workload, train: Split, test: Split) -> DataLoaders:
    """Training and validation loaders; the test images stand where fastai validates."""
    images, labels = [*train.images, *test.images], [*train.labels.tolist(), *test.labels.tolist()]
    item_transforms: list[object] = []
    if workload.crop:
        item_transforms += [CropPad(workload.shape[1] + 2 * workload.crop), RandomCrop(workload.shape[1])]
    if workload.flip:
        item_transforms.append(FlipItem())
    kind = PILImageBW if workload.shape[0] == 1 else PILImage
    block = DataBlock(
        blocks=(ImageBlock(kind), CategoryBlock(vocab=list(range(10)))),
        get_x=lambda index: images[index].squeeze(),
        get_y=lambda index: labels[index],
        splitter=IndexSplitter(list(range(len(train.labels), len(labels)))),
        item_tfms=item_transforms,
        batch_tfms=[Normalize.from_stats(workload.mean, workload.std, cuda=False)],
    )
    return block.dataloaders(list(range(len(labels))), bs=BATCH, device=torch.device("cpu"))


def main() -> None:
    chosen = protocol.arguments(["documented", "fast"])
    say = protocol.claim_stdout()
    workload, fast, speed = chosen.workload, chosen.mode == "fast", chosen.task == "speed"
    torch.set_num_threads(chosen.threads)
    set_seed(chosen.seed)

    train, test = load(workload, chosen.data, "train", chosen.limit), load(workload, chosen.data, "test")
    if fast:
        train_loader = torch_data.fast_loader(workload, train, True, chosen.workers)
        dls = DataLoaders(train_loader, torch_data.fast_loader(workload, test, False, 0))
    else:
        dls = loaders(workload, train, test)
    fused = {"fused": True} if fast else {}
    learn = Learner(
        dls,
        networks.build(workload),
        loss_func=CrossEntropyLossFlat(),
        opt_func=partial(OptimWrapper, opt=torch.optim.SGD, momentum=MOMENTUM, nesterov=True, **fused),
        lr=workload.lr,
        wd=workload.weight_decay,
        metrics=accuracy,
    )
    gate = protocol.Gate(say, {"versions": {"torch": torch.__version__, "fastai": fastai.__version__}})
    if fast:
        learn.to_channelslast(use_amp=False)
        learn.add_cb(OnCPU())
    up_and_down = combine_scheds([WARMUP, 1 - WARMUP], [SchedLin(0, workload.lr), SchedLin(workload.lr, 0)])
    callbacks: list[object] = [ParamScheduler({"lr": up_and_down})]
    if speed:
        callbacks.append(AtGate(gate))
    watch = protocol.Watch()
    with learn.no_bar() if fast else contextlib.nullcontext():
        learn.fit(10**6 if speed else chosen.epochs, cbs=callbacks)
    say(watch.row(float(learn.recorder.values[-1][-1])))


if __name__ == "__main__":
    main()
