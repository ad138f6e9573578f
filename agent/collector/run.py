"""The reference collector: the other side of ``mqtt.acknowledgement = "central"``.

It subscribes to the messages of a site's gateways, writes each once into a database, and
acknowledges it after that. So a gateway deletes nothing that the broker lost. The collector
publishes a retained status that it is online; its last will says that it is offline.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from agent.backoff import Backoff
from agent.collector.books import Collected
from agent.collector.counts import Counts
from agent.collector.enrolled import Enrolled
from agent.collector.link import Collecting, MayBeRefused
from agent.collector.reading import (
    Cause,
    Message,
    subscriptions,
)
from agent.collector.reminder import Reminder
from agent.collector.retention import FOREVER, Keeping
from agent.collector.taking import Taking
from agent.collector.trouble import Trouble
from agent.collector.voice import Voice
from agent.config.broker import MqttTable
from agent.config.kinds import topic_name
from agent.defects.threads import Watch
from agent.dialects.topics import (
    answer_topic,
    central_status_topic,
    gateway_topic,
)
from agent.journal import log_to_stderr
from agent.mqtt.connection import (
    Connection,
    LinkError,
    Received,
)
from agent.mqtt.payload import BYTES_MAX
from agent.mqtt.version import Version
from models.errors import ConfigError
from models.keys import SecretKey, ed25519, read_secret
from models.printable import printable
from models.settings import explain

if TYPE_CHECKING:
    from agent.collector.tidying import Keeping as SamplesKeeping

_LOG = logging.getLogger(__name__)

_WAITING_MAX: Final = 20_000
_ONLINE: Final = b'{"state":"online"}'
_ONLINE_FOR_SAMPLES: Final = b'{"state":"online","samples":true}'
_OFFLINE: Final = b'{"state":"offline"}'


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
        self._counts = Counts()
        self.counters, self.rejected = self._counts.counters, self._counts.rejected
        self._taking = Taking(site, self._counts, enrolled)
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
            optional = MayBeRefused(statuses, answers)
            self._collect(Collecting(self, connection, broker, collected, voice, optional, online))
            connection.publish(status, offline, retain=True)
        finally:
            connection.close(politely=self._stopping.is_set())

    def _collect(self, collecting: Collecting) -> None:
        began_s = time.monotonic()
        try:
            collecting.until(self._stopping)
        finally:
            self.backoff.lasted(time.monotonic() - began_s)

    def take(self, received: Received, collected: Collected) -> None:
        """Take in a gateway's message; count and quarantine it if it is refused."""
        self._taking.take(received, collected)

    def reject(
        self, topic: str, cause: Cause, why: str, collected: Collected, body: bytes = b""
    ) -> None:
        """Count a message that cannot be used, and put it into the quarantine."""
        self._taking.reject(topic, cause, why, collected, body)

    def file_samples(self, collected: Collected, all_of_it: bool = False) -> bool:
        """Write some samples to files if that is due, and drop old files; return whether any."""
        return self._taking.file_samples(collected, all_of_it)

    def drop_old(self, collected: Collected) -> None:
        """Delete messages that are too old or too many."""
        self._taking.drop_old(collected)

    def overwritten(self) -> None:
        """Count that another client published our status."""
        self._counts.add("overwritten", central_status_topic(self.site))

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
        self._counts.tell()

    def committed(self, messages: list[Message]) -> None:
        """Pass on messages that are on the disk."""
        for message in messages:
            self._on_message(message)


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
