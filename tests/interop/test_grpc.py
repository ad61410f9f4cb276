"""Python's own gRPC, without a line of generated code of ours."""

import grpc
import numpy as np
import pytest
from conftest import job_spec
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)


class Reflected:
    """Calls any unary method of the server with what its reflection service tells about it."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def request(self, service, method):
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        return message_factory.GetMessageClass(descriptor.input_type)()

    def call(self, service, method, request=None, metadata=()):
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        return self.channel.unary_unary(
            f"/{service}/{method}", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )(self.request(service, method) if request is None else request, metadata=metadata)


@pytest.fixture
def reflected(channel):
    return Reflected(channel)


def raw_call(channel, method, request=b""):
    return channel.unary_unary(method)(request)


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_public_services_and_no_others(reflected):
    assert set(reflected.database.get_services()) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        "lockstep.v1.BlobService",
        "lockstep.v1.DatasetService",
        "lockstep.v1.JobService",
        "lockstep.v1.ModelService",
        "tensorboard.data.TensorBoardDataProvider",
    }


def test_our_own_services_can_be_called_from_reflection_alone(reflected, mlp):
    models = reflected.call("lockstep.v1.ModelService", "ListModels").models
    found = {model.name: model for model in models}[mlp.name]
    assert found.version == 1
    assert found.receipt.state_hash == mlp.job["state_hash"]
    jobs = reflected.call("lockstep.v1.JobService", "ListJobs").jobs
    assert mlp.job["id"] in {job.id for job in jobs}


def test_typed_inputs_get_typed_outputs(reflected, mlp, infer):
    x = mlp.inputs()[:4]
    request = reflected.request("inference.GRPCInferenceService", "ModelInfer")
    request.model_name = mlp.name
    tensor = request.inputs.add(name="input", datatype="FP32", shape=x.shape)
    tensor.contents.fp32_contents.extend(x.ravel().tolist())
    answer = reflected.call("inference.GRPCInferenceService", "ModelInfer", request)
    assert not answer.raw_output_contents
    typed = np.array(answer.outputs[0].contents.fp32_contents, np.float32).reshape(4, 10)
    assert typed.tobytes() == infer(mlp, x).tobytes()


def test_pages_hold_each_job_once_and_a_token_is_good_for_its_own_listing_only(
        reflected, serving, tmp_path):
    def page(**fields):
        request = reflected.request("lockstep.v1.JobService", "ListJobs")
        for name, value in fields.items():
            if name == "states":
                request.states.extend(value)
            elif name == "labels":
                request.labels.update(value)
            else:
                setattr(request, name, value)
        return reflected.call("lockstep.v1.JobService", "ListJobs", request)

    def refusal(**fields):
        with pytest.raises(grpc.RpcError) as caught:
            page(**fields)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        return caught.value.details()

    spec = job_spec("mlp") | {"publish_as": "pages"}
    spec["training"]["epochs"] = 10_000_000
    for _ in range(2):
        serving.client.run(
            "cancel", serving.client.submit(spec, tmp_path, "--label", "for=pages"))
    found, token = [], ""
    while not found or token:
        answer = page(page_size=1, page_token=token)
        assert len(answer.jobs) == 1
        found.append(answer.jobs[0].id)
        token = answer.next_page_token
    assert found == [job["id"] for job in serving.client.json_lines("jobs", "--all")]

    token = page(page_size=1, labels={"for": "pages"}).next_page_token
    assert page(page_token=token, labels={"for": "pages"}).jobs
    succeeded = 3
    for wrong in (dict(page_token=token), dict(page_token=token, labels={"for": "others"}),
                  dict(page_token=token, labels={"for": "pages"}, states=[succeeded]),
                  dict(page_token="1"), dict(page_token="-5-abc"), dict(page_token="' OR 1=1")):
        assert "page_token" in refusal(**wrong)
    for size in (-1, 1001):
        assert "page_size" in refusal(page_size=size)


@pytest.mark.parametrize("method", [
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/lockstep.v1.JobService/DropTables",
    "/nobody.Nothing/Nowhere",
])
def test_an_unknown_method_is_unimplemented(method, channel):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, method)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_strangers_cannot_reach_the_worker_service(channel):
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/lockstep.v1.WorkerService/Connect")(iter([b""])))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", [
    "/inference.GRPCInferenceService/ModelInfer",
    "/lockstep.v1.JobService/SubmitJob",
])
def test_an_oversized_message_is_resource_exhausted(method, channel):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, method, bytes((64 << 20) + 1))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    raw_call(channel, "/inference.GRPCInferenceService/ServerLive")


def test_bytes_that_are_no_message_are_refused(channel):
    with pytest.raises(grpc.RpcError):
        raw_call(channel, "/inference.GRPCInferenceService/ModelInfer", b"\xff" * 100)
    raw_call(channel, "/inference.GRPCInferenceService/ServerLive")
