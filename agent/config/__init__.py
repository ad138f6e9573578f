"""What the gateway is set to: TOML, drop-ins and variables into checked tables.

    files, variables ─layers─> load (tables: broker, inputs, streams) ─checker─> the agent

``load`` reads it as a whole, ``reload`` again while the agent runs; ``reference`` documents it.
"""
