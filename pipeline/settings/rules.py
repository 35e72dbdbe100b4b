"""What has to hold between the sections of params.yaml, one function a rule."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline import methods
from pipeline.artifacts.revisions import check_revision
from pipeline.evaluation.detectors import DETECTORS, unshippable
from pipeline.evaluation.grid import NO_CHOICE, combinations, parts_of
from pipeline.evaluation.image_detectors import IMAGE_DETECTORS
from pipeline.runtime.errors import UserError, like
from pipeline.runtime.layout import CONTROLS, OUTLIERS
from pipeline.settings import benchmarks, networks
from pipeline.settings.autoencoder import AutoencoderSettings
from pipeline.settings.methods import base_of, bases
from pipeline.settings.params import Place
from pipeline.settings.prepare import PrepareSettings
from pipeline.settings.train import TrainSettings
from pipeline.settings.training import EFFICIENTNET_LITE0

Problem = tuple[Place, str]


def _unknown(place: Place, names: Iterable[str], known: list[str]) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            yield place, f"unknown {name!r}{like(name, known)}; expected some of {', '.join(known)}"


def _of_methods(own: dict[str, Any]) -> Iterator[Problem]:
    """Every method exists, has its settings, and draws as many candidates as are packed."""
    per_method = own["shards"].per_method
    for name in bases(own["methods"]):
        if problem := methods.problem_of(name):
            yield ("methods",), problem
        elif (settings := methods.settings_of(name, own["sample"])) is None:
            yield ("sample",), f"{name} is missing, and methods names it; add its settings"
        elif (count := getattr(settings, "count", per_method)) < per_method:
            yield ("sample", name, "count"), f"{count}, expected at least shards.per_method = {per_method}"


def _are_own(settings: TrainSettings) -> bool:
    """The outliers are those of this project: what others packed is not known before it is read."""
    return settings.outliers == str(OUTLIERS) and settings.controls == str(CONTROLS)


def _of_recipes(own: dict[str, Any]) -> Iterator[Problem]:
    settings: TrainSettings = own["train"]
    known = own["methods"]
    for name, recipe in own["recipes"].items():
        place, counts = ("recipes", name, "auxiliary"), recipe.counts(settings.auxiliary_count)
        if _are_own(settings):
            yield from _of_packed(place, counts, own)
        judged = _are_own(settings) and set(recipe.auxiliary) <= set(known)
        taken = [method for method, count in counts.items() if count]
        if (judged or not recipe.auxiliary) and (problem := recipe.misfit(**_kinds(taken))):
            yield place, problem


def _of_packed(place: Place, counts: dict[str, int], own: dict[str, Any]) -> Iterator[Problem]:
    """The images that a recipe names are packed, and there are enough."""
    per_method, total = own["shards"].per_method, own["train"].auxiliary_count
    for method, count in counts.items():
        if method in own["methods"]:
            if count > per_method:
                yield (
                    place,
                    (
                        f"shards.per_method = {per_method} packs fewer than the {count} images of {method} in "
                        f"train.auxiliary_count = {total}; lower it, or pack more"
                    ),
                )
        elif base_of(method) in methods.names():
            yield place, f"{method} is not in methods, so it is not made; add it there"
        else:
            yield from _unknown(place, [method], own["methods"])


def _kinds(pools: Iterable[str]) -> dict[str, bool]:
    """What the images of our own methods are: the arguments of `Recipe.misfit`."""
    kinds = [methods.about(base_of(pool)) for pool in pools if base_of(pool) in methods.names()]
    return {
        "has_outliers": any(not kind.is_id for kind in kinds),
        "has_id_images": any(kind.is_id for kind in kinds),
        "has_parents": any(kind.has_parents for kind in kinds),
    }


def _of_shipped(own: dict[str, Any]) -> Iterator[Problem]:
    yield from _unknown(("shipped",), [own["shipped"]], list(own["recipes"]))


def _of_validation(own: dict[str, Any]) -> Iterator[Problem]:
    """What needs OOD images, where one's own images come without."""
    settings: PrepareSettings = own["prepare"]
    if settings.benchmark != "folder" and "unknown" in bases(own["methods"]):
        yield ("methods",), "unknown: no image; it takes those of prepare.folder, with prepare.benchmark: folder"
    if settings.benchmark != "folder" or (given := settings.folder) is None:
        return
    if not given.val_near and "oracle" in bases(own["methods"]):
        yield ("methods",), "oracle: no image; give sets under prepare.folder.val_near"
    if given.unknown is None and "unknown" in bases(own["methods"]):
        yield ("methods",), "unknown: no image; give a folder of some as prepare.folder.unknown"
    if not given.val_near and not given.val_far:
        for section in ("infer", "score"):
            for name, choices in own[section].detectors.items():
                if len(list(combinations(choices))) > 1:
                    yield (section, "detectors", name), NO_CHOICE


def _of_training(own: dict[str, Any]) -> Iterator[Problem]:
    settings: TrainSettings = own["train"]
    if len(set(settings.seeds)) < len(settings.seeds):
        yield ("train", "seeds"), f"{settings.seeds}: one is there twice; remove it"
    if settings.init_from == "pretrained":
        if missing := sorted(set(settings.seeds) - set(own["teacher"].pretrained_seeds)):
            yield ("train", "init_from"), f"pretrained, but teacher.pretrained_seeds lacks {missing}; add them"
        if settings.network != own["teacher"].network:
            yield ("train", "network"), f"{settings.network}, expected teacher.network for init_from: pretrained"
    for section in ("teacher", "train"):
        if (warmup := own[section].warmup) >= (steps := own[section].steps):
            yield (section, "warmup"), f"{warmup}, expected fewer than steps = {steps}"
        try:
            networks.check_network(own[section].network)
        except UserError as error:
            yield (section, "network"), str(error)


def _of_sizes(own: dict[str, Any]) -> Iterator[Problem]:
    """Images and latents are large enough for what is done to them."""
    where: PrepareSettings = own["prepare"]
    if where.benchmark != "folder":
        if where.benchmark not in (known := benchmarks.names()):
            yield from _unknown(("prepare", "benchmark"), [where.benchmark], [*known, "folder"])
            return
        size = benchmarks.record(where.benchmark).size
    elif where.folder is None:
        yield ("prepare", "folder"), "null, expected a description of your images, for prepare.benchmark is folder"
        return
    else:
        size = where.folder.size
    for section in ("teacher", "train"):
        if (shift := own[section].shift) >= size:
            yield (section, "shift"), f"{shift}, expected fewer pixels than the images' {size}"


def _of_latents(own: dict[str, Any]) -> Iterator[Problem]:
    """The diffusion model halves latents once for every width after the first."""
    space: AutoencoderSettings = own["autoencoder"]
    factors = {"train": 2 ** (len(space.widths) - 1), "pixels": 1}
    if space.source in factors:  # of others it is known once they are loaded
        side, halvings = space.size // factors[space.source], len(own["diffusion"].widths) - 1
        if side % 2**halvings:
            yield ("diffusion", "widths"), f"{halvings + 1} widths, for which latents of {side} pixels cannot be halved"


def _of_detectors(own: dict[str, Any]) -> Iterator[Problem]:
    named = own["score"].detectors
    sums = {name for name in named if name not in DETECTORS and parts_of(name, named)}
    yield from _unknown(("score", "detectors"), [name for name in named if name not in sums], list(DETECTORS))
    for name in sums:
        if named[name]:
            yield (
                ("score", "detectors", name),
                f"{named[name]}: a sum takes its parts as they are listed; expected {{}}",
            )
    yield from _unknown(("infer", "detectors"), own["infer"].detectors, list(IMAGE_DETECTORS))


FEATURES_ALONE, IMAGES_ALONE = ("permuted", "hamiltonian", "around"), ("attribution",)  # kinds of virtual outliers


def _of_virtual_outliers(own: dict[str, Any]) -> Iterator[Problem]:
    """Virtual outliers are made of what the recipes are trained on: images, or features of a frozen network."""
    refused = IMAGES_ALONE if own["train"].on_features else FEATURES_ALONE
    needed = "images; none with train.backbone: frozen" if own["train"].on_features else "train.backbone: frozen"
    for name, recipe in own["recipes"].items():
        if (virtual := recipe.virtual_outliers) is not None and virtual.kind in refused:
            yield ("recipes", name, "virtual_outliers"), f"{virtual.kind} needs {needed}"


def _of_features(own: dict[str, Any]) -> Iterator[Problem]:
    """What recipes on the features of a frozen network cannot have: another start, images, the teacher."""
    settings: TrainSettings = own["train"]
    if settings.hidden and not settings.on_features:
        yield ("train", "hidden"), f"{settings.hidden}, which a frozen network alone has; set train.backbone to frozen"
    for section in ("teacher", "train"):
        if own[section].backbone != "all" and own[section].weights is None:
            where = f"{own[section].backbone}, but {section}.weights is null"
            yield (section, "backbone"), f"{where}; name pretrained weights, or let all of the network learn"
    if not settings.on_features:
        return
    if settings.init_from == "pretrained":
        yield ("train", "init_from"), "pretrained, but train.backbone is frozen; set it to scratch"
    if own["infer"].detectors:
        yield (
            ("infer", "detectors"),
            f"{', '.join(own['infer'].detectors)} need images; none with train.backbone: frozen",
        )
    for name, recipe in own["recipes"].items():
        if recipe.needs_teacher:
            yield ("recipes", name), "a term of the teacher needs images; none with train.backbone: frozen"


def _of_shipped_score(own: dict[str, Any]) -> Iterator[Problem]:
    for name in own["train"].score or {}:
        if problem := unshippable(name):
            yield ("train", "score"), problem


def _of_models(own: dict[str, Any]) -> Iterator[Problem]:
    """Models of the Hub without their commit, and weights for a network that takes none."""
    embedding = own["sample"].embedding if "embedding" in bases(own["methods"]) else None
    named = {
        ("autoencoder",): own["autoencoder"] if own["autoencoder"].source not in ("train", "pixels") else None,
        ("teacher",): own["teacher"] if _are_elsewhere(own["teacher"].weights) else None,
        ("train",): own["train"] if _are_elsewhere(own["train"].weights) else None,
        ("sample", "embedding"): embedding if embedding is not None and embedding.uses_stable_diffusion else None,
    }
    keys = ("source", "weights", "weights", "generator")
    for (place, section), key in zip(named.items(), keys, strict=True):
        try:
            if section is not None:
                check_revision(getattr(section, key), section.revision)
        except UserError as error:
            yield (*place, "revision"), str(error)
    for name in ("teacher", "train"):
        try:
            if own[name].weights is not None:
                networks.timm_name(own[name].network)
        except UserError as error:
            yield (name, "weights"), str(error)


def _are_elsewhere(weights: str | None) -> bool:
    """Weights that are of no installed package, and in no file."""
    return weights is not None and weights != EFFICIENTNET_LITE0 and not Path(weights).is_file()


BETWEEN = {  # what has to hold between sections, and which those are
    _of_methods: ("methods", "sample", "shards"),
    _of_training: ("teacher", "train"),
    _of_recipes: ("methods", "shards", "train", "recipes"),
    _of_shipped: ("shipped", "recipes"),
    _of_sizes: ("prepare", "teacher", "train"),
    _of_latents: ("autoencoder", "diffusion"),
    _of_detectors: ("score", "infer"),
    _of_validation: ("prepare", "methods", "infer", "score"),
    _of_models: ("autoencoder", "teacher", "train", "methods", "sample"),
    _of_virtual_outliers: ("train", "recipes"),
    _of_features: ("teacher", "train", "recipes", "infer"),
    _of_shipped_score: ("train",),
}
