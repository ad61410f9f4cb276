"""What every test of the real programs starts from."""

import pathlib

import data
import programs
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--build", default="build/tests", help="the build whose programs are tested")
    parser.addoption("--against", help="a second build, whose results have to be the same")


def _bin_directory(build):
    directory = REPOSITORY / build / "bin"
    assert (directory / "lockstepd").exists(), f"no programs in {directory}: build them first"
    return directory


@pytest.fixture(scope="session")
def bin_directory(pytestconfig):
    return _bin_directory(pytestconfig.getoption("build"))


@pytest.fixture(scope="session")
def other_bin_directory(pytestconfig):
    return _bin_directory(pytestconfig.getoption("against"))


@pytest.fixture
def make_server(bin_directory, tmp_path):
    """Server objects, not yet started; whatever still runs at the test's end is killed."""
    servers = []

    def make(*options, directory="server", programs_from=bin_directory, **keywords):
        server = programs.Server(programs_from, tmp_path / directory, *options, **keywords)
        servers.append(server)
        return server

    yield make
    for server in servers:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@pytest.fixture
def server(make_server):
    return make_server("--threads", "2").start()


@pytest.fixture
def client(server, tmp_path):
    """Talks to a server that holds the data set "blobs": 250 samples, 8 features, 4 classes."""
    server.client.add_npz("blobs", data.blobs(250), tmp_path)
    return server.client
