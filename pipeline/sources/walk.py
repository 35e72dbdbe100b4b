"""Image files in a folder and below: one list of what counts as an image, for training and for prediction.

What is passed over is counted by its reason, so that whoever asked can say it.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts.codec import suffixes
from pipeline.runtime.console import printable
from pipeline.sources.links import Entered

JUNK = ("__MACOSX", "@eaDir")  # folders that macOS and Synology add beside people's images
HEIC, AVIF = "pip install 'penumbra[heic]'", "Pillow 11.3 or later"
NEEDED = {".heic": HEIC, ".heif": HEIC, ".hif": HEIC, ".avif": AVIF}  # to read files of these suffixes
CLOSED = "folder that cannot be opened"
EXAMPLES = 2  # names that are shown of each reason


@dataclass
class Found:
    """Image files, sorted, and the names of what was passed over, by reason."""

    images: list[Path] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def add(self, other: "Found", below: str = "") -> None:
        """Take over what another walk found; names of what it passed over get a folder in front."""
        self.images += other.images
        for reason, names in other.left_out.items():
            self.left_out.setdefault(reason, []).extend(str(Path(below, name)) for name in names)

    def summary(self) -> str:
        """What was passed over: "hidden: 1 (.thumbnails); .txt: 3 (a.txt, b.txt, ...)"; empty where nothing was."""
        parts = []
        for reason, names in sorted(self.left_out.items()):
            shown = ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
            parts.append(printable(f"{reason}: {len(names)} ({shown})"))
        return "; ".join(parts)


def walk(folder: Path) -> Found:
    """The image files of a folder and of all folders below; links are followed, but none up, and each folder once.

    Hidden files and folders (whose names begin with a dot), and files that are no images by their suffix, are passed
    over.
    """
    found, entered, left = Found(), Entered(folder), [folder]
    while left:
        place = left.pop()
        for entry in _entries(place, folder, found):
            path = place / entry.name
            name = path.relative_to(folder).as_posix()
            if reason := passed_over(entry):
                found.leave_out(reason, name)
            elif not entry.is_dir():
                found.images.append(path)
            elif entered(path):
                found.leave_out("link to a folder that is read already", name)
            else:
                left.append(path)
    found.images.sort()
    return found


def passed_over(entry: os.DirEntry[str]) -> str:
    """Why a file or folder is not looked at; empty where it is a folder or an image by its suffix."""
    if entry.name.startswith(".") or entry.name in JUNK:
        return "hidden"
    try:
        if entry.is_dir():
            return ""
        if not entry.is_file():
            return "dead link" if entry.is_symlink() else "not a file"
    except OSError:
        return "dead link"  # it leads back to itself
    suffix = Path(entry.name).suffix.lower()
    if suffix in suffixes():
        return ""
    return f"{suffix}, which needs {NEEDED[suffix]}" if suffix in NEEDED else suffix or "without suffix"


def _entries(place: Path, folder: Path, found: Found) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        found.leave_out(CLOSED, place.relative_to(folder).as_posix())
        return []
