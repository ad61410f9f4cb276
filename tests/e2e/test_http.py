"""HTTP as browsers, scripts and strangers use it: answers, who may do what, and what cannot hold it."""

import http.client
import json
import socket
import time
import urllib.parse

import data
import pytest
from programs import wait_until

SCRIPT = "<img src=x onerror=alert(1)>"
JSON = {"Content-Type": "application/json"}


class Http:
    """One connection to a server."""

    def __init__(self, server, **headers):
        self.address = server.http_url.removeprefix("http://")
        self.headers = headers
        self.connection = http.client.HTTPConnection(self.address, timeout=60)

    def ask(self, method, path, body=None, **headers):
        """(status, headers, body)"""
        names = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        if isinstance(body, (dict, list)):
            body, names = json.dumps(body), {**JSON, **names}
        self.connection.request(method, path, body, names)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path, **headers):
        status, _, body = self.ask("GET", path, **headers)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def refused(self, method, path, body=None, **headers):
        """(status, the error's code, its message)"""
        status, _, answer = self.ask(method, path, body, **headers)
        error = json.loads(answer)
        return status, error["code"], error["error"]


def events(server, job_id, query="", **headers):
    """(sequence, event) of each event that comes, until the stream ends."""
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=60)
    connection.request("GET", f"/api/jobs/{job_id}/events{query}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    sequence = None
    while True:
        line = answer.readline()
        assert line, "the stream broke off"
        if line == b"event: end\n":
            return
        if line.startswith(b"id: "):
            sequence = int(line[4:])
        elif line.startswith(b"data: "):
            yield sequence, json.loads(line[6:])


@pytest.fixture
def trained(server, client, tmp_path):
    client.submit(data.job(epochs=3, log_every=1), tmp_path, "--id", "job", "--label", "team=a")
    client.finish("job")
    return server


def test_the_api_answers_what_the_rpcs_do(trained):
    http_ = Http(trained)
    job = http_.get("/api/jobs/job")
    assert job["state"] == "SUCCEEDED"
    assert [j["id"] for j in http_.get("/api/jobs?label=team%3Da&state=SUCCEEDED")["jobs"]] == ["job"]
    assert http_.get("/api/jobs?label=team=b") == {}
    assert [m["name"] for m in http_.get("/api/models")["models"]] == ["mlp"]
    (version,) = http_.get("/api/models/mlp")["models"]
    assert "spec" not in version["receipt"]
    assert http_.get("/api/models/mlp/1")["receipt"]["spec"]["publish_as"] == "mlp"
    (worker,) = http_.get("/api/workers")["workers"]
    assert worker["threads"] == 2
    status, headers, weights = http_.ask("GET", "/api/models/mlp/1/weights")
    assert status == 200 and "mlp-1.safetensors" in headers["Content-Disposition"]
    assert len(weights) == int(version["weights"]["size_bytes"])


def test_series_are_what_was_logged(trained, client):
    records = [e["step"] for e in client.events("job") if "step" in e]
    losses = {int(r["step"]): r["metrics"][0]["mean"] for r in records}
    http_ = Http(trained)
    answer = http_.get("/api/jobs/job/series?names=loss")
    assert list(answer["curves"]) == ["loss"]
    loss = answer["curves"]["loss"]
    assert dict(zip(loss["step"], loss["value"])) == losses
    few = http_.get("/api/jobs/job/series?names=loss&points=5")["curves"]["loss"]
    assert len(few["step"]) <= 5 and few["step"][-1] == max(losses)
    assert {min(losses.values()), max(losses.values())} <= set(few["value"])
    part = http_.get("/api/jobs/job/series?names=loss&from_step=3&to_step=6")["curves"]["loss"]
    assert part["step"] == [3, 4, 5, 6]
    # After a restart they come from what the job left when it ended.
    trained.stop()
    trained.start()
    assert Http(trained).get("/api/jobs/job/series?names=loss") == answer


def test_events_resume_without_a_gap_after_the_server_was_killed(server, client, tmp_path):
    client.submit(data.long_job(), tmp_path, "--id", "live")
    seen = []
    for sequence, _ in events(server, "live"):
        seen.append(sequence)
        if sequence >= 50:
            break
    server.kill()
    server.start()
    for sequence, _ in events(server, "live", Last_Event_ID="", **{"Last-Event-ID": str(seen[-1])}):
        seen.append(sequence)
        if sequence >= 100:
            break
    assert seen == list(range(1, seen[-1] + 1))


def test_events_of_an_ended_job_end_and_can_leave_out_steps(trained, client):
    whole = client.events("job")
    assert [s for s, _ in events(trained, "job")] == [int(e["sequence"]) for e in whole]
    told = [e for _, e in events(trained, "job", "?steps_after=10")]
    assert min(int(e["step"]["step"]) for e in told if "step" in e) == 11
    assert sum("step" not in e for e in told) == sum("step" not in e for e in whole)
    assert [s for s, _ in events(trained, "job", f"?from={len(whole)}")] == [len(whole)]


def test_a_place_beyond_the_end_ends_and_another_jobs_place_is_none(trained):
    last = [sequence for sequence, _ in events(trained, "job")][-1]
    assert list(events(trained, "job", f"?from={last + 1}")) == []
    assert list(events(trained, "job", f"?from={last + 100}")) == []
    assert list(events(trained, "job", **{"Last-Event-ID": str(last)})) == []
    for beyond in (last + 1, 2**63 - 1):
        assert [s for s, _ in events(trained, "job", **{"Last-Event-ID": str(beyond)})][0] == 1


def test_a_model_is_asked_by_the_open_protocols_json(trained, client, tmp_path):
    http_ = Http(trained)
    metadata = http_.get("/api/models/mlp/metadata")
    name = metadata["inputs"][0]["name"]
    x = data.blobs(250)["x"][:2]
    tensor = {"name": name, "shape": [2, 8], "datatype": "FP32"}
    status, _, nested = http_.ask("POST", "/api/models/mlp/infer",
                                  {"inputs": [{**tensor, "data": x.tolist()}]})
    assert status == 200, nested
    status, _, flat = http_.ask("POST", "/api/models/mlp/infer", {
        "version": 1, "inputs": [{**tensor, "data": x.ravel().tolist()}]})
    assert status == 200 and flat == nested
    (output,) = json.loads(nested)["outputs"]
    assert output["shape"] == [2, 4]
    assert sum(output["data"][:4]) == pytest.approx(1, abs=1e-5)
    for body, message in [
            ({"inputs": [{**tensor, "data": ["a"]}]}, "inputs[0].data: must be an array of numbers"),
            ({"inputs": [{**tensor, "shape": "x", "data": []}]}, "inputs[0].shape: must be an array"),
            ({"inputs": 1}, "inputs: must be an array"), ([], "the body: must be an object")]:
        status, code, text = http_.refused("POST", "/api/models/mlp/infer", body)
        assert (status, code) == (400, "INVALID_ARGUMENT") and message in text
    assert http_.refused("POST", "/api/models/mlp/infer", {
        "inputs": [{**tensor, "shape": [1, 8], "data": [1]}]})[0] == 400
    assert http_.refused("POST", "/api/models/none/infer", {"inputs": []})[0] == 404


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/api/jobs/none", 404), ("GET", "/api/jobs/none/events", 404),
    ("GET", "/api/jobs/none/series", 404), ("GET", "/api/models/none", 404),
    ("GET", "/api/models/mlp/x", 400), ("GET", "/api/nothing", 404), ("GET", "/assets/none.js", 404),
    ("GET", "/api/jobs?page_size=x", 400), ("GET", "/api/jobs?state=odd", 400),
    ("GET", "/api/jobs?page_token=made-up", 400), ("GET", "/api/jobs/a%zz", 400),
    ("GET", "/api/jobs/%ff", 400), ("GET", "/api/jobs/job/series?points=0", 400),
    ("GET", "/api/jobs/job/cancel", 405), ("POST", "/api/jobs", 405), ("DELETE", "/api/jobs/job", 405),
    ("POST", "/api/jobs/job/pause", 409), ("POST", "/api/jobs/job/priority", 400),
])
def test_what_is_wrong_is_said(trained, method, path, status):
    body = {"other": 1} if method != "GET" else None
    got, code, message = Http(trained).refused(method, path, body)
    assert got == status, message
    assert message and code.isupper()


def test_jobs_are_controlled(server, client, tmp_path):
    client.submit(data.long_job(), tmp_path, "--id", "live")
    client.wait_for_state("live", "RUNNING")
    http_ = Http(server)
    for verb, state in [("pause", "PAUSED"), ("resume", None), ("cancel", "CANCELLED")]:
        status, _, body = http_.ask("POST", f"/api/jobs/live/{verb}", {})
        assert status == 200, body
        if state:
            assert json.loads(body)["state"] == state
        if verb == "pause":
            status, _, body = http_.ask("POST", "/api/jobs/live/priority", {"priority": 7})
            assert json.loads(body)["priority"] == 7
            for wrong in ({}, {"priority": "high"}, [7]):
                status, _, message = http_.refused("POST", "/api/jobs/live/priority", wrong)
                assert status == 400 and '{"priority": NUMBER}' in message
            assert json.loads(http_.ask("GET", "/api/jobs/live")[2])["priority"] == 7
    assert http_.ask("POST", "/api/jobs/live/delete", {})[0] == 200
    assert http_.refused("GET", "/api/jobs/live")[0] == 404


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1"},
    {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    {"Content_Type": "text/plain"}, {"Content_Type": "application/x-www-form-urlencoded"},
    {"Content_Type": "multipart/form-data; boundary=x"}, {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:80"}, {"Host": ""},
])
def test_a_forged_request_changes_nothing(server, client, tmp_path, headers):
    client.submit(data.long_job(), tmp_path, "--id", "live")
    client.wait_for_state("live", "RUNNING")
    headers = {**{"Content_Type": "application/json"}, **headers}
    status, code, _ = Http(server).refused("POST", "/api/jobs/live/cancel", "{}", **headers)
    assert (status, code) == (403, "PERMISSION_DENIED")
    assert client.job("live")["state"] == "RUNNING"


def test_our_own_page_may(server, client, tmp_path):
    client.submit(data.long_job(), tmp_path, "--id", "live")
    for host in (server.http_url.removeprefix("http://"), "localhost:1234", "[::1]:80"):
        status, _, _ = Http(server).ask("POST", "/api/jobs/live/priority", {"priority": 1}, Host=host,
                                        Origin=f"http://{host}", Sec_Fetch_Site="same-origin")
        assert status == 200, host


def test_every_answer_has_the_headers_that_keep_browsers_safe(trained):
    http_ = Http(trained)
    for method, path in [("GET", "/"), ("GET", "/api/jobs"), ("GET", "/api/none"), ("GET", "/healthz"),
                         ("GET", "/metrics"), ("POST", "/api/jobs/job/cancel"), ("HEAD", "/")]:
        _, headers, _ = http_.ask(method, path)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_what_clients_write_comes_back_as_data(server, client, tmp_path):
    client.submit(data.job(), tmp_path, "--id", "odd", "--label", f"note={SCRIPT}")
    status, headers, body = Http(server).ask("GET", "/api/jobs/odd")
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert b"<img" not in body  # protobuf escapes it
    assert json.loads(body)["spec"]["labels"]["note"] == SCRIPT
    name = urllib.parse.quote(SCRIPT, safe="")
    _, headers, body = Http(server).ask("GET", f"/api/jobs/{name}")
    assert headers["Content-Type"] == "application/json" and SCRIPT in json.loads(body)["error"]


def test_a_token_opens_what_it_should(make_server, tmp_path):
    token = tmp_path / "token"
    token.write_text("a long secret\n")
    server = make_server(token_file=token).start()
    stranger = Http(server)
    for path in ("/api/jobs", "/api/workers", "/metrics", "/api/jobs/x/events"):
        assert stranger.refused("GET", path)[:2] == (401, "UNAUTHENTICATED")
    for path in ("/", "/healthz", "/readyz"):
        assert stranger.ask("GET", path)[0] == 200
    assert Http(server, Authorization="Bearer a long secret").get("/api/jobs") == {}
    assert stranger.refused("GET", "/api/jobs", Authorization="Bearer a long secres")[0] == 401
    assert stranger.refused("POST", "/api/login", {"token": "wrong"})[0] == 401
    assert stranger.refused("POST", "/api/login", {"token": 1})[0] == 400
    status, headers, _ = stranger.ask("POST", "/api/login", {"token": "a long secret"})
    cookie = headers["Set-Cookie"]
    assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert "secret" not in cookie
    assert Http(server, Cookie="a=b; " + cookie.split(";")[0]).get("/api/jobs") == {}


def raw(server, request, timeout=60):
    """All that comes back, until the server closes."""
    host, port = server.http_url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while block := connection.recv(1 << 16):
            received += block
        return received


def test_what_is_too_large_or_no_http_is_refused(server):
    host = server.http_url.removeprefix("http://")
    start = f"POST /api/jobs/x/cancel HTTP/1.1\r\nHost: {host}\r\n".encode()
    json_ = b"Content-Type: application/json\r\n"
    assert raw(server, start + b"X: " + b"x" * 9000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert raw(server, start + json_ + b"Content-Length: 99999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert raw(server, start + json_ + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2
               ).startswith(b"HTTP/1.1 413")
    # What belongs to no body is bounded, too.
    endless = start + json_ + b"Transfer-Encoding: chunked\r\n\r\n"
    assert raw(server, endless + b"1;" + b"a" * 300_000) == b""
    assert raw(server, endless + b"0\r\n" + b"X: a\r\n" * 50_000) == b""
    # The large bodies are inference's alone.
    for path in ("/infer", "/api/infer", "/api/jobs/x/infer"):
        big = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n".encode()
        assert raw(server, big + json_ + b"\r\n").startswith(b"HTTP/1.1 413")
    assert raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(server, b"GET http://other/ HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"
               ).startswith(b"HTTP/1.1 400")
    assert Http(server).get("/api/jobs") == {}


def test_a_refusal_is_heard_by_who_is_still_sending(server):
    for _ in range(20):
        status, code, _ = Http(server).refused("POST", "/api/jobs/x/cancel", b"x" * 900_000, **JSON)
        assert (status, code) == (413, "OUT_OF_RANGE")


def test_what_a_client_says_is_not_repeated_at_length(server):
    status, _, message = Http(server).refused("GET", "/api/jobs/" + "x" * 5000)
    assert status == 404 and len(message) < 2100


def test_requests_that_never_end_are_cut_off_and_hold_nobody_up(server):
    host, port = server.http_url.removeprefix("http://").rsplit(":", 1)
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"GET /api/jobs HTTP/1.1\r\nHos")
        began = time.monotonic()
        assert Http(server).get("/api/jobs") == {}
        assert time.monotonic() - began < 5
        for connection in slow:
            assert connection.recv(1) == b""  # closed, and nothing was answered
    finally:
        for connection in slow:
            connection.close()


def test_requests_follow_each_other_on_one_connection(server):
    host = server.http_url.removeprefix("http://")
    ask = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    last = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert raw(server, ask + ask + last).count(b"HTTP/1.1 200 OK") == 3


def test_the_default_port_is_not_worth_a_refusal_but_a_chosen_one_is(make_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = make_server("--http", address).refuses_to_start()
    assert code == 3 and f"cannot listen on {address}" in said and "--http" in said
    none = make_server("--http", "", directory="none").start()
    assert not (none.data_directory / "http_address").exists()
    code, said = make_server("--http", "0.0.0.0:0", directory="open").refuses_to_start()
    assert code == 2 and "--token-file" in said and "--insecure" in said


def test_readiness_waits_for_models(trained):
    trained.stop()
    trained.start()
    status = wait_until(lambda: Http(trained).ask("GET", "/readyz")[0] == 200, "models are loaded")
    assert status
    status, headers, body = Http(trained).ask("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"lockstep_jobs" in body
