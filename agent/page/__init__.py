"""The local page: a web page for the people at the machine, in a process of its own.

    browser ──HTTP──> access ─> app ─┬─> views ──one thread──> store, read only
       ^                             ├─> actions ──> control socket of the agent
       └──server-sent                ├─> charts ──pipe──> worker (numpy, interpreter)
          events <── watch ──────────┘

The agent neither knows nor needs this process. The page changes nothing itself: it asks the agent
through the control socket, as the commands do. Charts and forecasts are computed by a worker
process that ends when nobody looks, so this process loads neither numpy nor an interpreter.
``limits``, ``security`` and ``access`` are between browsers and views: what a client may take, what
browsers are told, and who may see and do what. ``commands`` is the command ``page``.
"""
