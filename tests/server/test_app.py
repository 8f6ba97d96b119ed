"""The application as a browser meets it: who may ask, what is answered, and what other pages cannot do."""

import json

import pytest
from PIL import Image
from served import library_of, people_of, served, session_of

httpx = pytest.importorskip("httpx2")
testclient = pytest.importorskip("starlette.testclient")
from facelib.server.app import make_app  # noqa: E402

HOST = "127.0.0.1:8000"
SAME = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def session(tmp_path):
    library = library_of(tmp_path, 0, 0, 1)
    Image.new("RGB", (300, 200), (9, 9, 200)).save(library.out / "a.jpg")
    with session_of(library) as opened:
        yield opened


@pytest.fixture
def client(session):
    return testclient.TestClient(make_app(session.album, "secret", 8000), f"http://{HOST}/secret/")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """A session of another library, and a client, for tests that change nothing."""
    with session_of(library_of(tmp_path_factory.mktemp("album"), 0, 0, 1)) as opened:
        yield opened, testclient.TestClient(make_app(opened.album, "secret", 8000), f"http://{HOST}/secret/")


def change(client, headers=SAME, **asked):
    return client.post("change", json=asked, headers=headers)


def test_the_page_and_its_files_come_with_a_strict_policy(client):
    for path in ("", "page.js", "page.css", "icon.svg", "faces", "people", "suggestions", "face/0", "photo/0"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and "http" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
    assert "http" not in client.get("").text + client.get("page.js").text + client.get("page.css").text


def test_pictures_are_small_and_those_that_vanish_are_missing(client, session):
    small = client.get("face/0")
    assert small.headers["content-type"] == "image/jpeg" and len(small.content) < 5000
    (session.album.faces[0].aligned).unlink()
    (session.album.faces[0].annotated).unlink()
    for path, text in (
        ("face/0", "gone or damaged"),
        ("photo/0", "gone"),
        ("face/9", "no such face"),
        ("face/x", "Not"),
    ):
        answer = client.get(path)
        assert answer.status_code == 404 and text in answer.text
    session.album.faces[0].aligned.write_bytes(b"\x89PNG\r\n\x1a\n" + 40 * b"x")
    assert client.get("face/0").status_code == 404


def test_changes_are_answered_with_the_album_as_it_is_then(client, session):
    before = client.get("people").json()
    answer = change(client, version=before["version"], kind="name", people=["Person 1"], name="Ann")
    assert answer.status_code == 200
    assert answer.json()["people"][0] | {"faces": []} == {"name": "Ann", "named": True, "faces": []}
    assert client.get("people", params={"mark": answer.json()["mark"]}).status_code == 204
    session.album.problem = "the disk is full"
    assert client.get("people", params={"mark": answer.json()["mark"]}).json()["problem"] == "the disk is full"


def test_a_second_window_is_told_and_shown_what_has_changed(client):
    version = client.get("people").json()["version"]
    assert change(client, version=version, kind="name", people=["Person 1"], name="Ann").status_code == 200
    answer = change(client, version=version, kind="name", people=["Person 1"], name="Bob")
    assert answer.status_code == 409
    assert "changed meanwhile" in answer.json()["error"] and answer.json()["people"][0]["name"] == "Ann"


def test_the_log_fails_and_nothing_is_shown_as_kept(client, session, monkeypatch):
    def full(*_):
        raise OSError("people.sqlite: database or disk is full")

    monkeypatch.setattr(session.album.store, "add", full)
    answer = change(client, version=0, kind="name", people=["Person 1"], name="Ann")
    assert answer.status_code == 500
    assert answer.json() == {"error": "people.sqlite: database or disk is full; nothing was changed"}
    assert people_of(session.album) == ["Person 1", "Person 1", "Person 2"]


@pytest.mark.parametrize("body", ["", "[", "[]", "7", '"x"', "[" * 100_000, '{"version": NaN}', "\x00"])
def test_hostile_bodies_are_refused(unchanged, body):
    answer = unchanged[1].post("change", content=body, headers=SAME | {"Content-Type": "application/json"})
    assert answer.status_code in (400, 409)
    assert answer.json()["error"]


def test_only_the_token_opens_anything(unchanged):
    client = testclient.TestClient(make_app(unchanged[0].album, "secret", 8000), f"http://{HOST}")
    for path in ("/", "/people", "/secre/people", "/secret2/people", "//secret/people", "/\u00e9/", "/%2e%2e/people"):
        answer = client.get(path)
        assert answer.status_code == 404 and "Person" not in answer.text, path
        assert "content-security-policy" in answer.headers
    for path in ("/secret/../../etc/passwd", "/secret/..%2fapp.py", "/secret/page/page.js", "/secret/face/..%2f0"):
        assert client.get(path).status_code == 404, path
    assert client.get("/secret/people").status_code == 200
    assert client.get("/secret", follow_redirects=False).headers["location"] == "/secret/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "", "[::1]:8000"])
def test_other_host_names_are_refused(unchanged, host):
    """As of DNS rebinding: a page of evil.example, whose name suddenly leads to this machine."""
    assert unchanged[1].get("people", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "https://127.0.0.1:8000"},
        SAME | {"Sec-Fetch-Site": "cross-site"},
        SAME | {"Sec-Fetch-Site": "same-site"},
        SAME | {"Content-Type": "text/plain"},
        SAME | {"Content-Type": "application/x-www-form-urlencoded"},
        SAME | {"Content-Length": "9000000"},
        SAME | {"Content-Length": "-1"},
    ],
)
def test_changes_from_other_pages_are_refused(unchanged, headers):
    session, client = unchanged
    body = json.dumps({"version": 0, "kind": "name", "people": ["Person 1"], "name": "Ann"})
    answer = client.post("change", content=body, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == 403 and answer.text.startswith("refused")
    assert people_of(session.album)[0] == "Person 1"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(unchanged, method):
    assert unchanged[1].request(method, "change", headers=SAME).status_code == 403


def test_other_pages_cannot_read(unchanged):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert unchanged[1].get("people", headers=headers).status_code == 403


def test_a_real_server_on_this_machine_alone(session):
    with served(session.album) as address:
        assert address.startswith("http://127.0.0.1:") and len(address.split("/")[3]) >= 32
        answer = httpx.get(address + "people", trust_env=False)
        assert answer.status_code == 200 and "server" not in answer.headers
        origin = {"Origin": address.rsplit("/", 2)[0]}
        asked = {"version": answer.json()["version"], "kind": "name", "people": ["Person 1"], "name": "Ann"}
        assert httpx.post(address + "change", json=asked, headers=origin, trust_env=False).status_code == 200
        assert httpx.get(address.rsplit("/", 2)[0] + "/people", trust_env=False).status_code == 404
