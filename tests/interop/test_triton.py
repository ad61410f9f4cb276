"""NVIDIA's tritonclient, unchanged."""

import concurrent.futures

import conftest
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException


def tensor(x, name="input", datatype="FP32"):
    result = tritonclient.grpc.InferInput(name, x.shape, datatype)
    result.set_data_from_numpy(x)
    return result


def test_health_and_metadata(triton, train):
    model = train("cnn")
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(model.name)
    assert triton.is_model_ready(model.name, "1")
    assert triton.get_server_metadata().name == "lockstep"
    metadata = triton.get_model_metadata(model.name, as_json=True)
    assert metadata["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": ["-1", "28", "28", "1"]}]
    assert metadata["outputs"] == [{"name": "output", "datatype": "FP32", "shape": ["-1", "10"]}]
    assert metadata["versions"] == ["1"]


def test_request_id_outputs_and_version(triton, mlp):
    x = mlp.inputs()[:3]
    result = triton.infer(mlp.name, [tensor(x)], model_version="1", request_id="mine",
                          outputs=[tritonclient.grpc.InferRequestedOutput("output")])
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == (mlp.name, "1", "mine")
    np.testing.assert_allclose(result.as_numpy("output").sum(-1), 1, atol=1e-5)


def test_no_samples_are_no_predictions(infer, mlp):
    assert infer(mlp, mlp.inputs()[:0]).shape == (0, 10)


def test_batch_mates_change_no_bit(triton, train, infer):
    model = train("cnn")
    x = model.inputs()
    together = infer(model, x)
    # Enough at once that the server puts several into one pass.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        alone = list(pool.map(lambda i: infer(model, x[i:i + 1]), range(len(x))))
    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_a_new_version_does_not_touch_the_old_one(serving, train, infer, tmp_path):
    model = train("mlp-batchnorm")
    x = model.inputs()
    before = infer(model, x, "1")
    spec = conftest.job_spec(model.name)
    spec["training"]["seed"] = 99
    version = serving.client.train(spec, tmp_path)["published"]["version"]
    assert int(version) == 2
    newest = infer(model, x)
    assert newest.tobytes() == infer(model, x, "2").tobytes()
    assert newest.tobytes() != before.tobytes()
    assert infer(model, x, "1").tobytes() == before.tobytes()


BAD_REQUESTS = {
    "unknown model": (dict(model_name="nobody"), "NOT_FOUND", "'nobody' is not found"),
    "unknown version": (dict(model_version="77"), "NOT_FOUND", "version 77 is not found"),
    "version that is no number": (
        dict(model_version="newest"), "INVALID_ARGUMENT", "specified version string 'newest'"),
    "no batch dimension": (
        dict(inputs=[tensor(np.zeros(784, np.float32))]), "INVALID_ARGUMENT",
        "Expected [-1,784], got [784]"),
    "another shape": (
        dict(inputs=[tensor(np.zeros((2, 28, 28), np.float32))]), "INVALID_ARGUMENT",
        "Expected [-1,784], got [2,28,28]"),
    "another datatype": (
        dict(inputs=[tensor(np.zeros((1, 784), np.uint8), datatype="UINT8")]),
        "INVALID_ARGUMENT", "data-type is 'UINT8', but model 'mlp' expects 'FP32'"),
    "another input": (
        dict(inputs=[tensor(np.zeros((1, 784), np.float32), name="x")]), "INVALID_ARGUMENT",
        "unexpected inference input 'x'"),
    "no input": (dict(inputs=[]), "INVALID_ARGUMENT", "expected 1 inputs but got 0"),
    "another output": (
        dict(outputs=[tritonclient.grpc.InferRequestedOutput("y")]), "INVALID_ARGUMENT",
        "unexpected inference output 'y'"),
    "classification": (
        dict(outputs=[tritonclient.grpc.InferRequestedOutput("output", class_count=3)]),
        "UNIMPLEMENTED", "'classification' is not supported"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_becomes_tritons_exception(case, triton, mlp):
    change, code, message = BAD_REQUESTS[case]
    request = dict(model_name=mlp.name, inputs=[tensor(np.zeros((1, 784), np.float32))])
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(**{**request, **change})
    assert caught.value.status() == f"StatusCode.{code}"
    assert message in caught.value.message()
    triton.infer(**request)


def test_a_token_goes_in_the_headers(make_server, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("open sesame\n")
    server = make_server(token_file=token_file).start()
    with tritonclient.grpc.InferenceServerClient(server.client.address) as client:
        for headers in (None, {"authorization": "Bearer wrong"}):
            with pytest.raises(InferenceServerException) as caught:
                client.is_server_live(headers=headers)
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.is_server_live(headers={"authorization": "Bearer open sesame"})
