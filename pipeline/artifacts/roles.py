"""What a set of images is for. Imports no torch."""

from typing import Literal

OOD_LABEL = -1
Role = Literal["id", "near", "far", "val-near", "val-far", "unknown", "decoded"]
OOD_ROLES: dict[Literal["test", "val"], tuple[Role, Role]] = {  # ID split -> roles of its OOD sets
    "test": ("near", "far"),
    "val": ("val-near", "val-far"),
}
