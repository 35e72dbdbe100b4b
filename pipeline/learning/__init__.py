"""Stage two's science: training and distilling an OOD-aware classifier. Knows no paths."""
