"""Many watchers of one job over Server-Sent Events, in a process of their own, without a browser."""

import contextlib
import multiprocessing
import re
import resource
import selectors
import socket
import time
from datetime import datetime, timezone

TIME = re.compile(rb'"time":"([^"]+)"')


def lag_seconds(data):
    """How old the newest event of what was received is; None without an event."""
    times = TIME.findall(data)
    if not times:
        return None
    then = datetime.fromisoformat(times[-1][:26].decode().rstrip("Z"))
    return time.time() - then.replace(tzinfo=timezone.utc).timestamp()


def watch(address, path, count, pipe):
    """Connects them all, says so, reads until it is told to stop, says how far any was behind."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    host, port = address.rsplit(":", 1)
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    heard, worst = set(), 0.0
    pipe.send("connected")
    while not pipe.poll():
        for key, _ in selector.select(timeout=0.05):
            data = key.fileobj.recv(1 << 18)
            assert data, "a watcher was cut off"
            lag = lag_seconds(data)
            if lag is not None:
                heard.add(key.fd)
                worst = max(worst, lag)
    pipe.send((len(heard), worst))


@contextlib.contextmanager
def watchers(address, path, count, figures):
    """While the `with` block runs; afterwards figures["lag"] is the most that any was behind."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=watch, args=(address, path, count, theirs), daemon=True)
    process.start()
    assert ours.recv() == "connected"
    yield
    ours.send("stop")
    heard, figures["lag"] = ours.recv()
    process.join()
    assert heard == count, f"{count - heard} of {count} watchers heard nothing"
