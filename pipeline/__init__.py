"""Penumbra: make the outliers a classifier has never seen, and teach the classifier to know them."""

__version__ = "0.1.0"
STAGES = (
    "fingerprint", "prepare", "autoencoder", "encode", "teacher", "boundary", "crossing", "diffusion", "embedding",
    "mixup", "shards", "train", "infer", "score", "report",
)  # fmt: skip
