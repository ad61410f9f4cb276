"""Going on from trained weights: fine-tuning with frozen layers, and exact statistics."""

import data
import programs


def fine_tuning():
    spec = data.job(epochs=1)
    for layer in spec["model"]["layers"][:2]:
        layer["trainable"] = False
    spec["publish_as"] = "tuned"
    return spec


def test_a_model_and_its_file_are_the_same_start(client, tmp_path):
    client.train(data.job(), tmp_path)
    weights = tmp_path / "mlp.safetensors"
    client.run("fetch", "mlp", "--output", weights)
    by_name = client.train(fine_tuning(), tmp_path, "--initial-weights", "mlp")
    by_version = client.train(fine_tuning(), tmp_path, "--initial-weights", "mlp:1")
    by_file = client.train(fine_tuning(), tmp_path, "--initial-weights", weights)
    plain = client.train(fine_tuning(), tmp_path)
    assert by_name["state_hash"] == by_version["state_hash"] == by_file["state_hash"]
    assert by_name["fingerprint"] == by_version["fingerprint"] == by_file["fingerprint"]
    assert plain["state_hash"] != by_name["state_hash"]
    assert plain["fingerprint"] != by_name["fingerprint"]


def test_weights_that_do_not_fit_fail_the_job_with_the_whole_list(client, tmp_path):
    client.train(data.job(), tmp_path)
    spec = data.job()
    spec["model"]["layers"][0]["dense"]["units"] = 15
    spec["model"]["layers"][2]["name"] = "other"
    job_id = client.submit(spec, tmp_path, "--initial-weights", "mlp")
    reason = client.wait_for_state(job_id, "FAILED")["state_reason"]
    for part in ("dense.kernel is [8, 16], not [8, 15]", "batch_normalization.gamma is [16], not",
                 "other.kernel is missing", "dense_1.bias belongs to no layer"):
        assert part in reason


def test_population_statistics_are_a_job_that_publishes_the_next_version(client, tmp_path):
    client.train(data.job(), tmp_path)
    spec = {"data": {"train": {"dataset": "blobs"}}, "population_statistics": {},
            "publish_as": "mlp"}
    job = client.train(spec, tmp_path, "--initial-weights", "mlp:1")
    assert job["published"] == {"name": "mlp", "version": "2"}
    assert int(job["progress"]["step"]) == 1
    epochs = [event["epoch"] for event in client.events(job["id"]) if "epoch" in event]
    assert epochs[0]["state_hash"] == job["state_hash"]
    assert "batch_normalization" in client.run("show", job["id"])
    again = client.train(spec, tmp_path, "--initial-weights", "mlp:1", "--threads", "1")
    assert again["state_hash"] == job["state_hash"]


def test_a_job_is_explained_as_it_would_be_submitted(client, tmp_path):
    client.train(data.job(), tmp_path)
    spec = fine_tuning()
    spec["initial_weights"] = {"model": {"name": "mlp"}}
    explained = client.json("explain", programs.write_spec(spec, tmp_path))
    assert explained["fingerprint"] == client.train(spec, tmp_path)["fingerprint"]
    frozen = [layer["name"] for layer in explained["layers"]
              if int(layer["parameters"]) and not layer["trainable"]]
    assert frozen == ["dense", "batch_normalization"]

    statistics = {"data": {"train": {"dataset": "blobs"}}, "population_statistics": {},
                  "initial_weights": {"model": {"name": "mlp"}}, "publish_as": "mlp"}
    assert "dense_1" in client.run("explain", programs.write_spec(statistics, tmp_path))
    spec["publish_as"] = "a/b"
    assert "publish_as" in client.refused("explain", programs.write_spec(spec, tmp_path))


def test_a_keras_model_starts_from_a_version_too(client, tmp_path):
    client.train(data.job(), tmp_path)
    keras = tmp_path / "mlp.json"
    client.run("fetch", "mlp", "--keras-json", keras, "--output", tmp_path / "mlp.safetensors")
    spec = data.job(epochs=1)
    by_spec = client.train(spec, tmp_path, "--initial-weights", "mlp:1")
    spec["keras_model"] = keras.read_text()
    del spec["model"]
    by_keras = client.train(spec, tmp_path, "--initial-weights", "mlp:1")
    assert by_keras["state_hash"] == by_spec["state_hash"]
