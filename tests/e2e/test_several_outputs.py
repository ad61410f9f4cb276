"""A network with two inputs and two outputs: explained, trained, evaluated and asked."""

import copy

import numpy as np
import programs

SPEC = {
    "model": {
        "inputs": [{"shape": [6, 6, 1], "scale": 0.01, "name": "image"},
                   {"shape": [3], "name": "facts"}],
        "layers": [
            {"conv2d": {"filters": 4, "kernel_size": [3], "activation": "relu"}},
            {"name": "top", "global_average_pooling2d": {}},
            {"name": "side", "dense": {"units": 4, "activation": "gelu"}, "inputs": ["facts"]},
            {"name": "both", "concatenate": {}, "inputs": ["top", "side"]},
            {"name": "kind", "dense": {"units": 3, "activation": "softmax"}, "inputs": ["both"]},
            {"name": "size", "dense": {"units": 1}, "inputs": ["both"]},
        ],
        "outputs": ["kind", "size"],
    },
    "data": {"train": {"dataset": "things"}, "validation_split": 0.2},
    "training": {
        "batch_size": 32, "epochs": 8, "seed": 3,
        "losses": [{"sparse_categorical_crossentropy": {}},
                   {"mean_squared_error": {}, "weight": 0.5}],
        "metrics": ["accuracy", "mae"],
        "optimizer": {"adam": {"learning_rate": 0.02}},
    },
    "publish_as": "things",
}


def things(samples=400):
    """The image tells the kind, and the facts tell the size."""
    random = np.random.default_rng(5)
    kind = random.integers(0, 3, samples)
    image = random.integers(0, 20, (samples, 6, 6, 1)) + 60 * kind[:, None, None, None]
    facts = random.normal(size=(samples, 3))
    return {"image": image.astype(np.uint8), "facts": facts.astype(np.float32),
            "kind": kind.astype(np.int64),
            "size": (facts @ [1.0, -2.0, 0.5]).astype(np.float32)}


def test_trains_evaluates_and_predicts_each_output(client, tmp_path):
    client.add_npz("things", things(), tmp_path)
    first = client.train(SPEC, tmp_path, "--threads", "1")
    again = client.train(SPEC, tmp_path, "--threads", "2")
    assert first["state_hash"] == again["state_hash"]

    epoch = [event["epoch"] for event in client.events(first["id"]) if "epoch" in event][-1]
    metrics = {metric["name"]: metric["value"] for metric in epoch["metrics"]}
    for name in ("loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae"):
        assert name in metrics and "val_" + name in metrics
    assert "size_accuracy" not in metrics and "kind_mae" not in metrics
    assert metrics["val_kind_accuracy"] > 0.9 and metrics["val_size_mae"] < 0.6
    total = metrics["val_kind_loss"] + 0.5 * metrics["val_size_loss"]
    assert abs(metrics["val_loss"] - total) < 1e-9

    def evaluate(output):
        found = client.json("evaluate", "things", "--dataset", "things", "--output-name", output)
        return {metric["name"]: metric["value"] for metric in found["metrics"]}

    assert evaluate("kind")["accuracy"] > 0.9
    assert evaluate("size")["loss"] < 1
    rows = client.json_lines("predict", "things", "--dataset", "things", "--output-name", "kind",
                             "--first", "5")
    assert [row["label"] for row in rows] == things()["kind"][:5].tolist()
    refused = client.refused("evaluate", "things", "--dataset", "things")
    assert "--output-name must be one of kind, size" in refused


def test_explain_says_what_it_will_be(client, tmp_path):
    client.add_npz("things", things(), tmp_path)
    job = client.json("explain", programs.write_spec(SPEC, tmp_path))
    layers = {layer["name"]: layer for layer in job["layers"]}
    assert list(layers) == [layer.get("name", "conv2d") for layer in SPEC["model"]["layers"]]
    assert layers["conv2d"]["output_shape"] == ["4", "4", "4"]
    assert int(layers["conv2d"]["parameters"]) == 3 * 3 * 4 + 4
    assert int(layers["conv2d"]["flops_per_sample"]) == 2 * 9 * 4 * 16
    assert layers["both"]["inputs"] == ["top", "side"]
    assert int(job["parameters"]) == sum(int(layer["parameters"]) for layer in job["layers"])
    assert int(job["total_steps"]) == 8 * 10
    assert float(job["step_ms"]) > 0 and int(job["threads"]) > 0
    text = client.run("explain", programs.write_spec(SPEC, tmp_path))
    assert "[N, 4, 4, 4]" in text and "top, side" in text and "80 (10 an epoch)" in text

    wrong = copy.deepcopy(SPEC)
    wrong["training"]["losses"].pop()
    refused = client.refused("explain", programs.write_spec(wrong, tmp_path))
    assert "training.losses: must have one loss for each of the model's outputs, 2, got 1" in refused
