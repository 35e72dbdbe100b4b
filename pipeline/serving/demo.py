"""A page to drop photographs on, and its API for programs: what `predict` says, in a browser."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import UserError
from pipeline.serving import page
from pipeline.serving.open_set import OpenSetClassifier
from pipeline.serving.predict import Row, predict

AT_MOST = 200  # images of one question
BATCH = 16


def check_package() -> Any:
    """gradio, where it is installed.

    Raises:
        UserError: it is not.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"serve: {error}; pip install 'penumbra[serve]'") from None
    return gradio


def answer(
    model: OpenSetClassifier, neighbours: page.Neighbours | None
) -> Callable[[list[str], float], tuple[str, list[Row]]]:
    """A function from image files and a rate of false alarms to a piece of HTML, and to what `predict --json` says.

    A file goes by its name there, `file`: where an upload lies is nobody's business, and gradio takes a `path` for a
    file to fetch.
    """

    def judged(files: list[str], false_alarms: float) -> tuple[str, list[Row]]:
        paths = [Path(name) for name in files or []][:AT_MOST]
        shown: list[Row] = []
        judging = predict(model, paths, BATCH, false_alarms, neighbours.of if neighbours else None)
        rows = list(page.collect(judging, shown))
        named = [row | {"path": Path(row["path"]).name} for row in shown]
        text = page.render("predictions.html.j2", named, model, neighbours, false_alarms, len(rows) - len(shown))
        answers = [{"file": Path(row.pop("path")).name} | row for row in rows]
        return f'<div class="predictions">{text}</div>', answers

    return judged


def build(model: OpenSetClassifier, neighbours: page.Neighbours | None) -> Any:
    """The page, a `gradio.Blocks`; its API has one function, `predict`."""
    gradio = check_package()
    with gradio.Blocks(title="Penumbra", analytics_enabled=False) as blocks:
        gradio.Markdown(f"Known: {', '.join(model.classifier.classes)}.")
        files = gradio.File(file_count="multiple", file_types=["image"], label="Photographs")
        rate = gradio.Slider(
            0.001, 0.5, value=model.settings.false_alarms, label="Share of known images that may be called unknown"
        )
        button, shown, rows = gradio.Button("Judge", variant="primary"), gradio.HTML(), gradio.JSON(visible=False)
        button.click(answer(model, neighbours), [files, rate], [shown, rows], api_name="predict")
    return blocks


def serve(model: OpenSetClassifier, neighbours: page.Neighbours | None, host: str, port: int) -> None:
    """Serve the page until it is stopped."""
    build(model, neighbours).launch(server_name=host, server_port=port, share=False, quiet=True, max_file_size="50mb")
