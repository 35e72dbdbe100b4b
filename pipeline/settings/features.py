"""Section `features`."""

from pydantic import PositiveInt

from pipeline.settings.section import Section


class FeaturesSettings(Section):
    """How the features of a frozen network are computed."""

    batch: PositiveInt
