"""What tells people on site of alarms, without central ops.

    loop ─transitions─> hooks ─notices─> batch ─> store ─┐
      ▲                                                  │ reads only
      └─settled─ one worker thread for each hook <───────┘ ─> program, web server

``hooks`` is what the loop sees, ``choice`` says which transitions a hook gets, ``worker`` delivers
its notices in a thread, by ``command`` or ``webhook``. ``panels`` shows the present state on a
broker on site: ``view`` is the state, ``discovery`` describes it to Home Assistant, and ``panel``
is the thread. The loop never waits for a thread of this room, and none of them for another. Nothing
here runs if the configuration has no table ``on_site``.
"""
