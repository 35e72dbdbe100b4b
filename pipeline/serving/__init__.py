"""A trained model at work: judging images, and leaving PyTorch."""
