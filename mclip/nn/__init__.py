"""The model, its losses and its teachers, in PyTorch."""
