"""What the documentation tells people to do, done."""

import re
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import PUBLIC
from tests.conftest import ROOT, run

METHOD = ROOT / "docs/write-a-method.md"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_method_of_the_tutorial_is_drawn_packed_and_passes_its_test(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder, symlinks=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    code, test = blocks(METHOD, "python")
    (folder / "pipeline/methods/jigsaw.py").write_text(code)
    (folder / "tests/methods/test_jigsaw.py").write_text(test)
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    own, recipes = (yaml.safe_load(text) for text in blocks(METHOD, "yaml"))
    settings["sample"] |= own["sample"] | {"jigsaw": own["sample"]["jigsaw"] | {"count": 100}}
    settings["recipes"] |= recipes["recipes"]
    settings["methods"].append("jigsaw")
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    for command in ("check", "sample", "shards"):
        done = run([sys.executable, "-m", "pipeline", command], folder)
        assert done.returncode == 0, done.stdout + done.stderr
    found = pq.read_table(folder / "data/outliers/index.parquet").to_pylist()
    assert sum(row["method"] == "jigsaw" for row in found) == settings["shards"]["per_method"]
    tested = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_jigsaw.py"], folder
    )
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout + tested.stderr


def test_outputs_written_by_pandas_are_scored(tmp_path: Path) -> None:
    (script,) = blocks(ROOT / "docs/score.md", "python")
    command = blocks(ROOT / "docs/score.md", "sh")[0].split()
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    done = run([sys.executable, "-m", "pipeline", *command[1:]], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mine-metrics/headline.json").is_file()


@pytest.mark.slow
def test_the_notebook_runs_and_says_unknown_of_what_was_never_shown() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs/photos-to-unknown.ipynb", as_version=4)
    check = "[(row['path'].split('/')[0], row['verdict']) for row in found]"
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    nbclient.NotebookClient(notebook, timeout=600).execute()
    verdicts = literal_eval(notebook.cells[-1].outputs[0].data["text/plain"])
    unknown = [kind for kind, verdict in verdicts if verdict == "unknown"]
    assert unknown.count("others") > 0.5 * sum(kind == "others" for kind, _ in verdicts)
    assert unknown.count("photos") < 0.3 * sum(kind == "photos" for kind, _ in verdicts)


def test_the_site_is_whole(tmp_path: Path) -> None:
    """Every link and anchor leads somewhere; the settings and commands that there are, are in the reference."""
    pytest.importorskip("mkdocs")
    done = run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = (tmp_path / "site/reference/settings/index.html").read_text()
    for key in ("distance_quantile", "boundary-crossing", "fitting_steps", "checkpoint_every"):
        assert f"<code>{key}</code>" in settings or f"sample.{key}" in settings
    commands = (tmp_path / "site/reference/commands/index.html").read_text()
    assert "penumbra outliers verify" in commands and "--false-alarms" in commands
    offered = (tmp_path / "site/reference/python/index.html").read_text()
    assert all(f'id="{module}.{name}"' in offered for name, module in PUBLIC.items())
