"""The weights that people take home give the predictions that the server gives."""

import conftest
import keras_numpy
import numpy as np


def test_numpy_agrees_with_the_server(model, infer):
    x = model.inputs()
    served = infer(model, x)
    expected = keras_numpy.predict(model.spec["model"], model.weights, x)
    assert served.shape == (len(x), 10)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5)
    # Something was learnt, so that agreeing is no accident of constant answers.
    assert len(set(served.argmax(-1))) > 1


def test_the_moving_statistics_are_in_the_file_and_matter(train, infer):
    model = train("cnn")
    x = model.inputs()
    name = "batch_normalization.moving_variance"
    assert (model.weights[name] != 1).all(), "they have moved from their initial value"
    without = dict(model.weights, **{name: np.ones_like(model.weights[name])})
    assert np.abs(keras_numpy.predict(model.spec["model"], without, x) - infer(model, x)).max() > 1e-3
    assert any("population" in value for value in model.metadata.values()), (
        "the file says which variance it holds")


def test_validation_and_serving_are_the_same_network(model, infer):
    metrics = {metric["name"]: metric["value"] for metric in model.job["progress"]["metrics"]}
    right = (infer(model, model.inputs()).argmax(-1) == conftest.TEST["y"]).sum()
    assert round(metrics["val_accuracy"] * len(conftest.TEST["y"]), 6) == right
