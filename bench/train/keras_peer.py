"""Keras 3 on its PyTorch backend: compile and fit as its guides have it, and the same with every flag.

documented   arrays in memory, augmentation by layers inside the model, progress bar, float32
fast         mixed_bfloat16, no progress bar. Channels last is its default and was the faster layout; its optimisers
             have no fused form, and `jit_compile` is refused for models that augment

The networks are written out in Keras layers; their parameters are counted against the PyTorch ones. What differs
from those: a strided "same" convolution pads below and to the right only, and the shift of an image is rounded from a
uniform one. Keras' weight decay does not pass through the momentum, so it is larger by 1 / (1 - momentum).
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import protocol
import torch
from keras import layers
from workloads import BATCH, MOMENTUM, Split, Workload, load, rate


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of every other program."""

    def __init__(self, peak: float, total: int) -> None:
        self.peak, self.total = peak, total

    def __call__(self, step: object) -> float:
        return self.peak * rate(int(step), self.total)


class AtGate(keras.callbacks.Callback):
    """Stops after every batch until the runner wants more."""

    def __init__(self, gate: protocol.Gate, examples: int) -> None:
        super().__init__()
        self.gate, self.examples = gate, examples

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self.gate.begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        images = min(BATCH, self.examples - batch * BATCH)
        self.gate.step(images, lambda: (logs or {})["loss"])


def convolution(x: object, channels: int, side: int, stride: int = 1) -> object:
    """A convolution without bias, by He's rule over the outgoing connections, and batch normalisation."""
    start = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    x = layers.Conv2D(channels, side, stride, "same", use_bias=False, kernel_initializer=start)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def block(x: object, channels: int, stride: int, project: bool) -> object:
    """Two 3x3 convolutions and a shortcut: zeros for new channels or a 1x1 convolution."""
    y = layers.ReLU()(convolution(x, channels, 3, stride))
    y = convolution(y, channels, 3)
    added = channels - x.shape[-1]
    if added and project:
        x = convolution(x, channels, 1, stride)
    elif added:
        x = keras.ops.pad(x[:, ::stride, ::stride, :], [(0, 0), (0, 0), (0, 0), (0, added)])
    return layers.ReLU()(layers.Add()([x, y]))


def resnet(x: object, width: int, depths: tuple[int, ...], project: bool) -> object:
    """A 3x3 stem, stages of blocks that halve the image and double the channels, the mean, a linear layer."""
    x = layers.ReLU()(convolution(x, width, 3))
    for stage, depth in enumerate(depths):
        for position in range(depth):
            x = block(x, width * 2**stage, 2 if stage and not position else 1, project)
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def lenet5(x: object) -> object:
    """LeNet-5 on 28x28 images, padded to 32x32 by its first convolution."""
    x = layers.MaxPooling2D()(layers.Conv2D(6, 5, padding="same", activation="relu")(x))
    x = layers.MaxPooling2D()(layers.Conv2D(16, 5, activation="relu")(x))
    x = layers.Dense(120, activation="relu")(layers.Flatten()(x))
    return layers.Dense(10)(layers.Dense(84, activation="relu")(x))


def build(workload: Workload) -> keras.Model:
    """Augmentation, normalisation and the network as one model."""
    channels, *size = workload.shape
    inputs = x = keras.Input((*size, channels))
    if workload.flip:
        x = layers.RandomFlip("horizontal")(x)
    if workload.crop:
        part = workload.crop / workload.shape[1]
        x = layers.RandomTranslation(part, part, fill_mode="constant", interpolation="nearest")(x)
    x = layers.Normalization(mean=workload.mean, variance=np.square(workload.std))(x)
    if workload.network == "lenet5":
        outputs = lenet5(x)
    elif workload.network == "resnet20":
        outputs = resnet(x, 16, (3, 3, 3), project=False)
    else:
        outputs = resnet(x, 64, (2, 2, 2, 2), project=True)
    model = keras.Model(inputs, layers.Activation("linear", dtype="float32")(outputs))
    counted = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    if counted != workload.parameters:
        raise SystemExit(f"{workload.network} has {counted} parameters, not {workload.parameters}")
    return model


def array(split: Split) -> np.ndarray:
    """Images as float32 from 0 to 1."""
    return split.images.astype("float32") / 255


def main() -> None:
    chosen = protocol.arguments(["documented", "fast"])
    say = protocol.claim_stdout()
    workload, fast, speed = chosen.workload, chosen.mode == "fast", chosen.task == "speed"
    torch.set_num_threads(chosen.threads)
    keras.utils.set_random_seed(chosen.seed)
    if fast:
        keras.config.set_dtype_policy("mixed_bfloat16")

    train = load(workload, chosen.data, "train", chosen.limit)
    model = build(workload)
    total = chosen.epochs * -(-len(train.labels) // BATCH)
    model.compile(
        optimizer=keras.optimizers.SGD(
            Rate(workload.lr, total),
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=workload.weight_decay / (1 - MOMENTUM),
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    gate = protocol.Gate(say, {"versions": {"torch": torch.__version__, "keras": keras.__version__}})
    x = array(train)
    watch = protocol.Watch()
    model.fit(
        x,
        train.labels,
        batch_size=BATCH,
        epochs=10**6 if speed else chosen.epochs,
        callbacks=[AtGate(gate, len(train.labels))] if speed else [],
        verbose=0 if fast else 1,
    )
    test = load(workload, chosen.data, "test")
    _, accuracy = model.evaluate(array(test), test.labels, batch_size=BATCH, verbose=0)
    say(watch.row(float(accuracy)))


if __name__ == "__main__":
    main()
