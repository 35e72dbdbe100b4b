"""Networks, heads, loss terms and scores of an OOD-aware classifier. Knows no paths."""
