"""Small data sets that can be learnt, and jobs on them."""

import copy

import numpy as np


def blobs(samples, features=8, classes=4, seed=0):
    """Float inputs around one centre a class: {"x": [samples, features], "y": [samples]}."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1234).normal(size=(classes, features)) * 2
    labels = random.integers(0, classes, samples)
    x = centres[labels] + random.normal(size=(samples, features))
    return {"x": x.astype(np.float32), "y": labels.astype(np.int64)}


def images(samples, size=28, classes=10, seed=0):
    """8-bit images, one bright column a class: {"x": [samples, size, size], "y": [samples]}."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, samples)
    x = random.integers(0, 100, (samples, size, size))
    x[np.arange(samples), :, labels * 2 + 1] += 150
    return {"x": x.astype(np.uint8), "y": labels.astype(np.uint8)}


# Dense, BatchNormalization and a softmax on blobs(); everything a job can leave out is left out.
MLP = {
    "model": {
        "inputs": [{"shape": [8]}],
        "layers": [
            {"dense": {"units": 16, "activation": "relu"}},
            {"batch_normalization": {}},
            {"dense": {"units": 4, "activation": "softmax"}},
        ],
    },
    "data": {"train": {"dataset": "blobs"}},
    "training": {
        "batch_size": 32,
        "epochs": 2,
        "seed": 7,
        "losses": [{"sparse_categorical_crossentropy": {}}],
        "metrics": ["accuracy"],
    },
    "publish_as": "mlp",
}


def job(spec=None, **training):
    """A copy of a spec with other training fields."""
    result = copy.deepcopy(MLP if spec is None else spec)
    result["training"].update(training)
    return result


def long_job():
    """Runs until somebody ends it (hours), and logs often."""
    return job(epochs=10_000_000, log_every=1)
