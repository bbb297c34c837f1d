"""Joints, parents, forward kinematics, and motion from other rigs."""
