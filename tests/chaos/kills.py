"""Jobs that are interrupted all the time, and what is killed when."""

import dataclasses
import os
import signal
import time

import data
import job_logs
import programs

SAMPLES = 2000
STEPS = 4000


def _job(regularization, priority=0, resources=None, checkpoints=None, labels=None, **training):
    spec = data.job(**{"batch_size": 128, "epochs": 10_000, "max_steps": STEPS, **training})
    spec["checkpoints"] = {"every_steps": 200, **(checkpoints or {})}
    spec["priority"] = priority
    spec["labels"] = labels or {}
    spec["resources"] = resources or {}
    spec["data"]["validation_split"] = 0.1
    # Wide enough for a step to last, so that something can strike between two of them.
    hidden = {"dense": {"units": 128, "activation": "relu"}}
    spec["model"]["layers"] = [
        hidden, regularization, hidden, {"dense": {"units": 4, "activation": "softmax"}}]
    return spec


# Each lasts some seconds; together they use what a run has to keep between two steps.
KINDS = {
    "batchnorm": _job({"batch_normalization": {}}, shuffle=True, log_every=20),
    "dropout": _job(
        {"dropout": {"rate": 0.3}},
        optimizer={"adam": {}}, ema={"momentum": 0.95}, log_every=17,
        early_stopping={"monitor": "val_loss", "patience": 10_000, "restore_best_weights": True}),
    "urgent": _job(
        {"batch_normalization": {}}, priority=5, labels={"team": "vision", "tier": "chaos"}, resources={"preempt": True},
        checkpoints={"every_steps": 140, "keep_last": 1, "keep_best": "val_loss"},
        optimizer={"sgd": {"learning_rate": 0.05, "momentum": 0.9}}, log_every=23),
    "plateau": _job(
        {"dropout": {"rate": 0.1}},
        checkpoints={"every_steps": 0, "every_seconds": 1}, batch_size=100,
        optimizer={"rmsprop": {"momentum": 0.5, "centered": True}},
        learning_rate_schedule={"reduce_on_plateau": {"patience": 2}}, log_every=19),
}


def add_data(client, directory):
    client.add_npz("blobs", data.blobs(SAMPLES), directory)


@dataclasses.dataclass
class Kill:
    number: int
    target: str  # "worker", "server", "both"
    point: str  # when
    jobs: list  # that lost something, as they were just before

    def rows(self, next_attempts, events):
        """A line a job: what it was seen at, and what came of it.

        `next_attempts`, by id: what jobs were at when something was killed the next time.
        """
        begin = f"{self.number:4}  {self.target:7}{self.point:22}"
        if not self.jobs:
            yield f"{begin}-"
        for job in self.jobs:
            step, attempt = int(job["progress"]["step"]), job["attempt"]
            outcome = (f"still attempt {attempt}" if next_attempts.get(job["id"]) == attempt
                       else job_logs.after_attempt(events[job["id"]], attempt))
            yield f"{begin}{job['id']:14}{job['state']:9}at step {step:5}  {outcome}"


class Chaos:
    """One server, its workers, and jobs. What is drawn comes from `draw` alone.

    `server` is not started yet. `hands`, if given, starts a worker of its own; two are kept alive.
    """

    def __init__(self, server, draw, directory, hands=None):
        self.server = server
        self.draw = draw
        self.directory = directory
        self.start_hand = hands
        self.hands = []
        self.kinds = {}  # of each job, by id
        self.kills = []

    # Starting and asking.

    def start_server(self):
        if self.start_hand is None:
            # The next attempt has another number of threads.
            self.server.options[self.server.options.index("--threads") + 1] = str(
                self.draw.choice([1, 2]))
        self.server.start()

    def top_up_hands(self):
        self.hands = [hand for hand in self.hands if hand.poll() is None]
        while self.start_hand is not None and len(self.hands) < 2:
            self.hands.append(self.start_hand())

    def jobs(self):
        return {job["id"]: job for job in self.server.client.json_lines("jobs", "--all")
                if job["id"] in self.kinds}

    def unfinished(self):
        jobs = self.jobs().values()
        for job in jobs:
            assert job["state"] not in ("FAILED", "CANCELLED"), (job["id"], job["state_reason"])
        return [job for job in jobs if job["state"] != "SUCCEEDED"]

    def begun(self):
        """Running jobs, and paused ones, which may not have been saved yet."""
        return [job for job in self.unfinished() if job["state"] != "QUEUED"]

    def running(self):
        """A running job that was drawn; the driver sees to it that there is one soon."""
        def find():
            jobs = self.unfinished()
            if not jobs:
                self.submit()
            return [job for job in jobs if job["state"] == "RUNNING"]

        return self.draw.choice(sorted(
            programs.wait_until(find, "a job is running"), key=lambda job: job["id"]))

    def submit(self):
        kind = self.draw.choice(list(KINDS))
        job_id = f"{kind}-{len(self.kinds) + 1}"
        self.kinds[job_id] = kind
        self.server.client.submit(KINDS[kind], self.directory, "--id", job_id)
        return job_id

    def instant(self, most_seconds):
        """An instant that nothing announces; the only place where a test lets time go by."""
        time.sleep(self.draw.uniform(0, most_seconds))

    # Killing.

    def pids(self):
        return [hand.pid for hand in self.hands] if self.start_hand else self.server.workers()

    def kill(self, target, point, pid=None):
        """SIGKILL, and the server up again. `pid`: of the worker; else one that was drawn."""
        running = self.begun()
        self.instant(0.05)
        self.strike(target, point, running, pid)
        if target != "worker":
            self.start_server()
        self.top_up_hands()

    def strike(self, target, point, running, pid=None):
        pids = sorted(self.pids())
        if target == "worker" and pid is None and pids:
            pid = self.draw.choice(pids)
        if target == "worker" and pid not in pids:
            return  # it is gone already
        victims = {"worker": [pid], "server": [], "both": pids}[target]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        if target == "worker":
            running = [job for job in running if "worker" in job and self.pid_of(job) == pid]
        else:
            self.server.kill()
        for hand in self.hands:
            if hand.pid in victims:
                hand.wait(programs.TIMEOUT_SECONDS)
        programs.wait_until(lambda: not any(programs.is_running(v) for v in victims),
                            "the workers are gone")
        self.kills.append(Kill(len(self.kills) + 1, target, point, running))

    def disturb(self):
        """One thing that goes wrong, and perhaps a command before it."""
        if len(self.unfinished()) < 3:
            self.submit()
        points = [self.in_a_step, self.after_a_checkpoint, self.after_a_submission,
                  self.before_the_end, self.at_a_pause, self.as_a_worker_starts,
                  self.as_the_server_starts, self.stopped_for_a_while]
        if self.start_hand is not None:
            points.append(self.back_too_late)
        self.draw.choice(points)()
        self.resume_all()

    def target(self):
        return self.draw.choice(["worker", "server", "both"])

    @staticmethod
    def pid_of(job):
        return int(job["worker"]["name"].split(":")[-1])

    def stepping(self, job, least):
        """Waits until a job has come to a step, or does not run any more; returns it."""
        def there():
            now = self.server.client.job(job["id"])
            come = now["state"] != "RUNNING" or int(now["progress"]["step"]) >= least
            return now if come else None

        return programs.wait_until(there, f"{job['id']} comes to step {least}")

    def victim(self, target, job):
        return self.pid_of(job) if target == "worker" and "worker" in job else None

    def in_a_step(self):
        job = self.running()
        job = self.stepping(job, int(job["progress"]["step"]) + self.draw.randrange(1, 1000))
        target = self.target()
        self.kill(target, "in a step", self.victim(target, job))

    def after_a_checkpoint(self):
        job = self.running()
        before = newest_checkpoint(self.server.client.job(job["id"]))

        def saved():
            now = self.server.client.job(job["id"])
            return now if now["state"] != "RUNNING" or newest_checkpoint(now) != before else None

        job = programs.wait_until(saved, f"a checkpoint of {job['id']}")
        target = self.target()
        self.kill(target, "after a checkpoint", self.victim(target, job))

    def after_a_submission(self):
        """The server dies while a job is handed in; whoever asks again gets that very job."""
        kind = self.draw.choice(list(KINDS))
        job_id = f"{kind}-{len(self.kinds) + 1}"
        running = self.begun()
        handing_in = self.server.client.start(
            "submit", programs.write_spec(KINDS[kind], self.directory), "--id", job_id)
        self.instant(0.1)
        self.strike("server", "during a submission", running)
        handing_in.communicate(timeout=programs.TIMEOUT_SECONDS)
        self.start_server()
        if handing_in.returncode == 0:
            self.server.client.job(job_id)  # acknowledged: it is there
        self.kinds[job_id] = kind
        self.server.client.submit(KINDS[kind], self.directory, "--id", job_id)

    def before_the_end(self):
        job = max(self.unfinished(), key=lambda job: int(job["progress"]["step"]), default=None)
        if job is None or job["state"] != "RUNNING":
            return
        job = self.stepping(job, STEPS - self.draw.randrange(1, 200))
        target = self.target()
        self.kill(target, "before the end", self.victim(target, job))

    def at_a_pause(self):
        job = self.running()
        if not self.carried_out("pause", job):
            return
        target = self.target()
        self.kill(target, "at a pause", self.victim(target, job))

    def carried_out(self, command, job):
        """Whether a job did not end before it could be paused or resumed."""
        process = self.server.client.start(command, job["id"])
        _, errors = process.communicate(timeout=programs.TIMEOUT_SECONDS)
        assert process.returncode == 0 or "SUCCEEDED" in errors, errors
        return process.returncode == 0

    def resume_all(self):
        for job in self.unfinished():
            if job["state"] == "PAUSED" and self.carried_out("resume", job):
                if self.draw.random() < 0.3:
                    self.kill(self.target(), "at a resumption")

    def as_a_worker_starts(self):
        """The next worker dies as soon as it is there, too."""
        pid = self.pid_of(self.running())
        old = set(self.pids())
        if pid not in old:
            return  # a worker of the server before
        self.kill("worker", "in a step", pid)
        new = programs.wait_until(lambda: set(self.pids()) - old, "another worker starts")
        self.kill("worker", "as a worker starts", min(new))

    def as_the_server_starts(self):
        running = self.begun()
        self.strike("server", "in a step", running)
        self.server.address_file.unlink(missing_ok=True)
        self.server.launch()
        self.instant(0.4)
        self.strike("server", "as the server starts", [])
        self.start_server()

    def stopped_for_a_while(self):
        pid = self.pid_of(self.running())
        if pid not in self.pids():
            return
        os.kill(pid, signal.SIGSTOP)
        self.instant(0.5)
        os.kill(pid, signal.SIGCONT)

    def back_too_late(self):
        """A stopped worker wakes up when its job has long been given to another one."""
        job = self.running()
        pid = self.pid_of(job)
        if pid not in self.pids():
            return
        os.kill(pid, signal.SIGSTOP)
        self.kill("server", "its worker stopped")

        def given_away():
            now = self.server.client.job(job["id"])
            return now["attempt"] > job["attempt"] or now["state"] == "SUCCEEDED"

        programs.wait_until(given_away, f"{job['id']} has another worker")
        os.kill(pid, signal.SIGCONT)

    # The end.

    def run(self, kills):
        """Kills so often, lets all jobs end, and returns their events."""
        self.start_server()
        add_data(self.server.client, self.directory)
        self.top_up_hands()
        while len(self.kills) < kills:
            self.disturb()
        programs.wait_until(lambda: not self.unfinished(), "all jobs end", 600)
        return {job_id: self.server.client.events(job_id) for job_id in self.kinds}

    def table(self, events):
        """What became of each kill; `events`: of all jobs, by id."""
        next_attempts = {}
        rows = []
        for kill in reversed(self.kills):
            rows[:0] = kill.rows(next_attempts, events)
            next_attempts.update({job["id"]: job["attempt"] for job in kill.jobs})
        return rows

    def stop(self):
        for hand in self.hands:
            hand.kill()
            hand.communicate()


def newest_checkpoint(job):
    """The step and digest of the newest that is kept; None without one."""
    return [(saved["step"], saved["blob"]["sha256"]) for saved in job.get("checkpoints", [])][:1]
