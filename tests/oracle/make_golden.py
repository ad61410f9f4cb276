"""Makes golden/*.safetensors: what Keras 3 says our layers, losses and optimizers must compute.

Inputs are float32 values from fixed seeds. Keras computes in float64 on its PyTorch back end, with
PyTorch's gradients; the results are rounded once to float32, so they are the right answer to half a
unit in the last place, not another float32 implementation's opinion.

    python3 -m venv .venv && .venv/bin/pip install -r tests/oracle/requirements.txt
    .venv/bin/python tests/oracle/make_golden.py            # rewrites golden/
    .venv/bin/python tests/oracle/make_golden.py --check    # compares with golden/, writes nothing

README.md says what is in the files.
"""

import argparse
import json
import os
import pathlib
import sys
import zlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from golden_batchnorm import batch_normalization_variants, peer_weights, population_statistics
from golden_losses import losses, metrics
from keras.src.backend.common import dtypes
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import golden_activations
import golden_shapes
import golden_training

# Outside TensorFlow, Keras computes in float32 whatever dtype a layer was given: its type promotion
# replaces float64. That rule has to go, or 1000 +- 0.1 is normalised to noise.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
assert keras.backend.result_type("float64", "float32") == "float64"

GOLDEN = pathlib.Path(__file__).parent / "golden"


class GoldenFile:
    """The cases of one kind of thing; written as one safetensors file."""

    def __init__(self, name):
        self.name = name
        self.tensors = {}
        self.specs = {}

    def case(self, name, spec, **tensors):
        """`spec` is the proto's JSON form; tensors are arrays or torch tensors."""
        assert name not in self.specs, name
        self.specs[name] = json.dumps(spec, sort_keys=True)
        for key, value in tensors.items():
            if isinstance(value, torch.Tensor):
                value = value.detach().cpu().numpy()
            self.tensors[f"{name}/{key}"] = np.ascontiguousarray(value, dtype=np.float32)


def values(case, *shape, scale=1.0, offset=0.0):
    """Normal float32 values, the same for a case's name whatever cases there are beside it."""
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    return (rng.standard_normal(shape) * scale + offset).astype(np.float32)


def leaf(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=True)


def set_weights(layer, input_shape, *arrays):
    layer.build((None, *input_shape))
    layer.set_weights([np.asarray(a, dtype=np.float64) for a in arrays])


def gradients(y, dy, *inputs):
    """Of sum(y * dy)."""
    return torch.autograd.grad(y, inputs, torch.tensor(dy, dtype=torch.float64))


def batch_normalization(out):
    def add(name, x, momentum=None, epsilon=None, center=True, scale=True):
        channels = x.shape[-1]
        spec = {}
        options = {}
        for key, value in [("momentum", momentum), ("epsilon", epsilon)]:
            if value is not None:
                spec[key] = options[key] = value
        for key, value in [("center", center), ("scale", scale)]:
            if not value:
                spec[key] = options[key] = False
        layer = keras.layers.BatchNormalization(dtype="float64", **options)
        tensors = {"x": x}
        if scale:
            tensors["gamma"] = values(name + "/gamma", channels, scale=0.5, offset=1)
        if center:
            tensors["beta"] = values(name + "/beta", channels)
        tensors["moving_mean"] = values(name + "/moving_mean", channels)
        tensors["moving_variance"] = np.abs(values(name + "/moving_variance", channels)) + 0.5
        set_weights(layer, x.shape[1:], *list(tensors.values())[1:])

        # Steps 2 and 3 see other batches, of other sizes.
        tensors["x_2"] = values(name + "/x_2", 3, *x.shape[1:], scale=2, offset=-1)
        tensors["x_3"] = values(name + "/x_3", 2, *x.shape[1:], offset=3)
        dy = values(name + "/dy", *x.shape)
        x_leaf = leaf(x)
        y = layer(x_leaf, training=True)
        grads = gradients(y, dy, x_leaf, *[v.value for v in layer.trainable_variables])
        tensors.update(y=y, dy=dy, dx=grads[0])
        for variable, grad in zip(layer.trainable_variables, grads[1:]):
            tensors["d" + variable.name] = grad
        tensors["moving_mean_after_1"] = layer.moving_mean.numpy()
        tensors["moving_variance_after_1"] = layer.moving_variance.numpy()
        # With the running values rounded to float32, as they are stored.
        layer.moving_mean.assign(layer.moving_mean.numpy().astype(np.float32))
        layer.moving_variance.assign(layer.moving_variance.numpy().astype(np.float32))
        tensors["y_inference"] = layer(leaf(x), training=False)
        for step in ["x_2", "x_3"]:
            layer(leaf(tensors[step]), training=True)
        tensors["moving_mean_after_3"] = layer.moving_mean.numpy()
        tensors["moving_variance_after_3"] = layer.moving_variance.numpy()
        out.case(name, {"batchNormalization": spec}, **tensors)

    add("dense", values("bn_dense", 37, 7))
    add("image", values("bn_image", 3, 5, 4, 6, scale=2, offset=1))
    add("many_rows", values("bn_many", 260, 3))
    add("long_image", values("bn_long", 2, 13, 11, 3))
    add("one_channel", values("bn_one", 9, 1))
    add("wide", values("bn_wide", 5, 33))
    add("two_samples", values("bn_two", 2, 5))
    add("far_from_zero", values("bn_far", 50, 5, scale=1, offset=100))
    add("very_far_from_zero", values("bn_very_far", 50, 5, scale=0.1, offset=-1000))
    add("tiny_values", values("bn_tiny", 20, 5, scale=1e-4))
    add("large_values", values("bn_large", 20, 5, scale=1e4))
    constant = values("bn_constant", 19, 4)
    constant[:, 0] = 0
    constant[:, 1] = 0.1
    constant[:, 2] = -1234.567
    add("constant_channels", constant)
    add("momentum_0", values("bn_m0", 10, 3), momentum=0.0)
    add("momentum_1", values("bn_m1", 10, 3), momentum=1.0)
    add("momentum_and_epsilon", values("bn_me", 10, 3), momentum=0.9, epsilon=1e-5)
    add("no_center", values("bn_nc", 10, 3), center=False)
    add("no_scale", values("bn_ns", 4, 2, 2, 3), scale=False)
    add("neither", values("bn_nn", 10, 3), center=False, scale=False)


def with_kernel(out, name, layer, spec, x, kernel_shape, bias=True):
    """A case of a layer with a kernel and perhaps a bias, in the same way for all of them."""
    fan_in = int(np.prod(kernel_shape[:-1]))
    kernel = values(name + "/kernel", *kernel_shape, scale=fan_in**-0.5)
    tensors = {"x": x, "kernel": kernel}
    if bias:
        tensors["bias"] = values(name + "/bias", kernel_shape[-1], scale=0.5)
    set_weights(layer, x.shape[1:], *list(tensors.values())[1:])
    x_leaf = leaf(x)
    y = layer(x_leaf)
    dy = values(name + "/dy", *y.shape)
    grads = gradients(y, dy, x_leaf, *[v.value for v in layer.trainable_variables])
    tensors.update(y=y, dy=dy, dx=grads[0], dkernel=grads[1])
    if bias:
        tensors["dbias"] = grads[2]
    out.case(name, spec, **tensors)


def dense(out):
    def add(name, samples, inputs, units, activation=None, bias=True):
        options = {"units": units}
        if activation:
            options["activation"] = activation
        layer = keras.layers.Dense(use_bias=bias, dtype="float64", **options)
        spec = {**options, "units": str(units), **({} if bias else {"useBias": False})}
        x = values(name + "/x", samples, inputs)
        with_kernel(out, name, layer, {"dense": spec}, x, (inputs, units), bias)

    add("plain", 7, 5, 3)
    add("one_of_each", 1, 1, 1)
    add("no_bias", 6, 11, 9, bias=False)
    add("relu", 33, 17, 19, activation="relu")
    add("sigmoid", 5, 8, 4, activation="sigmoid")
    add("tanh", 5, 8, 4, activation="tanh")
    add("softmax", 6, 12, 10, activation="softmax")
    add("long_chain", 2, 400, 2)  # two chunks of 384
    add("wide", 2, 9, 67)
    add("many_rows", 390, 2, 1)  # two chunks again, in the kernel's gradient


def conv2d(out):
    def add(name, x_shape, filters, kernel, strides=(1, 1), padding="valid", activation=None,
            bias=True, dilation=(1, 1), groups=1):
        spec = {"filters": str(filters), "kernelSize": [str(k) for k in kernel]}
        if strides != (1, 1):
            spec["strides"] = [str(s) for s in strides]
        if dilation != (1, 1):
            spec["dilationRate"] = [str(d) for d in dilation]
        if groups != 1:
            spec["groups"] = str(groups)
        if padding != "valid":
            spec["padding"] = padding
        if activation:
            spec["activation"] = activation
        if not bias:
            spec["useBias"] = False
        layer = keras.layers.Conv2D(filters, kernel, strides=strides, padding=padding,
                                    activation=activation, use_bias=bias, dtype="float64",
                                    dilation_rate=dilation, groups=groups,
                                    data_format="channels_last")
        x = values(name + "/x", *x_shape)
        kernel_shape = (*kernel, x_shape[-1] // groups, filters)
        with_kernel(out, name, layer, {"conv2d": spec}, x, kernel_shape, bias)

    for k in [1, 3, 5]:
        for padding in ["valid", "same"]:
            for stride in [1, 2]:
                # An even height with an odd width: "same" pads them differently.
                add(f"{padding}_{k}x{k}_stride_{stride}", (2, 6, 5, 2), 3, (k, k),
                    (stride, stride), padding)
    add("one_channel", (2, 8, 8, 1), 5, (3, 3))
    add("uneven_kernel", (2, 6, 5, 2), 3, (3, 1), padding="same")
    add("uneven_stride", (2, 7, 8, 2), 3, (3, 3), (1, 2), padding="same")
    add("stride_above_kernel", (2, 8, 7, 2), 3, (1, 1), (3, 3), padding="same")
    add("even_kernel", (2, 6, 5, 2), 3, (2, 2), padding="same")
    add("kernel_is_image", (3, 4, 4, 2), 6, (4, 4))
    add("relu", (2, 5, 5, 3), 6, (3, 3), activation="relu")
    add("no_bias", (2, 5, 5, 3), 2, (3, 3), bias=False)
    add("many_channels", (1, 3, 2, 65), 3, (3, 3), padding="same")  # 585 taps: two chunks of 576
    for padding in ["valid", "same"]:
        add(f"dilated_{padding}", (2, 7, 8, 2), 3, (3, 2), padding=padding, dilation=(2, 3))
        add(f"depthwise_{padding}", (2, 5, 6, 5), 5, (3, 3), padding=padding, groups=5)
    add("dilated_along_one_axis", (2, 6, 7, 2), 3, (3, 3), padding="same", dilation=(1, 2))
    add("groups", (2, 5, 6, 6), 9, (3, 3), padding="same", groups=3)
    add("groups_strided", (2, 7, 6, 4), 2, (3, 2), (2, 2), groups=2, activation="sigmoid")
    add("groups_dilated", (2, 7, 7, 4), 6, (2, 3), padding="same", groups=2, dilation=(3, 2))
    add("depthwise_strided", (2, 7, 6, 19), 19, (3, 3), (2, 2), padding="same", groups=19)
    add("depthwise_dilated", (2, 6, 7, 3), 3, (3, 3), padding="same", groups=3, dilation=(2, 2))
    add("two_filters_a_channel", (2, 5, 4, 3), 6, (2, 2), groups=3, bias=False)


def max_pooling2d(out):
    def add(name, x, pool=None, strides=None):
        spec = {}
        options = {}
        if pool:
            spec["poolSize"], options["pool_size"] = [str(p) for p in pool], pool
        if strides:
            spec["strides"], options["strides"] = [str(s) for s in strides], strides
        layer = keras.layers.MaxPooling2D(dtype="float64", data_format="channels_last", **options)
        x_leaf = leaf(x)
        y = layer(x_leaf)
        dy = values(name + "/dy", *y.shape)
        (dx,) = gradients(y, dy, x_leaf)
        out.case(name, {"maxPooling2d": spec}, x=x, y=y, dy=dy, dx=dx)

    add("defaults", values("pool_defaults", 2, 4, 6, 3))
    add("odd_image", values("pool_odd", 2, 5, 7, 3))
    add("overlapping", values("pool_overlap", 2, 6, 7, 2), (3, 3), (2, 2))
    add("uneven", values("pool_uneven", 2, 6, 7, 2), (2, 3), (1, 2))
    add("gaps", values("pool_gaps", 2, 7, 7, 2), (2, 2), (3, 3))
    # Few different values, so that most windows hold their largest one several times.
    add("ties", np.round(values("pool_ties", 2, 6, 6, 3)))
    add("overlapping_ties", np.round(values("pool_overlapping_ties", 2, 7, 7, 2)), (3, 3), (1, 1))
    add("all_equal", np.full((1, 4, 4, 2), -2.5, dtype=np.float32))
    add("after_relu", np.maximum(values("pool_relu", 2, 6, 6, 2), 0))


def global_average_pooling2d(out):
    def add(name, *shape):
        x = values(name + "/x", *shape)
        x_leaf = leaf(x)
        y = keras.layers.GlobalAveragePooling2D(dtype="float64", data_format="channels_last")(x_leaf)
        dy = values(name + "/dy", *y.shape)
        (dx,) = gradients(y, dy, x_leaf)
        out.case(name, {"globalAveragePooling2d": {}}, x=x, y=y, dy=dy, dx=dx)

    add("average_image", 3, 4, 5, 19)
    add("average_one_position", 2, 1, 1, 3)
    add("average_long_chain", 2, 17, 16, 2)


def activation(out):
    x = np.concatenate([
        values("activations", 6, 10).ravel() * 3,
        np.array([0.0, -0.0, 1e-6, -1e-6, 0.5, -0.5, 1, -1, 9, -9, 20, -20, 50, -50, 100, -100,
                  88, -87, 1e-30, -1e-30], dtype=np.float32)]).reshape(8, 10)
    for name in ["linear", "relu", "sigmoid", "tanh", "softmax"]:
        layer = keras.layers.Activation(name, dtype="float64")
        x_leaf = leaf(x)
        y = layer(x_leaf)
        dy = values(name + "/dy", *y.shape)
        (dx,) = gradients(y, dy, x_leaf)
        out.case(name, {"activation": {"activation": name}}, x=x, y=y, dy=dy, dx=dx)


def loss(out):
    def softmax_crossentropy(name, logits, labels, from_logits):
        fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        x = leaf(logits)
        per_sample = fn(torch.tensor(labels), x)
        mean = per_sample.mean()
        (dx,) = torch.autograd.grad(mean, (x,))
        spec = {"sparseCategoricalCrossentropy": {"fromLogits": True} if from_logits else {}}
        out.case(name, spec, logits=logits, labels=labels, loss=mean, per_sample=per_sample,
                 dlogits=dx)

    labels = np.array([0, 3, 9, 9, 5, 1, 2])
    softmax_crossentropy("softmax", values("ce", 7, 10, scale=2), labels, False)
    softmax_crossentropy("logits", values("ce_logits", 7, 10, scale=2), labels, True)
    softmax_crossentropy("sure_and_right", 15 * np.eye(10, dtype=np.float32)[labels], labels, True)
    softmax_crossentropy("sure_and_wrong", -15 * np.eye(10, dtype=np.float32)[labels], labels, True)
    softmax_crossentropy("two_classes", values("ce_two", 5, 2), np.array([0, 1, 1, 0, 1]), True)
    softmax_crossentropy("far_from_zero", values("ce_far", 4, 5, offset=80),
                         np.array([4, 0, 2, 1]), True)

    def squared_error(name, y, target):
        fn = keras.losses.MeanSquaredError(reduction=None)
        x = leaf(y)
        per_sample = fn(torch.tensor(target, dtype=torch.float64), x)
        mean = per_sample.mean()
        (dx,) = torch.autograd.grad(mean, (x,))
        out.case(name, {"meanSquaredError": {}}, prediction=y, target=target, loss=mean,
                 per_sample=per_sample, dprediction=dx)

    squared_error("mse", values("mse", 6, 3), values("mse_target", 6, 3))
    squared_error("mse_one_output", values("mse1", 9, 1), values("mse1_target", 9, 1))


def optimizer(out):
    def add(name, make, spec, steps=3):
        start = values(name + "/w", 29, scale=1e-3)  # so that a step of 1e-3 is not lost in it
        variable = keras.Variable(start, dtype="float64")
        keras_optimizer = make()
        keras_optimizer.build([variable])
        # Hyper-parameters are meant as written, not rounded to float32.
        assert keras_optimizer._learning_rate.dtype == "float64"
        tensors = {"w": start}
        for step in range(1, steps + 1):
            # From tiny to large, with exact zeros.
            g = values(f"{name}/g_{step}", 29) * np.float32(10.0) ** np.arange(-14, 15).clip(-7, 2)
            g = g.astype(np.float32)
            g[::7] = 0
            keras_optimizer.apply([torch.tensor(g, dtype=torch.float64)])
            tensors[f"g_{step}"] = g
            tensors[f"w_after_{step}"] = variable.numpy()
        out.case(name, spec, **tensors)

    adam = keras.optimizers.Adam
    sgd = keras.optimizers.SGD
    add("adam", lambda: adam(), {"adam": {}})
    add("adam_all_set", lambda: adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
        {"adam": {"learningRate": 0.01, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}})
    add("adam_20_steps", lambda: adam(0.01), {"adam": {"learningRate": 0.01}}, steps=20)
    add("sgd", lambda: sgd(), {"sgd": {}})
    add("momentum", lambda: sgd(0.1, momentum=0.9), {"sgd": {"learningRate": 0.1, "momentum": 0.9}})
    add("nesterov", lambda: sgd(0.1, momentum=0.9, nesterov=True),
        {"sgd": {"learningRate": 0.1, "momentum": 0.9, "nesterov": True}})


def network(out):
    def layer(spec):
        conv = spec.get("conv2d")
        if conv:
            return keras.layers.Conv2D(conv["filters"], conv["kernelSize"],
                                       strides=conv.get("strides", [1, 1]),
                                       padding=conv.get("padding", "valid"),
                                       activation=conv.get("activation"),
                                       use_bias=conv.get("useBias", True), name=spec["name"],
                                       data_format="channels_last", dtype="float64")
        if "dense" in spec:
            return keras.layers.Dense(spec["dense"]["units"], name=spec["name"], dtype="float64")
        if "activation" in spec:
            return keras.layers.Activation(spec["activation"]["activation"], dtype="float64")
        kind = {"add": keras.layers.Add, "batchNormalization": keras.layers.BatchNormalization}
        found = [make for key, make in kind.items() if key in spec]
        if not found:
            return golden_shapes.keras_layer(spec)
        return found[0](name=spec["name"], dtype="float64")

    def add(case, samples, spec):
        outputs = {i.get("name", "input"): keras.Input(i["shape"], dtype="float64")
                   for i in spec["inputs"]}
        edges = list(outputs.values())
        last = "input"
        for s in spec["layers"]:
            inputs = [outputs[name] for name in s.get("inputs", [last])]
            last = s["name"]
            outputs[last] = layer(s)(inputs if len(inputs) > 1 else inputs[0])
        model = keras.Model(edges, [outputs[name] for name in spec.get("outputs", [last])])

        def rows(x, training):
            """A sample's inputs lie one after another in its row, and so do its outputs."""
            split = torch.split(x.flatten(1), [int(np.prod(i["shape"])) for i in spec["inputs"]], 1)
            inputs = [part.reshape(-1, *i["shape"]) for part, i in zip(split, spec["inputs"])]
            y = model(inputs, training=training)
            return torch.cat([part.flatten(1) for part in (y if isinstance(y, list) else [y])], 1)

        tensors = {}
        for variable in model.weights:
            # "conv/kernel" is "conv.kernel" in a tensor's name here.
            name = variable.path.replace("/", ".")
            fan_in = int(np.prod(variable.shape[:-1]))
            start = values(f"{case}/{name}", *variable.shape, scale=fan_in**-0.5)
            start = np.abs(start) + np.float32(0.5) if name.endswith("variance") else start
            variable.assign(start)
            tensors[name] = start
        shapes = [i["shape"] for i in spec["inputs"]]
        row = shapes[0] if len(shapes) == 1 else [sum(int(np.prod(s)) for s in shapes)]
        x = values(case + "/x", samples, *row)
        # Afterwards, for BatchNormalization in training changes its running values.
        y_inference = rows(leaf(x), training=False)
        y = rows(leaf(x), training=True)
        dy = values(case + "/dy", *y.shape)
        grads = gradients(y, dy, *[v.value for v in model.trainable_variables])
        tensors.update(x=x, y=y, dy=dy, y_inference=y_inference)
        for variable, grad in zip(model.trainable_variables, grads):
            tensors["d" + variable.path.replace("/", ".")] = grad
        for variable in model.non_trainable_variables:
            tensors[variable.path.replace("/", ".") + "_after"] = variable.numpy()
        out.case(case, spec, **tensors)

    def conv(name, filters, kernel, **options):
        return {"name": name, "conv2d": {"filters": filters, "kernelSize": [kernel, kernel],
                                         "padding": "same", **options}}

    def norm(name):
        return {"name": name, "batchNormalization": {}}

    def relu(name):
        return {"name": name, "activation": {"activation": "relu"}}

    # Two residual blocks, the first with an identity as its shortcut, the second with a projection;
    # three layers read the first one's input.
    add("residual", 13, {"inputs": [{"shape": [6, 5, 3]}], "layers": [
        conv("stem", 4, 3), norm("stem_norm"), relu("one"),
        conv("a1", 4, 3, activation="tanh"), conv("a2", 4, 3), norm("a_norm"),
        {"name": "a", "add": {}, "inputs": ["a_norm", "one"]}, relu("two"),
        conv("b1", 6, 3, strides=[2, 2], useBias=False), norm("b_norm"),
        {**conv("projection", 6, 1, strides=[2, 2]), "inputs": ["two"]},
        {**conv("third", 6, 2, strides=[2, 2]), "inputs": ["one"]},
        {"name": "b", "add": {}, "inputs": ["b_norm", "projection", "third"]}, relu("three"),
        {"name": "average", "globalAveragePooling2d": {}},
        {"name": "classes", "dense": {"units": 4}}]})

    # Two inputs and two outputs; the first output is read by the layers of the second.
    add("two_inputs", 7, {
        "inputs": [{"shape": [6, 5, 2]}, {"shape": [3], "name": "facts"}],
        "layers": [
            conv("image", 3, 3, activation="tanh"), norm("image_norm"),
            {"name": "average", "globalAveragePooling2d": {}},
            {**norm("facts_norm"), "inputs": ["facts"]},
            {"name": "both", "add": {}, "inputs": ["average", "facts_norm"]},
            {"name": "classes", "dense": {"units": 4}},
            relu("used"),
            {"name": "number", "dense": {"units": 1}}],
        "outputs": ["number", "classes"]})

    # The first layers with weights need no gradient of their input.
    add("shapes", 5, {"inputs": [{"shape": [6, 5, 3]}], "layers": [
        {"name": "separable", "separableConv2d": {"filters": 4, "kernelSize": [3, 3],
                                                  "padding": "same", "activation": "tanh"}},
        {"name": "depthwise", "depthwiseConv2d": {"kernelSize": [3, 3], "depthMultiplier": 2,
                                                  "padding": "same"}, "inputs": ["input"]},
        norm("depthwise_norm"),
        {"name": "both", "concatenate": {}, "inputs": ["separable", "depthwise_norm"]},
        norm("both_norm"), relu("both_relu"),
        {"name": "squeeze", "globalAveragePooling2d": {"keepdims": True}},
        {**conv("gate", 10, 1, activation="sigmoid")},
        {"name": "edge", "zeroPadding2d": {"padding": [1, 0]}, "inputs": ["both_relu"]},
        {"name": "mean", "averagePooling2d": {"poolSize": [2, 3], "strides": [3, 2]}},
        {"name": "rows", "reshape": {"targetShape": [-1, 10]}},
        {"name": "turned", "permute": {"dims": [2, 1]}},
        {"name": "line", "conv1d": {"filters": 6, "kernelSize": 3, "padding": "causal"}},
        norm("line_norm"),
        {"name": "best", "maxPooling1d": {"poolSize": 3, "padding": "same"}},
        {"name": "top", "globalMaxPooling1d": {}},
        {"name": "again", "separableConv2d": {"filters": 6, "kernelSize": [2, 2]},
         "inputs": ["both_relu"]},
        norm("again_norm"),
        {"name": "most", "globalMaxPooling2d": {}},
        {"name": "factor", "multiply": {}, "inputs": ["top", "most"]},
        {"name": "gate_row", "reshape": {"targetShape": [10]}, "inputs": ["gate"]},
        {"name": "all", "concatenate": {}, "inputs": ["factor", "gate_row", "top"]},
        {"name": "classes", "dense": {"units": 4}}]})


KINDS = [batch_normalization, dense, conv2d, max_pooling2d, global_average_pooling2d, activation,
         loss, losses, metrics, optimizer, network, batch_normalization_variants,
         peer_weights, population_statistics, *golden_training.KINDS,
         *golden_activations.make(sys.modules[__name__])]
# Modules beside this one: they add KINDS of their own and FURTHER cases to those above. Their
# functions get this module, for its helpers.
MODULES = [golden_shapes]


def specs(path):
    with safe_open(path, "np") as file:
        return file.metadata()


def differences(golden, path):
    """Lines that say where a file on disk is not what was made just now."""
    if not path.exists():
        yield f"{path.name} does not exist"
        return
    stored = load_file(path)
    if specs(path) != golden.specs:
        yield f"{path.name}: the cases' specs differ"
    for name in sorted(stored.keys() ^ golden.tensors.keys()):
        yield f"{path.name}: {name} is on one side only"
    for name in sorted(stored.keys() & golden.tensors.keys()):
        a, b = stored[name], golden.tensors[name]
        # Other versions may sum in another order: what float64 can differ by, rounded to float32.
        if a.shape != b.shape or not np.allclose(a, b, rtol=1e-6, atol=1e-9):
            yield f"{path.name}: {name} differs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with golden/, write nothing")
    check = parser.parse_args().check
    keras.config.set_floatx("float64")
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    found = []
    here = sys.modules[__name__]
    for kind in KINDS + [kind for module in MODULES for kind in module.KINDS]:
        golden = GoldenFile(kind.__name__)
        kind(golden) if kind in KINDS else kind(here, golden)
        for module in MODULES:
            if kind in KINDS and golden.name in module.FURTHER:
                module.FURTHER[golden.name](here, golden)
        path = GOLDEN / f"{golden.name}.safetensors"
        changes = list(differences(golden, path))
        found += changes
        for line in changes:
            print(line)
        if changes and not check:  # the writer's order of metadata is random: no change for nothing
            save_file(golden.tensors, path, metadata=golden.specs)
            path.chmod(0o644)
        print(f"{path.name}: {len(golden.specs)} cases, {len(changes)} differences")
    print(f"With keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}; to "
          "make the files again, see the top of this one.")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
