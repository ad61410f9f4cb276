"""deploy/Dockerfile: the image is small, holds no shell, runs without rights, and trains.

Starts a Docker daemon of its own (as root), below build/docker/, and builds the base image from
Debian's packages, so that nothing has to be pulled.
"""

import json
import os
import pathlib
import shutil
import subprocess

import data
import programs
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = REPOSITORY / "build" / "docker"
BASE = DIRECTORY / "bookworm-slim.tar"
MAX_IMAGE_BYTES = 40_000_000


class Docker:
    def __init__(self, directory):
        self.directory = directory
        self.socket = directory / "docker.sock"
        with (directory / "dockerd.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--host", f"unix://{self.socket}", "--data-root", directory / "data",
                 "--exec-root", directory / "exec", "--pidfile", directory / "pid"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def __call__(self, *arguments, **options):
        environment = {
            **os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}
        # Debian's own client, which has BuildKit without a plugin.
        process = subprocess.run(
            ["/usr/bin/docker", *map(str, arguments)], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, **options)
        assert process.returncode == 0, f"docker {arguments}:\n{process.stdout[-8000:]}"
        return process.stdout.strip()

    def is_up(self):
        assert self.process.poll() is None, (self.directory / "dockerd.log").read_text()[-8000:]
        return self.socket.exists()

    def stop(self):
        self.process.terminate()
        self.process.wait(programs.TIMEOUT_SECONDS)


def make_base_image():
    """Debian 12 without documentation, as `debian:bookworm-slim` is; kept for the next run."""
    mirror = next(
        line.split()[1]
        for line in pathlib.Path("/etc/apt/sources.list.d/debian.sources").read_text().splitlines()
        if line.startswith("URIs:"))
    root = DIRECTORY / "rootfs"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root, mirror],
                   check=True, stdout=subprocess.DEVNULL)
    left_out = ["usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*",
                "var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*",
                "dev/*", "proc/*", "sys/*"]
    partial = BASE.with_suffix(".partial")
    subprocess.run(["tar", "-C", root, "-c", "-f", partial,
                    *(f"--exclude=./{name}" for name in left_out), "."], check=True)
    partial.rename(BASE)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def docker():
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    if not BASE.exists():
        make_base_image()
    run_directory = DIRECTORY / "run"
    shutil.rmtree(run_directory, ignore_errors=True)
    run_directory.mkdir()
    daemon = Docker(run_directory)
    try:
        programs.wait_until(daemon.is_up, "dockerd answers")
        daemon("import", "--change", 'CMD ["bash"]', BASE, "debian:bookworm-slim")
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(run_directory)


@pytest.fixture(scope="module")
def image(docker):
    docker("build", "--file", REPOSITORY / "deploy" / "Dockerfile", "--tag", "lockstep", REPOSITORY)
    return "lockstep"


@pytest.fixture
def container(docker, image, bin_directory, tmp_path):
    """A running server as an operator would start it; yields (container id, client)."""
    token = tmp_path / "token"
    token.write_text("a token of this test\n")
    token.chmod(0o644)  # the container's user is another one
    container_id = docker(
        "run", "--detach", "--read-only", "--cap-drop", "ALL", "--publish", "127.0.0.1::8001",
        "--volume", f"{token}:/run/secrets/lockstep-token:ro", image)
    try:
        address = docker("port", container_id, "8001/tcp")
        yield container_id, programs.Client(bin_directory / "lockstep", address, token)
    finally:
        docker("rm", "--force", "--volumes", container_id)


def inspect(docker, what):
    return json.loads(docker("inspect", what))[0]


def test_image_is_small(docker, image):
    assert inspect(docker, image)["Size"] <= MAX_IMAGE_BYTES


def test_image_holds_the_programs_and_their_libraries_only(docker, image, tmp_path):
    container_id = docker("create", image)
    docker("export", "--output", tmp_path / "image.tar", container_id)
    docker("rm", container_id)
    listing = subprocess.run(["tar", "-t", "-f", tmp_path / "image.tar"], check=True,
                             stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert [name for name in listing if name.startswith(("bin/", "usr/bin/")) and name[-1] != "/"] \
        == ["bin/lockstep", "bin/lockstepd"]
    assert inspect(docker, image)["Config"]["User"] == "10001:10001"


def test_a_job_from_the_host_trains_to_the_same_bits_as_on_the_host(
        docker, container, make_server, tmp_path):
    container_id, client = container
    programs.wait_until(lambda: client.start("jobs").wait(programs.TIMEOUT_SECONDS) == 0,
                        "the container's server answers")
    client.add_npz("blobs", data.blobs(250), tmp_path)
    in_container = client.train(data.job(), tmp_path)

    server = make_server().start()
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    on_host = server.client.train(data.job(), tmp_path)
    assert in_container["state_hash"] == on_host["state_hash"]

    docker("stop", container_id)
    assert inspect(docker, container_id)["State"]["ExitCode"] == 0


def test_without_a_token_it_refuses_to_start(docker, image):
    container_id = docker("run", "--detach", "--read-only", "--cap-drop", "ALL", image)
    try:
        assert docker("wait", container_id) == "2"
        assert "token" in docker("logs", container_id)
    finally:
        docker("rm", "--force", "--volumes", container_id)
