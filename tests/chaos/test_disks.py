"""Disks that are full or cannot be written: jobs wait and go on, servers say what is wrong."""

import contextlib
import ctypes
import errno
import os
import sqlite3
import subprocess

import data
import job_logs
import programs
import pytest

CLONE_NEWNS = 0x20000
DISK_BYTES = 16 << 20


@pytest.fixture(scope="module")
def own_mounts():
    """From here on this process may mount, and nobody else sees it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"needs root, to mount a small disk: {os.strerror(ctypes.get_errno())}")
    mount("--make-rprivate", "/")


def mount(*arguments):
    result = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {result.stderr.strip()}")


class Disk:
    """A file system of its own, of DISK_BYTES."""

    def __init__(self, directory):
        self.directory = directory
        self.ballast = directory / "ballast"
        mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", directory)

    def fill(self):
        """Takes all the room there is; returns True."""
        with self.ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        return True

    def free(self):
        self.ballast.unlink()

    def remount(self, how):
        mount("-o", f"remount,{how}", self.directory)


@pytest.fixture
def disk(own_mounts, tmp_path):
    directory = tmp_path / "server"
    directory.mkdir()
    yield Disk(directory)
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def server_on_disk(disk, make_server, tmp_path):
    server = make_server("--threads", "1", directory="server").start()
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    return server


def long_enough():
    spec = data.job(epochs=10_000, max_steps=20_000, log_every=50)
    spec["checkpoints"] = {"every_steps": 1000}
    return spec


def wait_for_steps(client, job_id, least):
    def stepped():
        job = client.job(job_id)
        assert job["state"] in ("QUEUED", "RUNNING"), "the job ended before its disk was full"
        return int(job["progress"]["step"]) >= least

    programs.wait_until(stepped, f"step {least} of {job_id}")


def assert_as_if_nothing_had_happened(client, job_id, undisturbed):
    job = client.finish(job_id)
    assert job["state_hash"] == undisturbed["state_hash"]
    events = client.events(job_id)
    job_logs.check_log(job, events, client.events(undisturbed["id"]))
    return events


def test_a_full_disk_holds_a_job_until_there_is_room(disk, server_on_disk, tmp_path):
    client = server_on_disk.client
    undisturbed = client.train(long_enough(), tmp_path)
    job_id = client.submit(long_enough(), tmp_path)
    wait_for_steps(client, job_id, 1000)

    def held():
        disk.fill()  # again, as long as old checkpoints go
        job = client.job(job_id)
        assert job["state"] == "RUNNING"
        return "held" in job["state_reason"]

    programs.wait_until(held, "the job is held")
    assert "held" in client.run("show", job_id)

    disk.free()
    events = assert_as_if_nothing_had_happened(client, job_id, undisturbed)
    assert client.job(job_id)["attempt"] == 1
    assert any("held" in event.get("text", {}).get("text", "") for event in events)
    assert server_on_disk.stop() == 0
    job_logs.check_database(server_on_disk.data_directory)


def test_a_server_killed_on_a_full_disk_loses_nothing(disk, server_on_disk, tmp_path):
    client = server_on_disk.client
    undisturbed = client.train(long_enough(), tmp_path)
    job_id = client.submit(long_enough(), tmp_path)
    wait_for_steps(client, job_id, 3000)
    disk.fill()
    server_on_disk.kill()
    disk.fill()

    server_on_disk.address_file.unlink(missing_ok=True)
    disk.fill()
    code, message = server_on_disk.refuses_to_start()
    assert code == 4
    assert str(server_on_disk.data_directory) in message and "No space left" in message

    disk.free()
    server_on_disk.start()
    assert_as_if_nothing_had_happened(server_on_disk.client, job_id, undisturbed)


def test_a_read_only_data_directory_is_refused(disk, server_on_disk, tmp_path):
    job = server_on_disk.client.train(data.job(), tmp_path)
    assert server_on_disk.stop() == 0
    disk.remount("ro")
    code, message = server_on_disk.refuses_to_start()
    assert code == 4
    assert str(server_on_disk.data_directory) in message and "read-only" in message.lower()

    disk.remount("rw")
    assert server_on_disk.start().client.job(job["id"]) == job


def test_a_data_directory_of_a_newer_version_is_refused_and_not_touched(make_server):
    server = make_server().start()
    assert server.stop() == 0
    path = server.data_directory / "lockstep.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    code, message = server.refuses_to_start()
    assert code == 4
    assert "newer" in message
    assert path.read_bytes() == before
