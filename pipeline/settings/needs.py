"""Which stages params.yaml asks for: what nobody draws from, learns from or wants to see is not made."""

from pipeline import methods
from pipeline.runtime.layout import FEATURES, HOLD_OUT, LATENTS, METRICS_DIR, MODELS
from pipeline.settings import params
from pipeline.settings.methods import Pools, some_named
from pipeline.settings.prepare import PrepareSettings
from pipeline.settings.recipes import Recipes


def diffusion() -> bool:
    """Some method that is named draws from the diffusion model."""
    named = methods.required(params.read("methods", Pools), params.read("sample", methods.schema()))
    return any("diffusion" in settings.reads for settings in named.values())


def teacher() -> bool:
    """Some method is named, some recipe learns from the teacher, or recipes start from classifiers like it."""
    learns = any(recipe.needs_teacher for recipe in params.read("recipes", Recipes).values())
    return some_named() or learns or params.read("train.init_from", str) == "pretrained"


def feature_files() -> bool:
    """Recipes are trained on the features of a frozen network."""
    return params.read("train.backbone", str) == "frozen"


def splits() -> bool:
    """Classes are to be kept aside."""
    settings = params.read("prepare", PrepareSettings)
    return settings.benchmark == "folder" and settings.folder is not None and settings.folder.hold_out is not None


NEEDED = {  # stages that may have nothing to do: whether they have, and what they then leave empty
    "autoencoder": (some_named, [MODELS / "autoencoder"]),
    "encode": (some_named, [LATENTS]),
    "teacher": (teacher, [MODELS / "teacher"]),
    "diffusion": (diffusion, [MODELS / "diffusion"]),
    "features": (feature_files, [FEATURES]),
    "hold_out": (splits, [HOLD_OUT, METRICS_DIR / "hold_out.json"]),
}


def is_needed(stage: str) -> bool:
    """Whether a stage has something to do."""
    return stage not in NEEDED or NEEDED[stage][0]()
