"""The gateway's side: reads sensors, scores them, keeps what it saw, tells central ops."""
