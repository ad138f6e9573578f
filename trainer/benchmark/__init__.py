"""The benchmark on public recordings: it trains, exports and scores all detectors the same way.

``counts`` compares detections with labels. All detections come from ``models.pipeline`` or from the
detectors of ``models``. Labels are read only after detection.
"""
