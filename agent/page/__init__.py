"""The local page for maintenance staff, a process of its own."""
