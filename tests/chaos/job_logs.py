"""What a job's event log has to be, whatever happened to the job."""

import contextlib
import copy
import re
import sqlite3

ENDS = ("SUCCEEDED", "FAILED", "CANCELLED")
# From a state to the next, as server/README.md and job.proto tell it; None: before the first.
MOVES = {
    None: ("QUEUED",),
    "QUEUED": ("RUNNING", "PAUSED", *ENDS),
    "RUNNING": ("QUEUED", "PAUSED", *ENDS),
    "PAUSED": ("QUEUED", *ENDS),
}


def promised(events):
    """What every run of a job says, in order, without what is about time."""
    said = []
    for event in events:
        for kind in ("step", "epoch", "weights", "batch_norm", "text"):
            record = copy.deepcopy(event.get(kind))
            if record is None or (kind == "text" and int(record.get("step", 0)) == 0):
                continue
            record.pop("timing", None)
            said.append((kind, record))
    return said


def check_log(job, events, undisturbed):
    """`events` are all of a job that has ended, `undisturbed` those of the same job left alone."""
    sequences = [int(event["sequence"]) for event in events]
    assert sequences == list(range(1, len(events) + 1)), f"{job['id']}: holes in the sequence"
    attempts = [event.get("attempt", 0) for event in events]
    assert attempts == sorted(attempts), f"{job['id']}: attempts go back"
    assert attempts[-1] == job["attempt"]
    check_states(job, events)
    check_promised(job, promised(events), promised(undisturbed))
    check_checkpoints(job, events, undisturbed)


def check_states(job, events):
    state = None
    for event in events:
        assert state not in ENDS, f"{job['id']}: event {event['sequence']} after the end"
        if "state" not in event:
            continue
        following = event["state"]["state"]
        assert following in MOVES[state], (
            f"{job['id']}: event {event['sequence']}: {following} after {state}")
        state = following
    assert state == job["state"]


def check_promised(job, said, wanted):
    for number, (one, other) in enumerate(zip(said, wanted, strict=False)):
        assert one == other, f"{job['id']}: record {number} is not the undisturbed run's"
    assert len(said) == len(wanted), f"{job['id']}: {len(said)} records, undisturbed {len(wanted)}"
    steps = [int(record["step"]) for kind, record in said if kind == "step"]
    assert steps == sorted(set(steps)), f"{job['id']}: a step is logged twice"


def check_checkpoints(job, events, undisturbed):
    """A checkpoint counts only when all that was said up to its step is in the log."""
    steps = [int(record["step"]) for kind, record in promised(undisturbed) if kind == "step"]
    logged = 0
    for event in events:
        if "step" in event:
            logged = int(event["step"]["step"])
        if "checkpoint" not in event:
            continue
        saved = int(event["checkpoint"]["step"])
        due = max((step for step in steps if step <= saved), default=0)
        assert logged >= due, (
            f"{job['id']}: event {event['sequence']}: a checkpoint of step {saved}, "
            f"but the log's newest record is of step {logged}")


def after_attempt(events, attempt):
    """What became of a job after something happened to it in an attempt, in a few words."""
    for event in events:
        text = event.get("text", {}).get("text", "")
        found = re.match(rf"attempt {attempt} ended after .* the job goes on from step (\d+)", text)
        if found:
            return f"attempt {attempt + 1} went on from step {found[1]}"
    if any(event.get("attempt", 0) > attempt for event in events):
        return f"attempt {attempt + 1} went on"
    return f"still attempt {attempt}"


def check_database(data_directory):
    """Of a server that does not run."""
    with contextlib.closing(sqlite3.connect(data_directory / "lockstep.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
