"""Golden vectors of every BatchNormalization there is: axes, conventions, cumulative averages, groups
of shards, frozen layers. Called by make_golden.py; README.md says what is in the file.

Keras 3 and PyTorch compute in float64; the results are rounded once to float32. PyTorch's layers get
their channels as their second axis, as they want them.
"""

import zlib

import keras
import numpy as np
import torch


def values(case, *shape, scale=1.0, offset=0.0):
    """Normal float32 values, the same for a case's name whatever cases there are beside it."""
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    return (rng.standard_normal(shape) * scale + offset).astype(np.float32)


def leaf(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=True)


def weights(name, channels):
    return {"gamma": values(name + "/gamma", channels, scale=0.5, offset=1),
            "beta": values(name + "/beta", channels),
            "moving_mean": values(name + "/moving_mean", channels),
            "moving_variance": np.abs(values(name + "/moving_variance", channels)) + 0.5}


def later_batches(name, shape):
    """Two more batches, of other sizes."""
    return {"x_2": values(name + "/x_2", 3, *shape, scale=2, offset=-1),
            "x_3": values(name + "/x_3", 2, *shape, offset=3)}


def pytorch_layer(tensors, momentum, epsilon):
    layer = torch.nn.BatchNorm1d(len(tensors["gamma"]), eps=epsilon, momentum=momentum,
                                 dtype=torch.float64)
    state = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
             "running_var": "moving_variance"}
    layer.load_state_dict({k: torch.tensor(tensors[v], dtype=torch.float64)
                           for k, v in state.items()}, strict=False)
    return layer


def rows(x):
    """[..., C] as [N, C], which BatchNorm1d takes."""
    return x.reshape(-1, x.shape[-1])


def round_running(layer):
    """As they are stored between steps."""
    with torch.no_grad():
        layer.running_mean.copy_(layer.running_mean.float().double())
        layer.running_var.copy_(layer.running_var.float().double())


def pytorch(out, name, x, spec, momentum=0.1, epsilon=1e-5):
    tensors = {"x": x, **weights(name, x.shape[-1]), **later_batches(name, x.shape[1:])}
    layer = pytorch_layer(tensors, momentum, epsilon)
    if momentum is None:
        tensors["num_batches_tracked"] = np.zeros(1)
    x_leaf = leaf(x)
    y = layer(rows(x_leaf)).reshape(x.shape)
    dy = values(name + "/dy", *x.shape)
    grads = torch.autograd.grad(y, (x_leaf, layer.weight, layer.bias),
                                torch.tensor(dy, dtype=torch.float64))
    round_running(layer)
    tensors.update(y=y, dy=dy, dx=grads[0], dgamma=grads[1], dbeta=grads[2],
                   moving_mean_after_1=layer.running_mean.clone(),
                   moving_variance_after_1=layer.running_var.clone())
    layer.eval()
    tensors["y_inference"] = layer(rows(leaf(x))).reshape(x.shape)
    layer.train()
    for step in ["x_2", "x_3"]:
        layer(rows(leaf(tensors[step])))
        round_running(layer)
    tensors.update(moving_mean_after_3=layer.running_mean, moving_variance_after_3=layer.running_var)
    out.case(name, {"batchNormalization": spec}, **tensors)


def groups(out, name, x, shards, group_shards, epsilon=1e-5):
    """Each group of shards through a layer of its own (position p of B belongs to shard v with
    v * B // S <= p < (v + 1) * B // S); the running values take the groups' mean by samples."""
    samples = len(x)
    tensors = {"x": x, **weights(name, x.shape[-1])}
    x_leaf = leaf(x)
    dy = values(name + "/dy", *x.shape)
    parts, mean, variance = [], 0, 0
    shared = pytorch_layer(tensors, 1.0, epsilon)
    for first in range(0, shards, group_shards):
        begin = first * samples // shards
        end = (first + group_shards) * samples // shards
        part = x_leaf[begin:end]
        if begin == end:
            continue
        count = rows(part).shape[0]
        # A group of one value a channel: PyTorch raises; its variance is 0.
        if count > 1:
            parts.append(shared(rows(part)).reshape(part.shape))
            group_mean, group_variance = shared.running_mean, shared.running_var
        else:
            parts.append(0 * part + shared.bias + 0 * shared.weight)
            group_mean, group_variance = rows(part)[0].detach(), torch.zeros_like(shared.bias)
        mean = mean + group_mean.detach().clone() * (end - begin) / samples
        variance = variance + group_variance.detach().clone() * (end - begin) / samples
    y = torch.cat(parts)
    grads = torch.autograd.grad(y, (x_leaf, shared.weight, shared.bias),
                                torch.tensor(dy, dtype=torch.float64))
    after_mean = 0.9 * torch.tensor(tensors["moving_mean"], dtype=torch.float64) + 0.1 * mean
    after_variance = (0.9 * torch.tensor(tensors["moving_variance"], dtype=torch.float64)
                      + 0.1 * variance)
    spec = {"convention": "pytorch", "epsilon": epsilon, "groupShards": str(group_shards)}
    out.case(name, {"batchNormalization": spec}, **tensors, shards=np.array([shards]), y=y, dy=dy,
             dx=grads[0], dgamma=grads[1], dbeta=grads[2], moving_mean_after_1=after_mean,
             moving_variance_after_1=after_variance)


def keras_axis(out, name, x, axis):
    tensors = {"x": x, **weights(name, x.shape[axis])}
    layer = keras.layers.BatchNormalization(axis=axis, dtype="float64")
    layer.build((None, *x.shape[1:]))
    layer.set_weights([a.astype(np.float64) for a in list(tensors.values())[1:]])
    x_leaf = leaf(x)
    tensors["y_inference_before"] = layer(leaf(x), training=False)
    dy = values(name + "/dy", *x.shape)
    y = layer(x_leaf, training=True)
    grads = torch.autograd.grad(y, (x_leaf, layer.gamma.value, layer.beta.value),
                                torch.tensor(dy, dtype=torch.float64))
    tensors.update(y=y, dy=dy, dx=grads[0], dgamma=grads[1], dbeta=grads[2],
                   moving_mean_after_1=layer.moving_mean.numpy(),
                   moving_variance_after_1=layer.moving_variance.numpy())
    out.case(name, {"batchNormalization": {"axis": str(axis)}}, **tensors)


def frozen(out, name, x, **options):
    tensors = {"x": x, **weights(name, x.shape[options.get("axis", -1)])}
    layer = keras.layers.BatchNormalization(dtype="float64", **options)
    layer.build((None, *x.shape[1:]))
    layer.set_weights([a.astype(np.float64) for a in list(tensors.values())[1:]])
    layer.trainable = False
    x_leaf = leaf(x)
    y = layer(x_leaf, training=True)
    dy = values(name + "/dy", *x.shape)
    (dx,) = torch.autograd.grad(y, (x_leaf,), torch.tensor(dy, dtype=torch.float64))
    tensors.update(y=y, dy=dy, dx=dx, moving_mean_after_1=layer.moving_mean.numpy(),
                   moving_variance_after_1=layer.moving_variance.numpy())
    spec = {"axis": str(options["axis"])} if "axis" in options else {}
    out.case(name, {"trainable": False, "batchNormalization": spec}, **tensors)


def batch_normalization_variants(out):
    pytorch(out, "pytorch_rows", values("bnv_rows", 17, 5), {"convention": "pytorch"})
    pytorch(out, "pytorch_image", values("bnv_image", 3, 5, 4, 6, scale=2, offset=1),
            {"convention": "pytorch"})
    pytorch(out, "pytorch_three_values", values("bnv_three", 3, 3), {"convention": "pytorch"})
    pytorch(out, "pytorch_far_from_zero", values("bnv_far", 40, 3, scale=0.1, offset=1000),
            {"convention": "pytorch"})
    pytorch(out, "pytorch_momentum", values("bnv_momentum", 9, 3),
            {"convention": "pytorch", "momentum": 0.75, "epsilon": 0.01}, 0.25, 0.01)
    pytorch(out, "cumulative_rows", values("bnv_cumulative", 11, 4),
            {"convention": "pytorch", "cumulativeAverage": True}, None)
    pytorch(out, "cumulative_image", values("bnv_cumulative_image", 4, 3, 3, 2),
            {"convention": "pytorch", "cumulativeAverage": True}, None)
    groups(out, "ghost_rows", values("bnv_ghost", 21, 5), 4, 1)
    groups(out, "ghost_image", values("bnv_ghost_image", 7, 5, 3, 4, offset=2), 4, 1)
    groups(out, "ghost_pairs", values("bnv_pairs", 37, 3), 8, 2)
    groups(out, "ghost_pairs_image", values("bnv_pairs_image", 9, 12, 12, 3), 8, 2)
    groups(out, "ghost_empty_shards", values("bnv_empty", 5, 3, 2, 3), 8, 1)
    groups(out, "ghost_single_values", values("bnv_single", 5, 3), 4, 1, 0.1)
    for axis in [1, 2, -2, 3]:
        keras_axis(out, f"axis_{axis}", values(f"bnv_axis_{axis}", 5, 4, 3, 6, offset=1), axis)
    keras_axis(out, "axis_1_of_2", values("bnv_axis_1_of_2", 6, 5, 7), 1)
    keras_axis(out, "axis_1_wide", values("bnv_axis_wide", 3, 3, 13, 11), 1)
    keras_axis(out, "axis_1_single", values("bnv_axis_single", 9, 4, 1), 1)
    frozen(out, "frozen_rows", values("bnv_frozen", 8, 5))
    frozen(out, "frozen_image", values("bnv_frozen_image", 3, 4, 2, 5))
    frozen(out, "frozen_axis", values("bnv_frozen_axis", 3, 4, 2, 5), axis=1)


def peer_weights(out):
    """Models of the peers with their weights under their own names, and what they predict."""
    torch.manual_seed(7)
    model = torch.nn.Sequential()
    model.add_module("features", torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, (3, 2)), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 2, groups=2, bias=False)))
    model.add_module("flat", torch.nn.Flatten())
    model.add_module("norm", torch.nn.BatchNorm1d(36))
    model.add_module("hidden", torch.nn.Linear(36, 5))
    model.add_module("act", torch.nn.Tanh())
    model.add_module("norm2", torch.nn.BatchNorm1d(5))
    model.add_module("classes", torch.nn.Linear(5, 3))
    state = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = values("peer/" + name, *tensor.shape)
        state[name] = np.abs(value) + 0.5 if name.endswith("running_var") else value
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    model = model.double().eval()
    x = values("peer/x", 4, 6, 5, 2)
    y = model(torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2))
    norm = {"batchNormalization": {"convention": "pytorch"}}
    layers = [
        {"name": "features/0", "conv2d": {"filters": 4, "kernelSize": [3, 2]}},
        {"name": "features/1", **norm}, {"activation": {"activation": "relu"}},
        {"name": "features_3", "conv2d": {"filters": 4, "kernelSize": [2], "groups": 2,
                                          "useBias": False}},
        {"flatten": {}}, {"name": "norm", **norm}, {"name": "hidden", "dense": {"units": 5}},
        {"activation": {"activation": "tanh"}}, {"name": "norm2", **norm},
        {"name": "classes", "dense": {"units": 3}}]
    out.case("pytorch", {"inputs": [{"shape": [6, 5, 2]}], "layers": layers}, x=x, y=y, **state)

    keras.utils.set_random_seed(7)
    inputs = keras.Input((6, 5, 2), name="input")
    h = keras.layers.Conv2D(3, 2, name="conv", dtype="float64", data_format="channels_last")(inputs)
    h = keras.layers.BatchNormalization(name="norm", dtype="float64")(h)
    h = keras.layers.Flatten(name="flat", dtype="float64", data_format="channels_last")(h)
    model = keras.Model(inputs, keras.layers.Dense(3, name="classes", dtype="float64")(h))
    state = {}
    for variable in model.variables:
        value = values("keras/" + variable.path, *variable.shape)
        state[variable.path] = np.abs(value) + 0.5 if "variance" in variable.path else value
        variable.assign(state[variable.path])
    layers = [{"name": "conv", "conv2d": {"filters": 3, "kernelSize": [2]}},
              {"name": "norm", "batchNormalization": {}}, {"flatten": {}},
              {"name": "classes", "dense": {"units": 3}}]
    out.case("keras", {"inputs": [{"shape": [6, 5, 2]}], "layers": layers}, x=x,
             y=model(leaf(x), training=False), **state)


def population_statistics(out):
    """The exact statistics of a data set, layer after layer (Ioffe and Szegedy, 2015, algorithm 2)."""
    x = values("population/x", 1500, 3, 2, 2, offset=3)
    conv = torch.nn.Conv2d(2, 3, 2, dtype=torch.float64)
    norms = [torch.nn.BatchNorm2d(3, dtype=torch.float64),
             torch.nn.BatchNorm1d(4, dtype=torch.float64)]
    linear = torch.nn.Linear(6, 4, dtype=torch.float64)
    tensors = {
        "conv.kernel": values("population/k", 2, 2, 2, 3), "conv.bias": values("population/b", 3),
        "norm.gamma": values("population/g", 3, offset=1), "norm.beta": values("population/be", 3),
        "dense.kernel": values("population/dk", 6, 4), "dense.bias": values("population/db", 4),
        "last.gamma": values("population/lg", 4, offset=1), "last.beta": values("population/lb", 4)}
    with torch.no_grad():
        f64 = {k: torch.tensor(v, dtype=torch.float64) for k, v in tensors.items()}
        conv.weight.copy_(f64["conv.kernel"].permute(3, 2, 0, 1))
        conv.bias.copy_(f64["conv.bias"])
        linear.weight.copy_(f64["dense.kernel"].T)
        linear.bias.copy_(f64["dense.bias"])
        for norm, name in zip(norms, ["norm", "last"]):
            norm.weight.copy_(f64[name + ".gamma"])
            norm.bias.copy_(f64[name + ".beta"])
            norm.momentum = 1.0
        h = conv(torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2))
        for norm, name in zip(norms, ["norm", "last"]):
            norm.train()
            norm(h)  # momentum 1: the running values are this batch's, which is the whole set
            norm.eval()
            tensors[name + ".moving_mean_after"] = norm.running_mean.clone()
            tensors[name + ".moving_variance_after"] = norm.running_var.clone()
            if name == "norm":
                h = linear(torch.tanh(norm(h)).permute(0, 2, 3, 1).flatten(1))
    options = {"convention": "pytorch"}
    out.case("population", {"inputs": [{"shape": [3, 2, 2]}], "layers": [
        {"name": "conv", "conv2d": {"filters": 3, "kernelSize": [2]}},
        {"name": "norm", "batchNormalization": options}, {"activation": {"activation": "tanh"}},
        {"flatten": {}}, {"name": "dense", "dense": {"units": 4}},
        {"name": "last", "batchNormalization": options}]}, x=x, **tensors)
