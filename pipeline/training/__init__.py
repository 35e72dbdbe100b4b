"""The training loop, checkpoints and data loaders: every network of the project is fitted by these."""
