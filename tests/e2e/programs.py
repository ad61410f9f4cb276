"""The programs under test, as a person or a script uses them: start, ask, kill."""

import json
import os
import pathlib
import signal
import subprocess
import time

import numpy as np

# Generous: a busy machine is not an error. A condition that holds is seen within POLL_SECONDS.
TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.02


def wait_until(condition, what, timeout_seconds=TIMEOUT_SECONDS):
    """Returns the first truthy value of `condition`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {what}"
        time.sleep(POLL_SECONDS)


class Client:
    """The `lockstep` command, talking to one server."""

    def __init__(self, program, address, token_file=None):
        self.program = program
        self.address = address
        self.token_file = token_file

    def start(self, *arguments, **popen_options):
        command = [self.program, "--server", self.address]
        if self.token_file is not None:
            command += ["--token-file", self.token_file]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCKSTEP_")}
        return subprocess.Popen(
            [str(part) for part in [*command, *arguments]],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, **popen_options)

    def run(self, *arguments, exit_code=0):
        """Returns what it printed; its exit code has to be `exit_code`."""
        process = self.start(*arguments)
        try:
            output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == exit_code, (
            f"lockstep {' '.join(map(str, arguments))}: exit code {process.returncode}, "
            f"not {exit_code}\n{output}\n{errors}")
        return output if exit_code == 0 else output + errors

    def json(self, *arguments):
        return json.loads(self.run("--json", *arguments))

    def json_lines(self, *arguments):
        return [json.loads(line) for line in self.run("--json", *arguments).splitlines()]

    def refused(self, *arguments):
        """The message of a request that the server refuses."""
        return self.run(*arguments, exit_code=1)

    def misused(self, *arguments):
        """The message about arguments or files that the command itself refuses."""
        return self.run(*arguments, exit_code=2)

    def add_npz(self, name, tensors, directory):
        path = pathlib.Path(directory) / (name.replace("/", "-") + ".npz")
        np.savez(path, **tensors)
        self.run("datasets", "add", name, "--npz", path)

    def submit(self, spec, directory, *options):
        """Hands a job in; returns its id."""
        return self.json("submit", write_spec(spec, directory), *options)["id"]

    def job(self, job_id):
        return self.json("show", job_id)

    def wait_for_state(self, job_id, *states):
        def reached():
            job = self.job(job_id)
            if job["state"] in states:
                return job
            ended = job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")
            assert not ended, f"{job_id} is {job['state']}: {job['state_reason']}"
            return None

        return wait_until(reached, f"{job_id} is one of {states}")

    def events(self, job_id, first=1):
        """All events of a job, from a sequence number on, once it has succeeded."""
        return self.json_lines("watch", job_id, "--from", first)

    def finish(self, job_id):
        """Waits for success; returns the job."""
        return self.wait_for_state(job_id, "SUCCEEDED")

    def train(self, spec, directory, *options):
        return self.finish(self.submit(spec, directory, *options))


def write_spec(spec, directory):
    path = pathlib.Path(directory) / "job.json"
    path.write_text(json.dumps(spec))
    return path


class Server:
    """`lockstepd serve` in a directory of its own, on a free port."""

    def __init__(self, bin_directory, data_directory, *options, token_file=None, environment=None):
        self.bin_directory = pathlib.Path(bin_directory)
        self.data_directory = pathlib.Path(data_directory)
        self.options = list(options)
        self.token_file = token_file
        if token_file is not None:
            self.options += ["--token-file", token_file]
        if "--listen" not in self.options:
            self.options += ["--listen", "127.0.0.1:0"]
        if "--http" not in self.options:
            self.options += ["--http", "127.0.0.1:0"]
        self.environment = environment  # of the process; None: the tests' own
        self.log = self.data_directory.with_suffix(".log")
        self.process = None

    def launch(self):
        """Starts the process and returns at once."""
        command = [self.bin_directory / "lockstepd", "serve", "--data-dir", self.data_directory]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in [*command, *self.options]],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self.environment)

    def start(self):
        # What a killed server left behind is not this one's address.
        self.address_file.unlink(missing_ok=True)
        self.launch()

        def listening():
            code = self.process.poll()
            assert code is None, f"the server ended with exit code {code}:\n{self.log.read_text()}"
            return self.address_file.exists()

        wait_until(listening, "the server listens")
        return self

    def refuses_to_start(self):
        """Returns (exit code, what it said)."""
        self.launch()
        return self.process.wait(TIMEOUT_SECONDS), self.log.read_text()

    @property
    def address_file(self):
        return self.data_directory / "address"

    @property
    def http_url(self):
        return "http://" + (self.data_directory / "http_address").read_text().strip()

    @property
    def client(self):
        return Client(self.bin_directory / "lockstep", self.address_file.read_text().strip(),
                      self.token_file)

    def workers(self):
        """Process ids of the server's local workers."""
        return children(self.process.pid)

    def kill_worker(self):
        """kill -9; returns once the process is gone."""
        pid = wait_until(self.workers, "a worker runs")[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.workers(), f"worker {pid} is gone")

    def kill(self):
        """kill -9 of the server; returns once its workers are gone too."""
        workers = self.workers()
        self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        wait_until(lambda: not any(is_running(pid) for pid in workers), "the workers are gone")

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_SECONDS)


def start_worker(server, token_file, cache_directory):
    """A worker that the server did not start itself."""
    return subprocess.Popen(
        [str(part) for part in [
            server.bin_directory / "lockstepd", "work",
            "--server", f"unix:{server.data_directory / 'worker.sock'}",
            "--token-file", token_file, "--cache-dir", cache_directory, "--threads", 1]],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def process_status(pid):
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_running(pid):
    return process_status(pid).get("State", "Z")[0] != "Z"


def children(parent):
    pids = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if process_status(pid).get("PPid") == str(parent) and is_running(pid)]
