"""The documents as PDF, from the same Markdown that is read everywhere else."""
