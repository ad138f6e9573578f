"""The main job with nothing to set up: pump -> serial line -> agent -> SQLite -> MQTT -> ops.

Only the pump is simulated. The agent is the real one, a process of its own that reads a real
(pseudo-)terminal, scores with the reference bundle and publishes to a real broker.
"""
