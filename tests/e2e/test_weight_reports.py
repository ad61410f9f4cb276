"""Histograms of weights in a job's log, beside what numpy makes of the weights themselves."""

import json

import data
import numpy as np
import pytest

BUCKETS = 30


def read_floats(path):
    """{name: values} of a safetensors file, in its order."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + length])
    del header["__metadata__"]
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    body = content[8 + length:]
    return {name: np.frombuffer(body[slice(*header[name]["data_offsets"])], "<f4").astype(float)
            for name in order}


def weight_reports(events):
    return [event["weights"] for event in events if "weights" in event]


def without_batch_norm(spec):
    del spec["model"]["layers"][1]
    return spec


@pytest.mark.parametrize("spec", [
    data.job(epochs=6), without_batch_norm(data.job(epochs=6)), data.job(epochs=6, ema={}),
], ids=["batch_norm", "no_batch_norm", "average"])
def test_the_last_report_is_numpys_histogram_of_the_fetched_weights(client, tmp_path, spec):
    job_id = client.train(spec, tmp_path)["id"]
    reports = weight_reports(client.events(job_id))
    # Epochs of 8 steps; at least 20 steps from report to report.
    assert [int(report["epoch"]) for report in reports] == [3, 6]
    assert [int(report["step"]) for report in reports] == [24, 48]

    path = tmp_path / "weights.safetensors"
    client.run("fetch", job_id, "-o", path)
    weights = read_floats(path)
    assert sorted(tensor["name"] for tensor in reports[-1]["tensors"]) == sorted(weights)
    for tensor in reports[-1]["tensors"]:
        values = weights[tensor["name"]]
        counts, edges = np.histogram(values, bins=BUCKETS)
        assert [int(count) for count in tensor["buckets"]] == counts.tolist(), tensor["name"]
        assert int(tensor["count"]) == values.size
        assert int(tensor.get("not_finite", 0)) == 0
        assert (tensor["min"], tensor["max"]) == (edges[0], edges[-1])
        assert tensor["sum"] == pytest.approx(values.sum(), abs=1e-9)
        assert tensor["sum_of_squares"] == pytest.approx(np.square(values).sum())


def test_the_same_job_reports_the_same_and_people_see_no_line_of_it(client, tmp_path):
    ids = [client.train(data.job(epochs=6), tmp_path)["id"] for _ in range(2)]
    first, second = (weight_reports(client.events(job_id)) for job_id in ids)
    assert first == second
    assert "kernel" not in client.run("watch", ids[0])
