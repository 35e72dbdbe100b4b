"""Section `recipes`: what each classifier learns from. A term that is not named is not there; nothing is implied."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from pipeline.settings.heads import HeadSettings, LinearSettings
from pipeline.settings.section import Section, Share
from pipeline.settings.virtual import VirtualSettings


class OutlierExposure(Section):
    """Uniform softmax on outliers (Hendrycks et al. 2019)."""

    weight: PositiveFloat
    temperature: PositiveFloat


class EnergyRegularization(Section):
    """Energies of ID images below one bound, of outliers above another (Liu et al. 2020)."""

    weight: PositiveFloat
    margin_in: float
    margin_out: float


class LogitDistillation(Section):
    """The teacher's softened softmax on ID images (Hinton et al. 2015)."""

    weight: PositiveFloat
    temperature: PositiveFloat


class FeatureDistillation(Section):
    """The teacher's features on ID images: squared error (Romero et al. 2015), the same of what is orthogonal to its
    classes (`residual`, arXiv 2603.11269), or KL of their softmaxes (OAL)."""

    weight: PositiveFloat
    loss: Literal["mse", "residual", "kl"] = "mse"


class Micl(Section):
    """Mutual information between ID features and outliers (OAL): its weight, the estimator and how it is fitted.

    Attributes:
        pairing: the outlier that an ID image is paired with: one of its class that is like it, both without their class
            means (`within-class`); any one of its class, which opposes classification (`class`); or any one at all, of
            which it says nothing, as in OAL's code (`random`).
        vectors: what is known of an outlier: its latent and the teacher's features of its image, or the latent alone,
            for which no outlier has to be decoded.
    """

    weight: PositiveFloat
    pairing: Literal["within-class", "class", "random"] = "within-class"
    vectors: Literal["latents-and-features", "latents"] = "latents-and-features"
    estimator: Literal["club", "infonce"]
    fitting_steps: PositiveInt
    learning_rate: PositiveFloat

    @property
    def needs_features(self) -> bool:
        """Outliers have to be decoded and shown to the teacher."""
        return self.pairing == "within-class" or self.vectors == "latents-and-features"


class Terms(Section):
    """The last layer, the cross-entropy's label smoothing (Szegedy et al. 2016), the terms beside it, and the outliers
    that are made for these in every batch."""

    head: HeadSettings = LinearSettings(kind="linear")
    label_smoothing: Share = 0.0
    virtual_outliers: VirtualSettings | None = None
    outlier_exposure: OutlierExposure | None = None
    energy_regularization: EnergyRegularization | None = None
    logit_distillation: LogitDistillation | None = None
    feature_distillation: FeatureDistillation | None = None
    micl: Micl | None = None

    @property
    def shows_outliers(self) -> bool:
        """Some term is of outlier images in the batch."""
        return self.outlier_exposure is not None or self.energy_regularization is not None

    @property
    def needs_teacher(self) -> bool:
        """Some term is of the teacher."""
        distils = self.logit_distillation is not None or self.feature_distillation is not None
        return distils or (self.micl is not None and self.micl.needs_features)


class Recipe(Terms):
    """Terms, and the auxiliary images beside the ID images: shares by method, or a list of methods in equal shares."""

    auxiliary: dict[str, PositiveInt] = Field(default_factory=dict)

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _equal_shares(cls, named: Any) -> Any:
        if not isinstance(named, list):
            return named
        if twice := [name for name, times in Counter(map(str, named)).items() if times > 1]:
            raise ValueError(f"{', '.join(twice)} named twice; expected NAME: SHARE of each where shares differ")
        return dict.fromkeys(named, 1)

    def counts(self, total: int) -> dict[str, int]:
        """How many images of each auxiliary method make up a total."""
        whole = sum(self.auxiliary.values())
        return {method: total * share // whole for method, share in self.auxiliary.items()}

    def misfit(self, has_outliers: bool, has_id_images: bool, has_parents: bool) -> str | None:
        """What of the auxiliary images and the terms does not go together; None if all does.

        Args:
            has_outliers: some of the auxiliary images are outliers.
            has_id_images: some are further ID images.
            has_parents: some were made from an ID class.
        """
        terms = ("outlier_exposure", "energy_regularization", "micl")
        used = [term for term in terms if getattr(self, term) is not None]
        if self.virtual_outliers is not None:
            if not self.shows_outliers:
                return "virtual_outliers, and no term that sees them; add outlier_exposure or energy_regularization"
            if self.virtual_outliers.kind == "around" and not has_outliers:
                return "virtual_outliers around others, and there are none; name some under auxiliary"
            has_outliers = True
        if has_outliers and not used:
            return f"outliers, and no term that uses them; add {', '.join(terms)}, or name no outliers"
        if used and not has_outliers:
            return f"{' and '.join(used)} without outliers; name some under auxiliary, or remove the term"
        if used == ["micl"] and has_id_images:
            return "micl alone shows the network no image; name outlier methods alone, or add outlier_exposure"
        if self.micl is not None and not has_parents:
            return "micl needs outliers made from ID classes; name a method with parents, such as boundary or mixup"
        return None


# a folder's name, and a key that DVC can address
RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
Recipes = Annotated[dict[RecipeName, Recipe], Field(min_length=1)]
