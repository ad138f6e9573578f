"""The only door to the MQTT client: connections, credentials, and compression."""
