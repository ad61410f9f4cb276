"""What is wrong is refused with the place where it is wrong, and the server goes on."""

import copy
import gzip
import struct

import data
import numpy as np
import programs
import pytest


def changed(path, value, spec=None):
    """A copy of the job with one field set; path parts are names and indices. None removes it."""
    result = copy.deepcopy(data.MLP if spec is None else spec)
    target = result
    for part in path[:-1]:
        target = target[part]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return result


LAYERS = ("model", "layers")

# name: (job, what the message has to contain)
BAD_SPECS = {
    "layer without a kind": (changed((*LAYERS, 0), {}), ["model.layers[0]"]),
    "no layers": (changed(LAYERS, []), ["model.layers"]),
    "zero units": (changed((*LAYERS, 0, "dense", "units"), 0), ["model.layers[0].dense.units", "0"]),
    "negative units": (
        changed((*LAYERS, 0, "dense", "units"), -5), ["model.layers[0].dense.units", "-5"]),
    "unknown activation": (
        changed((*LAYERS, 0, "dense", "activation"), "swoosh"),
        ["model.layers[0].dense.activation", "swoosh", "relu"]),
    "momentum beyond 1": (
        changed((*LAYERS, 1, "batch_normalization", "momentum"), 1.5),
        ["model.layers[1].batch_normalization.momentum", "1.5"]),
    "epsilon of zero": (
        changed((*LAYERS, 1, "batch_normalization", "epsilon"), 0.0),
        ["model.layers[1].batch_normalization.epsilon"]),
    "dropout of everything": (
        changed((*LAYERS, 1), {"dropout": {"rate": 1.0}}), ["model.layers[1].dropout.rate"]),
    "convolution of a vector": (
        changed((*LAYERS, 0), {"conv2d": {"filters": 2, "kernel_size": [3]}}),
        ["model.layers[0]", "8"]),
    "kernel larger than the image": (
        {**data.MLP,
         "model": {"inputs": [{"shape": [4, 2, 1]}],
                   "layers": [{"conv2d": {"filters": 2, "kernel_size": [5, 5]}}, {"flatten": {}},
                              {"dense": {"units": 4, "activation": "softmax"}}]}},
        ["model.layers[0]", "4", "5"]),
    "no softmax before the loss": (
        changed((*LAYERS, 2, "dense", "activation"), "relu"), ["softmax"]),
    "two layers of one name": (
        changed((*LAYERS, 0, "name"), "twin", changed((*LAYERS, 2, "name"), "twin")),
        ["model.layers[2].name", "twin"]),
    "input of zero size": (changed(("model", "inputs", 0, "shape"), [0]), ["model.inputs[0].shape"]),
    "input that is not the data's": (changed(("model", "inputs", 0, "shape"), [9]), ["9", "8"]),
    "no loss": (changed(("training", "losses"), None), ["training.losses"]),
    "unknown metric": (changed(("training", "metrics"), ["f2"]), ["training.metrics", "f2"]),
    "batch of nothing": (changed(("training", "batch_size"), 0), ["training.batch_size"]),
    "batch larger than the data": (
        changed(("training", "batch_size"), 251), ["training.batch_size", "251", "250"]),
    "negative epochs": (changed(("training", "epochs"), -1), ["training.epochs", "-1"]),
    "too many shards": (changed(("training", "shards"), 257), ["training.shards", "257"]),
    "negative learning rate": (
        changed(("training", "optimizer"), {"adam": {"learning_rate": -1}}),
        ["training.optimizer.adam.learning_rate", "-1"]),
    "learning rate that is no number": (
        changed(("training", "optimizer"), {"sgd": {"learning_rate": "NaN"}}),
        ["training.optimizer.sgd.learning_rate"]),
    "unknown data set": (changed(("data", "train", "dataset"), "nowhere"), ["nowhere"]),
    "unknown tensor": (changed(("data", "train", "x"), ["z"]), ["data.train", "z"]),
    "model name with a slash": (changed(("publish_as",), "a/b"), ["publish_as"]),
    "a tensor too large to count": (
        changed((*LAYERS, 0, "dense", "units"), 2_000_000_000_000),
        ["model.layers[0].dense.units", "2000000000000"]),
    "sizes that overflow": (
        changed((*LAYERS, 0, "dense", "units"), 2**62), ["model.layers[0]"]),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_bad_spec_is_refused_with_the_fields_path(client, tmp_path, case):
    spec, expected = BAD_SPECS[case]
    message = client.refused("submit", programs.write_spec(spec, tmp_path))
    for part in expected:
        assert part in message, message
    assert client.json_lines("jobs") == []
    client.train(data.job(), tmp_path)


def test_a_job_beyond_the_servers_memory_limit_is_refused_with_the_estimate(make_server, tmp_path):
    client = make_server("--max-job-memory-mb", "64").start().client
    client.add_npz("blobs", data.blobs(250), tmp_path)
    spec = changed((*LAYERS, 0, "dense", "units"), 10_000_000)  # its kernel alone has 320 MB
    message = client.refused("submit", programs.write_spec(spec, tmp_path))
    assert "needs about 2560 MB" in message and "67 MB allowed" in message  # 64 MiB
    client.train(data.job(), tmp_path)


@pytest.mark.parametrize("spec, expected", [
    (changed((*LAYERS, 0), {"lstm": {}}), ["layers[0]", "lstm"]),
    (changed((*LAYERS, 0, "dense", "unit"), 3), ["layers[0].dense", "unit"]),
    (changed(("training", "epochs"), "many"), ["training.epochs", "many"]),
], ids=["unknown layer", "unknown field", "field of the wrong kind"])
def test_a_file_that_is_no_job_spec_is_refused_with_the_fields_path(
        client, tmp_path, spec, expected):
    message = client.misused("submit", programs.write_spec(spec, tmp_path))
    for part in expected:
        assert part in message, message


def test_a_job_file_that_cannot_be_read_is_named(client, tmp_path):
    path = tmp_path / "job.json"
    path.write_text('{\n  "model": {\n')
    assert "line" in client.misused("submit", path)
    assert str(tmp_path / "absent.json") in client.misused("submit", tmp_path / "absent.json")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_data_set_with_a_value_that_is_not_finite_is_refused_and_the_sample_named(
        client, tmp_path, value):
    tensors = data.blobs(250)
    tensors["x"][17, 3] = value
    path = tmp_path / "bad.npz"
    np.savez(path, **tensors)
    message = client.refused("datasets", "add", "bad", "--npz", path)
    assert '("x"): value 3 of sample 17 is NaN or infinite' in message
    client.train(data.job(), tmp_path)


@pytest.mark.parametrize("label", [4, -1])
def test_labels_outside_the_classes_are_refused_with_the_job(client, tmp_path, label):
    tensors = data.blobs(250)
    tensors["y"][17] = label
    client.add_npz("bad", tensors, tmp_path)
    spec = changed(("data", "train", "dataset"), "bad")
    message = client.refused("submit", programs.write_spec(spec, tmp_path))
    assert 'data.train.y: labels of "y" go from' in message and str(label) in message
    assert "classes 0 to 3" in message
    client.train(data.job(), tmp_path)


def test_a_loss_that_is_not_finite_fails_the_job_and_names_step_and_layer(client, tmp_path):
    spec = changed(("training", "optimizer"), {"sgd": {"learning_rate": 1e30}})
    job_id = client.submit(spec, tmp_path)
    job = client.wait_for_state(job_id, "FAILED")
    assert "no longer finite" in job["state_reason"] and "model.layers[" in job["state_reason"]
    # Asked for when the job has ended, a watch still ends with its failure.
    assert job["state_reason"] in client.refused("watch", job_id)
    client.train(data.job(), tmp_path)


@pytest.mark.parametrize("command", [
    ["show", "absent"], ["watch", "absent"], ["cancel", "absent"],
    ["fetch", "absent", "-o", "/dev/null"], ["predict", "absent", "--dataset", "blobs"],
    ["evaluate", "absent", "--dataset", "blobs"]])
def test_what_is_not_there_is_named(client, command):
    message = client.refused(*command)
    assert "absent" in message


def test_a_data_set_that_is_not_the_models_is_refused(client, tmp_path):
    client.train(data.job(), tmp_path)
    client.add_npz("wider", data.blobs(10, features=9), tmp_path)
    assert "9" in client.refused("predict", "mlp", "--dataset", "wider")
    assert "nowhere" in client.refused("predict", "mlp", "--dataset", "nowhere")


def test_a_data_set_never_changes(client, tmp_path):
    client.add_npz("blobs", data.blobs(250), tmp_path)
    path = tmp_path / "other.npz"
    np.savez(path, **data.blobs(250, seed=1))
    assert "blobs" in client.refused("datasets", "add", "blobs", "--npz", path)
    assert len(client.json_lines("datasets", "list")) == 1


def idx(shape, payload, magic=0x0800):
    return struct.pack(f">I{len(shape)}I", magic | len(shape), *shape) + payload


CSV_HEAD = "width,height,kind\n1.5,2,a\n"
IMAGES = idx((3, 2, 2), bytes(12))
LABELS = idx((3,), bytes(3))
NPY = b"\x93NUMPY\x01\x00"

# name: (files, options, what the message has to contain)
BAD_FILES = {
    "gzip cut short": (
        {"x": gzip.compress(IMAGES)[:-9], "y": LABELS}, ["--x", "x", "--y", "y"], ["x"]),
    "gzip with a wrong sum": (
        {"x": gzip.compress(IMAGES)[:-8] + bytes(8), "y": LABELS}, ["--x", "x", "--y", "y"], ["x"]),
    "IDX cut short": ({"x": IMAGES[:-1], "y": LABELS}, ["--x", "x", "--y", "y"], ["x", "[3, 2, 2]", "11"]),
    "IDX that claims too much": (
        {"x": idx((2**31, 2**31), b""), "y": LABELS}, ["--x", "x", "--y", "y"], ["x"]),
    "neither IDX nor anything": (
        {"x": b"hello, world", "y": LABELS}, ["--x", "x", "--y", "y"], ["x"]),
    "fewer labels than images": (
        {"x": IMAGES, "y": idx((2,), bytes(2))}, ["--x", "x", "--y", "y"], ["3", "2"]),
    "npz that is no zip": ({"d": b"PK\x03\x04 not really"}, ["--npz", "d"], ["d"]),
    "npy cut short": ({"x": NPY + b"\x76\x00{'descr'", "y": LABELS}, ["--x", "x", "--y", "y"], ["x"]),
    "empty CSV": ({"d": b""}, ["--csv", "d"], ["d"]),
    "CSV row too short": (
        {"d": (CSV_HEAD + "3,b\n").encode()}, ["--csv", "d"], ["row 3"]),
    "CSV with a missing value": (
        {"d": (CSV_HEAD + "3,,b\n").encode()}, ["--csv", "d"], ["row 3", "height"]),
    "CSV without the column": (
        {"d": CSV_HEAD.encode()}, ["--csv", "d", "--label", "colour"], ["colour"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_the_place(client, tmp_path, case):
    files, options, expected = BAD_FILES[case]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    arguments = [tmp_path / option if option in files else option for option in options]
    message = client.misused("datasets", "add", "bad", *arguments)
    for part in expected:
        assert part in message, message
    assert [found["name"] for found in client.json_lines("datasets", "list")] == ["blobs"]


def test_a_csv_file_trains(client, tmp_path):
    path = tmp_path / "flowers.csv"
    rows = [f"{i % 7},{i % 5},{'red' if i % 3 else 'blue'},{'ab'[i % 2]}" for i in range(40)]
    path.write_text("width,height,colour,kind\n" + "\n".join(rows) + "\n")
    client.run("datasets", "add", "flowers", "--csv", path, "--label", "kind")
    spec = changed(("data", "train", "dataset"), "flowers")
    spec["model"]["inputs"][0]["shape"] = [4]
    spec["model"]["layers"][2]["dense"]["units"] = 2
    client.train(spec, tmp_path)
