"""The server's gRPC methods, for measures that a command a call would drown."""

import os

# Before gRPC is imported: programs are started while channels are open.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

JOBS = "lockstep.v1.JobService"
INFERENCE = "inference.GRPCInferenceService"
TIMEOUT_SECONDS = 60
WATCH_SECONDS = 600  # at most
# Of bytes that a server may send before somebody reads: the least that gRPC takes.
SMALLEST_WINDOW = [("grpc.http2.lookahead_bytes", 5), ("grpc.http2.bdp_probe", 0),
                   ("grpc.use_local_subchannel_pool", 1)]


class Protocol:
    """Message types by the reflection service of any one server: they are the same in all."""

    def __init__(self, address):
        with grpc.insecure_channel(address) as channel:
            self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            self.methods = {method.full_name: method for service in [JOBS, INFERENCE]
                            for method in self.pool.FindServiceByName(service).methods}

    def request(self, service, method, fields):
        """A request of the method, from the fields in protobuf's JSON."""
        request = message_factory.GetMessageClass(self.methods[f"{service}.{method}"].input_type)()
        return json_format.ParseDict(fields, request)

    def answer_type(self, service, method):
        return message_factory.GetMessageClass(self.methods[f"{service}.{method}"].output_type)


class Api:
    """One connection to a server. Closed when the `with` block ends."""

    def __init__(self, address, protocol=None, channel_options=()):
        self.protocol = protocol or Protocol(address)
        self.channel = grpc.insecure_channel(address, options=list(channel_options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, method, service=JOBS, **fields):
        return self.prepare(method, service)(self.protocol.request(service, method, fields))

    def prepare(self, method, service=JOBS):
        """A function from request to answer, to be measured."""
        ask = self.channel.unary_unary(
            f"/{service}/{method}", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.protocol.answer_type(service, method).FromString)
        return lambda request: ask(request, timeout=TIMEOUT_SECONDS)

    def watch(self, job):
        """The job's events from the first on; nothing is read before it is asked for."""
        request = self.protocol.request(JOBS, "WatchJob", {"id": job})
        return self.channel.unary_stream(
            f"/{JOBS}/WatchJob", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.protocol.answer_type(JOBS, "WatchJob").FromString,
        )(request, timeout=WATCH_SECONDS)
