"""Reports on the agent itself: measurements, status, metrics, and systemd notifications."""
