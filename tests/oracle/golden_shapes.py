"""The layers that move, pool and convolve, and those that draw random numbers; see make_golden.py.

Every function makes the cases of the golden file of its name.
"""

import re
import statistics

import keras
import numpy as np
import torch

# What LayerRun (tests/core/layers/layer_run.h) runs a layer with.
SEED, STEP, LAYER = 42, 7, 3


def case(tools, out, name, spec, layer, *inputs, weights=()):
    """One case: `layer` is called with the inputs, or the list of them, in float64. `weights` names
    its trainable tensors in the order of our layer's parameters."""
    leaves = [tools.leaf(x) for x in inputs]
    argument = leaves if len(leaves) > 1 else leaves[0]
    tensors = {"x": inputs[0]}
    for i, x in enumerate(inputs[1:], 1):
        tensors[f"input_{i}"] = x
    variables = []
    if weights:
        layer.build((None, *inputs[0].shape[1:]))
        assert len(layer.trainable_variables) == len(weights)
        for key, variable in zip(weights, layer.trainable_variables):
            fan_in = int(np.prod(variable.shape[:-1]))
            tensors[key] = tools.values(f"{name}/{key}", *variable.shape, scale=fan_in**-0.5)
            variable.assign(tensors[key].astype(np.float64))
            variables.append(variable.value)
    y = layer(argument)
    dy = tools.values(name + "/dy", *y.shape)
    grads = tools.gradients(y, dy, *leaves, *variables)
    tensors.update(y=y, dy=dy, dx=grads[0])
    for i in range(1, len(leaves)):
        tensors[f"dinput_{i}"] = grads[i]
    for key, grad in zip(weights, grads[len(leaves):]):
        tensors["d" + key] = grad
    out.case(name, spec, **tensors)


def numbers(value):
    """As protobuf's JSON writes integers of 64 bits."""
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else str(value)


def keras_layer(spec):
    """Of a layer's message whose fields are called as Keras' arguments are."""
    kind, fields = next((key, value) for key, value in spec.items() if key not in ("name", "inputs"))
    options = {re.sub("[A-Z]", lambda c: "_" + c[0].lower(), key): value
               for key, value in fields.items()}
    if kind == "zeroPadding2d":
        options["padding"] = tuple(options["padding"])
    name = re.sub("(conv|pooling|padding|Conv|Pooling|Padding)([12])d$", r"\1\2D", kind)
    if name.endswith("D") and name != "zeroPadding2D":
        options["data_format"] = "channels_last"
    return getattr(keras.layers, name[0].upper() + name[1:])(name=spec["name"], dtype="float64",
                                                            **options)


def zeros_around(x, padding):
    """Explicit padding, which Keras has as a layer of its own: (before, after) an axis."""
    pairs = [padding[i:i + 2] for i in range(0, len(padding), 2)]
    flat = [n for pair in reversed(pairs) for n in pair]
    return torch.nn.functional.pad(x, [0, 0, *flat])


def convolution(tools, out, kind, make, weights, name, x_shape, explicit=None, bias=True, **options):
    """`options`: of Keras' layer; an `explicit` padding is put around the input by hand."""
    spec = {}
    for key, value in options.items():
        words = key.split("_")
        spec[words[0] + "".join(w.capitalize() for w in words[1:])] = (
            value if isinstance(value, str) else numbers(value))
    if explicit:
        spec.update(padding="explicit", explicitPadding=numbers(explicit))
    if not bias:
        spec["useBias"] = False
    layer = make(dtype="float64", data_format="channels_last", use_bias=bias, **options)
    x = tools.values(f"{kind}/{name}/x", *x_shape)
    keys = weights + (["bias"] if bias else [])
    if explicit:
        layer = Padded(layer, explicit)
    case(tools, out, name, {kind: spec}, layer, x, weights=keys)


class Padded:
    """A layer behind explicit padding."""

    def __init__(self, layer, padding):
        self.layer, self.padding = layer, padding

    def build(self, shape):
        self.layer.build((None, *zeros_around(torch.zeros(1, *shape[1:]), self.padding).shape[1:]))

    @property
    def trainable_variables(self):
        return self.layer.trainable_variables

    def __call__(self, x):
        return self.layer(zeros_around(x, self.padding))


def conv2d_explicit(tools, out):
    """Further cases of conv2d."""
    def add(name, *shape, **options):
        convolution(tools, out, "conv2d", keras.layers.Conv2D, ["kernel"], name, *shape, **options)

    add("explicit", (2, 5, 6, 3), filters=4, kernel_size=(3, 3), explicit=(1, 1, 1, 1))
    add("explicit_uneven", (2, 5, 6, 3), filters=4, kernel_size=(3, 2), strides=(2, 1),
        explicit=(2, 0, 0, 1))
    add("explicit_dilated", (2, 4, 5, 2), filters=3, kernel_size=(3, 2), dilation_rate=(2, 3),
        explicit=(4, 3, 2, 3), bias=False)


def conv1d(tools, out):
    def add(name, *shape, **options):
        convolution(tools, out, "conv1d", keras.layers.Conv1D, ["kernel"], name, *shape, **options)

    for padding in ["valid", "same", "causal"]:
        add(padding, (2, 9, 3), filters=4, kernel_size=3, padding=padding)
        add(padding + "_strided", (2, 8, 2), filters=3, kernel_size=4, strides=3, padding=padding)
        add(padding + "_dilated", (2, 9, 2), filters=3, kernel_size=3, dilation_rate=2,
            padding=padding, activation="tanh")
    add("explicit", (2, 7, 3), filters=4, kernel_size=4, explicit=(3, 1))
    add("groups", (2, 7, 6), filters=4, kernel_size=3, groups=2, bias=False)
    add("one_step", (3, 1, 5), filters=2, kernel_size=1)
    add("gelu", (3, 9, 4), filters=5, kernel_size=3, strides=2, padding="same", activation="gelu")
    add("softmax", (3, 6, 2), filters=4, kernel_size=2, activation="softmax")


def depthwise_conv2d(tools, out):
    def add(name, *shape, **options):
        convolution(tools, out, "depthwiseConv2d", keras.layers.DepthwiseConv2D, ["kernel"], name,
                    *shape, **options)

    for padding in ["valid", "same"]:
        add(padding, (2, 6, 5, 3), kernel_size=(3, 3), padding=padding)
        add(padding + "_multiplied", (2, 6, 5, 3), kernel_size=(3, 2), depth_multiplier=3,
            padding=padding)
    add("strided", (2, 7, 8, 4), kernel_size=(3, 3), strides=(2, 2), padding="same",
        activation="sigmoid")
    add("dilated", (2, 7, 8, 2), kernel_size=(3, 3), dilation_rate=(2, 2), depth_multiplier=2)
    add("one_channel", (2, 5, 5, 1), kernel_size=(2, 2), depth_multiplier=4, bias=False)
    add("explicit", (2, 5, 4, 3), kernel_size=(3, 3), explicit=(0, 2, 1, 1))
    add("gelu", (3, 5, 6, 3), kernel_size=(3, 2), depth_multiplier=2, activation="gelu")


def separable_conv2d(tools, out):
    def add(name, *shape, **options):
        convolution(tools, out, "separableConv2d", keras.layers.SeparableConv2D,
                    ["depthwise_kernel", "pointwise_kernel"], name, *shape, **options)

    for padding in ["valid", "same"]:
        add(padding, (2, 6, 5, 3), filters=4, kernel_size=(3, 3), padding=padding)
    add("multiplied", (2, 6, 5, 3), filters=5, kernel_size=(3, 2), depth_multiplier=2, bias=False)
    add("strided", (2, 7, 8, 4), filters=3, kernel_size=(3, 3), strides=(2, 2), padding="same",
        activation="relu")
    add("dilated", (2, 7, 8, 2), filters=3, kernel_size=(2, 3), dilation_rate=(2, 2),
        activation="tanh")
    add("one_position", (5, 3, 3, 2), filters=4, kernel_size=(3, 3))
    add("explicit", (2, 5, 4, 3), filters=2, kernel_size=(3, 3), explicit=(1, 1, 2, 0))
    add("gelu", (3, 5, 6, 3), filters=4, kernel_size=(3, 2), depth_multiplier=2, activation="gelu")


def pooling_spec(pool, strides, padding):
    spec, options = {}, {}
    if pool:
        spec["poolSize"], options["pool_size"] = numbers(pool), pool
    if strides:
        spec["strides"], options["strides"] = numbers(strides), strides
    if padding:
        spec["padding"] = options["padding"] = padding
    return spec, options


def max_pooling2d_same(tools, out):
    """Further cases of max_pooling2d."""
    def add(name, x, pool=None, strides=None):
        spec, options = pooling_spec(pool, strides, "same")
        layer = keras.layers.MaxPooling2D(dtype="float64", data_format="channels_last", **options)
        case(tools, out, name, {"maxPooling2d": spec}, layer, x)

    add("same", tools.values("pool_same", 2, 5, 7, 3))
    add("same_overlapping", tools.values("pool_same_over", 2, 6, 7, 2), (3, 3), (2, 2))
    add("same_negative", -np.abs(tools.values("pool_same_neg", 2, 5, 5, 2)), (3, 3), (1, 1))
    add("same_gaps", tools.values("pool_same_gaps", 2, 4, 8, 2), (2, 2), (3, 3))
    add("same_larger_than_image", tools.values("pool_same_large", 2, 2, 3, 2), (5, 3), (1, 1))


def max_pooling1d(tools, out):
    def add(name, x, *arguments):
        spec, options = pooling_spec(*arguments)
        layer = keras.layers.MaxPooling1D(dtype="float64", data_format="channels_last", **options)
        case(tools, out, name, {"maxPooling1d": spec}, layer, x)

    add("defaults", tools.values("max1_defaults", 2, 7, 3), None, None, None)
    add("same", tools.values("max1_same", 2, 7, 3), 3, 2, "same")
    add("overlapping", tools.values("max1_over", 2, 8, 2), 3, 1, "valid")


class AveragePooling:
    """Means of what is inside the image. Keras' PyTorch back end repeats the border where "same" pads
    one side only, which TensorFlow's and JAX' do not: sums of a padded image over how many count."""

    def __init__(self, pool, strides, padding):
        self.pool, self.strides, self.padding = pool, strides, padding

    def __call__(self, x):
        axes = len(self.pool)
        x = torch.movedim(x, -1, 1)
        if self.padding == "same":
            flat = []
            for size, pool, stride in reversed(list(zip(x.shape[2:], self.pool, self.strides))):
                total = max(0, (-(-size // stride) - 1) * stride + pool - size)
                flat += [total // 2, total - total // 2]
        else:
            flat = [0] * (2 * axes)
        mean = torch.nn.functional.avg_pool1d if axes == 1 else torch.nn.functional.avg_pool2d
        inside = mean(torch.nn.functional.pad(torch.ones_like(x), flat), self.pool, self.strides)
        y = mean(torch.nn.functional.pad(x, flat), self.pool, self.strides) / inside
        return torch.movedim(y, 1, -1)


def average_pooling(tools, out, kind, name, x, pool, strides, padding):
    spec, _ = pooling_spec(pool, strides, padding)
    make = {"averagePooling1d": keras.layers.AveragePooling1D,
            "averagePooling2d": keras.layers.AveragePooling2D}[kind]
    pool = pool or (2,) * (x.ndim - 2)
    layer = AveragePooling(pool, strides or pool, padding)
    if padding != "same":  # where Keras is right, it is the oracle
        keras_layer = make(pool if len(pool) > 1 else pool[0],
                           strides if strides is None or len(strides) > 1 else strides[0],
                           dtype="float64", data_format="channels_last")
        leaf = tools.leaf(x)
        assert torch.allclose(keras_layer(leaf), layer(leaf), rtol=1e-12)
        layer = keras_layer
    if kind.endswith("1d"):  # fields of one number
        spec = {key: v[0] if isinstance(v, list) else v for key, v in spec.items()}
    case(tools, out, name, {kind: spec}, layer, x)


def average_pooling1d(tools, out):
    def add(name, x, *arguments):
        average_pooling(tools, out, "averagePooling1d", name, x, *arguments)

    add("defaults", tools.values("avg1_defaults", 2, 7, 3), None, None, None)
    add("same", tools.values("avg1_same", 2, 7, 3), None, None, "same")
    add("overlapping", tools.values("avg1_over", 2, 8, 2), (3,), (1,), "valid")


def average_pooling2d(tools, out):
    def add(name, x, *arguments):
        average_pooling(tools, out, "averagePooling2d", name, x, *arguments)

    add("defaults", tools.values("avg_defaults", 2, 4, 7, 19), None, None, None)
    add("overlapping", tools.values("avg_over", 2, 6, 7, 2), (3, 3), (2, 1), "valid")
    add("same", tools.values("avg_same", 2, 5, 7, 3), (3, 2), (2, 2), "same")
    add("same_overlapping", tools.values("avg_same_over", 2, 5, 4, 2), (3, 3), (1, 1), "same")
    add("gaps", tools.values("avg_gaps", 2, 7, 7, 2), (2, 2), (3, 3), "valid")


def global_pooling(tools, out, kind, make, *shape):
    for keepdims in [False, True]:
        name = "keepdims" if keepdims else "plain"
        options = {"keepdims": True} if keepdims else {}
        layer = make(dtype="float64", data_format="channels_last", **options)
        case(tools, out, name, {kind: options}, layer, tools.values(f"{kind}/{name}", *shape))


def global_average_pooling2d_keepdims(tools, out):
    """Further cases of global_average_pooling2d."""
    global_pooling(tools, out, "globalAveragePooling2d", keras.layers.GlobalAveragePooling2D,
                   3, 4, 5, 6)


def global_average_pooling1d(tools, out):
    global_pooling(tools, out, "globalAveragePooling1d", keras.layers.GlobalAveragePooling1D,
                   3, 7, 5)


def global_max_pooling1d(tools, out):
    global_pooling(tools, out, "globalMaxPooling1d", keras.layers.GlobalMaxPooling1D, 3, 7, 5)


def global_max_pooling2d(tools, out):
    global_pooling(tools, out, "globalMaxPooling2d", keras.layers.GlobalMaxPooling2D, 3, 4, 5, 18)


def flatten(tools, out):
    case(tools, out, "image", {"flatten": {}}, keras.layers.Flatten(dtype="float64"),
         tools.values("flatten", 3, 2, 4, 5))


def reshape(tools, out):
    def add(name, x, *shape):
        layer = keras.layers.Reshape(shape, dtype="float64")
        case(tools, out, name, {"reshape": {"targetShape": numbers(shape)}}, layer, x)

    add("to_image", tools.values("reshape_image", 3, 24), 2, 4, 3)
    add("open", tools.values("reshape_open", 3, 4, 6), -1, 3)


def permute(tools, out):
    def add(name, x, *dims):
        layer = keras.layers.Permute(dims, dtype="float64")
        case(tools, out, name, {"permute": {"dims": numbers(dims)}}, layer, x)

    add("swap", tools.values("permute_swap", 3, 4, 5), 2, 1)
    add("turn", tools.values("permute_turn", 2, 3, 4, 5), 3, 1, 2)
    add("rows", tools.values("permute_rows", 2, 3, 4, 5), 2, 1, 3)


def zero_padding2d(tools, out):
    def add(name, keras_padding, padding):
        layer = keras.layers.ZeroPadding2D(keras_padding, dtype="float64",
                                           data_format="channels_last")
        spec = {"padding": numbers(padding)} if padding else {}
        case(tools, out, name, {"zeroPadding2d": spec}, layer, tools.values(name, 2, 3, 4, 5))

    add("defaults", (1, 1), [])
    add("one_number", 2, [2])
    add("two_numbers", (1, 3), [1, 3])
    add("four_numbers", ((1, 0), (2, 3)), [1, 0, 2, 3])


def merge(tools, out, kind, make, name, *shapes, **options):
    inputs = [tools.values(f"{kind}/{name}/{i}", *shape) for i, shape in enumerate(shapes)]
    spec = {key: str(value) for key, value in options.items()}
    case(tools, out, name, {kind: spec}, make(dtype="float64", **options), *inputs)


def add(tools, out):
    merge(tools, out, "add", keras.layers.Add, "two", (3, 4, 5), (3, 4, 5))
    merge(tools, out, "add", keras.layers.Add, "three", *[(3, 2, 2, 5)] * 3)


def multiply(tools, out):
    merge(tools, out, "multiply", keras.layers.Multiply, "two", (3, 4, 5), (3, 4, 5))
    merge(tools, out, "multiply", keras.layers.Multiply, "four", *[(3, 7)] * 4)


def concatenate(tools, out):
    def add_case(name, *shapes, **options):
        merge(tools, out, "concatenate", keras.layers.Concatenate, name, *shapes, **options)

    add_case("rows", (3, 4), (3, 1), (3, 7))
    add_case("channels", (2, 3, 4, 5), (2, 3, 4, 2))
    add_case("columns", (2, 3, 4, 5), (2, 3, 1, 5), axis=2)
    add_case("lines", (2, 3, 4, 5), (2, 2, 4, 5), (2, 1, 4, 5), axis=-3)


def words(purpose, position, count, seed=SEED):
    """`count` numbers of 32 bits of a sample: Philox4x32-10 (Salmon et al., 2011), a block of four
    after the other."""
    result = []
    for block in range((count + 3) // 4):
        c = [STEP, purpose * 65536 + LAYER, position, block]
        key = [seed % 2**32, seed // 2**32]
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [p1 // 2**32 ^ c[1] ^ key[0], p1 % 2**32, p0 // 2**32 ^ c[3] ^ key[1], p0 % 2**32]
            key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
        result += c
    return result[:count]


def random_case(tools, out, kind, name, options, make, x):
    """`make(seed)` gives the function of a training step; in inference these are the identity."""
    y = make(options.get("seed", SEED))
    spec = {key: str(v) if key == "seed" else v for key, v in options.items()}
    x_leaf = tools.leaf(x)
    value = y(x_leaf)
    dy = tools.values(f"{kind}/{name}/dy", *x.shape)
    (dx,) = tools.gradients(value, dy, x_leaf)
    out.case(name, {kind: spec}, x=x, y=value, y_inference=x, dy=dy, dx=dx)


def dropout_of(rate, shape, per_sample):
    """x / (1 - rate) where u >= rate, as Keras scales it, with numbers of `per_sample` elements."""
    def make(seed):
        bits = np.array([words(3, n, per_sample, seed) for n in range(shape[0])])
        kept = (bits // 256) * 2.0**-24 >= np.float32(rate)
        mask = np.broadcast_to(kept.reshape(shape[0], -1, per_sample),
                               (shape[0], int(np.prod(shape[1:])) // per_sample, per_sample))
        mask = torch.tensor(mask.reshape(shape).astype(np.float64))
        return lambda x: x * mask / (1 - rate)
    return make


def dropout(tools, out):
    def add_case(name, shape, **options):
        x = tools.values("dropout/" + name, *shape)
        make = dropout_of(options["rate"], shape, int(np.prod(shape[1:])))
        random_case(tools, out, "dropout", name, options, make, x)

    add_case("row", (9, 7), rate=0.4)
    add_case("image", (5, 3, 2, 5), rate=0.1)
    add_case("seed", (5, 6), rate=0.5, seed=2**40 + 5)
    add_case("nothing", (5, 6), rate=0.0)


def spatial_dropout2d(tools, out):
    def add_case(name, shape, **options):
        x = tools.values("spatial/" + name, *shape)
        make = dropout_of(options["rate"], shape, shape[-1])
        random_case(tools, out, "spatialDropout2d", name, options, make, x)

    add_case("image", (5, 3, 2, 9), rate=0.4)
    add_case("seed", (5, 2, 2, 6), rate=0.3, seed=11)


def gaussian_noise(tools, out):
    inverse = statistics.NormalDist().inv_cdf

    def add_case(name, shape, **options):
        def make(seed):
            noise = [[inverse((word + 0.5) * 2.0**-32) for word in
                      words(4, n, int(np.prod(shape[1:])), seed)] for n in range(shape[0])]
            noise = torch.tensor(np.array(noise).reshape(shape))
            return lambda x: x + options["stddev"] * noise
        random_case(tools, out, "gaussianNoise", name, options, make,
                    tools.values("noise/" + name, *shape))

    add_case("row", (9, 7), stddev=0.3)
    add_case("image", (4, 3, 2, 5), stddev=2.5)
    add_case("seed", (5, 6), stddev=1.0, seed=123)


# By file: those that make_golden.py begins itself, and our own.
FURTHER = {"conv2d": conv2d_explicit, "max_pooling2d": max_pooling2d_same,
           "global_average_pooling2d": global_average_pooling2d_keepdims}
KINDS = [conv1d, depthwise_conv2d, separable_conv2d, max_pooling1d, average_pooling1d,
         average_pooling2d, global_average_pooling1d, global_max_pooling1d, global_max_pooling2d,
         flatten, reshape, permute, zero_padding2d, add, multiply, concatenate, dropout,
         spatial_dropout2d, gaussian_noise]
