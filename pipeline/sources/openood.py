"""Source `openood`: the image lists of OpenOOD v1.5, read, and downloaded if asked to, by pytorch-ood.

A root folder holds `openood_benchmark_imglist/benchmark_imglist/...` and the image folders that the lists name.
"""

from pathlib import Path
from typing import Any

import torch
from pytorch_ood.benchmark import img as benchmarks

from pipeline.artifacts.roles import OOD_LABEL, Role
from pipeline.runtime.errors import UserError, one_line
from pipeline.sources.collection import Collection, Item, OODSet, Split


def load(benchmark: str, roles: dict[str, Role], root: Path, download: bool, partial: bool) -> Collection:
    """List the images of a benchmark.

    Args:
        benchmark: class of `pytorch_ood.benchmark.img`.
        roles: of the OOD sets by name: pytorch-ood's in lower case, and `ood-val`.
        root: folder of the images and lists.
        download: fetch what is missing from OpenOOD's Google Drive; the ID images of ImageNet never.
        partial: leave out images that are not there.

    Raises:
        UserError: lists or images are missing, or cannot be downloaded.
    """
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(root))  # where pytorch-ood keeps the lists
    try:
        found: Any = getattr(benchmarks, benchmark)(str(root), transform=None, download=download)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"{root}: not the images and lists of OpenOOD v1.5 ({one_line(error)}); set prepare.root to their "
            "folder, or prepare.download to true"
        ) from None
    finally:
        torch.hub.set_dir(before)
    sets = {"ood-val": found.val_ood} | {
        name.lower(): own for name, own in zip(found.ood_names, found.test_oods, strict=True)
    }
    ood = {
        name: OODSet(role, _items(root, sets[name].files, [OOD_LABEL] * len(sets[name]), partial))
        for name, role in roles.items()
    }
    splits = {split: _items(root, own.files, own.labels, partial) for split, own in _splits(found)}
    return Collection(_classes(splits["train"], root), splits, {name: own for name, own in ood.items() if own.items})


def _splits(found: Any) -> list[tuple[Split, Any]]:
    return [("train", found.train_in), ("val", found.val_in), ("test", found.test_in)]


def _items(root: Path, files: list[str], labels: list[int], partial: bool) -> list[Item]:
    pairs = [(_inside(root, Path(file)), label) for file, label in zip(files, labels, strict=True)]
    return [_item(root, file, label) for file, label in pairs if not partial or file.is_file()]


def _inside(root: Path, file: Path) -> Path:
    """The file, unless somebody's list leads out of the folder."""
    if ".." in file.parts[len(root.parts) :] or not file.is_relative_to(root):
        raise UserError(f"{file}: named in an image list, and outside of {root}; get the lists again")
    return file


def _item(root: Path, file: Path, label: int) -> Item:
    def read() -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); complete the images, or set prepare.partial to true"
            ) from None

    return Item(file.relative_to(root).as_posix(), label, read)


def _classes(train: list[Item], root: Path) -> list[str]:
    """Names by label: the folders that the training images are in."""
    if not train:
        raise UserError(f"{root}: none of the ID training images is there; complete the images")
    names = {item.label: Path(item.key).parent.name for item in train}
    return [names.get(label, f"class {label}") for label in range(max(names) + 1)]
