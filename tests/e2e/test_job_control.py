"""Commands about jobs that cannot be carried out are refused, say why, and change nothing."""

import data
import programs
import pytest

NEVER = "no-such-job"


@pytest.fixture
def idle(make_server, tmp_path):
    """The client of a server without workers: jobs stay queued."""
    server = make_server("--local-workers", "0").start()
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    return server.client


def with_fields(**fields):
    return {**data.MLP, **fields}


def test_only_a_paused_job_is_resumed(client, tmp_path):
    ended = client.train(data.job(), tmp_path)
    running = client.submit(data.long_job(), tmp_path)
    queued = client.submit(data.job(seed=2), tmp_path)
    client.wait_for_state(running, "RUNNING")
    for job_id, state in ((ended["id"], "SUCCEEDED"), (running, "RUNNING"), (queued, "QUEUED")):
        before = client.job(job_id)["state"]
        assert state in client.refused("resume", job_id)
        assert client.job(job_id)["state"] == before == state
    assert NEVER in client.refused("resume", NEVER)

    client.run("pause", queued)
    client.run("resume", queued)
    assert client.job(queued)["state"] == "QUEUED"
    client.run("cancel", running)


def test_a_job_that_has_ended_is_neither_paused_nor_cancelled_nor_ranked(client, tmp_path):
    job = client.train(data.job(), tmp_path)
    for command in (["pause", job["id"]], ["cancel", job["id"]], ["set-priority", job["id"], 3]):
        assert "SUCCEEDED" in client.refused(*command)
    assert client.job(job["id"]) == job


@pytest.mark.parametrize("priority", [1001, -1001, 2**31 - 1])
def test_a_priority_out_of_range_is_refused_with_the_range(idle, tmp_path, priority):
    message = idle.refused("submit", programs.write_spec(with_fields(priority=priority), tmp_path))
    assert "priority" in message and "1000" in message and str(priority) in message
    assert idle.json_lines("jobs") == []

    job_id = idle.submit(data.job(), tmp_path, "--priority", 7)
    message = idle.refused("set-priority", job_id, priority)
    assert "priority" in message and "1000" in message
    assert idle.job(job_id)["priority"] == 7


@pytest.mark.parametrize("labels, complaint", [
    ({f"key{i}": "" for i in range(65)}, "at most 64"),
    ({"k" * 64: "v"}, "63"),
    ({"team": "v" * 256}, "at most 255"),
    ({"two words": "v"}, "two words"),
])
def test_labels_over_their_limits_are_refused(idle, tmp_path, labels, complaint):
    message = idle.refused("submit", programs.write_spec(with_fields(labels=labels), tmp_path))
    assert "labels" in message and complaint in message
    assert idle.json_lines("jobs") == []


def test_only_a_job_that_has_ended_is_deleted(client, tmp_path):
    running = client.submit(data.long_job(), tmp_path)
    queued = client.submit(data.job(), tmp_path)
    client.wait_for_state(running, "RUNNING")
    for job_id, state in ((running, "RUNNING"), (queued, "QUEUED")):
        assert state in client.refused("delete", job_id)
        assert client.job(job_id)["state"] == state

    client.run("cancel", running)
    client.run("delete", running)
    assert running in client.refused("show", running)
    model = client.finish(queued)["published"]
    client.run("delete", queued)
    # A job's models stay.
    client.run("predict", f"{model['name']}:{model['version']}", "--dataset", "blobs", "--first", 1)
    assert client.json_lines("jobs") == []


def test_the_checkpoint_of_another_job_is_skipped_and_said(client, tmp_path):
    saved = {"every_steps": 4, "keep_last": 1}
    other = client.job(client.train({**data.job(seed=9), "checkpoints": saved}, tmp_path)["id"])
    job = client.train(data.job(), tmp_path)
    verification = {
        "steps": job["progress"]["step"],
        "state_hash": job["state_hash"],
        "checkpoint": other["checkpoints"][0],
    }
    verified = client.train({**data.job(), "verification": verification}, tmp_path)
    assert verified["state_hash"] == job["state_hash"]
    texts = [event["text"] for event in client.events(verified["id"]) if "text" in event]
    skipped = [text for text in texts if other["checkpoints"][0]["blob"]["sha256"] in text["text"]]
    assert skipped and skipped[0]["severity"] == "WARNING"

    missing = {**verification["checkpoint"], "blob": {"sha256": "0" * 64, "size_bytes": "8"}}
    verification["checkpoint"] = missing
    spec = {**data.job(), "verification": verification}
    message = client.refused("submit", programs.write_spec(spec, tmp_path))
    assert "verification.checkpoint" in message and "0" * 64 in message


def test_a_corrupt_checkpoint_is_skipped_and_said_and_the_one_before_it_counts(
        server, client, tmp_path):
    spec = {**data.job(epochs=10_000, max_steps=120_000, log_every=1000),
            "checkpoints": {"every_steps": 2000, "keep_last": 3}}
    undisturbed = client.train(spec, tmp_path)
    job_id = client.submit(spec, tmp_path)
    programs.wait_until(lambda: len(client.job(job_id).get("checkpoints", [])) == 3,
                        "three checkpoints")
    server.kill()

    # The newest one is torn.
    server.options += ["--local-workers", "0"]
    newest, before = server.start().client.job(job_id)["checkpoints"][:2]
    server.kill()
    path = server.data_directory / "blobs" / newest["blob"]["sha256"]
    path.write_bytes(path.read_bytes()[:-100])

    del server.options[-2:]
    client = server.start().client
    assert client.finish(job_id)["state_hash"] == undisturbed["state_hash"]
    texts = [event["text"]["text"] for event in client.events(job_id) if "text" in event]
    assert any(newest["blob"]["sha256"] in text for text in texts)
    assert any(f"goes on from the checkpoint of step {before['step']}" in text for text in texts)
