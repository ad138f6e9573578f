"""The only door to the MQTT client: connections, credentials, and the form of a payload."""
