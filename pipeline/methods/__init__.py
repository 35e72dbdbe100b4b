"""Outlier methods and controls, one file each: its settings, and the function that draws its candidates.

A file `NAME.py` has a class `Settings` and a function `method(settings, inputs)` that returns a `Draw`. The file's
name, with hyphens, is the method's name in `methods` of params.yaml; the fields of `Settings` are its section under
`sample`. `check` reads the settings of every method, so torch is imported inside functions alone.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field, create_model

from pipeline.runtime.errors import UserError, like
from pipeline.settings.methods import bases
from pipeline.settings.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.artifacts.candidates import Candidates
    from pipeline.artifacts.images import ImageSet
    from pipeline.artifacts.latents import Latents
    from pipeline.classifier.networks import Classifier
    from pipeline.synthesis.autoencoder import Autoencoder
    from pipeline.synthesis.safety import SafetyChecker
    from pipeline.synthesis.unet import ConditionalUNet

Draw = Callable[[range], "Candidates"]  # candidates of consecutive indices; i depends on (seed, i) alone
Input = Literal["images", "latents", "autoencoder", "teacher", "diffusion", "oracle", "unknown"]  # of `Inputs`


class Inputs(Protocol):
    """What methods draw from. An attribute is loaded when it is first read, models on the device."""

    seed: int
    size: int  # pixels that the autoencoder sees

    @property
    def images(self) -> "ImageSet": ...  # ID training images
    @property
    def latents(self) -> "Latents": ...  # raw latents of them
    @property
    def autoencoder(self) -> "Autoencoder": ...
    @property
    def teacher(self) -> "Classifier": ...
    @property
    def diffusion(self) -> "ConditionalUNet": ...
    @property
    def oracle(self) -> "Tensor": ...  # real OOD images, uint8 (n, channels, size, size)
    @property
    def unknown(self) -> "Tensor": ...  # the user's own real OOD images, likewise
    def decode_images(self, raw_latents: "Tensor") -> "Tensor": ...  # float32 in -1..1 at the ID images' size


class MethodSettings(Section):
    """The settings of a method, and what is known of its images. What has no `count` draws as many as are packed."""

    dataset: ClassVar[Literal["outliers", "controls"]] = "outliers"  # that it is packed in; controls are not filtered
    is_id: ClassVar[bool] = False  # further ID images, of their first parent's class; others are outliers
    has_parents: ClassVar[bool] = True  # made from ID classes
    strength: ClassVar[str]  # what the column `strength` means
    source_type: ClassVar[str | None] = "trainedAlgorithmicMedia"  # in IPTC's vocabulary; None for images as found

    @property
    def reads(self) -> tuple[Input, ...]:
        """The inputs that it draws from."""
        raise NotImplementedError

    @property
    def at_once(self) -> int:
        """Candidates that are drawn at once."""
        return getattr(self, "batch", 500)

    def provenance(self) -> dict[str, Any] | None:
        """Where a model of others that it draws from came from, see `artifacts.provenance`; None where it uses none."""
        return None

    def safety_checker(self) -> "SafetyChecker | None":
        """What tells unsafe images; None where nothing does."""
        return None


class Control(MethodSettings):
    """A control has no settings: what it draws is the same everywhere."""

    dataset = "controls"


class Method(Protocol):
    """What a method's file offers."""

    Settings: type[MethodSettings]

    @staticmethod
    def method(settings: Any, inputs: Inputs) -> Draw: ...


@cache
def names() -> tuple[str, ...]:
    """Every method and control there is."""
    return tuple(module.name.replace("_", "-") for module in iter_modules(__path__))


def module_of(name: str) -> str:
    """The dotted name of a method's file."""
    return f"{__name__}.{name.replace('-', '_')}"


def load(name: str) -> Method:
    """The file of a method."""
    return import_module(module_of(name))  # type: ignore[return-value]


def about(name: str) -> type[MethodSettings]:
    """The settings' class of a method."""
    return load(name).Settings


@cache
def schema() -> type[Section]:
    """The section `sample`: the settings of each method that has some; those that `methods` does not name may lack."""
    fields: dict[str, Any] = {
        name.replace("-", "_"): (about(name) | None, Field(default=None, alias=name))
        for name in names()
        if about(name).model_fields
    }
    return create_model("SampleSettings", __base__=Section, **fields)


def settings_of(name: str, section: Section) -> MethodSettings | None:
    """The settings of a method from the section `sample`; None where it needs some that are not there."""
    kind = about(name)
    return getattr(section, name.replace("-", "_")) if kind.model_fields else kind()


def required(pools: Sequence[str], section: Section) -> dict[str, MethodSettings]:
    """The settings of every method whose candidates some pools are made of.

    Args:
        pools: METHOD or METHOD+CORRECTION+..., `methods` of params.yaml.
        section: `sample` of params.yaml.

    Raises:
        UserError: there is no such method, or its settings are missing.
    """
    found = {}
    for name in bases(pools):
        if problem := problem_of(name):
            raise UserError(f"params.yaml: methods: {problem}")
        if (settings := settings_of(name, section)) is None:
            raise UserError(f"params.yaml: sample.{name} is missing, and methods names it; add its settings")
        found[name] = settings
    return found


def problem_of(name: str) -> str | None:
    """What is wrong with the name of a method that does not exist; None for one that does."""
    if name in names():
        return None
    return f"unknown {name!r}{like(name, names())}; expected some of {', '.join(names())}"
