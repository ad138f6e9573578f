"""The command ``fieldwatch-agent alarms``: shows alarms, and sends people's actions to the agent.

``commands`` reads the arguments and prints. ``listed`` reads alarms with their standing, ``table``
and ``shown`` write them for people, ``asked`` sends requests to the agent. Only the agent writes.
"""
