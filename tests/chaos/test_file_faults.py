"""Every operation on a file may fail once, or be cut short: that is seen and said, or made good."""

import dataclasses
import os
import re
import shutil
import struct

import data
import job_logs
import numpy as np
import programs

# As faulty_files.cc has them.
KINDS = ["write", "pwrite", "writev", "fsync", "fdatasync", "rename", "ftruncate", "close", "open",
         "unlink"]
WRITES = ("write", "pwrite", "writev")
SLICE = 30


@dataclasses.dataclass(frozen=True)
class Fault:
    scenario: str  # of SCENARIOS
    program: str  # "serve" or "work"
    kind: str
    call: int
    how: str

    def __str__(self):
        return f"{self.scenario}: {self.program}:{self.kind}:{self.call}:{self.how}"


# These once did harm: a job failed for good, a server refused every change.
KNOWN = [Fault("crashed", "serve", "ftruncate", 2, "EIO"),
         Fault("crashed", "serve", "open", 2, "EIO"), Fault("crashed", "serve", "open", 3, "EIO")]


class Scenario:
    """A job "job", and how far a server had come with it before the faults begin."""

    def __init__(self, spec, samples, directory, prepare=None):
        directory.mkdir()
        self.dataset = directory.name
        self.npz = directory / "blobs.npz"
        np.savez(self.npz, **data.blobs(samples))
        spec["data"]["train"]["dataset"] = self.dataset
        self.job_file = programs.write_spec(spec, directory)
        self.spec = spec
        self.left = directory / "left" if prepare is not None else None
        self.undisturbed = None  # the job
        self.events = None
        if prepare is not None:
            prepare(self)

    def register(self, ask):
        ask("datasets", "add", self.dataset, "--npz", self.npz)

    def submit(self, ask):
        ask("submit", self.job_file, "--id", "job")


def short_job():
    """Short, but it saves checkpoints, forgets old ones, and publishes."""
    spec = data.job(epochs=4, log_every=5)
    spec["checkpoints"] = {"every_steps": 10, "keep_last": 1}
    return spec


def longer_job():
    """Can be struck between two checkpoints."""
    spec = data.job(batch_size=128, epochs=10_000, max_steps=1000, log_every=125)
    spec["checkpoints"] = {"every_steps": 125, "keep_last": 2}
    hidden = {"dense": {"units": 128, "activation": "relu"}}
    spec["model"]["layers"][0:1] = [hidden, hidden]
    return spec


def crash(make_server):
    """Leaves what a server leaves that is killed in the middle of a job; its log has a torn end."""

    def prepare(scenario):
        server = make_server("--threads", "1", directory=scenario.left).start()
        scenario.register(server.client.run)
        scenario.submit(server.client.run)
        programs.wait_until(
            lambda: len(server.client.job("job").get("checkpoints", [])) == 2, "two checkpoints")
        server.kill()
        with (server.data_directory / "runs" / "job" / "events.log").open("ab") as log:
            log.write(bytes([200, 0, 0, 0, 1, 2, 3, 4, 5]))
        (server.data_directory / "worker.sock").unlink(missing_ok=True)

    return prepare


class Case:
    """A server below faulty_files.so, from its start until its job has ended."""

    def __init__(self, make_server, bin_directory, directory, scenario, program, fault=None):
        self.scenario = scenario
        self.report = directory / "report"
        directory.mkdir()
        self.report.write_bytes(bytes(8 * (len(KINDS) + 1)))
        data_directory = directory.resolve() / "server"
        if scenario.left is not None:
            shutil.copytree(scenario.left, data_directory)
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
        self.server.address_file.unlink(missing_ok=True)
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

    def train(self):
        self.scenario.register(self.ask)
        self.scenario.submit(self.ask)
        return self.server.client.finish("job")

    def check(self):
        """Runs the job with the fault, then again without; returns what became of it."""
        started = self.starts()
        if started:
            job = self.train()
            assert job["state_hash"] == self.scenario.undisturbed["state_hash"]
            assert self.server.stop() == 0

        self.server.environment = None
        self.server.start()
        client = self.server.client
        if not started:
            if self.scenario.left is not None:
                client.job("job")  # acknowledged long ago
            self.train()
        job = client.job("job")
        assert job["state"] == "SUCCEEDED", "a job that had succeeded is not there any more"
        assert job["state_hash"] == self.scenario.undisturbed["state_hash"]
        job_logs.check_log(job, client.events("job"), self.scenario.events)
        client.run("predict", "mlp:1", "--dataset", self.scenario.dataset, "--first", 5)
        assert self.server.stop() == 0
        job_logs.check_database(self.server.data_directory)
        return "; ".join(self.said) or "made good"


def wanted_faults(counts):
    for (scenario, program), calls in counts.items():
        for kind, number in calls.items():
            for call in range(1, number + 1):
                for how in ("EIO", "ENOSPC", "short") if kind in WRITES else ("EIO",):
                    yield Fault(scenario, program, kind, call, how)


def slice_of(faults, draw):
    """Some, with those that are known and each kind of operation of each program that there is."""
    groups = {}
    for fault in faults:
        groups.setdefault((fault.scenario, fault.program, fault.kind), []).append(fault)
    chosen = [*KNOWN, *(draw.choice(group) for group in groups.values())]
    rest = [fault for fault in faults if fault not in chosen]
    return chosen + draw.sample(rest, max(0, min(len(rest), SLICE - len(chosen))))


def test_an_operation_on_a_file_that_fails_once_loses_nothing(
        make_server, bin_directory, draw, whole, table, tmp_path):
    scenarios = {
        "new": Scenario(short_job(), 250, tmp_path / "small"),
        "crashed": Scenario(longer_job(), 4000, tmp_path / "large", crash(make_server)),
    }
    undisturbed = make_server("--threads", "1", directory="undisturbed").start()
    for name, scenario in scenarios.items():
        scenario.register(undisturbed.client.run)
        scenario.undisturbed = undisturbed.client.train(scenario.spec, tmp_path, "--id", name)
        scenario.events = undisturbed.client.events(name)
    assert undisturbed.stop() == 0

    counts = {}
    for name, scenario in scenarios.items():
        for program in ("serve", "work"):
            case = Case(make_server, bin_directory, tmp_path / f"{name}-{program}", scenario, program)
            assert case.check() == "made good"
            counts[name, program] = case.counts()[0]
            table.append(f"{name} {program}: {counts[name, program]}")

    faults = list(wanted_faults(counts))
    if not whole:
        faults = slice_of(faults, draw)
    met = 0
    failures = []
    for number, fault in enumerate(faults):
        case = Case(make_server, bin_directory, tmp_path / str(number), scenarios[fault.scenario],
                    fault.program, fault)
        try:
            outcome = case.check()
            shutil.rmtree(case.server.data_directory)
        except AssertionError as error:
            outcome = f"NOT AS IT SHOULD BE: {error}"
            failures.append(f"{fault}: {error}\n{case.server.log}")
        if case.server.process.poll() is None:
            case.server.kill()
        # Calls are not as many in each run: a report may have more events in it.
        met += case.counts()[1]
        table.append(f"{fault!s:36}{outcome if case.counts()[1] else 'not met'}")
    assert not failures, "\n\n".join(failures)
    assert met >= len(faults) // 2
