"""How much is done, and by which seed."""

import random

import pytest

TABLE = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=1, help="of everything that is drawn")
    parser.addoption("--whole", action="store_true",
                     help="everything there is to try, not a slice of it; takes an hour")


@pytest.fixture(scope="session")
def whole(pytestconfig):
    return pytestconfig.getoption("--whole")


@pytest.fixture
def draw(pytestconfig, request):
    """Random numbers, the same for a seed and a test; a failure shows the seed."""
    seed = f"{pytestconfig.getoption('--seed')} {request.node.name}"
    print(f"seed: {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def table(pytestconfig):
    """Lines of kill point and outcome; they end up in build/logs/chaos-kills.txt."""
    lines = pytestconfig.stash[TABLE] = []
    return lines


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(TABLE, [])
    if not lines:
        return
    path = config.rootpath.parent / "build" / "logs" / "chaos-kills.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    terminalreporter.section(f"kill points and what came of them ({path})")
    for line in lines:
        terminalreporter.write_line(line)
