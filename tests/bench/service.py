"""Lockstep's service under measurement, and Fashion-MNIST for both sides."""

import contextlib
import datetime
import gzip
import json
import pathlib
import sys
import tempfile
import time

import numpy as np
from processes import HERE, spec_path

sys.path.insert(0, str(HERE.parent / "e2e"))
import programs  # what the end-to-end tests drive the service with

IMAGES = pathlib.Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
LABELS = pathlib.Path("/usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz")
FASHION_MNIST_SAMPLES = 60_000
POLL_SECONDS = 0.05


@contextlib.contextmanager
def fashion_mnist():
    """A directory with the training images and labels as x.npy and y.npy, 8-bit."""
    with tempfile.TemporaryDirectory() as directory:
        x = np.frombuffer(gzip.decompress(IMAGES.read_bytes())[16:], np.uint8)
        y = np.frombuffer(gzip.decompress(LABELS.read_bytes())[8:], np.uint8)
        np.save(f"{directory}/x.npy", x.reshape(FASHION_MNIST_SAMPLES, 28, 28))
        np.save(f"{directory}/y.npy", y)
        yield directory


class TrainingService:
    """`lockstepd serve` with its worker process and Fashion-MNIST, until the `with` block ends."""

    def __init__(self, bin_directory, threads):
        self.directory = tempfile.TemporaryDirectory()
        self.threads = threads
        self.server = programs.Server(bin_directory, pathlib.Path(self.directory.name) / "server",
                                      "--threads", str(threads))

    def __enter__(self):
        self.server.start()
        self.client = self.server.client
        self.client.run("datasets", "add", "fashion-mnist/train", "--x", IMAGES, "--y", LABELS)
        return self

    def __exit__(self, *_):
        self.server.stop()
        self.directory.cleanup()

    def submit(self, network, batch, *arguments, **training):
        """Hands in an example, less its validation, with other training fields; returns its id."""
        spec = json.loads(spec_path(network).read_text(encoding="utf-8"))
        del spec["data"]["validation"]
        spec["training"].update(batch_size=batch, **training)
        return self.client.submit(spec, self.directory.name, "--threads", self.threads,
                                  *arguments)

    def epoch(self, network, batch):
        """Seconds between the job's start and the end of its only epoch, by its event log.

        That is: handing the job to the worker, mapping and checking the data, planning, every step
        with its accuracy, its records, the state's hash. Not the submission and the publication,
        and there is no validation.
        """
        job = self.submit(network, batch, epochs=1)
        for event in self.client.events(job):
            time_of_event = datetime.datetime.fromisoformat(event["time"][:26])
            if event.get("state", {}).get("state") == "RUNNING":
                started = time_of_event
            elif "epoch" in event:
                ended = time_of_event
        return (ended - started).total_seconds()

    def worker_memory(self, network, batch):
        """Largest anonymous memory, in bytes, of the worker process while it trains a short job."""
        watch = self.client.start("watch", self.submit(network, batch, epochs=1, max_steps=60))
        (worker,) = self.server.workers()
        largest = 0
        while watch.poll() is None:
            status = programs.process_status(worker)
            largest = max(largest, int(status["RssAnon"].split()[0]) * 1024)
            time.sleep(POLL_SECONDS)
        assert watch.returncode == 0, watch.communicate()
        return largest
