"""What readers of the store get while the agent writes it."""

from __future__ import annotations

from pathlib import Path

from agent.store.batch import Batch
from agent.store.reader import Reader
from tests.kept_rig import Kept, alarm


def test_alarms_come_in_the_order_of_their_names_and_absent_ones_do_not(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    names = [("pump", 3), ("fan", 1), ("pump", 1), ("p\"u'mp", 7), ("fan", 1)]
    alarms = [alarm(number, stream) for stream, number in sorted(set(names))]
    kept.store.commit(Batch(alarms=[*alarms, alarm(2)]), "synced")
    kept.store.close()
    with Reader(tmp_path / "data") as reader:
        found = reader.alarms_named([*names[:2], ("pump", 9), ("none", 1), *names[2:]])
        assert [(one["stream"], one["number"]) for one in found] == names
        assert reader.alarms_named([]) == []
        assert reader.alarm("pump", 3) == alarms[-1]
        assert reader.alarm("pump", 4) is None
