"""A real browser for the tests that need one."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def chrome(folder):
    """Headless Chromium with a profile in the folder; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no Chromium with its driver here: apt install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    size = "--window-size=1200,1600"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", size, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as opened:
        yield opened
