"""Loads a bundle file into a trusted detector, or refuses it with the reason."""
