"""The groups of the command line besides the stages: models, and outlier datasets."""
