"""What runs a pack: numpy, onnxruntime and tokenizers, nothing else."""
