"""One request's trace through the logs of the server and its worker, started by a stranger's gRPC."""

import json

import conftest
import grpc
import programs
from google.protobuf import json_format
from test_grpc import Reflected

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")


def test_a_jobs_lines_have_its_requests_trace_on_the_server_and_on_the_worker(make_server, tmp_path):
    server = make_server("--threads", "1", "--log-format", "json").start()
    server.client.add_npz("images", conftest.TRAIN, tmp_path)
    with grpc.insecure_channel(server.client.address) as channel:
        reflected = Reflected(channel)
        spec = conftest.job_spec("mlp")
        spec["data"] = {"train": {"dataset": "images"}}
        request = reflected.request("lockstep.v1.JobService", "SubmitJob")
        request.id = "traced"
        json_format.ParseDict(spec, request.spec)
        job = reflected.call("lockstep.v1.JobService", "SubmitJob", request, [TRACEPARENT])
        assert job.trace_id == TRACE
    server.client.finish("traced")
    refused = server.client.refused("show", "a \"quoted\"\nname")
    assert refused
    server.stop()

    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    for line in lines:
        assert {"time", "level", "message"} <= line.keys()
        assert line["level"] in ("info", "warning"), line
    of_job = [line for line in lines if line.get("job") == "traced"]
    assert all(line["trace_id"] == TRACE for line in of_job), of_job
    messages = [line["message"] for line in of_job]
    assert messages.count("job changed") == 2  # RUNNING, SUCCEEDED
    assert "job submitted" in messages
    [submitted] = [line for line in of_job if line["message"] == "job submitted"]
    assert submitted["rpc"] > 0
    # The worker's own line, and the server's about it, name the same worker.
    [training] = [line for line in of_job if line["message"] == "training"]
    [running] = [line for line in of_job if line.get("state") == "RUNNING"]
    assert training["worker"] == running["worker"]
    [failed] = [line for line in lines if line["message"] == "rpc failed"]
    assert failed["code"] in ("NOT_FOUND", "INVALID_ARGUMENT")
    assert failed["method"] == "JobService.GetJob"
    assert "trace_id" not in failed


def test_what_keeps_a_server_from_starting_is_a_line_of_json_too(make_server):
    server = make_server("--listen", "0.0.0.0:0", "--log-format", "json")
    code, said = server.refuses_to_start()
    assert code != 0
    line = json.loads(said)
    assert line["level"] == "critical"
    assert "--token-file" in line["error"]
    assert programs.children(server.process.pid) == []
