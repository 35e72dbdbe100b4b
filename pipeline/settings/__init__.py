"""params.yaml: its reader, its sections and the rules between them. Imports no torch."""
