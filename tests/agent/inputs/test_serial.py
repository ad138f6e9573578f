"""The serial input on real pseudo-terminals: reading, unplugging, stopping; and its queue."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config.inputs import SerialTable
from agent.inputs.kinds import open_input
from agent.inputs.ports import find, named
from agent.inputs.queue import ChunkQueue
from agent.inputs.serial import Arriving, open_port, probe_port, sample
from agent.inputs.source import Chunk
from agent.parsing.measurement import Measurement

WAIT_S_MAX = 120.0


class Device:
    """A device on a virtual line, which can be unplugged and plugged in again elsewhere."""

    def __init__(self, directory: Path, name: str = "port") -> None:
        self.port = directory / name  # as a name below /dev/serial/by-id
        self.terminal = ""
        self._controller = -1

    def plug_in(self) -> None:
        self._controller, terminal = pty.openpty()
        self.terminal = os.ttyname(terminal)
        os.close(terminal)
        self.port.symlink_to(self.terminal)

    def unplug(self) -> None:
        self.port.unlink()
        os.close(self._controller)
        self._controller = -1

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._controller, data) :]

    def close(self) -> None:
        if self._controller >= 0:
            os.close(self._controller)


@pytest.fixture
def device(tmp_path) -> Iterator[Device]:
    device = Device(tmp_path)
    device.plug_in()
    yield device
    device.close()


def settings(port: Path, **more) -> SerialTable:
    given = {"columns": ["time", "flow"], "reconnect_delay_max_s": 0.05} | more
    return SerialTable(name="pump-serial", stream="pump", port=port, **given)


@contextmanager
def reading(table: SerialTable):
    """An input that runs, and the queue that it fills."""
    queue = ChunkQueue(100)
    source = open_input(table)
    source.start(queue.put)
    try:
        yield source, queue
    finally:
        source.stop()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {WAIT_S_MAX} s in vain for: {what}")
        time.sleep(0.005)


def connected(source) -> None:
    wait_for(lambda: source.status().connected, "the connection")


def take_lines(queue: ChunkQueue, count: int) -> list[bytes]:
    lines: list[bytes] = []
    deadline = time.monotonic() + WAIT_S_MAX
    while len(lines) < count and time.monotonic() < deadline:
        lines += [line for chunk in queue.take(0.1) for line in chunk.lines]
    return lines


# ---- reading


def test_lines_arrive_whole_and_in_order(device):
    with reading(settings(device.port)) as (source, queue):
        connected(source)
        device.write(b"1700000000,1\r\n1700000001,2\n17000")
        first = take_lines(queue, 2)
        device.write(b"00002,3\n")
        assert first + take_lines(queue, 1) == [b"1700000000,1", b"1700000001,2", b"1700000002,3"]
        status = source.status()
    assert (status.bytes, status.lines, status.lines_cut) == (40, 3, 0)
    assert (status.reconnects, status.last_error) == (0, None)


def test_lines_that_wait_at_the_opening_are_read(device):
    device.write(b"1700000000,1\n1700000001,2\n17000")
    with reading(settings(device.port)) as (_, queue):
        assert take_lines(queue, 2) == [b"1700000000,1", b"1700000001,2"]
        device.write(b"00002,3\n")
        assert take_lines(queue, 1) == [b"1700000002,3"]
    device.write(b"1700000003,4\n1700000004,5\n")  # while nobody reads
    with reading(settings(device.port)) as (source, queue):
        assert take_lines(queue, 2) == [b"1700000003,4", b"1700000004,5"]
        assert source.status().lines_cut == 0


def test_of_what_waits_the_first_piece_is_skipped_where_it_could_mislead(device):
    device.write(b"5,0.3\n12.5,0.4\n")
    with reading(settings(device.port, columns=["flow", "current"])) as (source, queue):
        assert take_lines(queue, 1) == [b"12.5,0.4"]
        assert source.status().lines_cut == 1


def test_all_that_the_kernel_keeps_of_a_port_is_read_after_a_restart(device):
    with reading(settings(device.port)) as (source, _):
        connected(source)
    lines = [b"%d,%d" % (1700000000 + number, number) for number in range(250)]
    device.write(b"".join(b"%s\n" % line for line in lines))  # some 3.8 KB
    with reading(settings(device.port)) as (_, queue):
        assert take_lines(queue, 250) == lines


@pytest.mark.parametrize("change", [{"baud": 19200}, {"stopbits": 2}])
def test_what_came_at_another_speed_is_thrown_away(device, monkeypatch, change):
    monkeypatch.setattr("agent.inputs.serial.PSEUDO_TERMINALS", ())  # this one passes for a real
    with open_port(settings(device.port, baud=9600)):
        device.write(b"noise\n")
        wait_for(lambda: waiting(device) == 6, "the noise")
    with open_port(settings(device.port, baud=9600)) as port:
        assert port.in_waiting == 6
    with open_port(settings(device.port, **{"baud": 9600} | change)) as port:
        assert port.in_waiting == 0


def waiting(device: Device) -> int:
    with Path(device.terminal).open("rb", buffering=0) as terminal:
        (count,) = struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)))
        return int(count)


def test_a_sample_is_of_its_own_speed_only(device):
    device.write(b"noise\n")
    assert sample(settings(device.port), 0.1) == b""


def test_a_chunk_says_where_and_when_it_came(device):
    with reading(settings(device.port)) as (source, queue):
        connected(source)
        before, before_mono = time.time(), time.monotonic()
        device.write(b"1700000000,1\n")
        (chunk,) = queue.take(WAIT_S_MAX)
        assert chunk.input_name == "pump-serial"
        assert before <= chunk.arrived_s <= time.time()
        assert before_mono <= chunk.arrived_mono_s <= time.monotonic()


def test_what_comes_at_once_goes_at_once(device):
    with reading(settings(device.port)) as (source, queue):
        connected(source)
        device.write(b"1700000000,1\n" * 200)
        chunks: list[Chunk] = []
        while sum(len(chunk.lines) for chunk in chunks) < 200:
            chunks += queue.take(WAIT_S_MAX)
        assert len(chunks) < 20


def test_a_line_without_an_end_is_bounded(device):
    with reading(settings(device.port, line_bytes_max=50)) as (source, queue):
        connected(source)
        device.write(b"x" * 100_000 + b"\n1700000000,1\n")
        assert take_lines(queue, 2) == [b"x" * 51, b"1700000000,1"]


def test_the_first_piece_is_dropped_where_it_could_pass_for_a_line(device):
    with reading(settings(device.port, columns=["flow", "temp"])) as (source, queue):
        connected(source)
        device.write(b"2.5,20\n12.5,20\n")
        assert take_lines(queue, 1) == [b"12.5,20"]
        assert source.status().lines_cut == 1


def test_two_cannot_read_the_same_port(device):
    with reading(settings(device.port)) as (source, _):
        connected(source)
        with reading(settings(device.port)) as (second, _):
            wait_for(lambda: second.status().last_error is not None, "the refusal")
            assert not second.status().connected


# ---- unplugging


def test_an_absent_port_is_waited_for(device):
    device.unplug()
    with reading(settings(device.port)) as (source, queue):
        wait_for(lambda: source.status().last_error is not None, "the first attempt")
        assert not source.status().connected
        # status, and the alarm "silent", say what to do
        assert f"{device.port} does not exist: is the device plugged in?" in str(
            source.status().last_error
        )
        device.plug_in()
        connected(source)
        device.write(b"1700000000,1\n")
        assert take_lines(queue, 1) == [b"1700000000,1"]
        assert source.status().reconnects == 0


def test_a_port_that_goes_away_is_closed_and_found_again(device, caplog):
    with caplog.at_level("INFO"), reading(settings(device.port)) as (source, queue):
        connected(source)
        terminal = device.terminal
        device.write(b"1700000000,1\n17000")
        assert take_lines(queue, 1) == [b"1700000000,1"]
        wait_for(lambda: source.status().bytes == 18, "the piece of a line")
        device.unplug()
        wait_for(lambda: not source.status().connected, "the loss")
        wait_for(lambda: not is_open(terminal), "the port to be closed")
        status = source.status()
        assert (status.lines_cut, bool(status.last_error)) == (1, True)
        device.plug_in()
        connected(source)
        device.write(b"00001,2\n1700000002,3\n")
        # the piece from before is not the beginning of the one from after
        assert take_lines(queue, 2) == [b"00001,2", b"1700000002,3"]
        assert source.status().reconnects == 1
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[1].split()[0] for message in messages] == [
        "reading",
        str(device.port),
        "reading",
    ]
    assert "retrying until it is back" in messages[1]


def is_open(terminal: str) -> bool:
    return any(target.startswith(terminal) for target in open_files())


def open_files() -> Iterator[str]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield str(link.readlink())
        except OSError:  # closed meanwhile
            continue


def test_a_port_that_is_always_ready_and_gives_nothing_is_gone():
    with Path("/dev/null").open("rb") as port, pytest.raises(OSError, match="the device is gone"):
        Arriving(port.fileno()).read()


def test_a_long_absence_is_logged_once(device, caplog):
    device.unplug()
    before = threading.active_count()
    with reading(settings(device.port, reconnect_delay_max_s=0.001)) as (source, _):
        wait_for(lambda: source.status().last_error is not None, "the first attempt")
        time.sleep(0.2)  # some hundred attempts
    assert len(caplog.records) == 1
    assert "does not exist" in caplog.text
    assert threading.active_count() == before


TRIES_MAX = 1000
LOOKED_S = 1.0


class Tries:
    """Counts how often a port is opened; the opening itself is the real one."""

    def __init__(self) -> None:
        self.count = 0
        self.enough = threading.Event()

    def open(self, table: SerialTable):
        self.count += 1
        if self.count >= TRIES_MAX:
            self.enough.set()
        return open_port(table)


@pytest.mark.parametrize("there", ["nothing", "no port"])
def test_a_port_that_is_not_back_is_not_opened_again_and_again(tmp_path, monkeypatch, there):
    """A thousand tries take milliseconds without a pause, and many minutes with it."""
    tries = Tries()
    monkeypatch.setattr("agent.inputs.serial.open_port", tries.open)
    port = tmp_path / "ttyUSB0"
    if there == "no port":
        port.touch()
    with reading(settings(port, reconnect_delay_max_s=60)) as (source, _):
        wait_for(lambda: source.status().last_error is not None, "the first attempt")
        assert not tries.enough.wait(LOOKED_S)
    assert 1 <= tries.count < TRIES_MAX


def test_each_pause_may_be_twice_as_long_up_to_a_limit(tmp_path, monkeypatch):
    bounds: list[float] = []

    def drawn(low: float, high: float) -> float:
        bounds.append(high)
        return low

    monkeypatch.setattr("agent.backoff.random.uniform", drawn)
    with reading(settings(tmp_path / "ttyUSB0", reconnect_delay_max_s=7)):
        wait_for(lambda: len(bounds) >= 50, "fifty attempts")
    assert bounds[:6] == [0.5, 1.0, 2.0, 4.0, 7, 7]
    assert set(bounds[6:]) == {7}


# ---- a pattern, or the only one


class Bus:
    """A directory such as /dev/serial/by-id, with devices that come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "by-id"
        self.directory.mkdir()
        self._devices: dict[str, Device] = {}

    def plug_in(self, name: str) -> Device:
        device = self._devices[name] = Device(self.directory, name)
        device.plug_in()
        return device

    def close(self) -> None:
        for device in self._devices.values():
            device.close()


@pytest.fixture
def bus(tmp_path) -> Iterator[Bus]:
    made = Bus(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("port", ["auto", "usb-FTDI_*"])
def test_a_device_that_comes_back_under_another_name_is_taken(bus, port):
    table = settings(Path(port) if port == "auto" else bus.directory / port, by_id=bus.directory)
    with reading(table) as (source, queue):
        wait_for(lambda: source.status().last_error is not None, "the first attempt")
        assert "no device matches" in source.status().last_error
        first = bus.plug_in("usb-FTDI_A-if00")
        connected(source)
        first.write(b"1700000000,1\n")
        assert take_lines(queue, 1) == [b"1700000000,1"]
        first.unplug()
        wait_for(lambda: not source.status().connected, "the loss")
        second = bus.plug_in("usb-FTDI_B-if00")
        connected(source)
        second.write(b"1700000001,2\n")
        assert take_lines(queue, 1) == [b"1700000001,2"]
    assert probe_port(table) is None
    assert named(table.port, table.by_id) == str(bus.directory / "usb-FTDI_B-if00")


def test_several_that_fit_are_named_until_one_is_left(bus):
    first, second = bus.plug_in("usb-FTDI_A"), bus.plug_in("usb-FTDI_B")
    bus.plug_in("usb-Prolific")
    table = settings(bus.directory / "usb-FTDI_?", by_id=bus.directory)
    trouble = probe_port(table)
    assert trouble is not None
    assert f"matches 2 devices; name one: {first.port}, {second.port}" in trouble
    assert named(table.port, table.by_id) == str(table.port)
    with reading(table) as (source, _):
        wait_for(lambda: source.status().last_error is not None, "the first attempt")
        assert source.status().last_error == trouble
        first.unplug()
        connected(source)


def test_none_that_fits_names_those_that_are_there(bus):
    there = bus.plug_in("usb-Prolific")
    trouble = probe_port(settings(bus.directory / "usb-FTDI_*", by_id=bus.directory))
    assert trouble == (f"no device matches {bus.directory}/usb-FTDI_*; the ports are: {there.port}")


def test_a_name_with_brackets_is_no_pattern_where_it_is_there(bus):
    there = bus.plug_in("usb-[odd]")
    assert find(there.port, bus.directory) == there.port


# ---- flow control


@pytest.mark.parametrize("flow_control", ["none", "rtscts", "xonxoff"])
def test_the_line_is_set_to_the_flow_control_asked_for(device, flow_control):
    with open_port(settings(device.port, flow_control=flow_control)) as port:
        input_flags, _, control_flags, *_ = termios.tcgetattr(port.fd)
    assert bool(input_flags & (termios.IXON | termios.IXOFF)) == (flow_control == "xonxoff")
    assert bool(control_flags & termios.CRTSCTS) == (flow_control == "rtscts")


# ---- stopping


def test_a_stop_does_not_wait_for_the_next_attempt(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.inputs.serial.RECONNECT_DELAY_S", 1e6)
    source = open_input(settings(tmp_path / "absent", reconnect_delay_max_s=1e6))
    source.start(ChunkQueue(1).put)
    wait_for(lambda: source.status().last_error is not None, "the first attempt")
    stopper = threading.Thread(target=source.stop, daemon=True)
    stopper.start()
    stopper.join(WAIT_S_MAX)
    assert not is_running()


def test_a_stop_does_not_wait_for_a_line(device):
    with reading(settings(device.port)) as (source, _):
        connected(source)
    assert not is_running()
    assert not is_open(device.terminal)


def is_running() -> bool:
    return any(thread.name == "input pump-serial" for thread in threading.enumerate())


def test_an_input_that_never_started_stops(device):
    open_input(settings(device.port)).stop()


# ---- probing


def test_probe_of_a_good_port(device):
    assert probe_port(settings(device.port)) is None


def test_probe_of_no_port(tmp_path):
    trouble = probe_port(settings(tmp_path / "ttyUSB0"))
    assert trouble is not None
    assert trouble.startswith(f"{tmp_path}/ttyUSB0 does not exist: is the device plugged in?")


def test_probe_of_a_port_in_use(device):
    with open_port(settings(device.port)):
        trouble = probe_port(settings(device.port))
    assert trouble == f"{device.port} is in use by another program (a running agent?)"


def test_probe_without_permission_names_the_group(device):
    group = Path(device.terminal).group()
    Path(device.terminal).chmod(0)
    with unprivileged():
        trouble = probe_port(settings(Path(device.terminal)))
    assert trouble == (
        f"no permission to open {device.terminal}: add the agent's user to the group {group}"
    )


@contextmanager
def unprivileged():
    """As a user who is not root, whom no mode keeps out."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize(
    ("name", "kind"), [("file", "a file"), ("/dev/null", "another device"), ("", "a directory")]
)
def test_probe_of_what_is_no_port(tmp_path, name, kind):
    (tmp_path / "file").write_text("no port")
    (tmp_path / "usb-485").touch()
    port = tmp_path / name
    trouble = probe_port(settings(port, by_id=tmp_path))
    assert trouble == (
        f"{port} is {kind}, not a serial port: set port to a serial device, preferably by its"
        f" name below {tmp_path}; the ports are: {tmp_path}/file, {tmp_path}/usb-485"
    )


# ---- the queue


def chunk(number: int) -> Chunk:
    return Chunk("a", float(number), 0.0, [b"x"] * number)


def test_the_queue_keeps_the_order():
    queue = ChunkQueue(10)
    for number in range(3):
        queue.put(chunk(number))
    assert queue.take(0) == [chunk(0), chunk(1), chunk(2)]
    assert queue.take(0) == []


def test_a_full_queue_drops_the_oldest_and_counts():
    queue = ChunkQueue(3)
    for number in range(1, 6):
        queue.put(chunk(number))
    assert (queue.dropped_chunks, queue.dropped_lines) == (2, 1 + 2)
    assert queue.take(0) == [chunk(3), chunk(4), chunk(5)]


def test_readings_count_as_lines_where_they_are_dropped_or_taken(monkeypatch):
    rows = [Measurement({"flow": 1.0})] * 2
    queue = ChunkQueue(3)
    for number in range(5):
        queue.put(Chunk("a", float(number), 0.0, measurements=rows))
    assert (queue.dropped_chunks, queue.dropped_lines) == (2, 4)
    monkeypatch.setattr("agent.inputs.queue.LINES_TAKEN_MAX", 3)
    assert [len(queue.take(0)) for _ in range(2)] == [2, 1]


def test_what_is_told_of_its_commit_is_never_dropped_and_stays_in_order():
    queue = ChunkQueue(3)
    for number in range(1, 8):
        queue.put(chunk(number)._replace(token=number % 2))
    assert (queue.dropped_chunks, queue.dropped_lines) == (3, 2 + 4 + 6)
    assert queue.waiting == 4
    taken = [len(one.lines) for _ in range(2) for one in queue.take(0)]
    assert taken == [1, 3, 5, 7]


def test_no_more_is_taken_at_once_than_a_turn_of_the_loop_may_take(monkeypatch):
    monkeypatch.setattr("agent.inputs.queue.LINES_TAKEN_MAX", 5)
    queue = ChunkQueue(10)
    for number in (2, 2, 2, 2, 7, 1):
        queue.put(chunk(number))
    taken = [queue.take(0) for _ in range(4)]
    assert taken == [[chunk(2)] * 3, [chunk(2), chunk(7)], [chunk(1)], []]


def test_a_waiting_loop_can_be_woken():
    queue = ChunkQueue(3)
    threading.Timer(0.05, queue.wake).start()
    assert queue.take(3600) == []
    queue.wake()
    queue.put(chunk(1))
    assert queue.take(0) == [chunk(1)]


def test_the_loop_waits_for_other_inputs_until_all_have_come():
    queue = ChunkQueue(10, gather_s=3600, enough=3)
    for delay_s in (0.02, 0.04, 0.06):
        threading.Timer(delay_s, queue.put, [chunk(1)]).start()
    assert queue.take(3600) == [chunk(1)] * 3


def test_the_loop_does_not_wait_for_an_input_that_is_silent():
    queue = ChunkQueue(10, gather_s=0.01, enough=3)
    queue.put(chunk(1))
    assert queue.take(3600) == [chunk(1)]


def test_every_chunk_is_taken_or_counted():
    queue = ChunkQueue(5)
    put_each = 2000
    writers = [
        threading.Thread(target=lambda: [queue.put(chunk(1)) for _ in range(put_each)])
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    taken = 0
    while any(writer.is_alive() for writer in writers):
        taken += len(queue.take(0.001))
    taken += len(queue.take(0)) + len(queue.take(0))
    assert taken + queue.dropped_chunks == 3 * put_each
