"""The trainer: from recordings of normal operation to the bundle that gateways run.

    datasets ─> prepare ─> fit ─> export ─> calibrate ─> parity ─> evaluate ─> seal ─> report
                           (networks)       └── through models.pipeline, on the .tflite ──┘

``prepared`` reads and prepares the data: ``leakage`` refuses parts that repeat each other, and
``lineage`` digests what is used. ``survey`` proposes a configuration for data, ``examine`` and
``data_report`` describe it without a training. ``train`` wires all of them, and ``reproduce``
repeats a training from its bundle. ``registry`` keeps trainings and bundles in MLflow. TensorFlow
is known to ``networks``, ``fit`` and ``export`` only.
"""
