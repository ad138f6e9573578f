"""Runs, versions and champions, kept in MLflow: the room of everything that knows it.

    Registry ─┬─ run ──> Run: settings, curves, metrics, files
              ├─ register ──> admission ──> files stored, compared ──> Version
              ├─ promotion ──> window that no version has seen ──> scored again ──> Decision
              └─ verify, search, delete

``settings`` has the table ``[registry]``, ``store`` is the only door to MLflow, and ``flavour`` is
what MLflow calls to score a data frame. Nothing here imports MLflow before a registry is opened.
"""
