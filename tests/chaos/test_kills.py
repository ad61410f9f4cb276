"""SIGKILL of workers, of the server and of both, at any instant: no job is lost, no bit changes."""

import job_logs
import kills
import programs
import pytest

# Of each of the two tests: kills in a slice, kills of the whole.
SLICE = 13
WHOLE = 110


@pytest.fixture(scope="module")
def undisturbed(bin_directory, tmp_path_factory):
    """Of each kind of job: (state hash, events), as it is when nobody disturbs it."""
    directory = tmp_path_factory.mktemp("undisturbed")
    server = programs.Server(bin_directory, directory / "server", "--local-workers", "2",
                             "--threads", "1").start()
    kills.add_data(server.client, directory)
    for kind, spec in kills.KINDS.items():
        server.client.submit(spec, directory, "--id", kind)
    left_alone = {}
    for kind in kills.KINDS:
        job = server.client.finish(kind)
        left_alone[kind] = (job["state_hash"], server.client.events(kind))
    assert server.stop() == 0
    return left_alone


def check(chaos, events, undisturbed, table):
    table.extend(chaos.table(events))
    jobs = chaos.jobs()
    for job_id, kind in chaos.kinds.items():
        state_hash, left_alone = undisturbed[kind]
        job_logs.check_log(jobs[job_id], events[job_id], left_alone)
        assert jobs[job_id]["state_hash"] == state_hash, job_id
    # Each success has published once.
    versions = sorted(int(job["published"]["version"]) for job in jobs.values())
    assert versions == list(range(1, len(jobs) + 1))
    assert chaos.server.stop() == 0
    job_logs.check_database(chaos.server.data_directory)


def test_kills_of_the_server_and_its_own_workers_lose_nothing(
        make_server, draw, whole, undisturbed, table, tmp_path):
    server = make_server("--local-workers", "2", "--threads", "1")
    chaos = kills.Chaos(server, draw, tmp_path)
    events = chaos.run(WHOLE if whole else SLICE)
    check(chaos, events, undisturbed, table)


def test_kills_of_the_server_and_workers_that_come_back_lose_nothing(
        make_server, draw, whole, undisturbed, table, tmp_path):
    server = make_server("--local-workers", "0", "--worker-grace-seconds", "2")
    chaos = kills.Chaos(
        server, draw, tmp_path,
        lambda: programs.start_worker(server, server.data_directory / "worker.token",
                                      tmp_path / "cache"))
    try:
        events = chaos.run(WHOLE if whole else SLICE)
        check(chaos, events, undisturbed, table)
    finally:
        chaos.stop()
