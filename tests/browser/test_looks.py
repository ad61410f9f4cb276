"""Every page in light and dark, wide and narrow: nothing that axe finds serious, nothing cut off, and
a picture of each in build/screenshots for people to look at."""

import data
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import SCREENSHOTS

PAGES = {
    "jobs": "/#/jobs",
    "compare": "/#/compare?jobs=deep,wide",
    "job": "/#/jobs/deep",
    "batch-norm": "/#/jobs/deep?tab=bn",
    "weights": "/#/jobs/deep?tab=weights",
    "log": "/#/jobs/deep?tab=log",
    "spec": "/#/jobs/deep?tab=spec",
    "models": "/#/models",
    "model": "/#/models/pictures",
    "workers": "/#/workers",
}

# What is there once the page has its data.
SHOWN = {
    "jobs": ".spark polyline",
    "compare": "figure canvas", "job": "figure canvas", "batch-norm": ".verdict",
    "weights": "figure polygon", "log": "ol.log li", "spec": "pre", "model": "figure polygon",
}


def settle(page):
    """Until everything has been laid out and drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def furnish(client, directory):
    client.add_npz("blobs", data.blobs(640), directory)
    client.add_npz("images", data.images(640), directory)
    picture = {
        **data.job(batch_size=32, epochs=8, log_every=2), "publish_as": "pictures",
        "data": {"train": {"dataset": "images"}, "validation": {"dataset": "images"}},
        "model": {"inputs": [{"shape": [28, 28, 1], "scale": 1 / 255}], "layers": [
            {"conv2d": {"filters": 8, "kernel_size": [3, 3], "strides": [2, 2]}},
            {"batch_normalization": {}}, {"activation": {"activation": "relu"}},
            {"conv2d": {"filters": 16, "kernel_size": [3, 3], "strides": [2, 2]}},
            {"batch_normalization": {}}, {"activation": {"activation": "relu"}},
            {"flatten": {}}, {"dense": {"units": 10, "activation": "softmax"}}]},
    }
    client.submit(picture, directory, "--id", "deep", "--label", "team=vision")
    client.finish("deep")
    client.submit({**picture, "training": {**picture["training"], "seed": 8}}, directory,
                  "--id", "wide")
    client.finish("wide")
    client.submit(data.long_job(), directory, "--id", "live", "--label", "team=tables")
    client.wait_for_state("live", "RUNNING")
    client.submit(data.job(), directory, "--id", "waiting")


@pytest.fixture(scope="module")
def furnished(bin_directory, tmp_path_factory):
    """A server that has something to show on every page."""
    import programs

    directory = tmp_path_factory.mktemp("furnished")
    server = programs.Server(bin_directory, directory / "server", "--threads", "2").start()
    try:
        furnish(server.client, directory)
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page(furnished, new_page, name, scheme):
    page = new_page(furnished, PAGES[name], color_scheme=scheme)
    page.locator(SHOWN.get(name, "main td, main .card")).first.wait_for()
    settle(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [f"{v['id']}: {v['help']} {[n['target'] for n in v['nodes'][:3]]}" for v in found
               if v["impact"] in ("serious", "critical")]
    assert serious == []
    page.set_viewport_size({"width": 380, "height": 800})
    settle(page)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-narrow.png")
    # Nothing makes the whole page scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
