"""Many streams at once: one configuration, a bundle for each stream.

    config ─> plan ─> pool (processes here, or Dask) ─> stream: prepare ─> train ─> register
                           │                            shared: one network for a type
                           └> run: what happened ─> overview, records, summary

``stream`` and ``shared`` have the work, and run in a worker. All else runs in the command.
"""
