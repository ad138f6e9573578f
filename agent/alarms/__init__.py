"""The contents of alarms, and the alarms of limits: by forecasts and by measured values."""
