"""The dashboard as people use it, from an empty server to a finished job."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import data
import pytest
from playwright.sync_api import expect

SCRIPT = "<img src=x onerror=alert(1)>"


def row(page, job_id):
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=job_id, exact=True))


def chart(page, title):
    return page.locator("figure.chart").filter(has=page.get_by_role("heading", name=title, exact=True))


def test_a_job_from_an_empty_server_to_its_end(server, client, new_page, tmp_path):
    page = new_page(server)
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    client.submit(data.job(epochs=30), tmp_path, "--id", "first")
    expect(row(page, "first")).to_contain_text("succeeded")
    page.get_by_role("link", name="first", exact=True).click()
    expect(chart(page, "loss")).to_be_visible()
    expect(page.get_by_text("epoch 30/30").or_(page.get_by_text("30 / 30"))).to_be_visible()
    shown = float(page.locator("dl.facts div").filter(has_text="loss").locator("dd").inner_text())
    told = {m["name"]: m["value"] for m in client.job("first")["progress"]["metrics"]}
    assert shown == pytest.approx(told["loss"], rel=1e-3)
    page.get_by_role("link", name="mlp:1").click()
    expect(page.get_by_role("heading", name="mlp", exact=True)).to_be_visible()


def test_a_running_job_is_paused_resumed_and_cancelled_after_a_question(
        server, training, new_page):
    page = new_page(server)
    expect(row(page, "live")).to_contain_text("running")
    row(page, "live").get_by_role("button", name="Pause live").click()
    expect(row(page, "live")).to_contain_text("paused")
    row(page, "live").get_by_role("button", name="Resume live").click()
    expect(row(page, "live")).to_contain_text("running")
    row(page, "live").get_by_role("button", name="Cancel live").click()
    page.get_by_role("dialog").get_by_role("button", name="No").click()
    expect(row(page, "live")).to_contain_text("running")
    row(page, "live").get_by_role("button", name="Cancel live").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(row(page, "live")).to_contain_text("cancelled")
    assert training.job("live")["state"] == "CANCELLED"
    page.get_by_role("link", name="live", exact=True).click()
    page.get_by_role("button", name="Delete live").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the job").click()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()


def test_jobs_are_filtered_sorted_and_compared(server, client, new_page, tmp_path):
    for name, seed in (("alpha", 1), ("beta", 2)):
        client.submit(data.job(seed=seed), tmp_path, "--id", name, "--label", f"team={name}")
        client.finish(name)
    page = new_page(server)
    expect(row(page, "beta")).to_be_visible()
    page.get_by_role("searchbox").fill("team=alpha")
    expect(row(page, "beta")).to_have_count(0)
    expect(row(page, "alpha")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Job", exact=True).click()
    links = page.locator("td.name a")
    expect(links).to_have_text(["alpha", "beta"])
    page.get_by_role("button", name=re.compile("^Job")).click()
    expect(links).to_have_text(["beta", "alpha"])
    for name in ("alpha", "beta"):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.get_by_role("link", name="Compare 2").click()
    legend = chart(page, "loss").locator("ul.legend")
    expect(legend).to_contain_text("alpha")
    expect(legend).to_contain_text("beta")


def test_every_control_of_the_curves_keeps_its_state_in_the_address(server, training, new_page):
    page = new_page(server, "/#/jobs/live")
    loss = chart(page, "loss")
    expect(loss).to_be_visible()
    for name, value in (("Relative", "relative"), ("Wall time", "wall")):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(f"x={value}"))
    page.get_by_role("button", name="Step", exact=True).click()
    expect(page).not_to_have_url(re.compile("x="))
    page.get_by_role("slider").fill("0.9")
    expect(page).to_have_url(re.compile("smooth=0.9"))
    page.get_by_role("checkbox", name="Cut outliers").check()
    expect(page).to_have_url(re.compile("clip=1"))
    loss.get_by_role("button", name="log", exact=True).click()
    expect(page).to_have_url(re.compile("log=loss"))
    area = loss.locator(".u-over").bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, middle, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile("from=.*to="))
    page.reload()
    expect(page.get_by_role("button", name="Reset zoom")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_value("0.9")
    loss.locator(".u-over").dblclick()
    expect(page).not_to_have_url(re.compile("from="))
    loss.locator(".plot").press("+")
    expect(page).to_have_url(re.compile("from="))
    from_ = "Number(new URLSearchParams(location.hash.split('?')[1]).get('from'))"
    to = from_.replace("from'", "to'")
    left, right = page.evaluate(f"[{from_}, {to}]")
    for _ in range(3):  # faster than the address follows
        loss.locator(".plot").press("ArrowRight")
    page.wait_for_function(f"want => Math.abs({from_} - want) < 1e-6 * want", arg=left + 3 * 0.2 * (right - left))
    loss.locator(".plot").press("+")
    loss.locator(".plot").press("0")
    expect(page).not_to_have_url(re.compile("from="))
    loss.locator("ul.legend button").first.click()
    expect(loss.locator("ul.legend button").first).to_have_attribute("aria-pressed", "false")
    expect(chart(page, "Step time, ms").locator("ul.legend")).to_contain_text("reduce")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = open(download.value.path(), encoding="utf-8").read().splitlines()
    assert rows[0] == "job,series,step,time,value"
    assert any(line.startswith("live,loss,") for line in rows)


def test_the_parts_of_a_job(server, client, new_page, tmp_path):
    client.submit(data.job(epochs=40), tmp_path, "--id", "whole")
    client.finish("whole")
    page = new_page(server, "/#/jobs/whole")
    page.get_by_role("link", name="BatchNorm").click()
    expect(page.locator(".verdict")).to_contain_text("Inference")
    drift = page.locator("figure.chart", has_text="Drift").first
    drift.locator(".plot").press("+")
    page.get_by_role("button", name="Reset zoom").click()
    expect(page.get_by_role("button", name="Reset zoom")).to_have_count(0)
    expect(page.get_by_role("cell", name="batch_normalization1", exact=True).or_(
        page.get_by_role("region", name="Layers").get_by_role("cell").first)).to_be_visible()
    page.get_by_role("link", name="Weights").click()
    expect(page.locator("figure.histogram").first).to_be_visible()
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_role("list", name="Log")).to_contain_text("epoch 40")
    page.get_by_role("link", name="Spec").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the spec").click()
    assert '"epochs": "40"' in open(download.value.path(), encoding="utf-8").read()


def test_a_model_answers_numbers_and_drawings(server, client, new_page, tmp_path):
    client.train(data.job(), tmp_path)
    client.add_npz("images", data.images(200), tmp_path)
    client.train({
        **data.job(), "publish_as": "pictures", "data": {"train": {"dataset": "images"}},
        "model": {"inputs": [{"shape": [28, 28, 1], "scale": 1 / 255}],
                  "layers": [{"flatten": {}}, {"dense": {"units": 10, "activation": "softmax"}}]},
    }, tmp_path)
    page = new_page(server, "/#/models")
    page.get_by_role("link", name=re.compile("^mlp")).click()
    page.get_by_role("textbox").fill("1 2 3")
    expect(page.get_by_text("3 of 8 numbers")).to_be_visible()
    page.get_by_role("textbox").fill("1 2 3 4 5 6 7 8")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("table", name=re.compile("dense|output|softmax", re.I)).or_(
        page.locator("table.bars"))).to_be_visible()
    expect(page.locator("table.bars tr")).to_have_count(5)  # its head is hidden
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the weights of v1").click()
    assert download.value.suggested_filename == "mlp-1.safetensors"

    page.goto(server.http_url + "/#/models/pictures")
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 45, box["y"] + 170, steps=20)
    page.mouse.up()
    expect(page.locator("table.bars tbody tr")).to_have_count(10)


def test_workers_and_queue(server, training, new_page, tmp_path):
    training.submit(data.job(), tmp_path, "--id", "next")
    page = new_page(server, "/#/workers")
    expect(page.locator(".card")).to_contain_text("live")
    page.get_by_role("link", name="1 job waits").click()
    expect(row(page, "next")).to_be_visible()


def test_the_page_says_that_the_server_is_lost_and_back_and_misses_nothing(
        make_server, new_page, tmp_path):
    server = make_server("--threads", "1", "--http", "127.0.0.1:0").start()
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    spec = data.job(epochs=1_000_000, batch_size=1, log_every=1)
    server.client.submit(spec, tmp_path, "--id", "live")
    page = new_page(server, "/#/jobs/live")
    expect(chart(page, "loss")).to_be_visible()
    address = server.http_url
    server.kill()
    expect(page.get_by_text(re.compile("Lost the server"))).to_be_visible()
    server.options[server.options.index("--http") + 1] = address.removeprefix("http://")
    server.start()
    expect(page.get_by_text("The server is back.")).to_be_visible()
    server.client.wait_for_state("live", "RUNNING")
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_role("list", name="Log")).to_contain_text(
        "the server was restarted", timeout=20_000)
    told = page.get_by_role("list", name="Log").inner_text()
    epochs = [int(number) for number in re.findall(r"epoch (\d+) ", told)]
    assert epochs == list(range(epochs[0], epochs[-1] + 1))


def test_what_clients_write_is_shown_as_text(server, client, new_page, tmp_path):
    client.submit(data.job(), tmp_path, "--id", "odd", "--label", f"note={SCRIPT}")
    page = new_page(server)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    expect(page.get_by_text(f"note={SCRIPT}")).to_be_visible()
    page.get_by_role("link", name="odd", exact=True).click()
    expect(page.get_by_text(f"note={SCRIPT}")).to_be_visible()
    assert page.locator("img[src='x']").count() == 0


def test_a_foreign_page_changes_nothing(server, training, chromium):
    """A page of another origin sends everything a browser lets it send without asking."""
    target = f"{server.http_url}/api/jobs/live/cancel"
    html = f"""<!doctype html><form method="post" action="{target}" enctype="text/plain">
        <input name='{{"a":"' value='"}}'></form><script>
        fetch("{target}", {{method: "POST", mode: "no-cors", body: "{{}}"}})
          .finally(() => fetch("{target}", {{method: "POST",
              headers: {{"Content-Type": "application/json"}}, body: "{{}}"}}))
          .catch(() => 0).finally(() => document.forms[0].submit());</script>"""

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *arguments):
            pass

    foreign = HTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{foreign.server_port}/")
        page.wait_for_url(target)  # the form has been sent
        expect(page.locator("body")).to_contain_text("PERMISSION_DENIED")
        assert training.job("live")["state"] == "RUNNING"
    finally:
        context.close()
        foreign.shutdown()


def test_a_server_with_a_token_asks_for_it_once(make_server, chromium, tmp_path):
    token = tmp_path / "token"
    token.write_text("a long secret\n")
    server = make_server(token_file=token).start()
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(server.http_url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not this server's token")
        page.get_by_label("Token").fill("a long secret")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("No jobs yet.")).to_be_visible()
        page.reload()
        expect(page.get_by_text("No jobs yet.")).to_be_visible()
        (cookie,) = context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        assert "secret" not in cookie["value"]
    finally:
        context.close()
