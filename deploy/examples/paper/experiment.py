"""The experiment of Ioffe and Szegedy, "Batch Normalization" (2015), section 4.1 and figure 1.

A network 784-100-100-100-10 with sigmoids learns in 50,000 steps of 60 images, with BatchNorm and
without: the test accuracy as training goes on, and the 15th, 50th and 85th percentile of what enters
a sigmoid of the last hidden layer. The paper has MNIST; this has Fashion-MNIST.

    pip install -r requirements.txt
    lockstepd serve --data-dir DIRECTORY &         # with fashion-mnist/train and /test, see quickstart
    python3 experiment.py --lockstep PATH/TO/lockstep --server HOST:PORT --image paper.svg

The accuracies come from one job a network. What the network was like in between comes from shorter
jobs: the first steps of a job are the same bits whatever follows, so a job of 1,000 steps ends in the
very state that the long one went through, and its state hash proves it.
"""

import argparse
import copy
import gzip
import json
import pathlib
import subprocess
import tempfile

import matplotlib
import numpy as np
from safetensors.numpy import load_file

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
STEPS_PER_EPOCH = 1000  # 60,000 images in batches of 60
UNIT = 0                # of the last hidden layer
EPSILON = 1e-3


class Lockstep:
    def __init__(self, program, server, directory):
        self.command = [program, "--server", server, "--json"]
        self.directory = pathlib.Path(directory)

    def run(self, *arguments):
        done = subprocess.run([*self.command, *map(str, arguments)], stdout=subprocess.PIPE,
                              check=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def train(self, spec):
        """Waits for the end; returns the job and the records of its epochs."""
        path = self.directory / "job.json"
        path.write_text(json.dumps(spec))
        job = self.run("submit", path)[0]["id"]
        events = self.run("watch", job)
        return self.run("show", job)[0], [e["epoch"] for e in events if "epoch" in e]

    def weights(self, job):
        path = self.directory / "weights.safetensors"
        self.run("fetch", job["id"], "--output", path)
        return load_file(path)


def job_spec(batchnorm, steps):
    spec = json.loads((HERE.parent / "mlp-sigmoid.json").read_text())
    layers = spec["model"]["layers"]
    if not batchnorm:
        layers[:] = [layer for layer in copy.deepcopy(layers) if "batch_normalization" not in layer]
        for layer in layers:
            layer.get("dense", {}).pop("use_bias", None)
    # The paper starts from small normal numbers.
    for layer in layers:
        if "dense" in layer:
            layer["dense"]["kernel_initializer"] = {"random_normal": {"stddev": 0.05}}
    spec["training"].update(epochs=50, max_steps=steps, log_every=1000)
    spec["publish_as"] = f"paper-{'batchnorm' if batchnorm else 'plain'}"
    return spec


def hidden_input(weights, batchnorm, images):
    """What enters the sigmoid of UNIT in the third hidden layer, in inference mode."""
    x = images / np.float32(255)
    for number in range(3):
        suffix = f"_{number}" if number else ""
        x = x @ weights[f"dense{suffix}.kernel"]
        if batchnorm:
            name = f"batch_normalization{suffix}."
            deviation = np.sqrt(weights[name + "moving_variance"] + EPSILON)
            x = (x - weights[name + "moving_mean"]) / deviation
            x = x * weights[name + "gamma"] + weights[name + "beta"]
        else:
            x = x + weights[f"dense{suffix}.bias"]
        if number < 2:
            x = 1 / (1 + np.exp(-x))
    return x[:, UNIT]


def measure(lockstep, batchnorm, epochs, stops, images):
    """Accuracies by epoch, and the three percentiles at each of the stops."""
    job, records = lockstep.train(job_spec(batchnorm, epochs * STEPS_PER_EPOCH))
    accuracy = [next(m["value"] for m in r["metrics"] if m["name"] == "val_accuracy")
                for r in records]
    print(f"{job['spec']['publish_as']}: test accuracy {accuracy[-1]:.4f} after "
          f"{epochs * STEPS_PER_EPOCH} steps")
    percentiles = []
    for stop in stops:
        spec = job_spec(batchnorm, stop)
        del spec["data"]["validation"]
        short, _ = lockstep.train(spec)
        if stop % STEPS_PER_EPOCH == 0:
            assert short["state_hash"] == records[stop // STEPS_PER_EPOCH - 1]["state_hash"]
        values = hidden_input(lockstep.weights(short), batchnorm, images)
        percentiles.append(np.percentile(values, [15, 50, 85]))
    return accuracy, np.array(percentiles)


def draw(path, results, stops):
    figure, (accuracies, plain, normed) = pyplot.subplots(1, 3, figsize=(12, 3.6))
    for (batchnorm, (accuracy, percentiles)), plot in zip(results.items(), (plain, normed)):
        label = "with BatchNorm" if batchnorm else "without"
        steps = np.arange(1, len(accuracy) + 1)
        accuracies.plot(steps, accuracy, "-" if batchnorm else "--", label=label)
        for values, style in zip(percentiles.T, ("C0:", "C0-", "C0:")):
            plot.plot(np.array(stops) / 1000, values, style)
        plot.set_title(f"input of a sigmoid, {label}")
        plot.set_ylabel("15th, 50th, 85th percentile")
    low, high = zip(plain.get_ylim(), normed.get_ylim())
    for plot in (plain, normed):
        plot.set_ylim(min(low), max(high))
    accuracies.set_title("Fashion-MNIST, test accuracy")
    accuracies.set_ylim(0.6, 0.95)
    accuracies.legend()
    for plot in (accuracies, plain, normed):
        plot.set_xlabel("thousand steps")
        plot.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lockstep", default="lockstep", help="the command")
    parser.add_argument("--server", default="127.0.0.1:8001", help="HOST:PORT")
    parser.add_argument("--image", default="paper.svg", help="where to draw")
    parser.add_argument("--epochs", type=int, default=50, help="of 1,000 steps (default 50)")
    parser.add_argument("--test-images", help="the IDX file of the test images",
                        default="/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
    arguments = parser.parse_args()

    with gzip.open(arguments.test_images) as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    stops = [s for s in (100, 300, 1000, 2000, 3000, 5000, 8000, 12000, 18000, 25000, 35000, 50000)
             if s <= arguments.epochs * STEPS_PER_EPOCH]
    with tempfile.TemporaryDirectory() as directory:
        lockstep = Lockstep(arguments.lockstep, arguments.server, directory)
        results = {batchnorm: measure(lockstep, batchnorm, arguments.epochs, stops, images)
                   for batchnorm in (False, True)}
    draw(arguments.image, results, stops)
    print(f"drawn to {arguments.image}")


if __name__ == "__main__":
    main()
