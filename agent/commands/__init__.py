"""What ``fieldwatch-agent`` does besides running: check, replay, forecast, follow, probe."""
