"""The promise: a job's result depends on its spec, its data and its seed, and on nothing else."""

import data
import pytest

CNN = {
    "model": {
        "inputs": [{"shape": [12, 12, 1], "scale": 0.00392156862745098}],
        "layers": [
            {"conv2d": {"filters": 4, "kernel_size": [3, 3], "activation": "relu"}},
            {"batch_normalization": {}},
            {"max_pooling2d": {}},
            {"flatten": {}},
            {"dropout": {"rate": 0.25}},
            {"dense": {"units": 5, "activation": "softmax"}},
        ],
    },
    "data": {"train": {"dataset": "images"}, "validation": {"dataset": "images"}},
    "training": {
        "batch_size": 48,
        "epochs": 2,
        "seed": 3,
        "losses": [{"sparse_categorical_crossentropy": {}}],
        "metrics": ["accuracy"],
    },
    "publish_as": "cnn",
}

# 250 samples: the last batch of an epoch is smaller wherever the batch size does not divide 250.
CASES = {
    "uneven shards and last batch": data.job(batch_size=48, shards=5),
    "one shard": data.job(batch_size=32, shards=1),
    "more shards than samples": data.job(batch_size=3, shards=8, epochs=1),
    "shards of one sample": data.job(batch_size=7, shards=7),
    "a last batch of one sample": data.job(batch_size=83, shards=4),
    "convolution and dropout": CNN,
}


def promised(events):
    """What the promise covers: the step and epoch records, without how long they took."""
    records = [event.get("step") or event.get("epoch") for event in events]
    return [{key: value for key, value in record.items() if key != "timing"}
            for record in records if record]


def results(client, spec, directory, *options):
    """(state hash, records) of a run of the job."""
    job_id = client.submit(spec, directory, *options)
    records = promised(client.events(job_id))
    return client.finish(job_id)["state_hash"], records


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_threads_changes_nothing(make_server, tmp_path, case):
    client = make_server("--threads", "8").start().client
    client.add_npz("blobs", data.blobs(250), tmp_path)
    client.add_npz("images", data.images(250, size=12, classes=5), tmp_path)

    first = results(client, CASES[case], tmp_path, "--threads", 1)
    assert len(first[0]) == 64 and first[1]
    for threads in (1, 2, 3, 4, 8):
        again = results(client, CASES[case], tmp_path, "--threads", threads)
        assert again == first, f"{threads} threads"


def test_another_server_comes_to_the_same_result(make_server, client, tmp_path):
    other = make_server("--threads", "3", directory="other").start().client
    other.add_npz("blobs", data.blobs(250), tmp_path)
    assert results(other, data.job(), tmp_path) == results(client, data.job(), tmp_path)


def test_another_seed_comes_to_another_result(client, tmp_path):
    first, _ = results(client, data.job(seed=1), tmp_path)
    second, _ = results(client, data.job(seed=2), tmp_path)
    assert first != second


def test_fingerprints_tell_jobs_apart_by_what_matters(client, tmp_path):
    job = client.train(data.job(), tmp_path)
    published_elsewhere = {**data.job(), "publish_as": "another"}
    assert client.train(published_elsewhere, tmp_path, "--threads", 1)["fingerprint"] \
        == job["fingerprint"]
    assert client.train(data.job(seed=8), tmp_path)["fingerprint"] != job["fingerprint"]
