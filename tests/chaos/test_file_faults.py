"""Every operation on a file may fail once, or be cut short: that is seen and said, or made good."""

import dataclasses
import os
import re
import struct

import data
import job_logs
import numpy as np
import programs
import pytest

# As faulty_files.cc has them.
KINDS = ["write", "pwrite", "writev", "fsync", "fdatasync", "rename", "ftruncate", "close", "open",
         "unlink"]
WRITES = ("write", "pwrite", "writev")
SLICE = 16

# Short, but it saves checkpoints, forgets old ones, and publishes.
JOB = data.job(epochs=4, log_every=5)
JOB["checkpoints"] = {"every_steps": 10, "keep_last": 1}


@dataclasses.dataclass(frozen=True)
class Fault:
    program: str  # "serve" or "work"
    kind: str
    call: int
    how: str

    def __str__(self):
        return f"{self.program}:{self.kind}:{self.call}:{self.how}"


class Case:
    """A server below faulty_files.so, from its start until its job has ended."""

    def __init__(self, make_server, bin_directory, directory, program, fault=None):
        self.directory = directory / "case"
        self.report = directory / "report"
        self.report.write_bytes(bytes(8 * (len(KINDS) + 1)))
        data_directory = (self.directory / "server").resolve()
        self.directory.mkdir()
        environment = os.environ | {
            "LD_PRELOAD": str(bin_directory / "faulty_files.so"),
            "LOCKSTEP_FAULT_PROGRAM": program,
            "LOCKSTEP_FAULT_DIR": str(data_directory),
            "LOCKSTEP_FAULT_REPORT": str(self.report),
        }
        if fault is not None:
            environment["LOCKSTEP_FAULT"] = f"{fault.kind}:{fault.call}:{fault.how}"
        self.server = make_server("--threads", "1", directory=data_directory,
                                  environment=environment)
        self.said = []  # what was refused, and why

    def counts(self):
        """Calls by kind, and how many met the fault."""
        *calls, met = struct.unpack(f"{len(KINDS) + 1}q", self.report.read_bytes())
        return dict(zip(KINDS, calls, strict=True)), met

    def starts(self):
        self.server.launch()
        programs.wait_until(
            lambda: self.server.process.poll() is not None or self.server.address_file.exists(),
            "the server listens or ends")
        code = self.server.process.poll()
        if code is None:
            return True
        said = re.findall("^lockstepd: (.*)", self.server.log.read_text(), re.MULTILINE)
        assert code > 0 and said, f"the server ended with exit code {code} and did not say why"
        self.said.append(f"did not start: {said[-1]}")
        return False

    def ask(self, *arguments):
        """A call that may be refused once: the fault passes, so the next one has to do."""
        for _ in range(2):
            process = self.server.client.start(*arguments)
            output, errors = process.communicate(timeout=programs.TIMEOUT_SECONDS)
            if process.returncode == 0:
                return output
            assert process.returncode == 1 and errors.strip(), (
                f"{arguments[0]}: exit code {process.returncode}: {errors}")
            self.said.append(f"refused: {errors.strip()}")
        raise AssertionError(f"{arguments[0]}: refused twice: {self.said}")

    def train(self, npz, job_file):
        self.ask("datasets", "add", "blobs", "--npz", npz)
        self.ask("submit", job_file, "--id", "job")
        return self.server.client.finish("job")


def wanted_faults(counts):
    for program, calls in counts.items():
        for kind, number in calls.items():
            for call in range(1, number + 1):
                for how in ("EIO", "ENOSPC", "short") if kind in WRITES else ("EIO",):
                    yield Fault(program, kind, call, how)


def slice_of(faults, draw):
    """Some, with each kind of operation of each program that there is."""
    groups = {}
    for fault in faults:
        groups.setdefault((fault.program, fault.kind), []).append(fault)
    chosen = [draw.choice(group) for group in groups.values()]
    rest = [fault for fault in faults if fault not in chosen]
    return chosen + draw.sample(rest, max(0, min(len(rest), SLICE - len(chosen))))


def test_an_operation_on_a_file_that_fails_once_loses_nothing(
        make_server, bin_directory, draw, whole, table, tmp_path):
    npz = tmp_path / "blobs.npz"
    np.savez(npz, **data.blobs(250))
    job_file = programs.write_spec(JOB, tmp_path)

    counts = {}
    for program in ("serve", "work"):
        (tmp_path / program).mkdir()
        case = Case(make_server, bin_directory, tmp_path / program, program)
        assert case.starts()
        undisturbed = case.train(npz, job_file)
        events = case.server.client.events("job")
        assert case.server.stop() == 0
        counts[program], met = case.counts()
        assert met == 0
        table.append(f"{program}: {counts[program]}")

    faults = list(wanted_faults(counts))
    if not whole:
        faults = slice_of(faults, draw)
    met = 0
    failures = []
    for number, fault in enumerate(faults):
        directory = tmp_path / str(number)
        directory.mkdir()
        case = Case(make_server, bin_directory, directory, fault.program, fault)
        try:
            outcome = check(case, npz, job_file, undisturbed, events)
        except AssertionError as error:
            outcome = f"NOT AS IT SHOULD BE: {error}"
            failures.append(f"{fault}: {error}\n{case.server.log}")
        if case.server.process.poll() is None:
            case.server.kill()
        met += case.counts()[1]
        # Calls are not as many in each run: a report may have more events in it.
        table.append(f"{fault!s:28}{outcome if case.counts()[1] else 'not met'}")
    assert not failures, "\n\n".join(failures)
    assert met >= len(faults) // 2


def check(case, npz, job_file, undisturbed, events):
    """Runs the job with the fault, then again without; returns what became of it."""
    started = case.starts()
    if started:
        job = case.train(npz, job_file)
        assert job["state_hash"] == undisturbed["state_hash"]
        assert case.server.stop() == 0

    case.server.environment = None
    case.server.start()
    client = case.server.client
    if not started:
        case.train(npz, job_file)
    job = client.job("job")
    assert job["state"] == "SUCCEEDED", "a job that had succeeded is not there any more"
    assert job["state_hash"] == undisturbed["state_hash"]
    job_logs.check_log(job, client.events("job"), events)
    client.run("predict", "mlp:1", "--dataset", "blobs", "--first", 5)
    assert case.server.stop() == 0
    job_logs.check_database(case.server.data_directory)
    made_good = f"made good in attempt {job['attempt']}" if job["attempt"] > 1 else "made good"
    return "; ".join(case.said) or made_good
