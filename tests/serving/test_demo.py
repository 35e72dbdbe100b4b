"""The page of `penumbra serve`: what it says, its API, and a person's way through it in headless Chromium."""

import builtins
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.runtime.errors import UserError
from pipeline.serving import demo, open_set
from tests.serving.test_serving import model  # noqa: F401

PORT = 7879
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    random, paths = np.random.default_rng(0), [tmp_path / "first.png", tmp_path / "<b>second.png"]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    return [str(path) for path in [*paths, tmp_path / "broken.jpg"]]


def test_the_answer_is_predicts_by_names_alone(model: Path, photos: list[str], tmp_path: Path) -> None:  # noqa: F811
    judged = demo.answer(open_set.load(str(model), None), None)
    text, rows = judged(photos, 0.3)
    assert [row["file"] for row in rows] == ["first.png", "<b>second.png", "broken.jpg"] and "error" in rows[2]
    assert str(tmp_path) not in text + str(rows) and "<b>second" not in text and "&lt;b&gt;second.png" in text
    assert text.count("<li>") == 2 and "1 files could not be read" in text
    for row in rows[:2]:
        assert row["verdict"] == ("unknown" if row["p_value"] <= 0.3 else "known")
    assert judged([], 0.3)[1] == []


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "gradio":
            raise ImportError("No module named 'gradio'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'penumbra\[serve\]'"):
        demo.check_package()


@pytest.fixture
def served(model: Path) -> Iterator[str]:  # noqa: F811
    """The address of a running page."""
    import httpx

    command = [sys.executable, "-m", "pipeline", "serve", "--model", str(model), "--port", str(PORT)]
    server, address = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}), f"http://127.0.0.1:{PORT}/"
    try:
        for _ in range(120):
            try:
                httpx.get(address)
                break
            except httpx.ConnectError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.browser
@pytest.mark.skipif(not (find_spec("gradio") and find_spec("playwright") and CHROMIUM), reason="no gradio or Chromium")
def test_photographs_are_dropped_and_judged_in_a_browser_and_by_a_program(served: str, photos: list[str]) -> None:
    from gradio_client import Client, handle_file
    from playwright.sync_api import sync_playwright

    _, rows = Client(served, verbose=False).predict([handle_file(photos[0])], 0.3, api_name="/predict")
    assert rows[0]["file"] == "first.png" and rows[0]["verdict"] in ("known", "unknown")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page()
        page.set_default_timeout(120_000)
        page.goto(served)
        page.set_input_files("input[type=file]", photos[:1])
        page.get_by_text("first.png").first.wait_for()
        page.get_by_role("button", name="Judge").click()
        page.locator(".predictions li").wait_for()
        assert page.locator(f".predictions b.{rows[0]['verdict']}").count() == 1
        opened.close()
