"""defects."""
