"""The training of a recipe: its inputs, its classifier and the score it ships with, for all classes or for some."""
