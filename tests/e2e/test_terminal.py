"""What a watch ends with on a real terminal: as wide as it is, in letters that it has."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import data
import pytest

MARGIN = 3  # columns that the command leaves free
METRICS = ["loss", "val_loss", "accuracy", "val_accuracy"]


def on_terminal(client, columns, locale, *arguments):
    """All that the command writes to a terminal of so many columns, line by line, without colours."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [client.program, "--server", client.address, *arguments],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env=dict(os.environ, LC_ALL=locale, TERM="xterm"))
    os.close(terminal)
    written = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            written += chunk
    except OSError:  # what Linux says of a terminal that nobody has open any more
        pass
    os.close(controller)
    assert process.wait() == 0, written
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    return [line.rsplit("\x1b[2K", 1)[-1] for line in text.split("\r\n")]


def table(lines):
    """{metric: its line} of the curves."""
    rows = [line for line in lines if line.startswith("  ") and line.split()[0] in METRICS]
    return {line.split()[0]: line for line in rows}


@pytest.fixture
def trained(client, tmp_path):
    spec = data.job(epochs=20, log_every=2)
    spec["data"]["validation"] = {"dataset": "blobs"}
    return client.train(spec, tmp_path, "--id", "curves")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_curves_fit_the_terminal_and_end_with_the_last_epochs_values(client, trained, columns):
    epochs = [event["epoch"] for event in client.events("curves") if "epoch" in event]
    final = {metric["name"]: metric["value"] for metric in epochs[-1]["metrics"]}
    rows = table(on_terminal(client, columns, "C.UTF-8", "watch", "curves"))
    assert list(rows) == METRICS
    assert all(len(line) <= columns - MARGIN for line in rows.values()), rows
    for name, line in rows.items():
        _, curve, value = line.split()[:3]
        assert set(curve) <= set("▁▂▃▄▅▆▇█")
        assert 8 <= len(curve) <= 60
        assert value == f"{final[name]:.4f}"
        assert (curve[0] > curve[-1]) == ("loss" in name), "losses fall, accuracies grow"


def test_where_the_locale_has_no_blocks_and_where_there_is_no_terminal_it_is_plain(client, trained):
    rows = table(on_terminal(client, 80, "C", "watch", "curves"))
    assert list(rows) == METRICS
    assert all(line.isascii() for line in rows.values())
    rows = table(client.run("watch", "curves").splitlines())
    assert list(rows) == METRICS
    assert "\x1b" not in "".join(rows.values())
