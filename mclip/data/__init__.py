"""Motion files and captions into one store, and batches out of it."""
