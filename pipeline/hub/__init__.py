"""Datasets and models from hand to hand: check, merge, upload, download."""
