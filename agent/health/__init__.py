"""What the agent reports about itself: measurements, status, metrics, and systemd."""
