"""What runs a pack: numpy, onnxruntime and tokenizers, nothing else."""

import os

# Since 1.29 onnxruntime tells its maker of each process that loads it, and keeps an identifier in the home folder.
# It looks for this when it is loaded, which no module does before this one. Whoever wants to be counted sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
