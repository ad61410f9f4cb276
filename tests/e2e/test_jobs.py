"""A job's life as its owner sees it."""

import json
import signal
import struct

import data
import programs
import pytest


def read_safetensors(path):
    """(metadata, {name: (dtype, shape)})"""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__")
    end = max(entry["data_offsets"][1] for entry in header.values())
    assert len(content) == 8 + length + end
    return metadata, {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}


def test_events_tell_the_whole_story_without_holes(client, tmp_path):
    spec = data.job(epochs=3, log_every=4)
    spec["data"]["validation"] = {"dataset": "blobs"}
    job_id = client.submit(spec, tmp_path)
    events = client.events(job_id)

    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    states = [event["state"]["state"] for event in events if "state" in event]
    assert states == ["QUEUED", "RUNNING", "SUCCEEDED"]
    # 250 samples in batches of 32 are 8 steps, a record every 4.
    steps = [int(event["step"]["step"]) for event in events if "step" in event]
    assert steps == [4, 8, 12, 16, 20, 24]
    epochs = [event["epoch"] for event in events if "epoch" in event]
    assert [int(epoch["epoch"]) for epoch in epochs] == [1, 2, 3]
    for epoch in epochs:
        names = [metric["name"] for metric in epoch["metrics"]]
        assert names == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert epochs[-1]["state_hash"] == client.job(job_id)["state_hash"]


def test_a_profile_says_where_the_time_of_a_step_goes_and_changes_nothing(client, tmp_path):
    spec = programs.write_spec(data.job(epochs=10), tmp_path)
    image = tmp_path / "profile.svg"
    table = client.run("submit", spec, "--id", "profiled", "--watch", "--profile",
                       "--profile-image", image)
    assert "steps 11 to 60: " in table
    assert "batch_normalization" in table
    assert image.read_text().endswith("</svg>\n")
    # Without --watch the command ends when it knows; the job goes on.
    assert "PHASE" in client.run("submit", spec, "--id", "profiled-only", "--profile")
    client.finish("profiled-only")

    profiles = [event["profile"] for event in client.events("profiled") if "profile" in event]
    assert len(profiles) == 1
    total = sum(row["ms"] for row in profiles[0]["rows"])
    assert total == pytest.approx(profiles[0]["step_ms"])
    plain = client.train(data.job(epochs=10), tmp_path)
    for job_id in ("profiled", "profiled-only"):
        for promised in ("state_hash", "fingerprint"):
            assert client.job(job_id)[promised] == plain[promised]

    assert "--profile" in client.misused("submit", spec, "--profile-image", image)


def test_training_learns(client, tmp_path):
    client.train(data.job(epochs=30), tmp_path)
    metrics = {metric["name"]: metric["value"] for metric in
               client.json("evaluate", "mlp", "--dataset", "blobs")["metrics"]}
    assert metrics["accuracy"] > 0.9


def test_watching_from_any_sequence_number_shows_the_rest(client, tmp_path):
    job_id = client.submit(data.job(log_every=1), tmp_path)
    events = client.events(job_id)
    for first in (1, 2, len(events) // 2, len(events)):
        assert client.events(job_id, first) == events[first - 1:]
    # Twice as well as once, and beyond the end there is nothing.
    assert client.events(job_id) == events
    assert client.events(job_id, len(events) + 1) == []


def test_a_watch_can_begin_while_the_job_runs(client, tmp_path):
    job_id = client.submit(data.long_job(), tmp_path)
    watch = client.start("--json", "watch", job_id)
    try:
        seen = [json.loads(watch.stdout.readline())["sequence"] for _ in range(20)]
        assert [int(sequence) for sequence in seen] == list(range(1, 21))
    finally:
        client.run("cancel", job_id)
        watch.communicate(timeout=programs.TIMEOUT_SECONDS)
    assert watch.returncode == 1, "a cancelled job is no success"


def test_ctrl_c_detaches_and_the_job_goes_on(client, tmp_path):
    job_id = client.submit(data.long_job(), tmp_path)
    watch = client.start("watch", job_id)
    assert watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    output, errors = watch.communicate(timeout=programs.TIMEOUT_SECONDS)
    assert watch.returncode == 130
    assert f"watch {job_id}" in output + errors, "it says how to come back"
    assert client.job(job_id)["state"] == "RUNNING"


def test_a_watcher_that_stops_reading_delays_nobody(client, tmp_path):
    stalled = client.start("--json", "watch", client.submit(data.long_job(), tmp_path))
    try:
        assert stalled.stdout.readline()
        stalled.send_signal(signal.SIGSTOP)
        client.run("jobs")
    finally:
        stalled.kill()
        stalled.communicate()


def test_cancel_ends_a_running_job_and_the_worker_takes_the_next(client, tmp_path):
    job_id = client.submit(data.long_job(), tmp_path)
    client.wait_for_state(job_id, "RUNNING")
    waiting = client.submit(data.long_job(), tmp_path)
    next_one = client.submit(data.job(), tmp_path)

    assert client.job(waiting)["state"] == "QUEUED"
    client.run("cancel", waiting)
    client.run("cancel", job_id)
    assert client.wait_for_state(job_id, "CANCELLED")
    assert client.wait_for_state(waiting, "CANCELLED")
    client.finish(next_one)

    assert "cancelled" in client.refused("cancel", job_id).lower()


def test_the_same_id_is_the_same_job(client, tmp_path):
    client.train(data.job(), tmp_path, "--id", "mine")
    assert client.submit(data.job(), tmp_path, "--id", "mine") == "mine"
    assert len(client.json_lines("jobs")) == 1

    another = programs.write_spec(data.job(seed=9), tmp_path)
    assert '"mine" with another spec' in client.refused("submit", another, "--id", "mine")


def test_weights_can_be_fetched_after_the_job_and_while_it_runs(client, tmp_path):
    expected = {
        "dense.kernel": ("F32", [8, 16]), "dense.bias": ("F32", [16]),
        "batch_normalization.gamma": ("F32", [16]), "batch_normalization.beta": ("F32", [16]),
        "batch_normalization.moving_mean": ("F32", [16]),
        "batch_normalization.moving_variance": ("F32", [16]),
        "dense_1.kernel": ("F32", [16, 4]), "dense_1.bias": ("F32", [4]),
    }
    job_id = client.train(data.job(), tmp_path)["id"]
    path = tmp_path / "weights.safetensors"
    client.run("fetch", job_id, "-o", path)
    _, tensors = read_safetensors(path)
    assert tensors == expected

    of_the_model = tmp_path / "model.safetensors"
    client.run("fetch", "mlp:1", "-o", of_the_model)
    assert of_the_model.read_bytes() == path.read_bytes()

    running = client.submit(data.long_job(), tmp_path)
    programs.wait_until(lambda: int(client.job(running)["progress"]["step"]) > 0,
                        "a step is done")
    client.run("fetch", running, "-o", path)
    _, tensors = read_safetensors(path)
    assert tensors == expected


def test_every_success_is_a_new_version_and_old_ones_stay(client, tmp_path):
    client.train(data.job(seed=1), tmp_path)
    client.train(data.job(seed=2), tmp_path)
    first, second = (
        client.run("predict", f"mlp:{version}", "--dataset", "blobs", "--first", 5)
        for version in (1, 2))
    assert first != second
    assert client.run("predict", "mlp", "--dataset", "blobs", "--first", 5) == second
    models = client.json_lines("models")
    assert [(model["name"], int(model["version"])) for model in models] == [("mlp", 2)]


@pytest.mark.parametrize("example", ["mlp", "mlp-batchnorm", "cnn"])
def test_the_examples_train(client, tmp_path, pytestconfig, example):
    client.add_npz("fashion-mnist/train", data.images(512), tmp_path)
    client.add_npz("fashion-mnist/test", data.images(64, seed=1), tmp_path)
    path = pytestconfig.rootpath.parent / "deploy" / "examples" / f"{example}.json"
    job = client.train(json.loads(path.read_text()), tmp_path)
    assert job["published"]["name"] == f"fashion-{example}"
