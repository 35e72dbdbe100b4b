"""What an outlier dataset is for and what is wrong with it: the same sentences in its card and in its croissant.json.

After Gebru et al. 2021, "Datasheets for Datasets" (arXiv 1803.09010), and Croissant's vocabulary of responsible AI.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.dataset_json import origins
from pipeline.artifacts.provenance import RESTRICTED, RESTRICTIONS

PURPOSES = {
    "outliers": "Synthetic out-of-distribution (OOD) images to train a classifier that knows what it does not know.",
    "controls": "Controls for outlier exposure, such as plain noise or mixtures of ID images as outliers, and further "
    "ID images, labelled by class.",
}
USES = (
    "Training classifiers that notice images of none of their classes (outlier exposure), comparing methods that make "
    "outliers, and auditing them. Only beside the ID set that they were made from: what is an outlier there may be a "
    "class elsewhere."
)
MISUSES = (
    "Not to be tested on: a detector is measured on real images that it was not trained for. Not as pictures of "
    "anything, for most show nothing, and not passed off as photographs."
)
LIMITS = (
    "Filters compare the images with ID validation images in latent space and by a classifier of the ID classes; some "
    "may still show an ID class. They were not looked at one by one."
)
BIASES = (
    "They have what the ID images have: who and what is rare there is rare here. What the generators make shows their "
    "own training images too. They come out of a decoder, which a classifier can learn to recognise in place of what "
    "is unknown; the audit says how easily."
)
SENSITIVE = (
    "What identifies a person in an ID image may show in an image that was made from it: the index names that image "
    "(`source`) and its classes."
)
MAINTENANCE = (
    "`dataset.json` holds all parameters, seeds and checksums: the same version of the software makes the same bytes "
    "again. A changed dataset has another fingerprint."
)
CITATION = """@misc{penumbra,
  title = {Penumbra: synthetic outliers for OOD-aware classifiers},
  note = {Methods: Enhancing OOD Detection Using Latent Diffusion (arXiv 2406.16525), and arXiv 2405.00631}
}"""


def collection(about: Mapping[str, Any]) -> str:
    """How the images came to be, in a sentence."""
    identity = about["id"]
    return (
        f"Made by an algorithm from {identity['count']} in-distribution (ID) training images of "
        f"{len(identity['classes'])} classes; no image was collected for it."
    )


def licences(about: Mapping[str, Any]) -> list[str]:
    """The chain of licences, a sentence each; a merged dataset has those of all that it was merged from."""
    lines = []
    for origin in origins(about):
        if own := origin.get("licences"):
            lines.append(f"ID images: {own['id']}.")
            lines += [f"{name[:1].upper()}{name[1:]}: {licence}." for name, licence in own["generators"].items()]
            if RESTRICTED in own["generators"].values():
                lines.append(RESTRICTIONS)
    return [*dict.fromkeys(lines), f"This dataset: {about['licence']}."]
