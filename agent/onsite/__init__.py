"""What tells people on site of alarms, without central ops.

    loop ─transitions─> hooks ─notices─> batch ─> store ─┐
      ▲                                                  │ reads only
      └─settled─ one worker thread for each hook <───────┘ ─> program, web server

``hooks`` is what the loop sees, ``choice`` says which transitions a hook gets, ``worker`` delivers
its notices in a thread, by ``command`` or ``webhook``. The loop never waits for a worker, and no
worker for another. Nothing here runs if the configuration has no table ``on_site``.
"""
