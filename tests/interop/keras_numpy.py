"""A trained network's answers, from its spec and its weights alone, after Keras' documentation.

Nothing here knows how Lockstep computes: float64 NumPy, one function a layer.
"""

import numpy as np

ACTIVATIONS = {
    "": lambda x: x,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softmax": lambda x: (e := np.exp(x - x.max(-1, keepdims=True))) / e.sum(-1, keepdims=True),
}


def predict(model, weights, x):
    """`model` as in a job's JSON, `weights` as {"dense.kernel": array}, x [N, ...] of raw values."""
    (spec,) = model["inputs"]
    scale = np.float64(np.float32(spec.get("scale", 1)))
    x = x.reshape(len(x), *spec["shape"]) * scale + np.float64(np.float32(spec.get("offset", 0)))
    seen = {}
    for layer in model["layers"]:
        (kind,) = set(layer) - {"name"}
        number = seen[kind] = seen.get(kind, -1) + 1
        name = layer.get("name", f"{kind}_{number}" if number else kind)
        tensors = {key.removeprefix(name + "."): value.astype(np.float64)
                   for key, value in weights.items() if key.startswith(name + ".")}
        x = LAYERS[kind](layer[kind], tensors, x)
    return x


def dense(spec, tensors, x):
    y = x @ tensors["kernel"] + tensors.get("bias", 0)
    return ACTIVATIONS[spec.get("activation", "")](y)


def conv2d(spec, tensors, x):
    size, strides = pair(spec["kernel_size"]), pair(spec.get("strides", [1, 1]))
    if spec.get("padding") == "same":
        x = np.pad(x, [(0, 0), *map(same_padding, x.shape[1:3], size, strides), (0, 0)])
    y = np.einsum("nhwcij,ijco->nhwo", windows(x, size, strides), tensors["kernel"])
    return ACTIVATIONS[spec.get("activation", "")](y + tensors.get("bias", 0))


def batch_normalization(spec, tensors, x):
    y = (x - tensors["moving_mean"]) / np.sqrt(
        tensors["moving_variance"] + spec.get("epsilon", 1e-3))
    return y * tensors.get("gamma", 1) + tensors.get("beta", 0)


def max_pooling2d(spec, tensors, x):
    size = pair(spec.get("pool_size", [2, 2]))
    return windows(x, size, pair(spec.get("strides", size))).max((-2, -1))


def pair(sizes):
    return tuple(sizes) * 2 if len(sizes) == 1 else tuple(sizes)


def same_padding(length, size, stride):
    """So that the output is ceil(length / stride) long; an odd rest goes to the end."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def windows(x, size, strides):
    """[N, H, W, C] -> [N, rows, columns, C, *size]"""
    every = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))
    return every[:, ::strides[0], ::strides[1]]


LAYERS = {
    "dense": dense,
    "conv2d": conv2d,
    "batch_normalization": batch_normalization,
    "max_pooling2d": max_pooling2d,
    "flatten": lambda spec, tensors, x: x.reshape(len(x), -1),
    "activation": lambda spec, tensors, x: ACTIVATIONS[spec["activation"]](x),
    "dropout": lambda spec, tensors, x: x,
}
