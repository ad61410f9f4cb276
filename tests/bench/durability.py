"""What it costs that nothing is lost: watchers, checkpoints, a long queue, a killed server.

Every measure is a generator of results (see report.compare), by pairs that take turns within the
lifetime of the same processes. `options` are bench.py's: `pairs`, and how many jobs are `queued`
and `finished` where that matters.
"""

import contextlib
import functools
import itertools
import pathlib
import statistics
import tempfile
import time

from api import INFERENCE, JOBS, SMALLEST_WINDOW, Api, Protocol
from processes import use_cpus
from report import alternate, at_most
from service import TrainingService, programs

import data  # beside programs, whose folder service.py has put on the path

NETWORK = "cnn"  # ex. 2 in the words
WINDOW_SECONDS = 3
WARM_UP_STEPS = 10  # the first record of a job
FOR_EVER = 10**9
STALLED_WATCHERS = 100
STALLED_AFTER_EVENTS = 1000  # more of them than any window holds
SUBMISSIONS = 20  # of one turn
RECOVERY_SECONDS = 2
POLL_SECONDS = 0.001


def cpu_seconds(pid):
    """CPU time of a process, all threads, to the nanosecond; /proc/PID/stat has 10 ms."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9  # clock_getcpuclockid(3)


def anonymous_bytes(pid):
    return int(programs.process_status(pid)["RssAnon"].split()[0]) * 1024


class Training:
    """A job that runs; figures per step over a window of time."""

    def __init__(self, api, job, worker):
        self.api, self.job, self.worker = api, job, worker

    def step(self):
        job = self.api.call("GetJob", id=self.job)
        assert not job.HasField("end_time"), f"{job.id} has ended: {job.state_reason}"
        return job.progress.step

    def sample(self):
        """(step, CPU time, wall time), just after a step."""
        before = self.step()
        while (step := self.step()) == before:
            time.sleep(POLL_SECONDS)
        return step, cpu_seconds(self.worker), time.perf_counter()

    def window(self):
        """CPU and wall seconds of a step."""
        step, cpu, wall = self.sample()
        time.sleep(WINDOW_SECONDS)
        next_step, next_cpu, next_wall = self.sample()
        steps = next_step - step
        return {"cpu": (next_cpu - cpu) / steps, "wall": (next_wall - wall) / steps}


@contextlib.contextmanager
def stalled_watchers(address, protocol, job):
    """Connections that watch the job from its first event on and never read."""
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(STALLED_WATCHERS):
            api = stack.enter_context(Api(address, protocol, SMALLEST_WINDOW))
            streams.append(api.watch(job))
        for stream in streams:
            stream.initial_metadata()  # the server has sent what it may
        yield
        assert all(stream.is_active() for stream in streams), "a watcher was cut off"
        assert next(streams[0]).sequence == 1, "a watcher has lost events"
        for stream in streams:
            stream.cancel()


def watchers(options):
    """CPU time of a step, with every step an event, and watchers that do not read them."""
    use_cpus(2)
    with TrainingService(options.program.parent, threads=1) as service:
        server = service.server
        address = service.client.address
        job = service.submit(NETWORK, 32, "--checkpoint-steps", FOR_EVER, epochs=FOR_EVER // 10**4,
                             log_every=1)
        (worker,) = programs.wait_until(server.workers, "a worker runs")
        with Api(address) as api:
            training = Training(api, job, worker)
            programs.wait_until(lambda: training.step() > STALLED_AFTER_EVENTS, "events to watch")
            memory_before = anonymous_bytes(server.process.pid)

            def measure(watched):
                with (stalled_watchers(address, api.protocol, job) if watched
                      else contextlib.nullcontext()):
                    return {**training.window(), "memory": anonymous_bytes(server.process.pid)}

            with_, without = f"{STALLED_WATCHERS} stalled watchers", "none"
            turns = alternate({with_: functools.partial(measure, True),
                               without: functools.partial(measure, False)}, options.pairs)
    for case, figure, limit in [("step's CPU time", "cpu", 1.02), ("step time", "wall", None)]:
        figures = {side: [turn[figure] for turn in turns[side]] for side in [with_, without]}
        yield at_most(limit, f"{case}, {with_}", "s", figures, with_, without)
    # What the first of them took stays with the process.
    figures = {with_: [turn["memory"] for turn in turns[with_]],
               "before the first": [memory_before] * options.pairs}
    yield at_most(None, f"server's memory, {with_}", "bytes", figures, with_, "before the first")


def steps_of(events):
    """(seconds of a step, checkpoints) of an ended job, by its event log."""
    records = [event for event in events if event.HasField("step")]
    first, last = records[0], records[-1]
    seconds = (last.time.ToNanoseconds() - first.time.ToNanoseconds()) / 1e9
    checkpoints = [event.checkpoint for event in events if event.HasField("checkpoint")]
    return seconds / (last.step.step - first.step.step), checkpoints


def checkpoints(options):
    """Step time of ex. 2 with a checkpoint a second, and what one costs."""
    use_cpus(2)
    with TrainingService(options.program.parent, threads=2) as service, \
            Api(service.client.address) as api:
        def train(steps, *policy):
            job = service.submit(NETWORK, 128, *policy, epochs=FOR_EVER // 10**4, max_steps=steps)
            return steps_of(list(api.watch(job)))

        never = ["--checkpoint-steps", FOR_EVER]
        a_step, _ = train(10 * WARM_UP_STEPS, *never)
        # To the next record, and a second for the first checkpoint to come.
        steps = WARM_UP_STEPS * (1 + round((WINDOW_SECONDS + 1) / a_step / WARM_UP_STEPS))
        with_, without = "a checkpoint a second", "none"
        turns = alternate({with_: lambda: train(steps, "--checkpoint-seconds", 1),
                           without: lambda: train(steps, *never)}, options.pairs)
    assert not any(saved for _, saved in turns[without]), "checkpoints that nobody asked for"
    assert all(saved for _, saved in turns[with_]), "no checkpoints"
    saved = list(itertools.chain.from_iterable(some for _, some in turns[with_]))
    sizes = {"size_bytes": saved[0].size_bytes, "checkpoints": len(saved)}
    figures = {side: [seconds for seconds, _ in turns[side]] for side in [with_, without]}
    yield at_most(1.05, f"step of {NETWORK}, {with_}", "s", figures, with_, without, **sizes)

    def cost(case, figure, of, whole):
        turns_of = [[getattr(checkpoint, figure) / 1000 for checkpoint in some]
                    for _, some in turns[with_]]
        figures = {"ours": [statistics.median(turn) for turn in turns_of], of: whole}
        return at_most(None, case, "s", figures, "ours", of, **sizes,
                       longest=max(itertools.chain.from_iterable(turns_of)))

    yield cost("training stops for a checkpoint", "stall_ms", "a step",
               [seconds for seconds, _ in turns[without]])
    yield cost("until the server has a checkpoint", "save_ms", "the second between two",
               [1] * options.pairs)


@contextlib.contextmanager
def small_server(options, *arguments):
    """A server with a small data set; nothing of it is on a disk afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        server = programs.Server(options.program.parent, pathlib.Path(directory) / "server",
                                 *arguments).start()
        try:
            server.client.add_npz("blobs", data.blobs(64), directory)
            yield server
        finally:
            server.stop()


def tiny_job(job):
    """A request for one step, which publishes a model of the job's name."""
    spec = data.job(epochs=1, max_steps=1)
    del spec["publish_as"]
    return {"id": job, "spec": spec}


def submissions(options):
    """Latency of SubmitJob into an empty queue and a long one: two servers without workers."""
    use_cpus(2)
    alone = ["--local-workers", "0"]
    with small_server(options, *alone) as empty, small_server(options, *alone) as full, \
            Api(empty.client.address) as to_empty, Api(full.client.address) as to_full:
        numbers = itertools.count()

        def request(api):
            return api.protocol.request(JOBS, "SubmitJob", tiny_job(f"job-{next(numbers):06}"))

        submit = to_full.prepare("SubmitJob")
        for _ in range(options.queued):
            submit(request(to_full))

        def latency(api, empties):
            submit, times = api.prepare("SubmitJob"), []
            for _ in range(SUBMISSIONS):
                job = request(api)
                began = time.perf_counter()
                submit(job)
                times.append(time.perf_counter() - began)
                if empties:
                    api.call("CancelJob", id=job.id)
                    api.call("DeleteJob", id=job.id)
            return statistics.median(times)

        with_, without = f"{options.queued:,} queued jobs", "empty queue"
        figures = alternate({with_: lambda: latency(to_full, False),
                             without: lambda: latency(to_empty, True)}, options.pairs)
    yield at_most(2, f"submission, {with_}", "s", figures, with_, without)


def succeed(api, jobs):
    """Waits for jobs that run in this order."""
    for _ in api.watch(jobs[-1]):
        pass
    for name in jobs:
        job = api.call("GetJob", id=name)
        assert job.HasField("published"), f"{name} has not succeeded: {job.state_reason}"


def recovery(options):
    """Seconds from the start of a server whose predecessor was killed to what it answers.

    Every finished run has published a model of its own; the last one to be loaded is asked. One
    more job is under way at each kill.
    """
    use_cpus(2)
    with small_server(options, "--threads", "1") as server:
        protocol = Protocol(server.client.address)
        names = [f"run-{number:06}" for number in range(options.finished + options.pairs)]
        with Api(server.client.address, protocol) as api:
            for name in names[:options.finished]:
                api.call("SubmitJob", **tiny_job(name))
            succeed(api, names[:options.finished])
        asked = names[options.finished - 1]
        question = {"model_name": asked,
                    "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 8],
                                "contents": {"fp32_contents": [0.5] * 8}}]}
        runs, answers = iter(names[options.finished:]), set()

        def recover():
            with Api(server.client.address, protocol) as api:
                api.call("SubmitJob", **tiny_job(next(runs)))
            server.kill()
            server.address_file.unlink()
            began = time.perf_counter()
            server.launch()
            while not server.address_file.exists():
                assert server.process.poll() is None, server.log.read_text()
                time.sleep(POLL_SECONDS)
            listening = time.perf_counter() - began
            with Api(server.client.address, protocol) as api:
                jobs = api.call("ListJobs", page_size=20).jobs
                listed = time.perf_counter() - began
                answer = api.call("ModelInfer", INFERENCE, **question)
                answered = time.perf_counter() - began
            assert len(jobs) == min(20, options.finished + 1)
            answers.add(tuple(answer.outputs[0].contents.fp32_contents))
            return {"listening": listening, "listed": listed, "answered": answered}

        turns = [recover() for _ in range(options.pairs)]
        assert len(answers) == 1, "a restart changed a model's answer"
        with Api(server.client.address, protocol) as api:
            succeed(api, names[options.finished:])
    allowed = f"the {RECOVERY_SECONDS} s allowed"
    for figure, what in [("listed", "jobs listed"), ("answered", "models answer")]:
        figures = {"ours": [turn[figure] for turn in turns],
                   allowed: [RECOVERY_SECONDS] * options.pairs}
        yield at_most(1, f"restart, {options.finished:,} runs: {what}", "s", figures, "ours",
                      allowed, listening=statistics.median(turn["listening"] for turn in turns))


DURABILITY = [watchers, checkpoints, submissions, recovery]
