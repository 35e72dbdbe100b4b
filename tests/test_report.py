"""The report: everything a reader needs is on one page, which works offline, on a phone and in the dark."""

import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc

from pipeline.artifacts import images
from pipeline.evaluation.curves import curves
from pipeline.report import hardest
from pipeline.reporting import tables
from pipeline.reporting.tables import Differences

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = ("Does it help?", "Where it works", "What was made", "Shortcuts", "What it cost", "Provenance")


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "report/index.html").read_text()


def test_one_page_without_anything_from_elsewhere(project: Path, page: str) -> None:
    assert sorted(path.name for path in (project / "report").iterdir()) == ["figures", "index.html", "results.md"]
    assert "<script" not in page and "@import" not in page and "url(http" not in page
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page.replace("xlink:", ""))
    assert len(page) < 2_000_000


def test_a_reader_finds_what_was_made_whether_it_helps_at_what_cost_and_whether_to_believe_it(page: str) -> None:
    for text in (*SECTIONS, "penumbra", "baseline", "surplus", "Fréchet", "learn “decoded”", "one statistic alone",
                 "most like ID", "most like OOD", "Precision-recall", "principal components", "warnings"):  # fmt: skip
        assert text in page, text
    assert page.count("<svg") == 5 and page.count("data:image/png;base64,") == 7
    assert page.index("warnings</summary>") < page.index("Does it help?</h2>")


def test_figures_are_files_too_and_in_the_page_s_ink(project: Path, page: str) -> None:
    found = {path.stem: path.read_text() for path in (project / "report/figures").iterdir()}
    assert set(found) == {"overview", "histograms", "roc", "pr", "funnel"}
    for text in found.values():
        assert text in page and "currentColor" in text and "#010203" not in text and "#000000" not in text


def test_tables_to_paste(project: Path) -> None:
    text = (project / "report/results.md").read_text()
    assert "| recipe | ID accuracy | near AUROC ↑ |" in text and "| sharpness alone, no network | " in text
    assert "| decoded id against boundary | " in text and "| train | " in text
    assert r"\toprule" in text and r"$\pm$" in text and "±" not in text.split("```latex")[1]
    for block in re.findall(r"```latex\n(.*?)```", text, re.S):
        assert block.count(r"\begin{tabular}") == block.count(r"\end{tabular}") == 1
        widths = {line.count(" & ") for line in block.splitlines() if line.endswith(r"\\")}
        assert len(widths) == 1


def test_a_partial_benchmark_stands_in_every_table() -> None:
    value = {"mean": 90.0, "std": 1.0}
    summary = {"a": {"msp": {"id_accuracy": value, "near": {"auroc": value, "fpr95": value}, "sets": {}}}}
    rows = tables.results(summary, "msp", Differences(pd.DataFrame()), "a")
    frame = tables.results_frame(rows, {})
    assert frame.iloc[0].tolist() == ["a", "90.0 ± 1.0", "90.0 ± 1.0", "90.0 ± 1.0", tables.NONE, tables.NONE]
    assert "PARTIAL" in tables.latex(frame, "PARTIAL 50 %") and r"50 \%" in tables.latex(frame, "PARTIAL 50 %")


def test_differences_are_found_and_marked() -> None:
    row = {"detector": "msp", "recipe": "b", "reference": "a", "set": "near", "metric": "auroc",
           "delta": 2.0, "low": 1.0, "high": 3.0, "p": 0.02}  # fmt: skip
    found = Differences(pd.DataFrame([row]))
    assert found.find("msp", [("b", "a"), ("a", "b")]) == [
        [{"delta": 2.0, "low": 1.0, "high": 3.0, "p": 0.02, "verdict": "better"}, None, None, None], [None] * 4,
    ]  # fmt: skip
    value = {"mean": 90.0, "std": 1.0}
    entry = {"msp": {"id_accuracy": value, "near": {"auroc": value}, "sets": {}}}
    rows = tables.results({"a": entry, "b": entry}, "msp", found, "a")
    flagged = {rows[1]["recipe"]: {"mean": 7.04, "std": 0.5}}
    with_decoded = tables.results_frame(rows, flagged)
    assert with_decoded.iloc[1, 2] == "90.0 ± 1.0 (+)"
    assert list(with_decoded["decoded ID flagged"]) == [tables.NONE, "7.0 ± 0.5"]
    text = tables.markdown(tables.differences_frame(tables.against({"a": entry, "b": entry}, "msp", found, "b")))
    assert f"| a | +2.0 [+1.0, +3.0] better | {tables.NONE} |" in text


def test_marks_are_corrected_for_all_comparisons_of_a_table() -> None:
    about = {"detector": "msp", "reference": "a", "set": "near", "delta": 2.0, "low": 1.0, "high": 3.0}
    rows = [about | {"recipe": recipe, "metric": "auroc", "p": p} for recipe, p in (("b", 0.02), ("c", 0.03))]
    found = Differences(pd.DataFrame(rows))
    both, alone = found.find("msp", [("b", "a"), ("c", "a")]), found.find("msp", [("c", "a")])
    assert [row[0] and row[0]["verdict"] for row in both] == ["better", "better"]
    assert [row[0] and row[0]["p"] for row in both] == [0.04, 0.04]
    rows[1]["p"] = 0.06
    assert [
        row[0] and row[0]["verdict"] for row in Differences(pd.DataFrame(rows)).find("msp", [("b", "a"), ("c", "a")])
    ] == ["better", "no difference"]
    assert alone[0][0] and alone[0][0]["p"] == 0.03


def test_a_row_a_recipe_and_what_needs_no_network() -> None:
    value = {"mean": 90.04, "std": 1.0}
    sets, statistics = {"moon": {"a": value}, "sun": {"a": value}}, {"moon": {"sharpness": 61.0, "contrast": 70.0}}
    text = tables.markdown(tables.sets_frame(sets, statistics)).splitlines()[2:]
    assert text == [
        "| a | 90.0 ± 1.0 | 90.0 ± 1.0 |",
        f"| sharpness alone, no network | 61.0 | {tables.NONE} |",
        f"| most telling statistic alone | 70.0 (contrast) | {tables.NONE} |",
    ]
    summary = {"a": {"msp": {"near": {"auroc": value}, "far": {"auroc": value}}, "own": {"near": {"auroc": value}}}}
    text = tables.markdown(tables.detectors_frame(summary, ["msp", "own"])).splitlines()[2:]
    assert text == [f"| a | 90.0 / 90.0 | 90.0 / {tables.NONE} |"]


def test_costs_add_up() -> None:
    costs = [
        {"stage": "prepare", "seconds": 1.4, "peak_mib": 1024},
        {"stage": "score", "seconds": 2.4, "peak_mib": 512},
    ]
    found = tables.costs_frame(costs).to_numpy().tolist()
    assert found == [["prepare", "1", "1.0"], ["score", "2", "0.5"], ["in all", "4", ""]]


def test_the_hardest_images_are_those_out_of_place() -> None:
    known, near = np.linspace(0, 1, 50), np.linspace(0.5, 2, 20)
    rows = [("r", seed, "test", "id", f"k{i}", value) for seed in (0, 1) for i, value in enumerate(known)]
    rows += [("r", seed, "moon", "near", f"n{i}", value) for seed in (0, 1) for i, value in enumerate(near)]
    scores = pd.DataFrame(rows, columns=["recipe", "seed", "set", "role", "key", "msp"])
    found = dict(hardest(scores, "r", "msp", 3))
    assert list(found) == ["near-OOD images most like ID", "ID images most like OOD"]
    assert list(found["near-OOD images most like ID"]["key"]) == ["n0", "n1", "n2"]
    assert set(found["ID images most like OOD"]["key"]) == {"k49", "k48", "k47"}


def test_images_are_picked_by_key_in_order(project: Path) -> None:
    whole = images.load_split(project / "data/images", "test")
    rows = [7, 3, 20]
    picked = images.pick(project / "data/images/test.parquet", [whole.keys[i] for i in rows])
    assert picked.equal(whole.pixels[rows])


def test_curves_have_the_areas_of_all_points() -> None:
    random = np.random.default_rng(0)
    known, near = random.normal(0, 1, 4000), random.normal(1, 1, 3000)
    frame = pd.DataFrame({
        "recipe": "r", "set": ["test"] * 4000 + ["moon"] * 3000, "role": ["id"] * 4000 + ["near"] * 3000,
        "msp": np.concatenate([known, near]),
    })  # fmt: skip
    found = curves(frame, "msp")
    pairs = (near[:, None] > known).mean()
    assert auc(found["roc"]["fpr"], found["roc"]["tpr"]) == pytest.approx(pairs, abs=0.005)
    assert set(found["pr"]["group"]) == {"near"} and len(found["pr"]) <= 200
    assert (found["pr"]["precision"] >= 3 / 7 - 0.01).all()


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("needs Chromium and playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_in_a_browser(project: Path, browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """Nothing is fetched, nothing is wider than the screen, an accessibility checker has nothing to say."""
    from axe_core_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    opened, asked, errors = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto((project / "report/index.html").as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert [url for url in asked if not url.startswith("data:")] == [(project / "report/index.html").as_uri()]
    assert not errors
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(opened)["violations"]
    assert not found, [(one["id"], one["help"], one["nodes"][0]["html"][:200]) for one in found]
    opened.screenshot(path=tmp_path / "page.png", full_page=True)
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
    assert (tmp_path / "page.png").stat().st_size > 50_000


@pytest.mark.browser
def test_on_paper(project: Path, browser: Any) -> None:
    opened = browser.new_page()
    opened.goto((project / "report/index.html").as_uri())
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert opened.pdf(format="A4").startswith(b"%PDF")
