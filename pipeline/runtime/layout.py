"""Where every artefact lives, relative to the project's folder. The same paths are in dvc.yaml."""

from pathlib import Path

FINGERPRINTS = Path("data/fingerprints")
IMAGES = Path("data/images")
FEATURES = Path("data/features")
LATENTS = Path("data/latents")
CANDIDATES = Path("data/candidates")
OUTLIERS = Path("data/outliers")
CONTROLS = Path("data/controls")
MODELS = Path("data/models")
WEIGHTS = Path("data/weights")
CLASSIFIERS = MODELS / "recipes"
CURVES = Path("data/curves")
HOLD_OUT = Path("data/hold_out")
OUTPUTS = Path("data/outputs")
TIMINGS = Path("data/timings")
METRICS_DIR = Path("metrics")
REPORT = Path("report")
OWN = (Path("data"), METRICS_DIR, REPORT)  # all that a stage may replace
