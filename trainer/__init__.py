"""The trainer: from recordings of normal operation to the bundle that gateways run.

    datasets ─> prepare ─> fit ─> export ─> calibrate ─> parity ─> evaluate ─> seal ─> report
                           (networks)       └── through models.pipeline, on the .tflite ──┘

``train`` wires them. ``survey`` proposes a configuration for data. TensorFlow is known to
``networks``, ``fit`` and ``export`` only.
"""
