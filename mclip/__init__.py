"""mclip: human motion from a sentence (MotionCLIP, ECCV 2022, made usable)."""

__version__ = "0.1.0"
