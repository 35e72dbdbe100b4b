"""Detectors, metrics and statistics, by the field's conventions. Knows no paths."""
