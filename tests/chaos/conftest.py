"""How much is done, and by which seed; where it is written down."""

import collections
import random

import pytest

TABLES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=1, help="of everything that is drawn")
    parser.addoption("--whole", action="store_true",
                     help="everything there is to try, not a slice of it; takes 20 minutes")


@pytest.fixture(scope="session")
def whole(pytestconfig):
    return pytestconfig.getoption("--whole")


@pytest.fixture
def draw(pytestconfig, request):
    """Random numbers, the same for a seed and a test; a failure shows the seed."""
    seed = pytestconfig.getoption("--seed")
    print(f"--seed {seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def table(pytestconfig, request):
    """Lines that end up in build/logs/chaos-MODULE.txt and at the end of the output."""
    tables = pytestconfig.stash.setdefault(TABLES, collections.defaultdict(list))
    return tables[request.module.__name__.removeprefix("test_")]


def pytest_terminal_summary(terminalreporter, config):
    for name, lines in config.stash.get(TABLES, {}).items():
        path = config.rootpath.parent / "build" / "logs" / f"chaos-{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        terminalreporter.section(str(path))
        for line in lines:
            terminalreporter.write_line(line)
