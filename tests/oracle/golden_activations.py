"""Activations with their arguments, normalization within samples, rescaling, dense on more axes."""

import keras
import numpy as np
import torch


def make(tools):
    """The functions that make a file each; `tools` is make_golden with its helpers."""
    values, leaf, gradients = tools.values, tools.leaf, tools.gradients

    def with_arguments():
        """Name, keras.Layer or function, and our spec of each activation."""
        act = keras.activations
        plain = ["relu6", "leaky_relu", "elu", "selu", "silu", "hard_sigmoid", "softplus"]
        for name in plain:
            yield name, getattr(act, name), {"activation": name}
        yield "gelu", lambda x: act.gelu(x, approximate=False), {"activation": "gelu"}
        yield "gelu_tanh", lambda x: act.gelu(x, approximate=True), {"activation": "gelu_tanh"}
        yield ("relu_limited", lambda x: act.relu(x, max_value=1.5),
               {"activation": "relu", "maxValue": 1.5})
        yield ("relu_sloped", lambda x: act.relu(x, negative_slope=0.125),
               {"activation": "relu", "negativeSlope": 0.125})
        yield ("relu_both", lambda x: act.relu(x, negative_slope=0.5, max_value=4),
               {"activation": "relu", "negativeSlope": 0.5, "maxValue": 4})
        yield ("leaky_relu_sloped", lambda x: act.leaky_relu(x, negative_slope=0.25),
               {"activation": "leaky_relu", "negativeSlope": 0.25})
        yield ("elu_alpha", lambda x: act.elu(x, alpha=0.75), {"activation": "elu", "alpha": 0.75})

    def activation_more(out):
        # Not where a slope changes: there a gradient is a matter of taste.
        x = np.concatenate([
            values("activations_more", 9, 10).ravel() * 3,
            np.array([1e-6, -1e-6, 0.5, -0.5, 1, -1, 9, -9, 20, -20, 50, -50, 100, -100, 88, -87,
                      1e-30, -1e-30, 0.34, -0.35, 2.99, -2.99, 5.99, -13.5, 14.5, -4, 1e-3, -1e-3,
                      3.7, -6], dtype=np.float32)]).reshape(12, 10)
        for name, fn, spec in with_arguments():
            x_leaf = leaf(x)
            y = fn(x_leaf)
            dy = values(name + "/dy", *y.shape)
            (dx,) = gradients(y, dy, x_leaf)
            out.case(name, {"activation": spec}, x=x, y=y, dy=dy, dx=dx)

    def rescaling(out):
        def add(name, spec, *shape):
            x = values(name + "/x", *shape)
            x_leaf = leaf(x)
            y = keras.layers.Rescaling(spec.get("scale", 1.0), spec.get("offset", 0.0),
                                       dtype="float64")(x_leaf)
            dy = values(name + "/dy", *y.shape)
            (dx,) = gradients(y, dy, x_leaf)
            out.case(name, {"rescaling": spec}, x=x, y=y, dy=dy, dx=dx)

        add("rescaling", {"scale": -0.25, "offset": 3.0}, 5, 7)
        add("rescaling_image", {"scale": 2.0}, 3, 4, 5, 3)
        add("rescaling_offset", {"offset": 0.5}, 2, 3)

    def weighted(out, name, layer, spec, x, **weights):
        """A case of a layer whose weights, in Keras' order, are `weights`."""
        tools.set_weights(layer, x.shape[1:], *weights.values())
        x_leaf = leaf(x)
        y = layer(x_leaf)
        dy = values(name + "/dy", *y.shape)
        grads = gradients(y, dy, x_leaf, *[v.value for v in layer.trainable_variables])
        out.case(name, spec, x=x, **weights, y=y, dy=dy, dx=grads[0],
                 **{"d" + key: grad for key, grad in zip(weights, grads[1:])})

    def dense_more(out):
        def add(name, x_shape, units, activation=None, bias=True):
            layer = keras.layers.Dense(
                units, use_bias=bias, dtype="float64",
                activation=(lambda x: keras.activations.gelu(x, approximate=True))
                if activation == "gelu_tanh" else activation and
                (lambda x: keras.activations.gelu(x, approximate=False))
                if activation == "gelu" else activation)
            spec = {"units": str(units), **({"activation": activation} if activation else {}),
                    **({} if bias else {"useBias": False})}
            weights = {"kernel": values(name + "/kernel", x_shape[-1], units,
                                        scale=x_shape[-1] ** -0.5)}
            if bias:
                weights["bias"] = values(name + "/bias", units, scale=0.5)
            weighted(out, name, layer, {"dense": spec}, values(name + "/x", *x_shape), **weights)

        add("sequence", (5, 7, 6), 4)
        add("image", (3, 5, 4, 9), 11, activation="relu")
        add("sequence_softmax", (4, 6, 5), 3, activation="softmax")
        add("sequence_no_bias", (2, 3, 4), 5, bias=False)
        add("long_sequences", (3, 150, 4), 3, activation="silu")  # chunks of 384 rows cross samples
        for activation in ["relu6", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu",
                           "hard_sigmoid", "softplus"]:
            add(activation, (6, 8), 5, activation=activation)

    def normalization_weights(name, shape, center, scale):
        weights = {}
        if scale:
            weights["gamma"] = values(name + "/gamma", *shape, scale=0.5, offset=1)
        if center:
            weights["beta"] = values(name + "/beta", *shape)
        return weights

    def layer_normalization(out):
        def add(name, x, axis=None, epsilon=None, center=True, scale=True):
            options = {}
            spec = {}
            if axis is not None:
                options["axis"], spec["axis"] = axis, [str(a) for a in axis]
            if epsilon is not None:
                options["epsilon"] = spec["epsilon"] = epsilon
            for key, value in [("center", center), ("scale", scale)]:
                if not value:
                    options[key] = spec[key] = False
            layer = keras.layers.LayerNormalization(dtype="float64", **options)
            shape = [x.shape[a] for a in (axis or [-1])]
            weighted(out, name, layer, {"layerNormalization": spec}, x,
                     **normalization_weights(name, shape, center, scale))

        add("row", values("ln_row", 7, 10))
        add("short_row", values("ln_short", 5, 3))
        add("one_value", values("ln_one", 5, 1))
        add("long_row", values("ln_long", 2, 2070, scale=3, offset=2))
        add("many_rows", values("ln_many", 140, 4))
        add("sequence", values("ln_sequence", 4, 6, 33))
        add("image", values("ln_image", 2, 12, 11, 3), epsilon=1e-5)
        add("image_all", values("ln_all", 3, 4, 5, 6), axis=[1, 2, 3])
        add("image_two", values("ln_two", 3, 4, 5, 6), axis=[-2, -1])
        add("no_center", values("ln_nc", 4, 20), center=False)
        add("no_scale", values("ln_ns", 4, 3, 20), scale=False)
        add("neither", values("ln_nn", 4, 20), center=False, scale=False)
        add("far_from_zero", values("ln_far", 6, 50, scale=0.1, offset=1000))
        constant = np.full((3, 9), -1234.567, dtype=np.float32)
        add("constant", constant)

    def group_normalization(out):
        def add(name, x, groups=None, epsilon=None, center=True, scale=True):
            options = {}
            spec = {}
            if groups is not None:
                options["groups"], spec["groups"] = groups, str(groups)
            if epsilon is not None:
                options["epsilon"] = spec["epsilon"] = epsilon
            for key, value in [("center", center), ("scale", scale)]:
                if not value:
                    options[key] = spec[key] = False
            layer = keras.layers.GroupNormalization(dtype="float64", **options)
            weighted(out, name, layer, {"groupNormalization": spec}, x,
                     **normalization_weights(name, (x.shape[-1],), center, scale))

        add("image", values("gn_image", 3, 5, 4, 6), groups=3)
        add("defaults", values("gn_defaults", 2, 3, 3, 64))
        add("one_group", values("gn_one", 3, 4, 4, 5), groups=1, epsilon=1e-5)
        add("instance", values("gn_instance", 3, 6, 5, 4), groups=-1)
        add("row", values("gn_row", 9, 12), groups=4)
        add("sequence", values("gn_sequence", 3, 8, 10), groups=2)
        add("large_image", values("gn_large", 2, 13, 14, 4, scale=2, offset=-1), groups=2)
        add("no_center", values("gn_nc", 3, 3, 3, 4), groups=2, center=False)
        add("no_scale", values("gn_ns", 3, 3, 3, 4), groups=2, scale=False)
        add("neither", values("gn_nn", 3, 8), groups=2, center=False, scale=False)
        add("far_from_zero", values("gn_far", 3, 6, 6, 4, scale=0.1, offset=1000), groups=2)

    def normalization(out):
        def add(name, x, **statistics):
            """By these statistics, or by those that Keras finds in x, which it does in float32."""
            channels = x.shape[-1]
            axis = None if statistics and np.ndim(statistics["mean"]) == 0 else -1
            layer = keras.layers.Normalization(axis=axis, dtype="float64", **statistics)
            if statistics:
                layer.build((None, *x.shape[1:]))
            else:
                layer.adapt(x)
            layer.finalize_state()
            spec = {key: np.atleast_1d(value).tolist() for key, value in statistics.items()}
            x_leaf = leaf(x)
            y = layer(x_leaf)
            dy = values(name + "/dy", *y.shape)
            (dx,) = gradients(y, dy, x_leaf)
            mean, variance = [np.broadcast_to(np.asarray(v.detach()).ravel(), channels)
                              for v in (layer.mean, layer.variance)]
            out.case(name, {"normalization": spec}, x=x, mean=mean, variance=variance, y=y, dy=dy,
                     dx=dx)

        add("row", values("norm_row", 7, 4), mean=np.float32([0.5, -1, 3, 0]),
            variance=np.float32([0.25, 1, 7, 2]))
        add("image", values("norm_image", 3, 4, 5, 3), mean=np.float32([0.5, 0.25, -0.125]),
            variance=np.float32([0.0625, 0.3, 1e-6]))
        add("one_number", values("norm_one", 3, 6, 4), mean=0.5, variance=0.125)
        add("without_variance", values("norm_zero", 5, 2, scale=1e-3), mean=np.float32([0, 0.001]),
            variance=np.float32([0, 1e-30]))
        add("adapted", values("norm_adapted", 40, 5, scale=3, offset=2))
        add("adapted_image", values("norm_adapted_image", 9, 4, 3, 2, scale=0.1, offset=100))

    return [activation_more, rescaling, dense_more, layer_normalization, group_normalization,
            normalization]
