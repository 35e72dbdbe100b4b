"""What stages hand each other: every file format and schema of the project."""
