"""What Prometheus gets from a server, and what deploy/ makes of it."""

import json
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import data
import programs
import pytest

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"

# Series that Prometheus itself adds, and what histograms add to their name.
PROMETHEUS_OWN = {"up", "ALERTS"}
METRIC = re.compile(r"\b(?:lockstep|process)_[a-z_]+")


def promtool(*arguments, **options):
    """Its standard output; it has to find nothing wrong."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool: deploy/install test")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=programs.TIMEOUT_SECONDS, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def scrape(server, token=None):
    address = (server.data_directory / "http_address").read_text().strip()
    request = urllib.request.Request(f"http://{address}/metrics")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=programs.TIMEOUT_SECONDS) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return response.read().decode()


def figures(text):
    """The value of every series."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in lines}


def expressions(dashboard):
    """Every query of a Grafana dashboard."""
    queries = [a["expr"] for a in dashboard["annotations"]["list"]]
    queries += [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    for panel in dashboard["panels"]:
        queries += [target["expr"] for target in panel.get("targets", [])]
    return queries


@pytest.fixture
def busy_server(make_server, tmp_path):
    """A server on which a job has been trained and its model asked, with its figures."""
    server = make_server("--threads", "1", "--http", "127.0.0.1:0").start()
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    server.client.train(data.job(), tmp_path)
    server.client.run("evaluate", "mlp", "--dataset", "blobs")
    return server


def test_a_job_and_its_predictions_can_be_seen(busy_server):
    got = figures(scrape(busy_server))
    assert got['lockstep_jobs{state="succeeded"}'] == 1
    assert got['lockstep_jobs{state="running"}'] == 0
    assert got["lockstep_steps_total"] == 2 * 8  # epochs, steps of one: 250 samples by 32
    assert got["lockstep_samples_total"] == 2 * 8 * 32
    assert got["lockstep_queue_seconds_count"] == 1
    assert got['lockstep_workers{state="idle"}'] == 1
    assert got['lockstep_rpcs_total{code="OK",method="JobService.SubmitJob"}'] == 1
    assert got["lockstep_inference_batch_size_sum"] == 250
    assert got['lockstep_inference_requests_total{code="OK",model="mlp"}'] >= 1
    assert got["process_resident_memory_bytes"] > 1 << 20


def test_the_text_is_as_prometheus_wants_it(busy_server):
    promtool("check", "metrics", input=scrape(busy_server))


def test_the_dashboard_and_the_alerts_name_only_what_there_is(busy_server):
    there = {re.split(r"[{ ]", series)[0] for series in figures(scrape(busy_server))}
    dashboard = json.loads((DEPLOY / "grafana" / "lockstep.json").read_text())
    named = {name for query in expressions(dashboard) for name in METRIC.findall(query)}
    assert len(named) > 20
    assert named - there == set()
    rules = [line for line in ALERTS.read_text().splitlines() if "description" not in line]
    named = {name for rule in rules for name in METRIC.findall(rule)}
    assert len(named) > 5
    assert named - there == set()


def test_the_readme_lists_every_metric(busy_server):
    readme = (DEPLOY.parent / "server" / "telemetry" / "README.md").read_text()
    help_lines = re.findall(r"^# HELP (\S+)", scrape(busy_server), re.MULTILINE)
    assert set(help_lines) == set(re.findall(r"^\| `([a-z_]+)", readme, re.MULTILINE))


def test_with_a_token_the_figures_are_not_for_everybody(make_server, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("a-token-of-some-length\n")
    server = make_server("--http", "127.0.0.1:0", token_file=token_file).start()
    with pytest.raises(urllib.error.HTTPError) as refused:
        scrape(server)
    assert refused.value.code == 401
    assert "lockstep_jobs" in scrape(server, "a-token-of-some-length")


def test_each_alert_fires_when_it_should_and_only_then():
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", pathlib.Path(__file__).parent / "alerts_test.yml")


def test_prometheus_takes_its_configuration(tmp_path):
    shutil.copy(ALERTS, tmp_path)
    token = tmp_path / "token"
    token.touch()
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert "/run/secrets/lockstep-token" in text
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/run/secrets/lockstep-token", str(token)))
    promtool("check", "config", config)


def test_every_query_of_the_dashboard_can_be_parsed(tmp_path):
    dashboard = json.loads((DEPLOY / "grafana" / "lockstep.json").read_text())
    queries = [q.replace("$__rate_interval", "1m").replace("$instance", ".*")
               for q in expressions(dashboard) if not q.startswith("label_values")]
    rules = [{"record": f"r{i}", "expr": query} for i, query in enumerate(queries)]
    file = tmp_path / "queries.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", file)
