"""What the collector does with each message: takes it in, or counts and quarantines it."""

from __future__ import annotations

import time
from collections import Counter

from agent.collector.answers import is_answer, read_answer
from agent.collector.books import Collected
from agent.collector.counts import Counts
from agent.collector.enrolled import Enrolled
from agent.collector.quarantine import Entry
from agent.collector.reading import (
    Cause,
    Gone,
    Message,
    Refused,
    Status,
    check_times,
    gateway_of,
    is_of_samples,
    read_chunk,
    read_message,
)
from agent.collector.twins import Twins
from agent.config.kinds import CHECK_BEGINS, CHECK_STREAM
from agent.dialects.received import decoded
from agent.dialects.topics import central_status_topic
from agent.mqtt.connection import Received
from models.errors import StoreError
from models.printable import printable


class Taking:
    """Takes in the messages of a site's gateways; what it takes in is committed by others.

    Args:
        site: of the gateways.
        counts: what happens is counted there.
        enrolled: the keys of the gateways; None: no signature can be checked.

    """

    def __init__(self, site: str, counts: Counts, enrolled: Enrolled | None) -> None:
        self._site, self._counts, self._enrolled = site, counts, enrolled
        self._twins = Twins()

    @property
    def _counters(self) -> Counter[str]:
        return self._counts.counters

    def take(self, received: Received, collected: Collected) -> None:
        """Take in a gateway's message; count and quarantine it if it is refused."""
        topic = received.topic
        body = received.body
        if topic == central_status_topic(self._site) or (not body and topic.endswith("/status")):
            return  # our own status, or one that somebody cleared
        if topic.endswith(f"/alarm/{CHECK_STREAM}") or body.startswith(CHECK_BEGINS):
            return  # of `fieldwatch-agent check`
        if is_of_samples(topic):
            self._take_samples(topic, body, collected)
            return
        if is_answer(topic):
            self._take_answer(topic, body, collected)
            return
        try:
            body = self._decoded(body)
            if self._enrolled is not None:
                self._enrolled.check(topic, body)
            said = read_message(topic, body, self._site)
            if isinstance(said, Status):
                self._look_for_twins(said.source.gateway, body)
            self._keep(said, collected)
        except Refused as error:
            self.reject(topic, error.cause, str(error), collected, body)

    def _take_samples(self, topic: str, body: bytes, collected: Collected) -> None:
        if collected.samples is None:
            return  # of an earlier subscription
        from agent.dialects.samples import Refused as NoSamples
        from agent.dialects.samples import parted

        try:
            head, data = parted(body)
            if self._enrolled is not None:
                self._enrolled.check(topic, head)
            chunk = read_chunk(topic, head, data, self._site)
            check_times(chunk.samples, time.time())
            new = collected.take_samples(chunk, collected.samples)
            self._counters["samples"] += new
            self._counters["chunks_repeated"] += not new
        except NoSamples as error:
            self.reject(topic, "unreadable", str(error), collected, body)
        except Refused as error:
            kept = b"" if error.cause == "no_room" else body  # its gateway sends it again
            self.reject(topic, error.cause, str(error), collected, kept)

    def _take_answer(self, topic: str, body: bytes, collected: Collected) -> None:
        if collected.samples is None:
            return  # of an earlier subscription
        try:
            if self._enrolled is not None:
                self._enrolled.check(topic, body)
            answered = read_answer(topic, body, self._site)
            if answered is not None:
                check_times(answered.samples, time.time())
                collected.samples.take_answer(answered)
                self._counters["samples_answered"] += len(answered.samples.times)
        except Refused as error:
            self.reject(topic, error.cause, str(error), collected, body)

    def file_samples(self, collected: Collected, all_of_it: bool = False) -> bool:
        """Write some samples to files if that is due, and drop old files; return whether any."""
        if collected.samples is None:
            return False
        try:
            count = collected.samples.file_some(all_of_it)
            dropped = collected.samples.drop_old()
        except StoreError as error:
            self._counts.tell_of("unfiled", str(error))
            return False
        for entry in collected.samples.damaged():
            self._counts.add("chunks_damaged", f"{entry.topic}: {entry.reason}")
        self._counters["samples_filed"] += count
        self._counters["samples_repeated"] = collected.samples.repeated
        if dropped:
            why = "by --samples-days-max or --samples-bytes-max"
            self._counts.add("files_dropped", why, dropped)
        return bool(count)

    @staticmethod
    def _decoded(body: bytes) -> bytes:
        try:
            return decoded(body)
        except (ValueError, RecursionError) as error:
            raise Refused("unreadable", str(error)) from error

    def _keep(self, said: Message | Gone | Status, collected: Collected) -> None:
        match said:
            case Message():
                self._file(said, collected)
            case Status(source, seq):
                collected.hear(source, seq)
            case Gone(source, ranges):
                try:
                    missing = collected.forgo(source, ranges)
                except ValueError as error:
                    raise Refused("implausible", str(error)) from error
                for first, last in missing:
                    which = f"{source.gateway}: {first} to {last}"
                    self._counts.add("gone", which, last - first + 1)

    def _look_for_twins(self, gateway: str, status: bytes) -> None:
        if (two := self._twins.heard(gateway, status)) is not None:
            self._counts.add("twins", printable(two))

    def _file(self, message: Message, collected: Collected) -> None:
        taken = collected.take(message)
        self._counters[taken] += 1
        which = f"{message.seq} of {message.source.gateway}"
        if taken == "far":
            self._counters["new"] += 1
            self._counts.tell_of("far", which)
        elif taken == "conflict":
            self._counts.tell_of("conflict", which)

    def reject(
        self, topic: str, cause: Cause, why: str, collected: Collected, body: bytes = b""
    ) -> None:
        """Count a message that cannot be used, and put it into the quarantine."""
        shown = printable(topic)
        self._counts.reject(cause, f"{shown}: {why}")
        collected.quarantine.add(Entry(gateway_of(topic) or "", cause, printable(why), shown, body))

    def drop_old(self, collected: Collected) -> None:
        """Delete messages that are too old or too many."""
        count = collected.drop_old()
        if forgotten := collected.shelf.forgotten():
            which = " in epoch ".join(forgotten[-1])
            self._counts.add("forgotten", which, len(forgotten))
        if count:
            self._counts.add("dropped", "by --days-max or --bytes-max", count)
