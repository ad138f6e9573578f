"""The benchmark on public recordings: detectors trained, exported and scored the same way.

``counts`` says what a detection is worth against a label; everything it counts comes through
``models.pipeline`` or the detectors of ``models``, and labels are read only after detecting.
"""
