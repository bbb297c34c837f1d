"""From a trained model to a pack."""
