"""Training: recipe and store to a run directory."""
