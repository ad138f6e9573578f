"""People handle alarms of an agent that runs: over its socket, and through kills.

The alarms are those of a limit: one reading of the voltage beyond it raises one, and others within
it end it.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.control.client import ask
from agent.control.protocol import Person, Refused
from agent.handling.states import Standing
from agent.inputs.plant import CHANNELS, Pump
from agent.store.reader import Reader
from models.errors import FieldwatchError
from tests.agent_rig import Ops, StartAgent, configure, lines
from tests.conftest import ROOT, RealAgent, RealBroker, wait_until
from tests.disk import Disk
from tests.page_rig import RealPage, Visitor
from tests.serial_line import Line

NAMES = [channel.name for channel in CHANNELS]
LIMITS = """
[[streams.limits]]
channel = "voltage"
high_critical = 450.0
high_warning = 440.0
off_delay_s = 0.0
"""
NAME, POINT = "pump", "limit_passed voltage high critical"
OTHER_USER = 65534  # nobody
ATTEMPTS_MAX = 100_000  # of a writer; it takes some hundreds per request


class Gateway:
    """An agent with one line, and what people ask of it."""

    def __init__(
        self, directory: Path, line: Line, start: StartAgent, port: int = 1, more: str = ""
    ) -> None:
        self.directory, self.line, self._start = directory, line, start
        self.config = configure(directory, line, port)
        tables = LIMITS + more + "[[inputs]]"
        self.config.write_text(self.config.read_text().replace("[[inputs]]", tables))
        self.socket = directory / "data" / "control.sock"
        self._sent = 0
        self.start()

    def start(self) -> None:
        self.agent: RealAgent = self._start(self.config)
        wait_until(lambda: self.socket.exists() and self._answers(), "the agent")

    def _answers(self) -> bool:
        try:
            return bool(ask(self.socket, "state"))
        except FieldwatchError:
            return False

    def send(self, voltage: float, **others: float) -> None:
        rows = Pump(1).run(3)
        for name, value in ({"voltage": voltage} | others).items():
            rows[:, NAMES.index(name)] = value
        self.line.write(lines(rows, self._sent))
        self._sent += len(rows)

    def raise_one(self, number: int = 1, voltage: float = 480.0) -> None:
        self.send(voltage)
        wait_until(lambda: self.standing().get("number") == number, f"alarm {number}")

    def standing(self) -> dict[str, Any]:
        known = self.stored()
        return {} if known == Standing() else known.to_json() | {"state": known.state}

    def stored(self) -> Standing:
        with Reader(self.directory / "data") as reader:
            return reader.standings().get((NAME, POINT), Standing())

    def logbook(self) -> list[dict[str, Any]]:
        with Reader(self.directory / "data") as reader:
            return reader.logbook(NAME, POINT, 10_000)

    def states(self) -> list[str]:
        return [row["after"] for row in self.logbook()]

    def ask(self, verb: str, number: int = 1, **more: Any) -> dict[str, Any]:
        named = {"stream": NAME, "number": number, "revision": self.standing()["revision"]}
        return ask(self.socket, f"alarm.{verb}", named | more)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent", "alarms", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )


SUPPRESS = """
[[streams.alarms.suppress]]
reason = "the pump is stopped"
when = {channel = "motor_current", below = 1.0}
"""


def test_a_stopped_machine_suppresses_its_alarms_over_kills_until_it_starts_again(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker, ops: Ops
) -> None:
    gateway = Gateway(tmp_path, line, start_agent, broker.port, SUPPRESS)
    gateway.send(480.0, motor_current=0.0)
    wait_until(lambda: gateway.standing().get("state") == "DSUPR", "the suppression")
    assert "(the pump is stopped)" in " ".join(gateway.command("show", "1").stdout.split())
    gateway.agent.kill()
    gateway.start()
    assert gateway.states() == ["DSUPR"]
    gateway.send(480.0, motor_current=20.0)
    wait_until(lambda: gateway.standing()["state"] == "UNACK", "its end")
    gateway.send(480.0, motor_current=0.0)
    wait_until(lambda: gateway.standing()["state"] == "DSUPR", "the suppression again")
    gateway.send(400.0, motor_current=0.0)
    wait_until(lambda: len(gateway.states()) == 4, "the return to normal")
    gateway.send(400.0, motor_current=20.0)
    wait_until(lambda: len(ops.of_kind("transition")) >= 5, "central ops")
    told = [body["data"] for body in ops.of_kind("transition")]
    told = [one for one in told if one["point"] == POINT]
    assert [(one["what"], one["after"], one["announces"]) for one in told] == [
        ("raised", "DSUPR", False),
        ("unsuppressed", "UNACK", True),
        ("suppressed", "DSUPR", False),
        ("cleared", "DSUPR", False),
        ("unsuppressed", "RTNUN", False),
    ]
    assert told[1]["why"] == "it is over: the pump is stopped"


def test_a_suppression_by_a_channel_that_does_not_exist_is_refused(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    gateway = Gateway(tmp_path, line, start_agent)
    good = gateway.config.read_text()
    gateway.config.write_text(good.replace("[[inputs]]", SUPPRESS + "[[inputs]]"))
    assert "streams.pump.alarms.suppress" in ask(gateway.socket, "reload")["changed"]
    wrong = SUPPRESS.replace("motor_current", "curent")
    gateway.config.write_text(good.replace("[[inputs]]", wrong + "[[inputs]]"))
    with pytest.raises(Refused, match="pump has no channel 'curent'; it has "):
        ask(gateway.socket, "reload")
    checked = subprocess.run(
        [sys.executable, "-m", "agent", "check", "--config", str(gateway.config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "pump has no channel 'curent'" in checked.stdout + checked.stderr
    gateway.agent.stop()
    gateway.agent = start_agent(gateway.config)
    wait_until(lambda: "no channel 'curent'" in gateway.agent.log(), "the refusal at the start")


def test_a_return_to_normal_reaches_central_ops_while_the_alarm_is_shelved(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker, ops: Ops
) -> None:
    gateway = Gateway(tmp_path, line, start_agent, broker.port)
    gateway.raise_one()
    gateway.ask("shelve", hours=1, until_clear=False, reason="noon")
    gateway.send(400.0)
    wait_until(lambda: len(ops.of_kind("transition")) == 3, "central ops")
    over = ops.of_kind("transition")[-1]["data"]
    assert (over["what"], over["after"], over["condition"]) == ("cleared", "SHLVD", "normal")


def test_several_alarms_are_acknowledged_as_the_list_names_them(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    current = LIMITS.replace('"voltage"', '"motor_current"')
    current = current.replace("450.0", "90.0").replace("440.0", "80.0")
    gateway = Gateway(tmp_path, line, start_agent, more=current)
    gateway.send(480.0, motor_current=95.0)
    wait_until(lambda: gateway.standing().get("state") == "UNACK", "the alarms")
    ended = gateway.command("ack", "pump#1.1,2.1,7.1", "--reason", "seen")
    assert (ended.returncode, ended.stdout) == (
        2,
        "pump#1.2: acknowledged; it is in the logbook\n"
        "pump#2.2: acknowledged; it is in the logbook\n",
    )
    assert "pump has no alarm 7" in ended.stderr
    again = gateway.command("ack", "pump#1.1,2.2", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (75, {"transitions": []})
    assert "pump#1: nothing was done: it has changed since" in again.stderr
    assert "only an unacknowledged alarm can be acknowledged" in again.stderr


@pytest.fixture
def gateway(tmp_path: Path, line: Line, start_agent: StartAgent) -> Iterator[Gateway]:
    made = Gateway(tmp_path, line, start_agent)
    made.raise_one()
    yield made


def test_an_alarm_is_acknowledged_on_the_terminal_and_central_ops_sees_it(
    tmp_path: Path, line: Line, start_agent: StartAgent, broker: RealBroker, ops: Ops
) -> None:
    gateway = Gateway(tmp_path, line, start_agent, broker.port)
    gateway.raise_one()
    listed = json.loads(gateway.command("--json").stdout)["alarms"]
    (alarm,) = [one for one in listed if one["kind"] == "limit_passed"]
    assert (alarm["handling"]["state"], alarm["handling"]["priority"]) == ("UNACK", "high")
    ended = gateway.command("ack", "pump#1.1", "--reason", "mains are being changed")
    assert ended.stdout == "pump#1.2: acknowledged; it is in the logbook\n", ended.stderr
    gateway.send(400.0)
    wait_until(lambda: gateway.standing()["state"] == "NORM", "the end of the alarm")
    wait_until(lambda: len(ops.of_kind("transition")) == 3, "central ops")
    told = [body["data"] for body in ops.of_kind("transition")]
    assert [one["after"] for one in told] == ["UNACK", "ACKED", "NORM"]
    assert [one | {"clock": told[0].get("clock")} for one in told] == [
        row | {"clock": None} for row in gateway.logbook()
    ]
    assert (told[1]["why"], told[1]["door"]) == ("mains are being changed", "terminal")
    assert told[1]["by"] not in ("agent", "")
    assert [body["data"]["number"] for body in ops.of_kind("alarm")] == [1, 1]


def test_what_people_did_survives_kills_between_any_two_requests(gateway: Gateway) -> None:
    steps: list[tuple[str, dict[str, Any]]] = [
        ("acknowledge", {}),
        ("note", {"reason": "looked at it"}),
        ("label", {"label": "false"}),
        ("shelve", {"reason": "spare part comes at noon", "hours": 2}),
        ("unshelve", {}),
        ("acknowledge", {}),
        ("out-of-service", {"reason": "motor is being changed"}),
        ("in-service", {}),
        ("acknowledge", {}),
    ]
    expected = ["UNACK"]
    for verb, more in steps:
        expected.append(gateway.ask(verb, **more)["after"])
        gateway.agent.kill()
        assert gateway.states() == expected
        gateway.start()
        assert gateway.states() == expected
        assert gateway.standing()["state"] == expected[-1]
    assert expected[1:] == "ACKED ACKED ACKED SHLVD UNACK ACKED OOSRV UNACK ACKED".split()
    gateway.send(400.0)
    wait_until(lambda: gateway.standing()["state"] == "NORM", "the end of the alarm")


def test_two_at_once_the_logbook_explains_every_state(gateway: Gateway) -> None:
    done: dict[str, list[int]] = {"acknowledge": [], "unacknowledge": []}
    refused: list[str] = []
    failed = threading.Event()  # neither can go on without the other

    def insist(verb: str) -> None:
        try:
            for _ in range(ATTEMPTS_MAX):
                if len(done[verb]) == 100 or failed.is_set():
                    return
                try:
                    done[verb].append(gateway.ask(verb)["revision"])
                except Refused as refusal:
                    refused.append(refusal.code)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(done)) as writers:
        for ended in [writers.submit(insist, verb) for verb in done]:
            ended.result()
    assert {verb: len(revisions) for verb, revisions in done.items()} == dict.fromkeys(done, 100)
    book = gateway.logbook()
    assert [row["revision"] for row in book] == list(range(1, 202))
    assert all(before["after"] == after["before"] for before, after in itertools.pairwise(book))
    for verb, what in (("acknowledge", "acknowledged"), ("unacknowledge", "unacknowledged")):
        assert [row["revision"] for row in book if row["what"] == what] == done[verb]
    assert set(refused) <= {"stale", "impossible", "busy"}
    counted: dict[str, Any] = {}

    def counts() -> bool:
        try:
            counted.update(ask(gateway.socket, "state")["control"])
        except Refused as refusal:  # busy, as the writers have just asked so much
            refused.append(refusal.code)
        return bool(counted)

    wait_until(counts, "the counts")
    assert counted["commands"]["alarm.acknowledge"] == 100
    assert sum(counted["refused"].values()) == len(refused)


def test_the_terminal_says_what_was_written_and_the_log_who_did_it(gateway: Gateway) -> None:
    said = [
        gateway.command(*words).stdout
        for words in (
            ("note", "1", "looked at it"),
            ("label", "1", "nothing-found"),
            ("ack", "1"),
        )
    ]
    assert said == [
        "pump#1.2: note; it is in the logbook\n",
        "pump#1.3: label nothing found yet; it is in the logbook\n",
        "pump#1.4: acknowledged; it is in the logbook\n",
    ]
    by = gateway.logbook()[-1]["by"]
    for did in ("note", "label", "acknowledged"):
        assert f"pump#1: {did} by {by}" in gateway.agent.log()
    again = gateway.command("ack", "1")
    assert again.returncode == 1
    assert "only an unacknowledged alarm can be acknowledged" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("shelve", "1", "--reason", "x", "--hours", "nan"), 2, "'nan' is not a number"),
        (("note", "1", " "), 1, "a text is missing"),
        (("shelve", "1", "--reason", ""), 1, "a reason is missing"),
        (("note", "1", "a\nb"), 1, "one line of at most 500 printable characters"),
    ],
)
def test_what_cannot_be_written_is_refused_in_words_that_fit(
    gateway: Gateway, words: tuple[str, ...], code: int, says: str
) -> None:
    ended = gateway.command(*words)
    assert (ended.returncode, gateway.states()) == (code, ["UNACK"])
    assert says in ended.stderr


def test_who_has_not_seen_the_newest_state_is_refused(gateway: Gateway) -> None:
    gateway.ask("acknowledge")
    gateway.send(400.0)
    wait_until(lambda: gateway.standing()["state"] == "NORM", "the end of the alarm")
    gateway.raise_one(2)
    stale = gateway.command("ack", "pump#2.3")
    assert stale.returncode == 75
    assert "pump#2.4 is unacknowledged" in stale.stderr
    over = gateway.command("ack", "pump#1")
    assert over.returncode == 2
    assert "the newest alarm of its kind is pump#2" in over.stderr
    assert gateway.standing()["state"] == "UNACK"
    assert gateway.command("ack", "2").returncode == 0


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("acknowledge", {"stream": "other"}, "unknown_alarm"),
    ("acknowledge", {"number": 7}, "unknown_alarm"),
    ("acknowledge", {"number": True}, "arguments"),
    ("acknowledge", {"number": 10**30}, "arguments"),
    ("acknowledge", {"revision": None}, "arguments"),
    ("acknowledge", {"revision": 0}, "stale"),
    ("acknowledge", {"reason": "x" * 501}, "arguments"),
    ("acknowledge", {"reason": "a\x1b[2J"}, "arguments"),
    ("acknowledge", {"hours": 1}, "arguments"),
    ("unacknowledge", {}, "impossible"),
    ("shelve", {"hours": 1}, "arguments"),
    ("shelve", {"reason": "noon", "hours": 1e308}, "impossible"),
    ("shelve", {"reason": "noon", "hours": 10**400}, "arguments"),
    ("shelve", {"reason": "noon", "hours": -1}, "arguments"),
    ("shelve", {"reason": "noon", "hours": "1"}, "arguments"),
    ("shelve", {"reason": "noon", "hours": 1, "until_clear": 1}, "arguments"),
    ("note", {"reason": " "}, "arguments"),
    ("label", {"label": "true"}, "arguments"),
]


def test_a_wrong_request_changes_nothing_and_is_counted(gateway: Gateway) -> None:
    named = {"stream": NAME, "number": 1, "revision": 1}
    for verb, arguments, code in WRONG:
        with pytest.raises(Refused) as refused:
            ask(gateway.socket, f"alarm.{verb}", named | arguments)
        assert refused.value.code == code, (verb, arguments)
    assert gateway.states() == ["UNACK"]
    counted = ask(gateway.socket, "state")["control"]["refused"]
    assert counted == Counter(code for _, _, code in WRONG)


def test_a_group_is_acknowledged_as_it_was_seen_and_each_alarm_may_be_refused(
    gateway: Gateway,
) -> None:
    request = {"stream": NAME, "members": [[1, 1], [7, 1]], "reason": "seen in the list"}
    answer = ask(gateway.socket, "alarm.acknowledge-group", request)
    assert [(one["number"], one["after"], one["why"]) for one in answer["transitions"]] == [
        (1, "ACKED", "seen in the list")
    ]
    assert [(one["number"], one["code"]) for one in answer["refused"]] == [(7, "unknown_alarm")]
    again = ask(gateway.socket, "alarm.acknowledge-group", request)
    assert [one["code"] for one in again["refused"]] == ["stale", "unknown_alarm"]
    for members in (None, [], [[1]], [1], [[1, 1]] * 501, "all"):
        with pytest.raises(Refused) as refused:
            ask(gateway.socket, "alarm.acknowledge-group", {"stream": NAME, "members": members})
        assert refused.value.code == "arguments"
    assert gateway.states() == ["UNACK", "ACKED"]


@pytest.mark.skipif(os.getuid() != 0, reason="another user can only be had as root")
def test_another_user_may_read_and_not_handle(gateway: Gateway) -> None:
    gateway.socket.chmod(0o666)
    for parent in (gateway.directory / "data", gateway.directory, *gateway.directory.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(OTHER_USER)
        os.setuid(OTHER_USER)
        os._exit(_handled_as_other(gateway.socket))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77
    assert gateway.states() == ["UNACK"]


def _handled_as_other(socket: Path) -> int:
    try:
        ask(socket, "state")
    except FieldwatchError:
        return 1
    try:
        named = {"stream": NAME, "number": 1, "revision": 1}
        ask(socket, "alarm.acknowledge", named)
    except FieldwatchError as error:
        return error.exit_code
    return 0


def test_a_person_at_the_page_is_named_in_the_logbook_and_may_what_the_role_may(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    page_user = f'[control]\npage_user = "{pwd.getpwuid(os.getuid()).pw_name}"\n'
    gateway = Gateway(tmp_path, line, start_agent, more=page_user)
    gateway.raise_one()
    named = {"stream": NAME, "number": 1, "revision": 1}
    maria, jo = Person("maria", "operator"), Person("jo", "maintainer")
    ask(gateway.socket, "alarm.acknowledge", named, person=maria)
    assert [(row["by"], row["door"]) for row in gateway.logbook()[1:]] == [("maria", "page")]
    service = named | {"revision": 2, "reason": "motor is being changed"}
    for person in (maria, Person("tom", "reader")):
        with pytest.raises(Refused, match="it takes the role maintainer") as refused:
            ask(gateway.socket, "alarm.out-of-service", service, person=person)
        assert refused.value.code == "not_allowed"
    ask(gateway.socket, "alarm.out-of-service", service, person=jo)
    assert gateway.logbook()[-1]["by"] == "jo"
    for command in ("reload", "flush", "state"):  # which the page may ask for itself only
        with pytest.raises(Refused, match="cannot be asked for other people"):
            ask(gateway.socket, command, person=jo)
    assert ask(gateway.socket, "state")["control"]["refused"] == {"not_allowed": 5}
    assert "alarm.acknowledge requested by maria (page)" in gateway.agent.log()


def test_what_people_do_on_the_page_is_in_the_logbook_under_their_names(
    tmp_path: Path, line: Line, start_agent: StartAgent
) -> None:
    page_user = f'[control]\npage_user = "{pwd.getpwuid(os.getuid()).pw_name}"\n'
    gateway = Gateway(tmp_path, line, start_agent, more=page_user)
    gateway.raise_one()
    page = RealPage(gateway.config, 'users_file = "page-users"')
    page.add("tom", "reader")
    page.add("maria", "operator")
    page.add("jo", "maintainer")
    page.start()
    try:
        visitors = {name: Visitor(page) for name in ("tom", "maria", "jo")}
        for name, visitor in visitors.items():
            assert visitor.log_in(name).status == 303
            assert visitor.get(f"/alarms/{NAME}/1").status == 200

        def asks(name: str, verb: str, **form: str) -> int:
            path = f"/alarms/{NAME}/1/{verb}"
            revision = str(gateway.standing()["revision"])
            sent = {"csrf": visitors[name].csrf, "revision": revision} | form
            return visitors[name].post(path, sent).status

        assert asks("tom", "acknowledge") == 403
        assert asks("maria", "acknowledge", reason="seen") == 303
        assert asks("maria", "out-of-service", reason="motor") == 403  # the agent says so
        assert asks("jo", "out-of-service", reason="motor") == 303
        assert asks("jo", "acknowledge") == 409  # it is not possible now
    finally:
        page.stop()
    told = [(row["what"], row["by"], row["door"]) for row in gateway.logbook()[1:]]
    assert told == [("acknowledged", "maria", "page"), ("out_of_service", "jo", "page")]


def test_a_page_that_is_not_the_configured_user_can_handle_nothing(gateway: Gateway) -> None:
    page = RealPage(gateway.config, 'users_file = "page-users"')
    page.add("maria", "operator")
    page.start()
    try:
        visitor = Visitor(page)
        visitor.log_in("maria")
        visitor.get(f"/alarms/{NAME}/1")
        sent = visitor.post(f"/alarms/{NAME}/1/acknowledge", {"csrf": visitor.csrf, "revision": 1})
        assert (sent.status, "only fieldwatch-page, the user of" in sent.body) == (403, True)
    finally:
        page.stop()
    assert gateway.states() == ["UNACK"]


def test_only_the_user_of_the_page_may_ask_for_others(gateway: Gateway) -> None:
    named = {"stream": NAME, "number": 1, "revision": 1}
    with pytest.raises(Refused, match="only fieldwatch-page, the user of the web page") as refused:
        ask(gateway.socket, "alarm.acknowledge", named, person=Person("maria", "operator"))
    assert refused.value.exit_code == 77
    assert gateway.states() == ["UNACK"]
    assert ask(gateway.socket, "state")["control"]["refused"] == {"not_allowed": 1}


def test_without_an_agent_nothing_changes_and_the_command_says_what_starts_it(
    gateway: Gateway,
) -> None:
    gateway.agent.kill()
    ended = gateway.command("ack", "pump#1")
    assert ended.returncode == 69
    assert "Nothing has changed. Start the agent: sudo systemctl start" in ended.stderr
    assert ended.stderr.lower().count("start the agent") == 1
    assert gateway.states() == ["UNACK"]


def test_alarms_of_a_stream_that_is_no_longer_configured_end_as_unwatched(
    gateway: Gateway,
) -> None:
    gateway.agent.stop()
    text = gateway.config.read_text().replace('"pump"', '"other"')
    gateway.config.write_text(text)
    gateway.start()
    standing = gateway.standing()
    assert (standing["state"], standing["condition"]) == ("UNACK", "unknown")
    assert gateway.logbook()[-1]["what"] == "unwatched"
    assert "not watched" in gateway.command("--open").stdout
    assert gateway.ask("acknowledge")["after"] == "NORM"


def test_on_a_full_disk_the_list_says_that_it_is_not_complete(
    tmp_path: Path, line: Line, start_agent: StartAgent, disk: Disk
) -> None:
    gateway = Gateway(tmp_path, line, lambda config: start_agent(config, disk.program))
    gateway.raise_one()
    gateway.send(400.0)
    wait_until(lambda: "condition" not in gateway.standing(), "the end of the alarm")  # normal
    assert gateway.command("--json").returncode == 0
    disk.fails("full")
    with pytest.raises(Refused) as refused:
        gateway.ask("acknowledge")
    assert refused.value.code == "not_stored"
    assert "pump#1: acknowledged by" not in gateway.agent.log()
    gateway.send(480.0)
    found: dict[str, Any] = {}

    def waits() -> bool:
        found.update(ask(gateway.socket, "state")["unstored"] or {})
        return bool(found.get("alarms"))

    wait_until(waits, "the alarm in memory")
    ended = gateway.command("--utc")
    assert ended.returncode == 74
    assert "pump (not stored yet) limit passed" in ended.stdout
    (said,) = [row for row in ended.stdout.splitlines() if row.startswith("NOT COMPLETE since ")]
    assert " UTC: " in said
    assert said.endswith(" in memory")
    document = gateway.command("--json")
    assert document.returncode == 74
    assert json.loads(document.stdout)["unstored"]["alarms_waiting"] >= 1
    state = [sys.executable, "-m", "agent", "state", "--config", str(gateway.config)]
    shown = subprocess.run(state, capture_output=True, text=True, check=True, cwd=ROOT)
    assert f"CANNOT STORE since {found['since']}: " in shown.stdout
    disk.works()
    wait_until(lambda: ask(gateway.socket, "state")["unstored"] is None, "the disk")
    assert gateway.command().returncode == 0
