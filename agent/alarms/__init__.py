"""What an alarm says, and the alarms that limits raise: by forecasts and by measured values."""
