"""The socket with real clients, honest and hostile; the test is the loop."""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import ControlTable
from agent.control import client, clients
from agent.control.clients import CLIENTS_MAX
from agent.control.door import MODE, PATH_BYTES_MAX, Door
from agent.control.inbox import WAITING_MAX, Command, Inbox
from agent.control.protocol import REQUEST_BYTES_MAX, Person, Refused, request_line
from models.validation import ValidationError
from tests.conftest import WAIT_S_MAX, wait_until

NOBODY = "fieldwatch-page"  # no test runs as the user of the web page, unless it says so
MANY = 2**22  # bytes: more than the kernel keeps of an answer that nobody reads


class Rig:
    """A door, and the inbox behind it."""

    def __init__(self, path: Path, page_user: str = NOBODY) -> None:
        self.path = path
        self.inbox = Inbox()
        self.arrived = 0
        self.door = Door(path, page_user)
        self.door.open(self._put)
        self._connections: list[socket.socket] = []

    def _put(self, command: Command) -> None:
        self.inbox.put(command)
        self.arrived += 1

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        self._connections.append(connection)
        connection.settimeout(WAIT_S_MAX)
        connection.connect(str(self.path))
        return connection

    def commands(self, count: int) -> list[Command]:
        """Take so many commands, as the loop would."""
        taken: list[Command] = []

        def there() -> bool:
            taken.extend(self.inbox.take())
            return len(taken) >= count

        wait_until(there, "the commands")
        return taken

    def dropped(self, why: str) -> int:
        return int(self.door.document()["clients_dropped"][why])

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self.inbox.close()
        self.door.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def rig(path: Path) -> Iterator[Rig]:
    made = Rig(path)
    yield made
    made.close()


def line(connection: socket.socket) -> Any:
    """Return the next answer; None where the agent has hung up."""
    data = bytearray()
    while not data.endswith(b"\n"):
        try:
            read = connection.recv(1)
        except ConnectionResetError:
            return None
        if not read:
            return None
        data += read
    return json.loads(data)


def works(rig: Rig) -> bool:
    """Whether somebody else is served."""
    other = rig.connect()
    other.sendall(b'{"command": "works"}\n')
    (command,) = rig.commands(1)
    command.answer({})
    return line(other) == {"v": 1, "ok": True, "result": {}}


def for_maria(role: str = "operator", **more: Any) -> bytes:
    person = {"name": "maria", "role": role} | more
    return json.dumps({"command": "alarm.note", "for": person}).encode() + b"\n"


# ---- as it should be


def test_the_users_of_the_page_are_named_by_the_user_of_the_page(path: Path) -> None:
    page = Rig(path, pwd.getpwuid(os.getuid()).pw_name)
    connection = page.connect()
    connection.sendall(for_maria() + b'{"command": "state"}\n')
    (command,) = page.commands(1)
    assert command.asker.person == Person("maria", "operator")
    assert str(command.asker) == "maria (page)"
    command.answer({})
    assert line(connection)["ok"]
    (own,) = page.commands(1)  # what the page asks for itself
    assert own.asker.person is None
    own.answer({})
    page.close()


def test_nobody_else_may_name_another_and_it_is_counted(rig: Rig) -> None:
    connection = rig.connect()
    connection.sendall(for_maria())
    error = line(connection)["error"]
    assert error["code"] == "not_allowed"
    assert "only fieldwatch-page, the user of the web page (control.page_user)" in error["message"]
    assert rig.door.refused() == {"not_allowed": 1}
    assert works(rig)
    assert rig.arrived == 1  # what was refused never came to the loop


@pytest.mark.parametrize(
    "given",
    [
        for_maria("root"),
        for_maria(name="agent"),
        for_maria(name="Agent"),
        for_maria(name=""),
        for_maria(name="maria\n"),
        for_maria(name="../maria"),
        for_maria(name="m" * 65),
        for_maria(name=7),
        for_maria(role=["operator"]),
        for_maria(more=1),
        b'{"command": "alarm.note", "for": null}\n',
        b'{"command": "alarm.note", "for": "maria"}\n',
        b'{"command": "alarm.note", "for": {"name": "maria"}}\n',
        b'{"command": "alarm.note", "for": []}\n',
    ],
)
def test_a_person_with_a_hostile_name_or_role_is_refused(path: Path, given: bytes) -> None:
    page = Rig(path, pwd.getpwuid(os.getuid()).pw_name)
    connection = page.connect()
    connection.sendall(given)
    assert line(connection)["error"]["code"] == "malformed"
    assert page.arrived == 0
    page.close()


def test_a_command_has_a_name_arguments_who_asks_and_an_answer(rig: Rig) -> None:
    connection = rig.connect()
    connection.sendall(b'{"v": 1, "command": "label", "arguments": {"text": "seal \xc3\xa9"}}\n')
    (command,) = rig.commands(1)
    assert (command.name, command.arguments) == ("label", {"text": "seal é"})
    user = pwd.getpwuid(os.getuid())
    assert command.asker[:3] == ("socket", user.pw_name, user.pw_uid)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    assert command.asker.groups == {grp.getgrgid(group).gr_name for group in groups}
    command.answer({"number": 7})
    assert line(connection) == {"v": 1, "ok": True, "result": {"number": 7}}


def test_the_group_may_use_it_and_nobody_else(rig: Rig) -> None:
    assert stat.S_IMODE(rig.path.stat().st_mode) == MODE == 0o660


def test_requests_of_one_client_are_answered_in_order_one_at_a_time(rig: Rig) -> None:
    connection = rig.connect()
    connection.sendall(b"".join(request_line(name, {}) for name in "abc"))
    for name in "abc":
        (command,) = rig.commands(1)
        assert command.name == name
        command.answer({"name": name})
        assert line(connection)["result"] == {"name": name}


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_client_that_says_no_more_gets_its_answer(rig: Rig, end: bytes) -> None:
    connection = rig.connect()
    connection.sendall(b'{"command": "state"}' + end)
    connection.shutdown(socket.SHUT_WR)  # as `echo … | socat - UNIX:…` does
    rig.commands(1)[0].answer({})
    assert line(connection)["ok"]
    assert line(connection) is None


def test_the_client_that_comes_with_it_understands_both_answers(rig: Rig) -> None:
    asked = Asked(rig.path, "reload", {"a": 1})
    rig.commands(1)[0].answer({"changed": []})
    assert asked.result() == {"changed": []}
    asked = Asked(rig.path, "reload", {})
    rig.commands(1)[0].answer(Refused("configuration", "a.toml: wrong\nb.toml: wrong"))
    with pytest.raises(Refused, match=r"a.toml: wrong\nb.toml: wrong") as refused:
        asked.result()
    assert (refused.value.code, refused.value.exit_code) == ("configuration", 78)


class Asked:
    """``client.ask`` in a thread of its own."""

    def __init__(self, path: Path, command: str, arguments: dict[str, Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(client.ask, path, command, arguments, WAIT_S_MAX)

    def result(self) -> dict[str, Any]:
        self._pool.shutdown(wait=False)
        return self._future.result(WAIT_S_MAX)


# ---- hostile clients


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\n", "malformed"),
        (b"reload\n", "malformed"),
        (b"GET / HTTP/1.1\r\n", "malformed"),
        (b"[]\n", "malformed"),
        (b"{}\n", "malformed"),
        (b'{"command": 1}\n', "malformed"),
        (b'{"command": "a", "arguments": []}\n', "malformed"),
        (b'{"command": "a", "argument": {}}\n', "malformed"),
        (b'{"command": "\xff"}\n', "malformed"),
        (b"\0" * 100 + b"\n", "malformed"),
        (b'{"command": "\\ud800"}\n', "malformed"),
        (b'{"command": "a", "arguments": {"x": NaN}}\n', "malformed"),
        (b'{"command": "a", "arguments": {"x": 1e999}}\n', "malformed"),
        (b"[" * 15_000 + b"\n", "malformed"),
        (b'{"n": ' + b"9" * 10_000 + b"}\n", "malformed"),
        (b'{"v": 2, "command": "a"}\n', "version"),
        (b'{"v": [], "command": "a"}\n', "version"),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_is_taken(
    rig: Rig, sent: bytes, code: str
) -> None:
    connection = rig.connect()
    connection.sendall(sent)
    answer = line(connection)
    assert (answer["ok"], answer["error"]["code"]) == (False, code)
    assert rig.door.refused() == {code: 1}
    connection.sendall(b'{"command": "state"}\n')
    rig.commands(1)[0].answer({})
    assert line(connection)["ok"]


@pytest.mark.parametrize(
    ("sent", "half"),
    [
        (b'{"command": "\\ud800"}\n', "\\ud800"),
        (b'{"command": "a", "arguments": {"\\uDFFF": 1}}\n', "\\udfff"),
    ],
)
def test_half_of_a_pair_of_surrogates_is_called_that(rig: Rig, sent: bytes, half: str) -> None:
    connection = rig.connect()
    connection.sendall(sent)
    told = line(connection)["error"]["message"]
    assert told == f"the request has {half}, half of a pair of surrogates: send the whole pair"


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_request_that_is_too_large_ends_the_connection(rig: Rig, end: bytes) -> None:
    connection = rig.connect()
    connection.sendall(b"x" * (REQUEST_BYTES_MAX + 1) + end)
    assert line(connection)["error"]["code"] == "too_large"
    assert line(connection) is None
    assert rig.door.refused() == {"too_large": 1}
    assert works(rig)


def test_one_that_is_as_large_as_it_may_be_is_taken(rig: Rig) -> None:
    connection = rig.connect()
    request = b'{"command": "a"}'
    connection.sendall(request + b" " * (REQUEST_BYTES_MAX - len(request)) + b"\n")
    rig.commands(1)[0].answer({})
    assert line(connection)["ok"]


def test_a_client_that_goes_away_before_its_answer_is_counted(rig: Rig) -> None:
    connection = rig.connect()
    connection.sendall(b'{"command": "state"}\n')
    (command,) = rig.commands(1)
    connection.close()
    command.answer({})
    wait_until(lambda: rig.dropped("gone") == 1, "the door to notice")
    assert works(rig)


def test_a_client_that_goes_away_amid_a_request_leaves_nothing(rig: Rig) -> None:
    rig.connect().close()
    connection = rig.connect()
    connection.sendall(b'{"command": "fl')
    connection.close()
    assert works(rig)
    wait_until(lambda: rig.door.document()["clients"] <= 1, "the door to notice")
    assert rig.door.refused() == {"malformed": 1}


def test_a_client_that_does_not_read_holds_up_nobody_and_is_dropped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = rig.connect()
    connection.sendall(b'{"command": "state"}\n' * 100)
    (command,) = rig.commands(1)
    command.answer({"text": "x" * MANY})  # returns
    assert works(rig)
    assert rig.inbox.take() == []  # its next request waits until it has read
    assert rig.door.document()["clients"] == 2
    assert rig.dropped("slow") == 0
    monkeypatch.setattr(clients, "ANSWER_S_MAX", 0.1)
    other = rig.connect()
    other.sendall(b'{"command": "state"}\n')
    rig.commands(1)[0].answer({"text": "x" * MANY})
    wait_until(lambda: rig.dropped("slow") == 1, "the door to drop the other")
    assert works(rig)


def test_a_client_that_says_nothing_or_too_little_is_dropped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "REQUEST_S_MAX", 0.1)
    silent, slow = rig.connect(), rig.connect()
    slow.sendall(b"{")
    assert line(silent) is None
    assert line(slow) is None
    assert rig.dropped("slow") == 2


def test_one_client_too_many_is_told_so(rig: Rig) -> None:
    connected = [rig.connect() for _ in range(CLIENTS_MAX)]
    wait_until(lambda: rig.door.document()["clients"] == CLIENTS_MAX, "all to be let in")
    refused = rig.connect()
    assert line(refused)["error"]["code"] == "busy"
    assert line(refused) is None
    assert rig.dropped("too_many") == 1
    connected[0].close()
    wait_until(lambda: rig.door.document()["clients"] < CLIENTS_MAX, "one to leave")
    assert works(rig)


def test_a_flood_is_answered_and_counted(rig: Rig) -> None:
    each, flooding = 200, [rig.connect() for _ in range(10)]
    for connection in flooding:
        connection.sendall(b'{"command": "state"}\n' * each)
    done = 0

    def answered() -> bool:
        nonlocal done
        taken = rig.inbox.take()
        assert len(taken) <= WAITING_MAX
        for command in taken:
            command.answer({})
        done += len(taken)
        return done + rig.inbox.refused()["busy"] == each * len(flooding)

    wait_until(answered, "all to be answered")
    told = [line(connection)["ok"] for connection in flooding for _ in range(each)]
    assert (told.count(True), told.count(False)) == (done, rig.inbox.refused()["busy"])
    assert told.count(False) > 0
    assert rig.door.refused() == {}


# ---- the file


def test_counts_are_told_before_it_opens(path: Path) -> None:
    door = Door(path, NOBODY)
    before = door.document()["clients_dropped"]
    door.open(lambda _command: None)
    try:
        assert before == door.document()["clients_dropped"] == {"too_many": 0, "slow": 0, "gone": 0}
    finally:
        door.close()


def test_the_socket_of_a_dead_agent_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    rig = Rig(path)
    assert rig.door.document()["error"] is None
    assert works(rig)
    rig.close()


def test_that_of_a_living_one_is_not(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    second = Rig(rig.path)
    error = second.door.document()["error"]
    assert error == f"{rig.path}: another agent listens there"
    assert f"cannot take commands: {error}" in caplog.text
    second.close()
    assert works(rig)


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    rig = Rig(path)
    assert (
        rig.door.document()["error"]
        == f"{path}: a file that is not a socket is in its place; move it away"
    )
    rig.close()
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "said"),
    [("gone/control.sock", "No such file or directory"), ("x" * 120, "at most 107; set control.")],
)
def test_a_socket_that_cannot_be_is_told(tmp_path: Path, name: str, said: str) -> None:
    rig = Rig(tmp_path / name)
    assert said in rig.door.document()["error"]
    rig.close()


def test_the_configuration_knows_how_long_a_path_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = tmp_path / ("x" * (PATH_BYTES_MAX - len(str(tmp_path)) - 1))
    assert ControlTable(socket=longest).socket == longest
    rig = Rig(longest)
    assert works(rig)
    rig.close()
    with pytest.raises(ValidationError, match="has 108 bytes; a socket path may have at most 107"):
        ControlTable(socket=Path(f"{longest}x"))


def test_at_a_stop_it_is_removed_but_not_that_of_another(rig: Rig, path: Path) -> None:
    rig.inbox.close()
    rig.door.close()
    assert not path.exists()
    first = Rig(path)
    path.unlink()
    second = Rig(path)
    first.close()
    assert works(second)
    second.close()


def test_at_a_stop_who_waits_is_told(rig: Rig) -> None:
    waiting, idle, unanswered = rig.connect(), rig.connect(), rig.connect()
    unanswered.sendall(b'{"command": "reload"}\n')
    rig.commands(1)
    waiting.sendall(b'{"command": "reload"}\n')
    wait_until(lambda: rig.arrived == 2, "the command")
    rig.inbox.close()
    rig.door.close()
    assert line(waiting)["error"]["code"] == "stopping"
    assert line(waiting) is None
    assert line(idle) is None
    assert line(unanswered) is None


def nobody(directory: Path) -> Path:
    return directory / "control.sock"


def killed(directory: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "control.sock"))
    return directory / "control.sock"


def a_file(directory: Path) -> Path:
    (directory / "control.sock").write_text("")
    return directory / "control.sock"


def too_long(directory: Path) -> Path:
    return directory / ("x" * 200)


def a_directory(directory: Path) -> Path:
    (directory / "control.sock").mkdir()
    return directory / "control.sock"


def a_pipe(directory: Path) -> Path:
    os.mkfifo(directory / "control.sock")
    return directory / "control.sock"


@pytest.mark.parametrize(
    ("make", "kind"), [(a_file, "a file"), (a_directory, "a directory"), (a_pipe, "a named pipe")]
)
def test_what_stands_in_the_place_of_the_socket_is_named(
    tmp_path: Path, make: Callable[[Path], Path], kind: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(client.NoAgent) as error:
        client.ask(path, "state")
    assert str(error.value) == (
        f"no agent answers at {path}: {kind} stands where the agent's socket belongs. An agent that"
        " runs says so in its log and status, and takes no commands. Move it away, then restart"
        " the agent"
    )
    rig = Rig(path)
    assert (
        rig.door.document()["error"]
        == f"{path}: a file that is not a socket is in its place; move it away"
    )
    rig.close()


@pytest.mark.parametrize("make", [nobody, killed, a_file, too_long])
def test_without_an_agent_the_client_says_so(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    with pytest.raises(client.NoAgent, match=f"no agent answers at {path}: ") as error:
        client.ask(path, "state")
    assert error.value.exit_code == 69


def test_an_agent_that_does_not_answer_is_not_waited_for_without_end(rig: Rig) -> None:
    with pytest.raises(
        client.NoAnswer, match=r"has not answered within 0 s; whether flush is done"
    ):
        client.ask(rig.path, "flush", seconds_max=0.2)


def test_an_agent_that_ends_meanwhile_is_told(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        asked = Asked(path, "flush", {})
        connection, _ = agent.accept()
        connection.recv(5)
        connection.close()
        with pytest.raises(client.NoAnswer, match="ended before it answered"):
            asked.result()


@pytest.mark.parametrize(
    "answer",
    [
        b'{"v": 2, "done": true}\n',
        b'{"v": 1, "ok": false, "error": {"code": [], "message": ""}}\n',
        b'{"v": 1, "ok": false, "error": {"code": "new", "message": ""}}\n',
        b"\xff\n",
    ],
)
def test_an_answer_of_another_version_is_told(path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        asked = Asked(path, "flush", {})
        connection, _ = agent.accept()
        connection.sendall(answer)
        with pytest.raises(client.NoAnswer, match="no answer of this version"):
            asked.result()
        connection.close()
