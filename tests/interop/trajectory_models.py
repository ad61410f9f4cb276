"""What test_trajectories.py trains: Keras models with their data, and a ResNet-20 in PyTorch.

No two are alike in layers, activations and optimizer together. None draws random numbers while it
trains, and none with Adam or RMSprop has a bias before a BatchNormalization: its gradient is zero but
for rounding, which these optimizers turn into whole steps.
"""

import zlib

import keras
import numpy as np
import torch
from keras import layers as L

STEPS = 20


def normal(name, *shape):
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return random.standard_normal(shape).astype(np.float32)


def labels(x, classes):
    """Something that can be learnt: the largest of some random projections."""
    flat = x.reshape(len(x), -1)
    return (flat @ normal("projection", flat.shape[1], classes)).argmax(-1).astype(np.int64)


def classify(model, optimizer, batch=32, **training):
    """(model, batch size, tensors, training spec). One epoch has STEPS steps."""
    x = normal(model.name, STEPS * batch, *model.inputs[0].shape[1:])
    return model, batch, {"x": x, "y": labels(x, model.outputs[0].shape[-1])}, {
        "optimizer": optimizer, "losses": [{"sparse_categorical_crossentropy": {}}], **training}


def mlp():
    model = keras.Sequential([
        keras.Input((40,)), L.Dense(64, activation="relu"), L.Dense(32, activation="tanh"),
        L.Dense(10, activation="softmax")], name="mlp")
    return classify(model, {"sgd": {"learning_rate": 0.1}})


def mlp_batchnorm():
    model = keras.Sequential([keras.Input((40,))], name="mlp_batchnorm")
    for units in (64, 48):
        model.add(L.Dense(units, use_bias=False))
        model.add(L.BatchNormalization(momentum=0.9))
        model.add(L.Activation("sigmoid"))
    model.add(L.Dense(10, activation="softmax"))
    return classify(model, {"adam": {"learning_rate": 0.01}}, batch=64)


def cnn():
    model = keras.Sequential([keras.Input((16, 16, 1))], name="cnn")
    for filters in (8, 16):
        model.add(L.Conv2D(filters, 3, activation="relu", padding="same"))
        model.add(L.BatchNormalization())
        model.add(L.MaxPooling2D(2))
    model.add(L.Flatten())
    model.add(L.Dense(10, activation="softmax"))
    return classify(model, {"sgd": {"learning_rate": 0.02, "momentum": 0.9}})


def separable():
    model = keras.Sequential([
        keras.Input((14, 14, 3)), L.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        L.SeparableConv2D(16, 3, padding="same", use_bias=False), L.BatchNormalization(),
        L.Activation("relu"), L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        L.BatchNormalization(), L.Activation("silu"), L.GlobalAveragePooling2D(),
        L.Dense(6, activation="softmax")], name="separable")
    return classify(model, {"rmsprop": {"learning_rate": 0.002}})


def residual():
    image = keras.Input((12, 12, 3))
    x = L.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = skip = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False)(x))
    skip = L.BatchNormalization()(L.Conv2D(16, 1, strides=2, use_bias=False)(skip))
    x = L.GlobalAveragePooling2D()(L.Activation("relu")(L.add([x, skip])))
    model = keras.Model(image, L.Dense(10, activation="softmax")(x), name="residual")
    return classify(model, {"sgd": {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True}})


def branches():
    image = keras.Input((10, 10, 2))
    gate = L.Conv2D(6, 1, activation="sigmoid")(image)
    wide = L.Conv2D(6, 5, padding="same", activation="tanh")(image)
    x = L.concatenate([L.multiply([gate, wide]), L.AveragePooling2D(3, 1, "same")(image)])
    x = L.Flatten()(L.MaxPooling2D(2)(x))
    model = keras.Model(image, L.Dense(5, activation="softmax")(x), name="branches")
    return classify(model, {"adam": {"learning_rate": 0.003}})


def layer_norm_adamw():
    model = keras.Sequential([
        keras.Input((30,)), L.Dense(48), L.LayerNormalization(), L.Activation("gelu"),
        L.Dense(32, activation="silu"), L.LayerNormalization(), L.Dense(7, activation="softmax")],
        name="layer_norm_adamw")
    return classify(model, {"adam": {"learning_rate": 0.003}}, weight_decay={"rate": 0.05})


def group_norm():
    model = keras.Sequential([
        keras.Input((12, 12, 3)), L.Conv2D(16, 3, use_bias=False), L.GroupNormalization(4),
        L.Activation("silu"), L.Conv2D(16, 3, strides=2, use_bias=False),
        L.GroupNormalization(8), L.Activation("gelu"), L.Flatten(),
        L.Dense(8, activation="softmax")], name="group_norm")
    return classify(model, {"sgd": {"learning_rate": 0.02, "momentum": 0.9}})


def conv1d_regression():
    model = keras.Sequential([
        keras.Input((32, 4)), L.Conv1D(12, 5, activation="elu"), L.MaxPooling1D(2),
        L.Conv1D(16, 3, padding="same", dilation_rate=2, activation="softplus"),
        L.GlobalAveragePooling1D(), L.Dense(3)], name="conv1d_regression")
    x = normal("conv1d", STEPS * 32, 32, 4)
    y = x.reshape(len(x), -1) @ normal("targets", 128, 3) / np.float32(8)
    return model, 32, {"x": x, "y": y}, {
        "optimizer": {"adam": {"learning_rate": 0.003}}, "losses": [{"mean_squared_error": {}}]}


def regularized():
    # The rates are exact in float32: what is meant is the same for all.
    l1_l2 = keras.regularizers.L1L2(l1=2**-10, l2=2**-6)
    model = keras.Sequential([
        keras.Input((25,)), L.Dense(40, activation="elu", kernel_regularizer=l1_l2),
        L.BatchNormalization(gamma_regularizer=keras.regularizers.L2(2**-7)),
        L.Dense(20, activation="selu", kernel_regularizer=keras.regularizers.L2(2**-7)),
        L.Dense(1, activation="sigmoid")], name="regularized")
    x = normal("regularized", STEPS * 32, 25)
    return model, 32, {"x": x, "y": labels(x, 2).reshape(-1, 1).astype(np.float32)}, {
        "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.8}},
        "losses": [{"binary_crossentropy": {}}], "weight_decay": {"rate": 0.01}}


def two_inputs_two_outputs():
    image, facts = keras.Input((10, 10, 1), name="image"), keras.Input((6,), name="facts")
    x = L.GlobalMaxPooling2D()(L.Conv2D(12, 3, activation="relu")(image))
    x = L.concatenate([x, L.Dense(12, activation="tanh")(facts)])
    x = L.Dense(24, activation="gelu")(x)
    model = keras.Model([image, facts], [
        L.Dense(4, activation="softmax", name="kind")(x), L.Dense(1, name="size")(x)],
        name="two_inputs_two_outputs")
    images, values = normal("images", STEPS * 32, 10, 10, 1), normal("facts", STEPS * 32, 6)
    size = images.mean((1, 2)) + values[:, :1] * values[:, 1:2]
    return model, 32, {
        "image": images, "facts": values, "kind": labels(values, 4), "size": size}, {
        "optimizer": {"rmsprop": {"learning_rate": 0.002, "momentum": 0.5, "centered": True}},
        "losses": [{"sparse_categorical_crossentropy": {}}, {"mean_squared_error": {}}]}


def dilated_and_grouped():
    model = keras.Sequential([
        keras.Input((14, 14, 4)), L.ZeroPadding2D(1), L.Conv2D(8, 3, groups=2, activation="selu"),
        L.Conv2D(12, 3, dilation_rate=2, activation="leaky_relu"), L.AveragePooling2D(2),
        L.BatchNormalization(), L.Flatten(), L.Dense(24, activation="hard_sigmoid"),
        L.Dense(6, activation="softmax")], name="dilated_and_grouped")
    return classify(model, {"adam": {"learning_rate": 0.002}}, weight_decay={"rate": 0.02})


KERAS = [mlp, mlp_batchnorm, cnn, separable, residual, branches, layer_norm_adamw, group_norm,
         conv1d_regression, regularized, two_inputs_two_outputs, dilated_and_grouped]


class Conv3x3(torch.nn.Conv2d):
    """With "same" padding as in Keras: for strides of 2 and an even size at the end only."""

    def __init__(self, inputs, filters, stride=1):
        super().__init__(inputs, filters, 3, stride, bias=False)
        self.pad = (2 - stride, 1) * 2

    def forward(self, x):
        return super().forward(torch.nn.functional.pad(x, self.pad))


class Block(torch.nn.Module):
    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.conv1, self.bn1 = Conv3x3(inputs, filters, stride), torch.nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = Conv3x3(filters, filters), torch.nn.BatchNorm2d(filters)
        self.projects = stride > 1
        if self.projects:
            self.shortcut = torch.nn.Conv2d(inputs, filters, 1, stride, bias=False)
            self.shortcut_bn = torch.nn.BatchNorm2d(filters)

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (self.shortcut_bn(self.shortcut(x)) if self.projects else x)).relu()


class ResNet20(torch.nn.Module):
    """The graph and the names of deploy/examples/resnet20.json; gives logits."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = Conv3x3(3, 16), torch.nn.BatchNorm2d(16)
        inputs = 16
        for s, filters in enumerate([16, 32, 64], 1):
            stage = torch.nn.Sequential()
            for b in range(1, 4):
                stage.add_module(f"block{b}", Block(inputs, filters, 2 if inputs < filters else 1))
                inputs = filters
            self.add_module(f"stage{s}", stage)
        self.dense = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu()
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.dense(x.mean((2, 3)))
