"""From ID images to outliers: models, samplers, filters. Knows no paths and no params.yaml."""
