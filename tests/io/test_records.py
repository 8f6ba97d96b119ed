import json

from facelib.io.records import read_table, significant, write_record, write_table


def test_significant_rounds_floats_only():
    given = {"a": 0.123456, "b": [123456.0, 7, "text"], "c": {"d": (1.0, True, None)}, "e": 1.23456e-7}
    assert significant(given) == {"a": 0.1235, "b": [123500.0, 7, "text"], "c": {"d": [1.0, True, None]}, "e": 1.235e-7}


def test_a_record_holds_the_circumstances_of_the_measurement(tmp_path):
    path = tmp_path / "new" / "some.json"
    write_record(path, {"rate": 2 / 3}, command="python -m x", weights={"a.pt": "12345678"}, data="ten photos")
    record = json.loads(path.read_text())
    assert list(record) == ["measured", "rate"]
    assert {"date", "command", "weights", "data"} == set(record["measured"])
    assert record["rate"] == 0.6667


def test_tables_round_trip(tmp_path):
    """Numbers stay numbers, texts stay texts, and empty cells are omitted."""
    rows = [{"run": "a", "loss": 0.25, "n": 3}, {"run": "1e", "top1": 0.123456, "n": 0}]
    write_table(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "run,loss,n,top1"
    assert read_table(tmp_path / "t.csv") == [rows[0], {"run": "1e", "top1": 0.1235, "n": 0}]
