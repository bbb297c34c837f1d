"""Motions made visible: contact sheets of the body."""
