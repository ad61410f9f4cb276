"""One server with trained models, for peers that are not ours to talk to."""

import dataclasses
import json
import pathlib

import data
import grpc
import numpy as np
import programs
import pytest
import safetensors.numpy
import tritonclient.grpc

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "examples"
TRAIN = data.images(512)
TEST = data.images(100, seed=1)

# What the examples leave out: padding, strides, other activations, parts of layers left away.
ODD_MODEL = {
    "inputs": [{"shape": [28, 28, 1], "scale": 0.01, "offset": -1.5, "name": "image"}],
    "layers": [
        {"conv2d": {"filters": 5, "kernel_size": [4, 3], "strides": [2, 3], "padding": "same",
                    "activation": "tanh", "use_bias": False}},
        {"batch_normalization": {"center": False, "epsilon": 0.01, "momentum": 0.8}},
        {"name": "second",
         "conv2d": {"filters": 7, "kernel_size": [2], "activation": "sigmoid"}},
        {"max_pooling2d": {"pool_size": [3, 2], "strides": [2, 1]}},
        {"batch_normalization": {"scale": False}},
        {"dropout": {"rate": 0.25}},
        {"flatten": {}},
        {"dense": {"units": 12}},
        {"activation": {"activation": "relu"}},
        {"batch_normalization": {}},
        {"name": "classes", "dense": {"units": 10, "activation": "softmax"}},
    ],
}


@dataclasses.dataclass
class Trained:
    name: str
    spec: dict
    weights: dict  # tensors of the file that `lockstep fetch` wrote
    metadata: dict
    job: dict

    @property
    def input_name(self):
        return self.spec["model"]["inputs"][0].get("name", "input")

    def inputs(self, images=TEST["x"]):
        """Raw values in the model's input shape."""
        shape = self.spec["model"]["inputs"][0]["shape"]
        return images.reshape(len(images), *shape).astype(np.float32)


def job_spec(name):
    if name == "odd":
        spec = json.loads((EXAMPLES / "cnn.json").read_text())
        spec["model"] = ODD_MODEL
    else:
        spec = json.loads((EXAMPLES / f"{name}.json").read_text())
    spec["publish_as"] = name
    return spec


@pytest.fixture(scope="session")
def serving(bin_directory, tmp_path_factory):
    server = programs.Server(bin_directory, tmp_path_factory.mktemp("serving") / "server",
                             "--threads", "2").start()
    directory = tmp_path_factory.mktemp("data")
    server.client.add_npz("fashion-mnist/train", TRAIN, directory)
    server.client.add_npz("fashion-mnist/test", TEST, directory)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def train(serving, tmp_path_factory):
    """Trains a model by name, once a session."""
    models = {}

    def get(name):
        if name not in models:
            spec, directory = job_spec(name), tmp_path_factory.mktemp(name)
            job = serving.client.train(spec, directory)
            path = directory / "weights.safetensors"
            serving.client.run("fetch", name, "-o", path)
            with safetensors.safe_open(path, "numpy") as file:
                metadata = file.metadata()
            models[name] = Trained(name, spec, safetensors.numpy.load_file(path), metadata, job)
        return models[name]

    return get


@pytest.fixture(params=["mlp", "mlp-batchnorm", "cnn", "odd"])
def model(request, train):
    return train(request.param)


@pytest.fixture
def mlp(train):
    return train("mlp")


@pytest.fixture
def channel(serving):
    with grpc.insecure_channel(serving.client.address) as channel:
        yield channel


@pytest.fixture
def triton(serving):
    with tritonclient.grpc.InferenceServerClient(serving.client.address) as client:
        yield client


@pytest.fixture
def infer(triton):
    """Predictions of a model as tritonclient gets them."""

    def ask(model, x, version=""):
        tensor = tritonclient.grpc.InferInput(model.input_name, x.shape, "FP32")
        tensor.set_data_from_numpy(x)
        return triton.infer(model.name, [tensor], model_version=version).as_numpy("output")

    return ask
