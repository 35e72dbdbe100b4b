"""Stage one's science: from ID images to outliers. Knows no paths and no params file."""
