"""Golden vectors of losses with their weights, and of metrics. Called by make_golden.py; README.md says
what is in the files."""

import zlib

import keras
import numpy as np
import torch

f64 = torch.float64


def values(case, *shape, scale=1.0):
    """Normal float32 values, the same for a case's name whatever cases there are beside it."""
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def leaf(array):
    return torch.tensor(np.asarray(array), dtype=f64, requires_grad=True)


def losses(out):
    """Forward and gradient, weighted as Keras weighs: sum(w * l) / samples."""

    def add(name, fn, spec, y, targets, sample_weight=None, class_weights=None):
        x = leaf(y)
        labels = targets.dtype == np.int64
        wanted = torch.tensor(targets) if labels else torch.tensor(targets, dtype=f64)
        per_sample = fn(reduction=None)(wanted, x)
        tensors = {"prediction": y, "target": targets}
        spec = dict(spec)
        weights = None
        if sample_weight is not None:
            tensors["sample_weight"] = weights = sample_weight
        if class_weights is not None:
            # What fit(class_weight=...) makes of them, in float64.
            if labels:
                classes = targets
            elif y.shape[-1] == 1:
                classes = np.round(targets[:, 0]).astype(int)
            else:
                classes = np.argmax(targets, axis=-1)
            of_classes = np.array([class_weights[c] for c in classes], dtype=np.float64)
            weights = of_classes if weights is None else weights * of_classes
            spec["classWeights"] = class_weights
        if weights is not None:
            per_sample = per_sample * torch.tensor(weights, dtype=f64)
        mean = fn()(wanted, x, None if weights is None else torch.tensor(weights, dtype=f64))
        torch.testing.assert_close(mean, per_sample.mean())
        (dx,) = torch.autograd.grad(mean, (x,))
        out.case(name, spec, loss=mean, per_sample=per_sample, dprediction=dx, **tensors)

    def named(loss, **options):
        return lambda reduction="sum_over_batch_size": loss(reduction=reduction, **options)

    sample_weight = np.array([0.5, 0, 2, 1, 3.25, 0.125, 1], dtype=np.float32)
    labels = np.array([0, 3, 9, 9, 5, 1, 2])
    one_hot = np.eye(10, dtype=np.float32)[labels]
    soft = np.abs(values("soft", 7, 10))
    soft = (soft / soft.sum(-1, keepdims=True)).astype(np.float32)
    ten = [1, 0.5, 2, 1, 1, 3, 0, 1, 1, 0.25]

    sparse = named(keras.losses.SparseCategoricalCrossentropy, from_logits=True)
    spec = {"sparseCategoricalCrossentropy": {"fromLogits": True}}
    logits = values("weighted_ce", 7, 10, scale=2)
    add("sparse_sample_weights", sparse, spec, logits, labels, sample_weight)
    add("sparse_class_weights", sparse, spec, logits, labels, None, ten)
    add("sparse_both_weights", sparse, spec, logits, labels, sample_weight, ten)

    for smoothing in [0, 0.1]:
        options = {"label_smoothing": smoothing} if smoothing else {}
        shown = {"labelSmoothing": smoothing} if smoothing else {}
        end = "_smooth" if smoothing else ""
        dense = named(keras.losses.CategoricalCrossentropy, from_logits=True, **options)
        spec = {"categoricalCrossentropy": {"fromLogits": True, **shown}}
        logits = values("dense_ce", 7, 10, scale=2)
        add("one_hot" + end, dense, spec, logits, one_hot)
        add("soft_targets" + end, dense, spec, logits, soft)
        # A softmax that the loss takes over is the same function of the logits.
        add("softmax" + end, dense, {"categoricalCrossentropy": shown}, logits, one_hot)
        add("one_hot_weights" + end, dense, spec, logits, one_hot, sample_weight, ten)
        add("sure_and_wrong" + end, dense, spec, -15 * one_hot, one_hot)
        add("two_classes" + end, dense, spec, values("two", 5, 2),
            np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]])
        add("wide" + end, dense, spec, values("wide", 3, 37, scale=4),
            np.eye(37, dtype=np.float32)[[36, 0, 17]])

        binary = named(keras.losses.BinaryCrossentropy, from_logits=True, **options)
        spec = {"binaryCrossentropy": {"fromLogits": True, **shown}}
        yes = np.array([[1], [0], [0], [1], [1], [0], [1]], dtype=np.float32)
        one = values("binary", 7, 1, scale=3)
        add("binary" + end, binary, spec, one, yes)
        add("sigmoid" + end, binary, {"binaryCrossentropy": shown}, one, yes)
        add("binary_weights" + end, binary, spec, one, yes, sample_weight, [0.75, 2])
        add("binary_many" + end, binary, spec, values("labels", 4, 19, scale=2),
            (values("labels_target", 4, 19) > 0).astype(np.float32))
        add("binary_soft" + end, binary, spec, values("soft_binary", 5, 3),
            np.abs(np.sin(values("soft_binary_target", 5, 3))))
        add("binary_far" + end, binary, spec,
            np.array([[-40], [40], [-40], [40], [0], [-12], [12]], dtype=np.float32), yes)

    y, target = values("values", 7, 5, scale=2), values("values_target", 7, 5)
    y[2, 3] = target[2, 3]  # where the absolute error has a corner
    for name, fn, spec in [
        ("mse", named(keras.losses.MeanSquaredError), {"meanSquaredError": {}}),
        ("mae", named(keras.losses.MeanAbsoluteError), {"meanAbsoluteError": {}}),
        ("huber", named(keras.losses.Huber), {"huber": {"delta": 1}}),
        ("huber_narrow", named(keras.losses.Huber, delta=0.3), {"huber": {"delta": 0.3}}),
    ]:
        add(name, fn, spec, y, target)
        add(name + "_weights", fn, spec, y, target, sample_weight)
        add(name + "_one_output", fn, spec, y[:, :1], target[:, :1])


def metrics(out):
    """The spec is a loss, whose outputs `prediction` are; a tensor a metric, [1]."""

    def add(name, spec, y, targets, metrics):
        out.case(name, spec, prediction=y, target=targets,
                 **{key: [float(value)] for key, value in metrics.items()})

    def measured(metric, *arguments):
        metric.update_state(*arguments)
        return metric.result()

    def classes(name, y, labels, tops):
        count = y.shape[1]
        predicted = np.eye(count)[np.argmax(y, axis=1)]
        actual = np.eye(count)[labels]
        m = keras.metrics
        found = {"accuracy": measured(m.SparseCategoricalAccuracy(), labels, y),
                 "f1": measured(m.F1Score(average="macro"), actual, predicted)}
        for top in tops:
            found[f"top_{top}_accuracy"] = measured(
                m.SparseTopKCategoricalAccuracy(k=top), labels, y)
        for key, metric in [("precision", m.Precision), ("recall", m.Recall)]:
            found[key] = np.mean([float(measured(metric(class_id=c), actual, predicted))
                                  for c in range(count)])
        sparse = {"sparseCategoricalCrossentropy": {"fromLogits": True}}
        add(name, sparse, y, labels, found)
        dense = {"categoricalCrossentropy": {"fromLogits": True}}
        add(name + "_one_hot", dense, y, np.eye(count, dtype=np.float32)[labels], found)

    rng = np.random.default_rng(7)
    labels = rng.integers(0, 6, 300)
    y = values("classes", 300, 6) + 1.5 * np.eye(6, dtype=np.float32)[labels]
    classes("six_classes", y.astype(np.float32), labels, [1, 2, 5])
    # Class 3 is never predicted, class 4 never right.
    y[:, 3] = -100
    labels[labels == 4] = 0
    classes("missing_classes", y.astype(np.float32), labels, [3])
    classes("two", values("two_classes", 50, 2), rng.integers(0, 2, 50), [1])

    def binary(name, y, targets):
        p = keras.ops.convert_to_numpy(keras.ops.sigmoid(np.asarray(y, dtype=np.float64)))
        m = keras.metrics
        precision = float(measured(m.Precision(), targets, p))
        recall = float(measured(m.Recall(), targets, p))
        f1 = 0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
        add(name, {"binaryCrossentropy": {"fromLogits": True}}, y, targets,
            {"accuracy": measured(m.BinaryAccuracy(), targets, p), "precision": precision,
             "recall": recall, "f1": f1})

    targets = (values("yes", 200, 1) > 0.3).astype(np.float32)
    binary("binary", (values("logits", 200, 1) + targets).astype(np.float32), targets)
    binary("several_labels", values("several", 90, 4),
           (values("several_targets", 90, 4) > 0).astype(np.float32))
    binary("never_yes", -np.abs(values("never", 20, 1)) - 1, targets[:20])

    def errors(name, y, target):
        m = keras.metrics
        found = {"mae": measured(m.MeanAbsoluteError(), target, y),
                 "rmse": measured(m.RootMeanSquaredError(), target, y)}
        add(name, {"meanSquaredError": {}}, y, target, found)

    errors("values", values("regression", 100, 3, scale=3), values("regression_target", 100, 3))
    errors("one_value", values("regression_1", 2100, 1), values("regression_1_target", 2100, 1))
