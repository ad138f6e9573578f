"""The texts of alarms, in the reader's language: one builder for terminal, page and messages.

    alarm (neutral data) ─sentence, lines─> message (key, parameters) ─language─> text

An alarm is stored and sent as data, with the key and the parameters of its first sentence. So any
language can be made later. A language is a plain table of texts (``english``, ``german``). A plant
adds its own table, which ``catalogue`` checks. This room does no I/O and reads no clock.
"""
