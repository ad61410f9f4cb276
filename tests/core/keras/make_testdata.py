"""Writes the models in testdata/ that Keras 3 itself describes, as to_json() gives them.

    KERAS_BACKEND=torch python make_testdata.py     (tests/oracle/requirements.txt)

Written by hand: keras2.json and tf_keras.json, the same model as keras3.json as older versions put
it (after tf_keras/engine/{training,functional,node}.py); *.spec.json, what the models are here.
Written by ModelToKeras: *.written.json, which Keras has to read as the models they were.
"""

import pathlib

import keras
from keras import layers as L

DIR = pathlib.Path(__file__).parent / "testdata"


def write(name, model):
    (DIR / f"{name}.json").write_text(model.to_json() + "\n")
    keras.utils.clear_session()


def small():
    """One model that all dialects have."""
    x = image = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv",
                 kernel_initializer=keras.initializers.HeNormal(seed=7))(x)
    x = skip = L.BatchNormalization(momentum=0.9, name="norm")(x)
    x = L.LeakyReLU(name="leaky")(x)
    x = L.Add(name="add")([x, skip])
    x = L.MaxPooling2D(name="pool")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dense(10, activation="softmax", name="classes",
                kernel_regularizer=keras.regularizers.L2(0.001))(x)
    return keras.Model(image, x, name="small")


def images():
    """Every layer that images go through."""
    return keras.Sequential([
        L.Input((32, 32, 3), name="image"),
        L.Rescaling(1 / 255, offset=-0.5),
        L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        L.ZeroPadding2D(((1, 2), (3, 4))),
        L.Conv2D(8, (3, 5), strides=(2, 1), dilation_rate=1, groups=1, activation="relu",
                 bias_initializer=keras.initializers.Constant(0.1),
                 bias_regularizer=keras.regularizers.L1(0.25),
                 kernel_initializer=keras.initializers.VarianceScaling(
                     2.0, "fan_out", "untruncated_normal", seed=3)),
        L.Conv2D(8, 3, padding="same", dilation_rate=2, groups=2, kernel_initializer="orthogonal"),
        L.BatchNormalization(center=False, gamma_initializer=keras.initializers.RandomUniform(
            0.5, 1.5, seed=1), gamma_regularizer=keras.regularizers.L1L2(0.5, 0.25)),
        L.ReLU(max_value=6.0, negative_slope=0.125),
        L.DepthwiseConv2D(3, depth_multiplier=2, activation=keras.activations.silu),
        L.SpatialDropout2D(0.25, seed=11),
        L.SeparableConv2D(16, 3, padding="same", pointwise_initializer="lecun_normal"),
        L.GroupNormalization(4, scale=False),
        L.ELU(alpha=0.5),
        L.AveragePooling2D(2, strides=1, padding="same"),
        L.GaussianNoise(0.1),
        L.MaxPooling2D((2, 3), strides=(2, 1)),
        L.Permute((2, 1, 3)),
        L.Activation("gelu"),
        L.GlobalMaxPooling2D(keepdims=True),
        L.Reshape((4, -1)),
        L.LayerNormalization(axis=-1, epsilon=1e-5),
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(10, kernel_initializer="truncated_normal"),
        L.Softmax(),
    ], name="images")


def graph():
    """Two inputs, two outputs, merges, a frozen layer; sequences."""
    sequence = L.Input((20, 4), name="sequence")
    number = L.Input((3,), name="number")
    a = L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="tanh", name="conv_a")(sequence)
    b = L.Conv1D(6, 3, padding="same", name="conv_b")(sequence)
    joined = L.Multiply(name="gate")([a, b])
    left = L.MaxPooling1D(2, name="max")(joined)
    right = L.AveragePooling1D(2, name="mean")(joined)
    both = L.Concatenate(axis=1, name="both")([left, right])
    mean = L.GlobalAveragePooling1D(name="global_mean")(both)
    most = L.GlobalMaxPooling1D(name="global_max")(both)
    frozen = L.Dense(6, name="frozen")
    frozen.trainable = False
    x = L.Concatenate(name="joined")([mean, most, frozen(number)])
    x = x + L.Dense(18, activation="sigmoid", name="side")(x)
    age = L.Dense(1, name="age")(x)
    kind = L.Dense(5, activation="softmax", name="kind")(x)
    return keras.Model([number, sequence], [kind, age], name="graph")


def refused():
    """A Lambda layer, a nested model, a layer called twice, a half-precision policy."""
    yield "lambda", keras.Sequential([L.Input((4,)), L.Lambda(keras.activations.relu), L.Dense(1)])
    inner = keras.Sequential([L.Input((4,)), L.Dense(4)])
    yield "nested", keras.Sequential([L.Input((4,)), inner, L.Dense(1)])
    x = L.Input((4,))
    shared = L.Dense(4, name="shared")
    yield "shared", keras.Model(x, L.Add()([shared(x), shared(L.ReLU()(x))]))
    yield "mixed", keras.Sequential([L.Input((4,)), L.Dense(1, dtype="mixed_float16")])


def rounded(config):
    """Without what a float32 loses, and with one name for each regularizer and softmax."""
    if isinstance(config, dict):
        if config.get("class_name") in ("L1", "L2", "L1L2"):
            return {"l1": 0.0, "l2": 0.0} | rounded(config["config"])
        return {key: rounded(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [rounded(value) for value in config]
    return float(f"{config:.6g}") if isinstance(config, float) else config


def check(name):
    """What we wrote is the model that we read."""
    ours, theirs = (keras.models.model_from_json((DIR / f"{name}{end}.json").read_text())
                    for end in (".written", ""))
    for ends in ("inputs", "outputs"):
        assert [t.shape for t in getattr(ours, ends)] == [t.shape for t in getattr(theirs, ends)]
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    for layer in theirs.layers:
        expected = rounded(layer.get_config())
        if isinstance(layer, L.Softmax):
            expected["activation"] = "softmax"
            del expected["axis"]
        assert rounded(ours.get_layer(layer.name).get_config()) == expected, layer.name


if __name__ == "__main__":
    DIR.mkdir(exist_ok=True)
    write("keras3", small())
    write("images", images())
    write("graph", graph())
    for name, model in refused():
        write(f"refused_{name}", model)
    for name in ("keras3", "images", "graph"):
        check(name)
