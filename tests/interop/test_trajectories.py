"""Twenty steps here and there, from the same weights on the same batches.

Three runs of each model: ours, the peer's in float32 as its users have it, and the peer's in
float64, which is the reference. Ours may be at most twice as far from it as the peer's own float32.
"""

import json
import os

import numpy as np
import pytest
import safetensors.numpy

os.environ["KERAS_BACKEND"] = "torch"
import keras  # noqa: E402
import torch  # noqa: E402
from conftest import EXAMPLES  # noqa: E402
from keras.src.backend.common import dtypes  # noqa: E402
from trajectory_models import KERAS, STEPS, ResNet20, labels, normal  # noqa: E402

# Below this both are as good as float32 gets, and who is nearer is luck.
FLOOR = 2e-7
# The weights have to move by more than this, or there was nothing to compare.
MOVED = 1e-3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The peers' threads would wait for each other longer than such small models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compare(pytestconfig):
    """Judges the weights of one model; the table of all is printed at the end."""
    rows = [f"{'relative distance to float64':28}  {'ours':>9}  {'float32':>9}  {'moved':>9}"]

    def judge(name, start, ours, float32, float64):
        """Each a dictionary of arrays by tensor's name."""
        def flat(weights):
            assert set(weights) == set(float64)
            return np.concatenate([np.ravel(weights[key]).astype(np.float64) for key in float64])

        def distance(weights):
            return np.linalg.norm(flat(weights) - flat(float64)) / np.linalg.norm(flat(float64))

        moved, here, there = distance(start), distance(ours), distance(float32)
        rows.append(f"{name:28}  {here:9.2e}  {there:9.2e}  {moved:9.2e}")
        assert moved > MOVED
        assert here <= max(2 * there, FLOOR), "\n".join([rows[0], rows[-1]])

    yield judge
    with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print("", *rows, sep="\n")


@pytest.fixture
def float64(monkeypatch):
    """Keras computes in float64: its type promotion would replace it by float32."""
    def begin():
        monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        keras.config.set_floatx("float64")

    yield begin
    keras.config.set_floatx("float32")


def train_here(client, directory, name, spec, tensors, weights, naming):
    """Our weights after the job, by our names."""
    client.add_npz(name, tensors, directory)
    safetensors.numpy.save_file(weights, directory / "start.safetensors")
    spec["data"] = {"train": {"dataset": name}}
    spec["initial_weights"] = {"naming": naming}
    spec["training"].update(epochs=1, shuffle=False)
    spec["publish_as"] = name
    job = client.train(spec, directory, "--initial-weights", directory / "start.safetensors")
    assert int(job["progress"]["step"]) == STEPS
    client.run("fetch", name, "-o", directory / "end.safetensors")
    return safetensors.numpy.load_file(directory / "end.safetensors")


def keras_optimizer(training):
    [(kind, options)] = training["optimizer"].items()
    classes = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam,
               "rmsprop": keras.optimizers.RMSprop}
    optimizer = classes[kind](**options, weight_decay=training.get("weight_decay", {}).get("rate"))
    if optimizer.weight_decay is not None:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def keras_weights(model):
    return {f"{layer.name}.{variable.name}": variable.numpy()
            for layer in model.layers for variable in layer.weights}


def train_in_keras(build, start):
    """In the type that Keras is set to; the weights begin as `start`."""
    keras.utils.clear_session()
    model, batch, tensors, training = build()
    for layer in model.layers:
        for variable in layer.weights:
            assert variable.dtype == keras.config.floatx()
            variable.assign(start[f"{layer.name}.{variable.name}"])
    losses = [next(iter(loss)) for loss in training["losses"]]
    model.compile(optimizer=keras_optimizer(training), loss=losses)

    def given(names, i):
        """Of step i; floats in the type of the run."""
        rows = [tensors[name][i * batch:(i + 1) * batch] for name in names]
        rows = [r.astype(keras.config.floatx()) if r.dtype == np.float32 else r for r in rows]
        return rows if len(rows) > 1 else rows[0]

    inputs, outputs = ["x"], ["y"]
    if len(model.inputs) > 1:
        inputs, outputs = [i.name for i in model.inputs], model.output_names
    for i in range(STEPS):
        model.train_on_batch(given(inputs, i), given(outputs, i))
    return keras_weights(model)


@pytest.mark.parametrize("build", KERAS, ids=lambda build: build.__name__)
def test_a_keras_model_goes_where_keras_goes(build, serving, tmp_path, compare, float64):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model, batch, tensors, training = build()
    start = keras_weights(model)
    by_path = {f"{layer.name}/{variable.name}": variable.numpy()
               for layer in model.layers for variable in layer.weights}
    spec = {"keras_model": model.to_json(), "training": {**training, "batch_size": batch}}
    ours = train_here(serving.client, tmp_path, f"trajectory-{model.name}", spec, tensors, by_path,
                      "keras")
    float32 = train_in_keras(build, start)
    float64()
    compare(model.name, start, ours, float32, train_in_keras(build, start))


def our_names(state):
    """A PyTorch state as ours: names, and the axes of kernels."""
    tensors = {}
    for path, tensor in state.items():
        layer, name = path.replace(".", "/").rsplit("/", 1)
        values = tensor.numpy()
        if name == "num_batches_tracked":
            continue
        if values.ndim > 1:
            name, values = "kernel", np.moveaxis(values, [1, 0], [-2, -1])
        elif "bn" in layer:
            name = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
                    "running_var": "moving_variance"}[name]
        tensors[f"{layer}.{name}"] = values
    return tensors


def train_in_pytorch(start, x, y, batch, optimizer, dtype):
    model = ResNet20().to(dtype)
    model.load_state_dict(start)
    sgd = torch.optim.SGD(model.parameters(), lr=optimizer["learning_rate"],
                          momentum=optimizer["momentum"])
    images = torch.tensor(x, dtype=dtype).permute(0, 3, 1, 2)
    for i in range(STEPS):
        rows = slice(i * batch, (i + 1) * batch)
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), torch.tensor(y[rows])).backward()
        sgd.step()
    return our_names(model.state_dict())


def test_a_resnet_goes_where_pytorch_goes(serving, tmp_path, compare):
    # A larger rate leads to chaos, where every distance is luck.
    batch, sgd = 16, {"learning_rate": 0.0001, "momentum": 0.9}
    torch.manual_seed(1)
    start = {name: tensor.clone() for name, tensor in ResNet20().state_dict().items()}
    x = normal("resnet20", STEPS * batch, 16, 16, 3)
    y = labels(x, 10)
    spec = json.loads((EXAMPLES / "resnet20.json").read_text())
    spec["model"]["inputs"] = [{"shape": [16, 16, 3]}]
    for layer in spec["model"]["layers"]:
        if "batch_normalization" in layer:
            layer["batch_normalization"]["convention"] = "pytorch"
    spec["training"].update(batch_size=batch, optimizer={"sgd": sgd})
    ours = train_here(serving.client, tmp_path, "trajectory-resnet20", spec, {"x": x, "y": y},
                      {name: tensor.numpy() for name, tensor in start.items()}, "pytorch")
    float32, float64 = (train_in_pytorch(start, x, y, batch, sgd, dtype)
                        for dtype in (torch.float32, torch.float64))
    compare("resnet20 (PyTorch)", our_names(start), ours, float32, float64)
