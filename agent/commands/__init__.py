"""What ``fieldwatch-agent`` does beside running: check, replay, forecast, follow, probe."""
