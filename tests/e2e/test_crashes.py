"""Whatever dies, no job is lost and no bit of a result changes."""

import data
import programs


def a_few_seconds_of_work():
    """Long enough to be interrupted; ends by itself."""
    return data.job(epochs=10_000, max_steps=30_000, log_every=1000)


def wait_for_first_step(client, job_id):
    def stepped():
        job = client.job(job_id)
        assert job["state"] in ("QUEUED", "RUNNING"), "the job ended before it could be interrupted"
        return int(job["progress"]["step"]) > 0

    programs.wait_until(stepped, "the first record of the job")


def assert_without_holes(events):
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))


def test_a_killed_worker_costs_an_attempt_and_no_bit(server, client, tmp_path):
    undisturbed = client.train(a_few_seconds_of_work(), tmp_path)
    assert undisturbed["attempt"] == 1

    job_id = client.submit(a_few_seconds_of_work(), tmp_path)
    wait_for_first_step(client, job_id)
    server.kill_worker()
    disturbed = client.finish(job_id)
    assert disturbed["attempt"] == 2
    assert disturbed["state_hash"] == undisturbed["state_hash"]

    events = client.events(job_id)
    assert_without_holes(events)
    # The second attempt's records were compared with the first one's, not written again.
    steps = [int(event["step"]["step"]) for event in events if "step" in event]
    assert steps == sorted(set(steps))


def test_a_killed_server_comes_back_with_everything(server, client, tmp_path):
    finished = client.train(data.job(), tmp_path)
    finished_events = client.events(finished["id"])
    predictions = client.run("predict", "mlp", "--dataset", "blobs", "--first", 5)
    running = client.submit(a_few_seconds_of_work(), tmp_path)
    queued = client.submit(data.job(seed=2), tmp_path)
    wait_for_first_step(client, running)

    server.kill()
    server.start()
    client = server.client

    assert {job["id"] for job in client.json_lines("jobs")} == {finished["id"], running, queued}
    assert client.job(finished["id"]) == finished
    assert client.events(finished["id"]) == finished_events
    assert client.run("predict", "mlp:1", "--dataset", "blobs", "--first", 5) == predictions
    assert client.finish(running)["attempt"] == 2
    assert client.finish(queued)["attempt"] == 1
    assert_without_holes(client.events(running))
    assert_without_holes(client.events(queued))

    again = client.train(a_few_seconds_of_work(), tmp_path)
    assert again["state_hash"] == client.job(running)["state_hash"]


def test_a_stopped_server_takes_up_its_work_when_it_is_started_again(server, client, tmp_path):
    job_id = client.submit(a_few_seconds_of_work(), tmp_path)
    wait_for_first_step(client, job_id)
    workers = server.workers()

    assert server.stop() == 0
    assert not any(programs.is_running(pid) for pid in workers)
    assert not server.address_file.exists()

    server.start()
    server.client.finish(job_id)
