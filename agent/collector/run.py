"""The reference collector: the other side of ``mqtt.acknowledgement = "central"``.

It subscribes to the messages of a site's gateways, writes each once into a database, and
acknowledges it after that. So a gateway deletes nothing that the broker lost. The collector
publishes a retained status that it is online; its last will says that it is offline.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from agent.backoff import Backoff
from agent.collector.answers import is_answer, read_answer
from agent.collector.books import Collected
from agent.collector.enrolled import Enrolled
from agent.collector.quarantine import Entry
from agent.collector.reading import (
    Cause,
    Gone,
    Message,
    Refused,
    Source,
    Status,
    gateway_of,
    is_of_samples,
    read_chunk,
    read_message,
    subscriptions,
)
from agent.collector.reminder import Reminder
from agent.collector.retention import FOREVER, Keeping
from agent.collector.trouble import Trouble
from agent.collector.twins import Twins
from agent.collector.voice import Voice
from agent.config.broker import MqttTable
from agent.config.kinds import CHECK_BEGINS, CHECK_STREAM, topic_name
from agent.defects.threads import Watch
from agent.dialects.received import decoded
from agent.dialects.topics import (
    acknowledged_topic,
    answer_topic,
    central_status_topic,
    gateway_topic,
)
from agent.journal import log_to_stderr
from agent.mqtt.connection import (
    Acknowledged,
    Connected,
    Connection,
    ConnectionEvent,
    LinkError,
    Lost,
    NoTopic,
    Received,
    Subscribed,
    TooLarge,
)
from agent.mqtt.payload import BYTES_MAX
from agent.mqtt.version import Version
from models.errors import ConfigError, StoreError
from models.keys import SecretKey, ed25519, read_secret
from models.printable import printable
from models.settings import explain

if TYPE_CHECKING:
    from agent.collector.tidying import Keeping as SamplesKeeping

_LOG = logging.getLogger(__name__)

_COMMIT_S = 0.2  # messages within this time are written and acknowledged together
_ROWS_MAX = 500
_WAITING_MAX = 20_000
_TELL_S = 60.0  # between two log messages about the same thing
_ONLINE: Final = b'{"state":"online"}'
_ONLINE_FOR_SAMPLES: Final = b'{"state":"online","samples":true}'
_OFFLINE: Final = b'{"state":"offline"}'


class _Tally:
    """Counts frequent events, and logs their number: at once, then once a minute."""

    def __init__(self, told: str) -> None:
        self._told = told
        self._count, self._last = 0, ""
        self._next_s = -math.inf  # monotonic

    def add(self, count: int, which: str) -> None:
        self._count += count
        self._last = which

    def tell(self) -> None:
        now_s = time.monotonic()
        if self._count and now_s >= self._next_s:
            _LOG.warning(self._told, self._count, self._last)
            self._count, self._next_s = 0, now_s + _TELL_S


class Collector:
    """Collects the messages of one site's gateways."""

    def __init__(
        self,
        settings: MqttTable,
        site: str,
        directory: Path,
        on_message: Callable[[Message], None] = lambda message: None,
        keeping: Keeping = FOREVER,
        enrolled: Enrolled | None = None,
        key: SecretKey | None = None,
        samples: SamplesKeeping | None = None,
    ) -> None:
        """Set up; ``samples`` is how much is kept of samples; None: none are taken."""
        self._settings = settings
        self._samples = samples
        self._enrolled = enrolled  # None: no gateway's signature can be checked
        self._key = key  # None: messages to gateways are not signed
        self._keeping = keeping
        self.site = site
        self._directory = directory
        self._on_message = on_message
        self._version = Version(settings.protocol)
        self._stopping = threading.Event()
        self.backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        # new, far, repeated, corrected, conflict, gone, rejected, dropped, forgotten, twins,
        # overwritten; of samples: samples, chunks_repeated, samples_answered, samples_filed,
        # samples_repeated, files_dropped
        self.counters: Counter[str] = Counter()
        self.rejected: Counter[Cause] = Counter()
        self._twins = Twins()
        self._twins_log = _Tally(
            "%d times a gateway connected under a name that another gateway uses, too; the last"
            " one is %s. Is one gateway a copy of the other?"
        )
        self._gone_log = _Tally("%d messages are gone at their gateway; the last ones are %s")
        self._dropped_log = _Tally("%d old messages dropped, %s")
        self._forgotten_log = _Tally(
            "%d books of numbers dropped or cut to save space; the last one is that of %s"
        )
        self._overwritten_log = _Tally(
            "%d times another client published the collector's status; the last time on %s"
        )
        self._far_log = _Tally(
            "%d numbers are far above all others of their gateway, and are not acknowledged until"
            " its other numbers are near; the last one is %s"
        )
        self._conflict_log = _Tally(
            "%d messages differ from the stored message with their number; both are kept, see"
            " fieldwatch-agent collected; the last one is %s"
        )
        self._unfiled_log = _Tally("samples not written to files, trying again (%d times): %s")
        self._files_dropped_log = _Tally("%d files with samples dropped, %s")
        self._rejected_logs: dict[Cause, _Tally] = {}
        self._key_reminder = Reminder("this collector's key is no longer revoked")
        self._trouble = Trouble(directory)

    def stop(self) -> None:
        """Make ``run`` return soon; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Collect until ``stop``.

        Raises:
            StoreError: the database cannot be used; only messages in it were acknowledged.

        """
        with Collected(self._directory, self.site, self._keeping, self._samples) as collected:
            voice = Voice(self._key, collected)
            while not self._stopping.is_set():
                try:
                    self._connect_and_collect(collected, voice)
                except LinkError as error:
                    if not self._stopping.is_set():
                        _LOG.warning("link lost: %s; trying again", error)
                    self.backoff.failed()
                self._stopping.wait(self.backoff.wait_s())
            while self.file_samples(collected, all_of_it=True):
                pass

    def _connect_and_collect(self, collected: Collected, voice: Voice) -> None:
        connection = Connection(
            self._settings,
            f"fieldwatch-collector-{self.site}",
            self._version.now,
            received_bytes_max=BYTES_MAX,
            received_waiting_max=_WAITING_MAX,
        )
        status = central_status_topic(self.site)
        state = _ONLINE if self._samples is None else _ONLINE_FOR_SAMPLES
        online, offline = voice.say(status, state), voice.say(status, _OFFLINE)  # in this order
        try:
            connection.open(status, offline)
            broker = self._version.answer(connection, self._stopping)
            if broker is None:
                return
            _LOG.info("collecting from %s", self.site)
            statuses = connection.subscribe([gateway_topic(self.site, "+", "status")])
            topics = subscriptions(self.site, self._samples is not None)
            connection.subscribe([*topics, status])
            answers = None
            if self._samples is not None:
                answers = connection.subscribe([answer_topic(self.site, "+")])
            connection.publish(status, online, retain=True)
            optional = _Optional(statuses, answers)
            self._collect(_Collecting(self, connection, broker, collected, voice, optional, online))
            connection.publish(status, offline, retain=True)
        finally:
            connection.close(politely=self._stopping.is_set())

    def _collect(self, collecting: _Collecting) -> None:
        began_s = time.monotonic()
        try:
            collecting.until(self._stopping)
        finally:
            self.backoff.lasted(time.monotonic() - began_s)

    def take(self, received: Received, collected: Collected) -> None:
        """Take in a gateway's message; count and quarantine it if it is refused."""
        topic = received.topic
        body = received.body
        if topic == central_status_topic(self.site) or (not body and topic.endswith("/status")):
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
            said = read_message(topic, body, self.site)
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
            chunk = read_chunk(topic, head, data, self.site)
            new = collected.take_samples(chunk, collected.samples)
            self.counters["samples"] += new
            self.counters["chunks_repeated"] += not new
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
            answered = read_answer(topic, body, self.site)
            if answered is not None:
                collected.samples.take_answer(answered)
                self.counters["samples_answered"] += len(answered.samples.times)
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
            self._unfiled_log.add(1, str(error))
            return False
        self.counters["samples_filed"] += count
        self.counters["samples_repeated"] = collected.samples.repeated
        if dropped:
            self.counters["files_dropped"] += dropped
            self._files_dropped_log.add(dropped, "by --samples-days-max or --samples-bytes-max")
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
                    self.counters["gone"] += last - first + 1
                    self._gone_log.add(last - first + 1, f"{source.gateway}: {first} to {last}")

    def _look_for_twins(self, gateway: str, status: bytes) -> None:
        if (two := self._twins.heard(gateway, status)) is not None:
            self.counters["twins"] += 1
            self._twins_log.add(1, printable(two))

    def _file(self, message: Message, collected: Collected) -> None:
        taken = collected.take(message)
        self.counters[taken] += 1
        which = f"{message.seq} of {message.source.gateway}"
        if taken == "far":
            self.counters["new"] += 1
            self._far_log.add(1, which)
        elif taken == "conflict":
            self._conflict_log.add(1, which)

    def overwritten(self) -> None:
        """Count that another client published our status."""
        self.counters["overwritten"] += 1
        self._overwritten_log.add(1, central_status_topic(self.site))

    def reject(
        self, topic: str, cause: Cause, why: str, collected: Collected, body: bytes = b""
    ) -> None:
        """Count a message that cannot be used, and put it into the quarantine."""
        self.counters["rejected"] += 1
        self.rejected[cause] += 1
        log = self._rejected_logs.setdefault(
            cause, _Tally(f"%d messages rejected, {cause}; the last one is on %s")
        )
        shown = printable(topic)
        log.add(1, f"{shown}: {why}")
        collected.quarantine.add(Entry(gateway_of(topic) or "", cause, printable(why), shown, body))

    def drop_old(self, collected: Collected) -> None:
        """Delete messages that are too old or too many."""
        count = collected.drop_old()
        if forgotten := collected.shelf.forgotten():
            self.counters["forgotten"] += len(forgotten)
            self._forgotten_log.add(len(forgotten), " in epoch ".join(forgotten[-1]))
        if not count:
            return
        self.counters["dropped"] += count
        self._dropped_log.add(count, "by --days-max or --bytes-max")

    def renew(self) -> None:
        """Read the keys of gateways again if they changed; report if our key is revoked."""
        trouble = None
        if self._enrolled is not None:
            self._enrolled.renew()
            if self._key is not None and (why := self._enrolled.why_revoked(self._key)) is not None:
                trouble = _revoked(self._key, why)
        self._trouble.look(trouble)
        self._key_reminder.look(trouble)

    def tell(self) -> None:
        """Log the counts now and then."""
        self._gone_log.tell()
        self._dropped_log.tell()
        self._forgotten_log.tell()
        self._far_log.tell()
        self._conflict_log.tell()
        for log in self._rejected_logs.values():
            log.tell()
        self._twins_log.tell()
        self._overwritten_log.tell()
        self._unfiled_log.tell()
        self._files_dropped_log.tell()

    def committed(self, messages: list[Message]) -> None:
        """Pass on messages that are on the disk."""
        for message in messages:
            self._on_message(message)


class _Optional(NamedTuple):
    """Packet identifiers of the subscriptions that the broker may refuse."""

    statuses: int
    answers: int | None  # to commands; None: without samples


class _Collecting:
    """Collects on one connection."""

    def __init__(
        self,
        collector: Collector,
        connection: Connection,
        broker: Connected,
        collected: Collected,
        voice: Voice,
        optional: _Optional,
        online: bytes,
    ) -> None:
        self._voice = voice
        self._status_topic, self._online = central_status_topic(collector.site), online
        self._overwritten = False  # whether another client replaced our retained status
        self._collector = collector
        self._connection = connection
        self._collected = collected
        self._site = collector.site
        self._window = max(1, broker.receive_maximum - 1)  # the status needs one too
        self._in_flight: set[int] = set()
        self._to_tell: dict[Source, None] = {}
        self._taken = 0
        self._optional = optional

    def until(self, stopping: threading.Event) -> None:
        """Collect until ``stopping`` is set.

        Raises:
            LinkError: the connection is gone.
            StoreError: the database cannot be written.

        """
        while not stopping.is_set():
            deadline = time.monotonic() + _COMMIT_S
            while time.monotonic() < deadline and not self._is_full():
                self._take_in(deadline - time.monotonic())
            self._commit()
        self._commit()

    def _is_full(self) -> bool:
        samples = self._collected.samples
        if samples is not None and samples.is_full:
            return True
        return self._taken >= _ROWS_MAX or self._collected.shelf.is_full()

    def _take_in(self, wait_s: float) -> None:
        try:
            self._take(self._connection.events.get(timeout=max(0.0, wait_s)))
        except Empty:
            return

    def _take(self, event: ConnectionEvent) -> None:
        match event:
            case Lost(reason):
                raise LinkError(reason)
            case Subscribed(str(refusal), packet) if packet == self._optional.answers:
                _LOG.warning("samples in answers to commands are not stored: %s", refusal)
            case Subscribed(str(refusal), packet) if packet != self._optional.statuses:
                raise LinkError(f"the broker refuses the subscription: {refusal}")
            case Acknowledged(packet=packet):
                self._in_flight.discard(packet)
            case Received(topic=topic, body=body, retained=old) if topic == self._status_topic:
                self._take_own_status(body, old)
            case Received() as received:
                self._taken += 1
                self._collector.take(received, self._collected)
            case NoTopic():
                self._taken += 1
                self._collector.reject("?", "unreadable", "its topic is not text", self._collected)
            case TooLarge(topic=topic, size_bytes=size_bytes):
                self._taken += 1
                why = f"{size_bytes} bytes are too large"
                self._collector.reject(topic, "too_large", why, self._collected)

    def _take_own_status(self, body: bytes, retained: bool) -> None:
        """Check who published our status; reconnect if gateways would refuse our counters."""
        if not retained:
            self._overwritten |= body != self._online
        elif self._voice.behind(self._status_topic, body, self._online):
            raise LinkError(
                "the broker has a status that this key signed with a higher counter, and gateways"
                " refuse lower ones; the counters now continue above it. Is the clock slow? Or does"
                " another collector of this site use the key?"
            )

    def _commit(self) -> None:
        """Write, pass on, acknowledge, in this order: only stored messages are acknowledged."""
        self._collector.tell()
        self._collector.renew()
        self._hold_status()
        if self._taken:
            self._collector.committed(self._collected.commit())
            self._to_tell |= dict.fromkeys(self._collected.touched())
            self._taken = 0
        self._collector.drop_old(self._collected)
        self._tell_gateways()
        self._collector.file_samples(self._collected)

    def _tell_gateways(self) -> None:
        while self._to_tell and len(self._in_flight) < self._window:
            source = next(iter(self._to_tell))
            del self._to_tell[source]
            topic = acknowledged_topic(self._site, source.gateway)
            body = self._voice.say(topic, self._collected.acknowledgement(source))
            packet = self._connection.publish(topic, body, retain=True)
            if packet is None:
                raise LinkError("the connection is gone")
            self._in_flight.add(packet)

    def _hold_status(self) -> None:
        """Publish our status again, unchanged, if another client replaced it.

        Otherwise a gateway that connects later would not see it, and would keep its backlog.
        """
        if self._overwritten:
            self._overwritten = False
            self._collector.overwritten()
            self._connection.publish(self._status_topic, self._online, retain=True)


def _check_parquet() -> None:
    from agent.collector.parquet import missing  # loads numpy

    if (reason := missing()) is not None:
        raise ConfigError(f"--samples: {reason}")


def _revoked(key: SecretKey, why: str) -> str:
    return (
        f"this collector's key {key.key_id.hex()} is revoked{f': {why}' if why else ''}. Gateways"
        " that know this ignore this collector's messages, and keep their own. The collector still"
        f" stores messages. Make a new key, and start the collector with it: {key.source}"
    )


def document(message: Message) -> dict[str, Any]:
    """Return a message for a program, with its topic."""
    topic = {"topic": message.topic}
    body: dict[str, Any] = json.loads(message.body)
    return topic | body | topic  # the topic comes first, and ours replaces the body's


def run(
    site: str,
    directory: Path,
    broker: dict[str, Any],
    on_message: Callable[[Message], None],
    keeping: Keeping,
    keys: Path | None = None,
    key: Path | None = None,
    require_signatures: bool = False,
    samples: SamplesKeeping | None = None,
) -> None:
    """Collect until SIGTERM or SIGINT; ``broker`` has settings of the table ``[mqtt]``.

    ``keys`` is the directory of the public keys that the collector trusts, ``key`` its own secret
    key. With ``require_signatures`` it accepts only gateways that have a key there. ``samples`` is
    how much is kept of samples; None: none are taken.

    Raises:
        ConfigError: the settings contradict each other, the site's name is invalid, or a key
            cannot be read.
        StoreError: the database cannot be used.
        Defect: a defect ended a thread.

    """
    try:
        settings = MqttTable.model_validate(broker)
    except ValidationError as error:
        raise ConfigError("; ".join(explain(MqttTable, error))) from error
    try:
        topic_name(site)
    except ValueError as error:
        raise ConfigError(f"site = {printable(site)!r}: {error}") from error
    if require_signatures and keys is None:
        raise ConfigError("--require-signatures needs --keys: the keys of the gateways")
    if samples is not None:
        _check_parquet()
    log_to_stderr("%(levelname)s %(message)s", logging.INFO)
    enrolled = None if keys is None else Enrolled(keys, site, require_signatures)
    secret = None if key is None else read_secret(key, "collector")
    if secret is None:
        _LOG.warning("without --key, messages to gateways are not signed")
    else:
        ed25519()
        if enrolled is not None and enrolled.why_revoked(secret) is not None:
            raise ConfigError(f"{key}: this key is revoked in {keys}; make a new one")
        _LOG.info("messages to gateways are signed with key %s", secret.key_id.hex())
    collector = Collector(settings, site, directory, on_message, keeping, enrolled, secret, samples)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.stop())
    with Watch(collector.stop):
        collector.run()
