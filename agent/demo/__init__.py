"""The demo: pump -> serial line -> agent -> SQLite -> MQTT -> ops, without any setup.

Only the pump is simulated. The agent is the real one. It runs as a separate process, reads a
pseudo-terminal, scores with the reference bundle, and publishes to a real broker.
"""
