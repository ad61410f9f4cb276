"""What it costs to be watched, and how soon there is something to see.

Generators of results as in durability.py; `options` are bench.py's: `pairs`, how many `watchers`,
and how many runs the dashboard compares.
"""

import contextlib
import functools
import json
import pathlib
import tempfile
import urllib.request

from api import Api
from durability import NETWORK, FOR_EVER, Training, anonymous_bytes
from processes import use_cpus
from report import alternate, at_most
from service import TrainingService, programs
from sse_watchers import watchers

import data

RUN_STEPS = 100_000  # with a point each
LAG_SECONDS = 2
MEMORY_BYTES = 100_000
INTERACTIVE_SECONDS = 2
FRAME_SECONDS = 0.050
CHROMIUM = "/usr/bin/chromium"


def sse(options):
    """CPU time of a step, with every step an event, and watchers that read them all."""
    use_cpus(2)
    with TrainingService(options.program.parent, threads=1) as service:
        server = service.server
        http = server.http_url.removeprefix("http://")
        job = service.submit(NETWORK, 32, "--checkpoint-steps", FOR_EVER, epochs=FOR_EVER // 10**4,
                             log_every=1)
        (worker,) = programs.wait_until(server.workers, "a worker runs")
        with Api(service.client.address) as api:
            training = Training(api, job, worker)
            programs.wait_until(lambda: training.step() > 100, "the job runs")

            def measure(count):
                url = f"{server.http_url}/api/jobs/{job}/series?points=1&names=loss"
                with urllib.request.urlopen(url) as answer:
                    known = json.load(answer)["last_sequence"]
                before = anonymous_bytes(server.process.pid)
                figures = {"lag": 0.0}
                path = f"/api/jobs/{job}/events?from={known + 1}"
                with (watchers(http, path, count, figures) if count
                      else contextlib.nullcontext()):
                    figures |= training.window()
                    grown = anonymous_bytes(server.process.pid) - before
                return {**figures, "memory": grown / max(count, 1)}

            with_, without = f"{options.watchers:,} SSE watchers", "none"
            turns = alternate({with_: functools.partial(measure, options.watchers),
                               without: functools.partial(measure, 0)}, options.pairs)
    for case, figure, limit in [("step's CPU time", "cpu", 1.02), ("step time", "wall", None)]:
        figures = {side: [turn[figure] for turn in turns[side]] for side in [with_, without]}
        yield at_most(limit, f"{case}, {with_}", "s", figures, with_, without)
    # The first turn's: what it took stays with the process.
    for case, figure, allowed, unit in [
            ("most that one is behind", [turn["lag"] for turn in turns[with_]], LAG_SECONDS, "s"),
            ("server's memory for each", [turns[with_][0]["memory"]], MEMORY_BYTES, "bytes")]:
        limit = f"the {allowed:,} {unit} allowed"
        yield at_most(1, f"{case}, {with_}", unit,
                      {"ours": figure, limit: [allowed] * len(figure)}, "ours", limit)


# Runs in the page: resolves when every run's curve is drawn and the page answers again.
COMPARED = """count => new Promise(done => {
  const look = () => {
    const drawn = document.querySelector('figure.chart canvas') &&
      document.querySelectorAll('figure.chart ul.legend')[0].children.length === count;
    if (drawn) requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    else requestAnimationFrame(look);
  };
  look();
})"""
# Pans by key, a step a frame; the longest that a frame took.
PAN = """async () => {
  const plot = document.querySelector('figure.chart .plot');
  const press = key => plot.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const frame = () => new Promise(requestAnimationFrame);
  press('+'); press('+');
  await frame(); await frame();
  const times = [];
  for (let i = 0; i < 60; ++i) {
    const began = performance.now();
    press(i % 20 < 10 ? 'ArrowRight' : 'ArrowLeft');
    await frame();
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length * 0.95)];
}"""


def dashboard(options):
    """Seconds until many long runs are compared, from a server that was just started."""
    from playwright.sync_api import sync_playwright

    use_cpus(2)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        server = programs.Server(options.program.parent, pathlib.Path(directory) / "server",
                                 "--threads", "1").start()
        server.client.add_npz("blobs", data.blobs(64), directory)
        names = [f"run-{number:02}" for number in range(options.compared)]
        for seed, name in enumerate(names):
            spec = data.job(epochs=RUN_STEPS // 2, log_every=1, seed=seed)
            server.client.submit(spec, directory, "--id", name)
        programs.wait_until(lambda: server.client.job(names[-1])["state"] == "SUCCEEDED",
                            "all runs have ended", timeout_seconds=3600)
        turns = []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(options.pairs):
            server.stop()
            server.start()
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(120_000)
            page.goto(f"{server.http_url}/#/compare?jobs={','.join(names)}")
            interactive = page.evaluate(COMPARED, options.compared) / 1e3
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')"
                                  "[0].startTime") / 1e3
            turns.append({"interactive": interactive, "paint": paint,
                          "frame": page.evaluate(PAN) / 1e3})
            page.close()
        browser.close()
        server.stop()
    what = f"{options.compared} runs of {RUN_STEPS:,} points"
    for case, figure, allowed in [("first paint", "paint", 1),
                                  ("time to interactive", "interactive", INTERACTIVE_SECONDS),
                                  ("a frame while panning (95 %)", "frame", FRAME_SECONDS)]:
        limit = f"the {allowed} s allowed"
        yield at_most(1, f"{case}, {what}", "s",
                      {"ours": [turn[figure] for turn in turns],
                       limit: [allowed] * len(turns)}, "ours", limit)


WATCHING = [sse, dashboard]
