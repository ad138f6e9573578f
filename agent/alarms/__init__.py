"""What an alarm says, and the alarms that a forecast raises."""
