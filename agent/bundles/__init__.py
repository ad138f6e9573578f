"""Turns a bundle's file into a detector that may score, or says why not."""
