"""Nothing leaves the machine, and nothing stays that was not asked for: system calls, HOME and TMPDIR of every command.

Native code opens sockets of its own, so that the commands are watched from outside, by strace.
"""

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image
from video.clips import carphone

from facelib import Gallery
from facelib.cli.main import application
from facelib.datasets.sources import load_orl
from facelib.io.sample import sample_photo
from facelib.runtime.manifest import default_model_id

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
LOCAL_FAMILIES = {"AF_UNIX", "AF_UNSPEC", "AF_NETLINK"}  # other processes of the machine, nobody, the kernel
FAMILY = re.compile(r"sa_family=(AF_\w+)")
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
DNS = "53"  # a name server on this machine asks others
MATPLOTLIB = {(".cache", "matplotlib"), (".config", "matplotlib")}
NETWORKS = ("--detector", "retinaface", "--device", "cpu")


def can_trace():
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*STRACE, "-o", os.devnull, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace here")


@pytest.fixture
def home():
    """A new HOME, with a TMPDIR and a working folder in it; a short path, because Ray's sockets need one."""
    with tempfile.TemporaryDirectory(prefix="home", dir="/tmp") as folder:
        for name in ("home", "tmp", "work"):
            Path(folder, name).mkdir()
        yield Path(folder)


def traced(home, *command):
    """Run a command under strace: (finished process, lines of the trace that are about other machines)."""
    trace = home / "trace"
    dropped = ("ORT_", "XDG_", "RAY_", "FACELIB_CACHE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "FACELIB_DATA": str(home / "data")}
    done = subprocess.run(
        [*STRACE, "-o", str(trace), *map(str, command)],
        capture_output=True,
        text=True,
        cwd=home / "work",
        env=environment,
        timeout=300,
    )
    lines = trace.read_text(errors="replace").splitlines()
    trace.unlink()
    return done, [line for line in lines if is_sent_away(line)]


def is_sent_away(line):
    if set(FAMILY.findall(line)) <= LOCAL_FAMILIES:
        return False
    addresses = ADDRESS.findall(line)
    return not addresses or any(port == DNS or not is_this_machine(host) for port, host in addresses)


def is_this_machine(host):
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


SENDERS = {
    "another program": ["bash", "-c", "echo x > /dev/udp/192.0.2.1/9; true"],
    "Python": [sys.executable, "-c", "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 53))"],
    "IPv6": [
        sys.executable,
        "-c",
        "import socket, contextlib\nwith contextlib.suppress(OSError): socket.socket(10, 2).connect(('2001:db8::1', 9))",
    ],
}


@pytest.mark.parametrize("sender", SENDERS)
def test_what_is_sent_is_noticed(home, sender):
    _, sent = traced(home, *SENDERS[sender])
    assert sent


def test_loopback_is_no_other_machine(home):
    code = "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9))"
    assert not traced(home, sys.executable, "-c", code)[1]


@pytest.fixture
def photos(home, photo, pipeline):
    """Three people of the sample photo, one of them twice, and a gallery in which the first one is enrolled as Ann."""
    folder = home / "photos"
    folder.mkdir()
    faces = pipeline(photo)
    for number, face in enumerate(faces[:3]):
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).clip(0).astype(int).tolist()
        Image.fromarray(photo[y1:y2, x1:x2]).save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "3.png")
    (home / "strangers").mkdir()
    for number, file in enumerate(load_orl().files[::8]):
        Image.open(file).convert("RGB").resize((276, 336)).save(home / "strangers" / f"{number}.png")
    with Gallery(home / "people.gallery") as gallery:
        gallery.enrol("Ann", faces[0])
    shutil.copy(carphone(), home / "clip.mp4")
    return folder


# Command -> what it writes into its working folder.
COMMANDS = {
    "detect ../photos --out results": {"results"},
    "compare ../photos/0.png ../photos/3.png": set(),
    "enrol Bob ../photos/1.png --gallery new.gallery": {"new.gallery"},
    "identify ../photos --gallery ../people.gallery": set(),
    "people --gallery ../people.gallery": set(),
    "remove Ann --gallery ../people.gallery": set(),
    "album ../photos --out album --gallery ../people.gallery --folders copies": {"album"},
    "find ../photos/0.png ../photos --copy-to found": {"found"},
    "video ../clip.mp4 --out seen --gallery ../people.gallery": {"seen"},
    "blur ../photos --out hidden": {"hidden"},
    "backup --gallery ../people.gallery --out copy.gallery": {"copy.gallery"},
    "calibrate --photos ../strangers": set(),
    "export exported": {"exported"},
    "info": set(),
    "forget ../photos --gallery ../people.gallery --yes": set(),
}
LOADS_NETWORKS = ("detect", "compare", "enrol", "identify", "album", "find", "video", "blur", "calibrate", "forget")
CALIBRATIONS = Path(".cache/facelib/calibrations")  # what calibrate keeps in HOME, and says so


def test_every_command_is_watched():
    assert {command.split()[0] for command in COMMANDS} == set(application.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_sends_nothing_and_leaves_only_what_was_asked_for(home, photos, command):
    arguments = command.split()
    networks = NETWORKS if arguments[0] in LOADS_NETWORKS else ()
    done, sent = traced(home, sys.executable, "-m", "facelib", *arguments, *networks)
    assert done.returncode == 0, done.stderr
    assert not sent
    assert {path.name for path in (home / "work").iterdir()} == COMMANDS[command]
    files = [
        CALIBRATIONS / f"{kind}_{default_model_id()}.{end}"
        for kind, end in (("calibration", "json"), ("cohort", "npz"))
    ]
    if arguments[0] == "find":  # what a search keeps for the next one, and says so
        (folder,) = (home / "home/.cache/facelib/find").iterdir()
        files = [folder.relative_to(home / "home") / "faces.part.jsonl"]
    kept = [*files[0].parents[-2::-1], *files] if arguments[0] in ("calibrate", "find") else []
    assert files_below(home / "home") == [str(path) for path in kept]
    assert files_below(home / "tmp") == []
    assert not (home / "data").exists()


USE_PAGE = """
import json, signal, subprocess, sys, urllib.request
served = subprocess.Popen([sys.executable, "-m", "facelib", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
served.stdout.readline()
address = json.loads(served.stdout.readline())["address"]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
people = json.loads(opener.open(address + "people").read())
change = {"version": people["version"], "kind": "name", "people": [people["people"][0]["name"]], "name": "Ann"}
headers = {"Content-Type": "application/json", "Origin": address.rsplit("/", 2)[0]}
opener.open(urllib.request.Request(address + "change", json.dumps(change).encode(), headers)).read()
served.send_signal(signal.SIGINT)
sys.exit(served.wait(60))
"""


def test_the_page_of_an_album_sends_nothing(home, photos):
    pytest.importorskip("uvicorn")
    arguments = ("album", "../photos", "--out", "album", "--serve", "--json", *NETWORKS)
    done, sent = traced(home, sys.executable, "-c", USE_PAGE, *arguments)
    assert done.returncode == 0, done.stderr
    assert not sent
    assert "Ann" in (home / "work/album/people.csv").read_text()
    assert {path.name for path in (home / "work").iterdir()} == {"album"}
    assert files_below(home / "home") == files_below(home / "tmp") == []
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (home / "work").rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}


@pytest.mark.cluster
def test_an_archive_sends_nothing_and_leaves_only_its_tables(home, photos):
    """Ray too: it is bound to loopback, asks no cloud where it runs, and leaves no logs. The tables are private."""
    pytest.importorskip("ray")
    shutil.copy(sample_photo(), photos)
    module = [sys.executable, "-m", "facelib.archive"]
    done, sent = traced(home, *module, "../photos", "--out", "archive", *NETWORKS)
    assert done.returncode == 0, done.stderr
    assert "5 photos (0 with an error)" in done.stdout
    assert not sent
    search = (".search", "archive", "../photos/0.png", "--detector", "retinaface")
    for more in (".people", "archive"), search:
        done, sent = traced(home, sys.executable, "-m", f"facelib.archive{more[0]}", *more[1:])
        assert (done.returncode, sent) == (0, []), done.stderr
    assert [path.name for path in (home / "work").iterdir()] == ["archive"]
    # matplotlib, where it is imported, keeps its list of fonts.
    assert {Path(name).parts[:2] for name in files_below(home / "home") if "/" in name} <= MATPLOTLIB
    assert files_below(home / "tmp") == []
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (home / "work").rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}
