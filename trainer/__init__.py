"""The trainer: from recordings of normal operation to the bundle that gateways run.

    datasets ─> prepare ─> fit ─> export ─> calibrate ─> seal ─> evaluate ─> gates ─> report
                           └─ a family of models ─┘             └─ the sealed file ─┘

``prepared`` reads and prepares the data: ``leakage`` refuses parts that repeat each other, and
``lineage`` digests what is used. ``survey`` proposes a configuration for data, ``examine`` and
``data_report`` describe it without a training. ``families`` has the one interface of the families:
``detector`` is the one with a network, ``hampel`` the one without, and packages add others.
``train`` wires all of them, ``reproduce`` repeats a training from its bundle, and ``tune`` searches
settings. ``registry`` keeps trainings and bundles in MLflow. TensorFlow is known to ``networks``,
``fit`` and ``export`` only.
"""
