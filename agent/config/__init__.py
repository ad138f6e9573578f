"""The gateway's configuration: TOML, drop-ins and variables become checked tables.

    files, variables ─layers─> load (tables: broker, inputs, streams) ─checker─> the agent

``load`` reads it as a whole, ``reload`` again while the agent runs; ``reference`` documents it.
"""
