"""Models that Keras builds train here as they are, and come back to Keras with their weights."""

import json
import os

import data
import numpy as np
import pytest
import safetensors.numpy
import tritonclient.grpc

os.environ["KERAS_BACKEND"] = "torch"
import keras  # noqa: E402
from keras import layers as L  # noqa: E402

TRAIN = data.images(256)
TEST = data.images(50, seed=1)


def mlp():
    return keras.Sequential([
        keras.Input(shape=(784,)),
        L.Dense(64),
        L.BatchNormalization(),
        L.Activation("relu"),
        L.Dense(32, use_bias=False),
        L.BatchNormalization(momentum=0.9),
        L.Activation("sigmoid"),
        L.Dense(10, activation="softmax"),
    ])


def cnn():
    return keras.Sequential([
        keras.Input(shape=(28, 28, 1)),
        L.Conv2D(8, (3, 3), activation="relu"),
        L.BatchNormalization(),
        L.MaxPooling2D((2, 2)),
        L.Conv2D(16, (3, 3), activation="relu", padding="same"),
        L.BatchNormalization(),
        L.MaxPooling2D(pool_size=(2, 2)),
        L.Flatten(),
        L.Dropout(0.25),
        L.Dense(10, activation="softmax"),
    ])


def residual():
    image = keras.Input(shape=(28, 28, 1))
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = skip = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer="he_uniform")(x)
    x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = L.add([L.BatchNormalization()(x), skip])
    x = L.GlobalAveragePooling2D()(L.Activation("relu")(x))
    return keras.Model(image, L.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module", params=[mlp, cnn, residual])
def trained(request, serving, tmp_path_factory):
    """The model in Keras, its name in the server, and the folder with what came back."""
    name, directory = request.param.__name__ + "-keras", tmp_path_factory.mktemp("keras")
    model = request.param()
    (directory / "model.json").write_text(model.to_json())
    np.savez(directory / "small.npz", x=TRAIN["x"].astype(np.float32) / 255, y=TRAIN["y"])
    lines = serving.client.json_lines(
        "submit", "--keras", directory / "model.json", "--data", directory / "small.npz",
        "--epochs", "2", "--batch-size", "64", "--learning-rate", "0.01", "--publish-as", name)
    job = serving.client.finish(lines[-1]["id"])
    assert job["state"] == "SUCCEEDED", job
    serving.client.run("fetch", name, "-o", directory / "weights.safetensors",
                       "--keras-json", directory / "back.json")
    return model, name, directory


def fill(model, weights):
    """Our tensors bear the layers' and variables' names."""
    tensors = safetensors.numpy.load_file(weights)
    variables = {f"{layer.name}.{variable.name}": variable
                 for layer in model.layers for variable in layer.weights}
    assert set(tensors) == set(variables)
    for name, variable in variables.items():
        variable.assign(tensors[name])


def test_a_model_comes_back_as_it_was(trained):
    model, _, directory = trained
    back = keras.models.model_from_json((directory / "back.json").read_text())
    assert [i.shape for i in back.inputs] == [i.shape for i in model.inputs]
    for layer in model.layers:
        assert type(back.get_layer(layer.name)) is type(layer)
        assert back.get_layer(layer.name).get_config() == layer.get_config()


def test_keras_predicts_what_the_server_predicts(trained, triton):
    model, name, directory = trained
    x = TEST["x"].reshape(-1, *model.inputs[0].shape[1:]).astype(np.float32) / 255
    names = triton.get_model_metadata(name)
    tensor = tritonclient.grpc.InferInput(names.inputs[0].name, x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    served = triton.infer(name, [tensor]).as_numpy(names.outputs[0].name)
    for one in [model, keras.models.model_from_json((directory / "back.json").read_text())]:
        fill(one, directory / "weights.safetensors")
        np.testing.assert_allclose(one.predict(x, verbose=0), served, rtol=0, atol=1e-5)
    assert len(set(served.argmax(-1))) > 1, "something was learnt"


def test_what_is_not_supported_is_refused_by_its_place(serving, tmp_path):
    model = keras.Sequential([keras.Input(shape=(4,)), L.Dense(8), L.Lambda(lambda x: x * 2)])
    (tmp_path / "model.json").write_text(model.to_json())
    message = serving.client.misused("submit", "--keras", tmp_path / "model.json", "--data", "none")
    assert "config.layers[2].class_name: must be one of InputLayer, Activation" in message

    # The server itself, when the command has no reason to look.
    spec = {"keras_model": model.to_json(), "data": {"train": {"dataset": "fashion-mnist/train"}},
            "training": {"batch_size": 1, "epochs": 1, "losses": [{"mean_squared_error": {}}]}}
    (tmp_path / "job.json").write_text(json.dumps(spec))
    message = serving.client.refused("submit", tmp_path / "job.json")
    assert "keras_model.config.layers[2].class_name: must be one of InputLayer" in message
