"""What every stage runs on: errors, progress, processes, atomic files, resumable work, the layout of data/."""
