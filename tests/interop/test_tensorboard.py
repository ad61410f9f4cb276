"""A stock TensorBoard, attached both ways, shows what our own export says: number by number."""

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import data
import numpy as np
import programs
import pytest
from tensorboard.backend.event_processing import event_accumulator

TIMING = ["samples_per_second", "step_ms", "compute_ms", "wait_ms", "reduce_ms"]
EVERYTHING = {kind: 0 for kind in event_accumulator.DEFAULT_SIZE_GUIDANCE}  # no sampling


def float32(value):
    return float(np.float32(value))


class Export:
    """What `lockstep --json watch` says, as TensorBoard should show it."""

    def __init__(self, events):
        self.scalars = {}     # tag: [(step, value)]
        self.histograms = {}  # tag: [(step, [[left, right, count]])]
        self.texts = []       # (step, text)
        kinds = {"step": self._step, "epoch": self._epoch, "batch_norm": self._batch_norm,
                 "weights": self._weights, "text": self._text, "state": self._state}
        for event in events:
            for kind in kinds.keys() & event.keys():
                kinds[kind](event)

    def _add(self, tag, step, value):
        self.scalars.setdefault(tag, []).append((int(step), float32(value)))

    def _step(self, event):
        record = event["step"]
        for metric in record["metrics"]:
            self._add(metric["name"], record["step"], metric["mean"])
        self._add("learning_rate", record["step"], record["learning_rate"])
        self._add("gradient_norm", record["step"], record["gradient_norm"])
        for name in TIMING:
            self._add(f"timing/{name}", record["step"], record["timing"][name])

    def _epoch(self, event):
        for metric in event["epoch"]["metrics"]:
            tag = metric["name"] if metric["name"].startswith("val_") else f"epoch/{metric['name']}"
            self._add(tag, event["epoch"]["step"], metric["value"])

    def _batch_norm(self, event):
        report = event["batch_norm"]
        for loss in ("training_loss", "inference_loss"):
            self._add(f"batch_norm/{loss}", report["step"], report[loss])
        for layer in report["layers"]:
            for value in ("mean_drift", "dead_channels"):
                self._add(f"batch_norm/{layer['layer']}/{value}", report["step"], layer[value])

    def _weights(self, event):
        for tensor in event["weights"]["tensors"]:
            edges = np.linspace(tensor["min"], tensor["max"], len(tensor["buckets"]) + 1)
            rows = [[edges[i], edges[i + 1], float(count)]
                    for i, count in enumerate(tensor["buckets"])]
            self.histograms.setdefault(f"weights/{tensor['name']}", []).append(
                (int(event["weights"]["step"]), rows))

    def _text(self, event):
        self.texts.append((int(event["sequence"]), event["text"]["text"]))

    def _state(self, event):
        self.texts.append((int(event["sequence"]), event["state"]["state"]))


def assert_same_histograms(shown, expected):
    assert [step for step, _ in shown] == [step for step, _ in expected]
    for (_, rows), (_, wanted) in zip(shown, expected):
        np.testing.assert_allclose(np.reshape(rows, (-1, 3)), np.reshape(wanted, (-1, 3)),
                                   rtol=1e-12, atol=1e-15)


def assert_same_texts(shown, expected):
    assert [step for step, _ in shown] == [step for step, _ in expected]
    for (_, text), (_, part) in zip(shown, expected):
        assert part in text


class Jobs:
    """Two jobs: one whose server was killed in its middle, one that was cancelled."""

    def __init__(self, server, directory):
        server.client.add_npz("blobs", data.blobs(40_000), directory)
        self.killed = server.client.submit(job_spec(), directory)
        programs.wait_until(lambda: has_points(server, self.killed), "an event file with points")
        assert steps_of(server.client, self.killed) > 0
        server.kill()
        self.left_behind = event_file(server, self.killed).read_bytes()
        server.start()
        assert server.client.finish(self.killed)["attempt"] == 2
        self.cancelled = server.client.submit(job_spec(seed=9), directory)
        programs.wait_until(lambda: steps_of(server.client, self.cancelled) > 0, "steps")
        server.client.run("cancel", self.cancelled)
        self.exports = {job: Export(events(server.client, job))
                        for job in (self.killed, self.cancelled)}
        for job in self.exports:
            programs.wait_until(lambda: is_complete(server, job), "the event file is complete")


def job_spec(**training):
    """Of some seconds, to be interrupted: 200 epochs of 1000 steps."""
    spec = data.job(epochs=200, log_every=500, **training)
    spec["data"]["validation_split"] = 0.2
    return spec


def steps_of(client, job_id):
    job = client.job(job_id)
    assert job["state"] in ("QUEUED", "RUNNING"), job
    return int(job["progress"]["step"])


def event_file(server, job_id):
    [path] = (server.data_directory / "runs" / job_id).glob("events.out.tfevents.*")
    return path


def has_points(server, job_id):
    paths = (server.data_directory / "runs" / job_id).glob("events.out.tfevents.*")
    return any(b"gradient_norm" in path.read_bytes() for path in paths)


def is_complete(server, job_id):
    return b"_hparams_/session_end_info" in event_file(server, job_id).read_bytes()


def events(client, job_id):
    """All of a job that has ended, however."""
    output, _ = client.start("--json", "watch", job_id).communicate(timeout=60)
    return [json.loads(line) for line in output.splitlines()]


class TensorBoard:
    """A stock TensorBoard on a free port."""

    def __init__(self, directory, *options):
        self.log = directory / "tensorboard.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", "0",
                 *options], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.url = programs.wait_until(self._url, "TensorBoard listens")

    def _url(self):
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"at (http://127.0.0.1:\d+/)", self.log.read_text())
        return found and found.group(1)

    def get(self, path, body=None, **query):
        url = f"{self.url}data/{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, body and json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(bin_directory, tmp_path_factory):
    server = programs.Server(bin_directory, tmp_path_factory.mktemp("tensorboard") / "server",
                             "--threads", "1").start()
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.fixture(scope="module")
def jobs(server, tmp_path_factory):
    return Jobs(server, tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module", params=["files", "grpc"])
def tensorboard(request, server, jobs, tmp_path_factory):
    source = (["--logdir", server.data_directory / "runs"] if request.param == "files" else
              ["--grpc_data_provider", server.client.address])
    tensorboard = TensorBoard(tmp_path_factory.mktemp("page"), *map(str, source))
    # Files are loaded in the background.
    programs.wait_until(lambda: set(tensorboard.get("runs")) == set(jobs.exports), "the runs")
    yield tensorboard
    tensorboard.kill()


def test_files_have_what_our_export_has_after_a_kill_and_resume(server, jobs):
    for job, export in jobs.exports.items():
        reader = event_accumulator.EventAccumulator(
            str(event_file(server, job)), size_guidance=EVERYTHING)
        reader.Reload()
        tags = reader.Tags()
        assert set(tags["scalars"]) == set(export.scalars)
        for tag, points in export.scalars.items():
            assert [(point.step, point.value) for point in reader.Scalars(tag)] == points, tag
        assert set(tags["tensors"]) == {
            *export.histograms, "log", "_hparams_/session_start_info", "_hparams_/session_end_info"}
        for tag, histograms in export.histograms.items():
            assert_same_histograms(
                [(point.step, point.tensor_proto.double_val) for point in reader.Tensors(tag)],
                histograms)
        assert_same_texts([(point.step, point.tensor_proto.string_val[0].decode())
                           for point in reader.Tensors("log")], export.texts)


def test_a_server_adds_to_what_a_killed_one_left_behind(server, jobs):
    assert b"gradient_norm" in jobs.left_behind
    assert event_file(server, jobs.killed).read_bytes().startswith(jobs.left_behind)


def test_the_page_shows_the_same_curves(tensorboard, jobs):
    tags = tensorboard.get("plugin/scalars/tags")
    for job, export in jobs.exports.items():
        assert set(tags[job]) == set(export.scalars)
        for tag, points in export.scalars.items():
            shown = [(step, value) for _, step, value in
                     tensorboard.get("plugin/scalars/scalars", run=job, tag=tag)]
            assert shown == points, tag


def test_the_page_shows_the_same_histograms(tensorboard, jobs):
    tags = tensorboard.get("plugin/histograms/tags")
    for job, export in jobs.exports.items():
        assert set(tags[job]) == set(export.histograms)
        for tag, histograms in export.histograms.items():
            shown = [(step, rows) for _, step, rows in
                     tensorboard.get("plugin/histograms/histograms", run=job, tag=tag)]
            assert len(shown) == min(51, len(histograms))
            assert shown[-1][0] == histograms[-1][0]
            expected = dict(histograms)
            assert_same_histograms(shown, [(step, expected[step]) for step, _ in shown])


def test_the_page_shows_the_text_log(tensorboard, jobs):
    for job, export in jobs.exports.items():
        texts = tensorboard.get("plugin/text/text", run=job, tag="log")
        assert_same_texts([(text["step"], text["text"]) for text in texts], export.texts)


def test_the_page_compares_hyperparameters_and_how_jobs_ended(tensorboard, jobs):
    answer = tensorboard.get("plugin/hparams/session_groups", body={
        "startIndex": 0, "sliceSize": 10, "colParams": [], "includeMetrics": True,
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE"]})
    groups = {group["name"]: group for group in answer["sessionGroups"]}
    assert set(groups) == set(jobs.exports)
    for job, seed, status in ((jobs.killed, 7, "STATUS_SUCCESS"),
                              (jobs.cancelled, 9, "STATUS_FAILURE")):
        hparams = groups[job]["hparams"]
        assert (hparams["batch_size"], hparams["seed"]) == (32, seed)
        assert (hparams["optimizer"], hparams["dataset"]) == ("adam", "blobs")
        [session] = groups[job]["sessions"]
        assert session["status"] == status
        shown = {"/".join(filter(None, (value["name"]["group"], value["name"]["tag"]))):
                 value["value"] for value in session["metricValues"]}
        assert shown == {tag: points[-1][1] for tag, points in jobs.exports[job].scalars.items()}
