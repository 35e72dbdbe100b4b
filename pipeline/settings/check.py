"""The whole of params.yaml: which sections there are, and what has to hold between them.

A stage reads its own section and no more, so that an edit reruns only what it touches. Here all of them are checked at
once, before any work, so that a slip in the last section does not show after hours.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from pipeline import (
    autoencoder,
    boundary,
    crossing,
    diffusion,
    embedding,
    infer,
    mixup,
    prepare,
    score,
    shards,
    teacher,
    train,
)
from pipeline.artifacts.models import check_revision
from pipeline.classifier.networks import backbone, timm_name
from pipeline.evaluation.detectors import DETECTORS
from pipeline.evaluation.grid import NO_CHOICE, combinations
from pipeline.evaluation.image_detectors import IMAGE_DETECTORS
from pipeline.runtime.errors import UserError, like
from pipeline.runtime.layout import CONTROLS, OUTLIERS
from pipeline.settings import params
from pipeline.settings.params import Place
from pipeline.sources import benchmarks
from pipeline.synthesis.autoencoder import Running
from pipeline.synthesis.controls import ID_IMAGES, NAMES, WITHOUT_PARENTS

# a folder, and a part of a DVC stage's name
RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
SECTIONS: dict[str, Any] = {
    "seed": NonNegativeInt,
    "prepare": prepare.Params,
    "autoencoder": autoencoder.Params,
    "encode": Running,
    "teacher": teacher.Params,
    "boundary": boundary.Params,
    "crossing": crossing.Params,
    "diffusion": diffusion.Params,
    "embedding": embedding.Params,
    "mixup": mixup.Params,
    "shards": shards.Params,
    "train": train.Params,
    "recipes": Annotated[dict[RecipeName, train.Recipe], Field(min_length=1)],
    "infer": infer.Params,
    "score": score.Params,
}
Problem = tuple[Place, str]
METHODS = ("boundary", "crossing", "embedding", "mixup")


def _unknown(place: Place, names: list[str], known: list[str]) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            yield place, f"unknown {name!r}{like(name, known)}; expected some of {', '.join(known)}"


def _of_shards(own: dict[str, Any]) -> Iterator[Problem]:
    settings: shards.Params = own["shards"]
    for pool in settings.methods:
        method = pool.split("+")[0]
        yield from _unknown(("shards", "methods"), [method], list(METHODS))
        if method in METHODS and own[method].count < settings.per_method:
            yield (method, "count"), f"{own[method].count}, expected at least shards.per_method = {settings.per_method}"
    if len(set(settings.methods)) < len(settings.methods):
        yield ("shards", "methods"), f"{settings.methods}: one stands twice; remove it"
    if own["mixup"].synthetic_id < settings.per_method:
        yield (
            ("mixup", "synthetic_id"),
            f"{own['mixup'].synthetic_id}, expected at least shards.per_method = {settings.per_method}",
        )


def _are_ours(settings: train.Params) -> bool:
    """The outliers are those of this project: what others packed is not known before it is read."""
    return settings.outliers == str(OUTLIERS) and settings.controls == str(CONTROLS)


def _of_recipes(own: dict[str, Any]) -> Iterator[Problem]:
    settings: train.Params = own["train"]
    ours, known = _are_ours(settings), [*own["shards"].methods, *NAMES]
    for name, recipe in own["recipes"].items():
        place, counts = ("recipes", name, "auxiliary"), train.counts(recipe, settings.auxiliary_count)
        if ours:
            yield from _unknown(place, recipe.auxiliary, known)
            packed = own["shards"].per_method
            for method, count in counts.items():
                if count > packed:
                    problem = f"shards.per_method = {packed} packs fewer than the {count} images of {method}"
                    yield (
                        place,
                        f"{problem} in train.auxiliary_count = {settings.auxiliary_count}; lower it, or pack more",
                    )
        judged = ours and set(recipe.auxiliary) <= set(known)
        taken = [method for method, count in counts.items() if count]
        if (judged or not recipe.auxiliary) and (problem := recipe.misfit(**_kinds(taken))):
            yield place, problem


def _kinds(methods: Iterable[str]) -> dict[str, bool]:
    """What the images of our own methods are, by name: the arguments of `Recipe.misfit`."""
    named = set(methods)
    return {
        "has_outliers": bool(named - set(ID_IMAGES)),
        "has_id_images": bool(named & set(ID_IMAGES)),
        "has_parents": bool(named - set(WITHOUT_PARENTS)),
    }


def _of_validation(own: dict[str, Any]) -> Iterator[Problem]:
    """What needs OOD validation sets, where one's own images come without."""
    settings: prepare.Params = own["prepare"]
    if settings.benchmark != "folder" or (given := settings.folder) is None:
        return
    if not given.val_near and _are_ours(own["train"]):
        for name, recipe in own["recipes"].items():
            if "real" in recipe.auxiliary:
                yield ("recipes", name, "auxiliary"), "real: no image; give sets under prepare.folder.val_near"
    if not given.val_near and not given.val_far:
        for section in ("infer", "score"):
            for name, choices in own[section].detectors.items():
                if len(list(combinations(choices))) > 1:
                    yield (section, "detectors", name), NO_CHOICE


def _of_training(own: dict[str, Any]) -> Iterator[Problem]:
    settings: train.Params = own["train"]
    if len(set(settings.seeds)) < len(settings.seeds):
        yield ("train", "seeds"), f"{settings.seeds}: one stands twice; remove it"
    if settings.start == "trunks":
        if missing := sorted(set(settings.seeds) - set(own["teacher"].trunks)):
            yield ("train", "start"), f"trunks, but teacher.trunks lacks the seeds {missing}; add them"
        if settings.network != own["teacher"].network:
            yield ("train", "network"), f"{settings.network}, expected teacher.network to start from trunks"
    for section in ("teacher", "train"):
        if (warmup := own[section].warmup) >= (steps := own[section].steps):
            yield (section, "warmup"), f"{warmup}, expected fewer than steps = {steps}"
        try:
            backbone(own[section].network, 3)
        except UserError as error:
            yield (section, "network"), str(error)


def _of_sizes(own: dict[str, Any]) -> Iterator[Problem]:
    """Images and latents are large enough for what is done to them."""
    where: prepare.Params = own["prepare"]
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
    space: autoencoder.Params = own["autoencoder"]
    factors = {"train": 2 ** (len(space.widths) - 1), "pixels": 1}
    if space.source in factors:  # of others it is known once they are loaded
        side, halvings = space.size // factors[space.source], len(own["diffusion"].widths) - 1
        if side % 2**halvings:
            yield ("diffusion", "widths"), f"{halvings + 1} widths, for which latents of {side} pixels cannot be halved"


def _of_detectors(own: dict[str, Any]) -> Iterator[Problem]:
    yield from _unknown(("score", "detectors"), list(own["score"].detectors), list(DETECTORS))
    yield from _unknown(("infer", "detectors"), list(own["infer"].detectors), list(IMAGE_DETECTORS))


def _of_models(own: dict[str, Any]) -> Iterator[Problem]:
    """Models of the Hub without their commit, and weights for a network that takes none."""
    named = {
        "autoencoder": own["autoencoder"].source if own["autoencoder"].source not in ("train", "pixels") else None,
        "teacher": own["teacher"].weights,
        "embedding": own["embedding"].generator if own["embedding"].uses_stable_diffusion else None,
    }
    for section, source in named.items():
        try:
            if source is not None:
                check_revision(source, own[section].revision)
        except UserError as error:
            yield (section, "revision"), str(error)
    try:
        if own["teacher"].weights is not None:
            timm_name(own["teacher"].network)
    except UserError as error:
        yield ("teacher", "weights"), str(error)


BETWEEN = {  # what has to hold between sections, and which those are
    _of_shards: ("shards", *METHODS),
    _of_training: ("teacher", "train"),
    _of_recipes: ("shards", "train", "recipes"),
    _of_sizes: ("prepare", "teacher", "train"),
    _of_latents: ("autoencoder", "diffusion"),
    _of_detectors: ("score", "infer"),
    _of_validation: ("prepare", "train", "recipes", "infer", "score"),
    _of_models: ("autoencoder", "teacher", "embedding"),
}


def check() -> None:
    """Check params.yaml as a whole.

    Raises:
        UserError: names every problem with its line: unknown sections and keys (and the nearest that is known), wrong
            types, values out of range, and what does not go together.
    """
    content, lines = params.load()
    found = [
        f"{params.at(lines, (name,))}: unknown section{like(str(name), list(SECTIONS))}"
        for name in content
        if name not in SECTIONS
    ]
    found += [f"{params.PARAMS}: {name}: is missing; add it" for name in SECTIONS if name not in content]
    own: dict[str, Any] = {}
    for name in (name for name in SECTIONS if name in content):
        value, wrong = params.checked((name,), content[name], SECTIONS[name], lines)
        found += wrong
        if not wrong:
            own[name] = value
    for rule, needed in BETWEEN.items():
        if set(needed) <= set(own):
            found += [f"{params.at(lines, place)}: {said}" for place, said in rule(own)]
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise UserError("\n  ".join([f"{params.PARAMS}: {count}", *found]) if len(found) > 1 else found[0])
