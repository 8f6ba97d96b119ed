"""`facelib album --serve` as from a terminal: kills, Ctrl-C, a port in use, and missing packages."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from facelib.cli.album_table import read_people
from facelib.cli.main import main

pytest.importorskip("uvicorn")
NETWORKS = ("--detector", "retinaface", "--device", "cpu")


class Serving:
    """The command in a process of its own, and requests to it."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "facelib", "album", *map(str, arguments), *NETWORKS, "--serve", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.printed = [json.loads(self.process.stdout.readline()) for _ in range(2)]
        self.address = self.printed[1]["address"]

    def ask(self, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Origin": self.address.rsplit("/", 2)[0]}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return json.loads(opener.open(urllib.request.Request(self.address + path, data, headers)).read())

    def name(self, person, name):
        version = self.ask("people")["version"]
        return self.ask("change", {"version": version, "kind": "name", "people": [person], "name": name})


def test_kills_lose_nothing_and_an_interruption_writes_everything(capsys, tmp_path, portraits):
    out, gallery = tmp_path / "album", tmp_path / "people.gallery"
    arguments = ("album", str(portraits), "--out", str(out), "--gallery", str(gallery), *NETWORKS)
    first = Serving(portraits, "--out", out, "--gallery", gallery)
    try:
        first.name("Person 1", "Ann")
    finally:
        first.process.kill()
        first.process.wait()
    second = Serving(portraits, "--out", out, "--gallery", gallery)
    try:
        assert [person["name"] for person in second.ask("people")["people"]] == ["Ann", "Person 2"]
        assert second.ask("people")["undo"] == "Person 1 is Ann"
        assert main([*arguments]) == 2
        assert "another run is writing there" in capsys.readouterr().err
        second.name("Person 2", "Bob")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            second.name("Nobody", "Bob")
        second.process.send_signal(signal.SIGINT)
        rest, _ = second.process.communicate(timeout=60)
    finally:
        second.process.kill()
    assert second.process.returncode == 0
    assert json.loads(rest)["people"] == 2
    assert sorted(row.person for row in read_people(out).rows) == ["Ann", "Bob"]
    assert "Bob" in (out / "album.html").read_text()
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in out.iterdir()} == {0o600}
    main(["people", "--gallery", str(gallery), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"Ann": 1, "Bob": 1}
    main(["forget", str(portraits), "--album", str(out), "--yes"])
    assert not out.exists()


def test_a_port_in_use_is_told_before_anything_is_done(capsys, tmp_path, portraits):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = main(["album", str(portraits), "--out", str(tmp_path / "album"), "--serve", "--port", str(port)])
    assert code == 2
    assert f"port {port} is in use: give another --port, or none for a free one" in capsys.readouterr().err
    assert not os.listdir(tmp_path / "album")


def test_missing_packages_are_named(capsys, tmp_path, portraits, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["album", str(portraits), "--out", str(tmp_path / "album"), "--serve"]) == 2
    assert "pip install 'facelib-hourglass[serve]'" in capsys.readouterr().err
