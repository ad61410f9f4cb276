"""Debian's Chromium, driven by Playwright, on the dashboard of a real server."""

import os
import pathlib

import data
import pytest
from playwright.sync_api import sync_playwright

SCREENSHOTS = pathlib.Path(__file__).resolve().parents[2] / "build" / "screenshots"
# Nothing of the browser's own goes out; the sandbox needs what containers do not have.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def chromium():
    program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Pages that fail their test for what they log as an error or ask of another server."""
    contexts = []
    complaints = []

    def make(server, path="", **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.complaints = complaints
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: m.type == "error" and "Failed to load" not in m.text
                and complaints.append(m.text))

        def asked(request):
            if not request.url.startswith((server.http_url, "blob:", "data:")):
                complaints.append(f"asked {request.url}")

        page.on("request", asked)
        page.goto(server.http_url + path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def training(client, tmp_path):
    """A client whose server trains a job, "live", that does not end by itself."""
    client.submit(data.long_job(), tmp_path, "--id", "live")
    client.wait_for_state("live", "RUNNING")
    return client
