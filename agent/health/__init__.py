"""What the agent tells of itself: measures, status, metrics, and systemd."""
