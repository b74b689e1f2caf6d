"""The server answers as the command does, keeps its limits, keeps secrets, and goes on after whatever it is sent."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from braincam.errors import ConfigError
from braincam.predict import Predictor
from braincam.serve.app import create_app
from braincam.serve.settings import Settings
from braincam.serve.upload import base_name
from test_predict import bomb

TOKEN = "a token of more than sixteen characters"


@contextmanager
def serving(predictor: Predictor, **settings: Any) -> Iterator[httpx.Client]:
    """A running server on a free port, and a client for it."""
    app = create_app(predictor, Settings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, threads=1)


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[httpx.Client]:
    with serving(predictor) as opened:
        yield opened


@pytest.fixture(scope="module")
def scan(scans: Path) -> bytes:
    return next((scans / "data" / "glioma").iterdir()).read_bytes()


def upload(*contents: bytes, name: str = "scan.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for content in contents]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_answer_is_the_one_that_the_command_gives(client: httpx.Client, predictor: Predictor, scan: bytes):
    (row,) = client.post("/v1/predict", files=upload(scan)).json()["predictions"]
    (mine,) = predictor.predict(scan)
    assert row == {**mine.to_json(), "path": "scan.png", "picture": None, "cam": None}


def test_the_picture_and_the_maps_come_along_when_asked_for(client: httpx.Client, predictor: Predictor, scan: bytes):
    (row,) = client.post("/v1/predict?pictures=true", files=upload(scan)).json()["predictions"]
    (mine,) = predictor.predict(scan)
    assert mine.cams is not None
    sent = np.frombuffer(base64.b64decode(row["cam"]["data"]), "<f4")
    assert np.array_equal(sent.reshape(mine.cams.shape), mine.cams)
    assert row["cam"]["classes"] == list(predictor.card.classes)
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(row["picture"]))), mine.pixels)


def test_a_bad_file_becomes_a_row_and_costs_the_others_nothing(client: httpx.Client, scan: bytes, tmp_path: Path):
    bomb(tmp_path / "bomb.png")
    packed = gzip.compress(bytes(348))
    sent = [scan, b"", b"hello", scan[:200], (tmp_path / "bomb.png").read_bytes(), packed, scan]
    answer = client.post("/v1/predict", files=upload(*sent, name="some.png"))
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert [row["status"] == "error" for row in rows] == [False, True, True, True, True, True, False]
    assert all(row["reason"].startswith("some.png: ") for row in rows if row["status"] == "error")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\scan.png", "scan.png"), ("a\x00b\n.png", "ab.png"), ("..", ".."),
        ("", "upload"), ("/", "upload"), ("x" * 999, "x" * 200),
    ],
)  # fmt: skip
def test_a_clients_file_name_is_only_its_last_part(name: str, expected: str):
    assert base_name(name) == expected


def test_bodies_that_are_no_upload_are_refused_and_named(client: httpx.Client, scan: bytes):
    kind = {"content-type": "multipart/form-data; boundary=abc"}
    assert client.post("/v1/predict", content=b"x").status_code == 415
    assert client.post("/v1/predict", content=b"garbage", headers=kind).status_code == 422
    assert client.post("/v1/predict", content=b"", headers={"content-type": "multipart/form-data"}).status_code == 422
    assert client.post("/v1/predict", files=[("other", ("a", scan))]).status_code == 422
    assert client.post("/v1/predict?pictures=perhaps", files=upload(scan)).status_code == 422
    assert client.get("/v1/predict").status_code == 405
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404
    for refused in (client.post("/v1/predict", content=b"x"), client.get("/nothing")):
        assert isinstance(refused.json()["detail"], str)


def test_too_much_is_refused_before_it_is_read(predictor: Predictor, scan: bytes):
    with serving(predictor, max_bytes=100_000, max_files=3) as client:
        assert client.post("/v1/predict", files=upload(bytes(200_000))).status_code == 413
        assert client.post("/v1/predict", files=upload(*[b"x"] * 4)).status_code == 413

        def endless() -> Iterator[bytes]:
            yield b'--abc\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n'
            for _ in range(1000):
                yield bytes(10_000)

        kind = {"content-type": "multipart/form-data; boundary=abc"}  # chunked: its length is not declared
        with suppress(httpx.WriteError):  # the server may hang up before everything is sent
            assert client.post("/v1/predict", content=endless(), headers=kind).status_code == 413
        assert client.post("/v1/predict", files=upload(scan)).status_code == 200


def test_a_slow_or_broken_off_upload_is_ended_and_the_next_is_answered(predictor: Predictor, scan: bytes):
    head = (
        b"POST /v1/predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5000\r\n"
        b"content-type: multipart/form-data; boundary=abc\r\n\r\n--abc\r\n"
    )
    with serving(predictor, upload_seconds=0.3) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=10) as slow:
            slow.sendall(head)
            assert b" 408 " in slow.recv(200)
        with socket.create_connection(address, timeout=10) as broken:
            broken.sendall(head)
        assert client.post("/v1/predict", files=upload(scan)).status_code == 200


class Slow(Predictor):
    """Takes its time, until it is let go."""

    def __init__(self, like: Predictor):
        self.__dict__.update(like.__dict__)
        self.go = threading.Event()

    def stream(self, *given: Any, **how: Any) -> Any:
        self.go.wait(20)
        return super().stream(*given, **how)


def test_a_full_queue_says_so_at_once_and_what_was_accepted_is_answered(predictor: Predictor, scan: bytes):
    slow = Slow(predictor)
    with serving(slow, workers=1, queue=2) as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/v1/predict", files=upload(scan)) for _ in range(8)]
        deadline = time.monotonic() + 10
        while sum(one.done() for one in asked) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.get("/healthz").status_code == 200  # answers while all places are taken
        slow.go.set()
        answers = [one.result() for one in asked]
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 5
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)
        assert client.post("/v1/predict", files=upload(scan)).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(predictor: Predictor, scan: bytes):
    slow = Slow(predictor)
    with serving(slow, workers=1, queue=1, answer_seconds=0.2) as client:
        assert client.post("/v1/predict", files=upload(scan)).status_code == 504
        slow.go.set()
        deadline = time.monotonic() + 10
        while client.post("/v1/predict", files=upload(scan)).status_code != 200:  # the place is free again
            assert time.monotonic() < deadline


def test_many_at_once_get_the_same_answer(client: httpx.Client, scan: bytes):
    def ask(_: int) -> Any:
        while (answer := client.post("/v1/predict", files=upload(scan))).status_code == 503:
            time.sleep(0.02)
        return answer.json()

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(60)))
    assert all(answer == answers[0] for answer in answers)


def test_a_token_guards_all_but_health_and_page(predictor: Predictor, scan: bytes):
    with serving(predictor, token=TOKEN) as client:
        for path in ("/v1/model", "/metrics"):
            assert client.get(path).status_code == 401
        for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Bearer é"}):
            header = {name: value.encode() for name, value in wrong.items()}
            answer = client.post("/v1/predict", files=upload(scan), headers=header)
            assert answer.status_code == 401
            assert TOKEN not in answer.text
        assert client.get("/healthz").status_code == client.get("/").status_code == 200
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/predict", files=upload(scan), headers=right).status_code == 200
        assert client.get("/v1/model", headers=right).json()["name"] == predictor.card.name


def test_other_machines_need_a_token_and_a_token_must_be_long():
    with pytest.raises(ConfigError, match="BRAINCAM_TOKEN"):
        Settings(host="0.0.0.0")
    with pytest.raises(ConfigError, match="16 characters"):
        Settings(host="0.0.0.0", token="short")
    assert not Settings(host="0.0.0.0", token=TOKEN).loopback
    assert all(Settings(host=host).loopback for host in ("127.0.0.1", "localhost", "::1"))
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_other_sites_cannot_use_a_browser_to_ask(client: httpx.Client, scan: bytes):
    assert client.get("/healthz", headers={"host": "attacker.example"}).status_code == 403
    foreign = client.post("/v1/predict", files=upload(scan), headers={"origin": "https://attacker.example"})
    assert foreign.status_code == 403
    own = str(client.base_url).rstrip("/")
    assert client.post("/v1/predict", files=upload(scan), headers={"origin": own}).status_code == 200
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


def test_counts_hold_and_no_name_is_in_counts_or_logs(
    predictor: Predictor, scan: bytes, caplog: pytest.LogCaptureFixture
):
    with serving(predictor) as client, caplog.at_level(logging.INFO):
        client.post("/v1/predict?pictures=false&who=Doe", files=upload(scan, b"x", name="Jane-Doe-1970.png"))
        client.get("/patients/Doe")
        counts = client.get("/metrics").text
    assert 'braincam_requests_total{route="/v1/predict",status="200"} 1.0' in counts
    assert 'braincam_slices_total{status="error"} 1.0' in counts
    assert 'braincam_requests_total{route="other",status="404"} 1.0' in counts
    said = [record.getMessage() for record in caplog.records if record.name.startswith("braincam")]
    assert any("/v1/predict 200" in line for line in said)
    assert "Doe" not in counts + " ".join(said)


def test_nothing_is_written_to_disk_and_nothing_stays_open(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))  # a temporary file would be an error
    big = png(np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8))
    assert len(big) > 2**21  # more than the parser would keep in memory by itself
    files = Path("/proc/self/fd")
    with serving(predictor) as client:
        assert client.post("/v1/predict", files=upload(big, big)).status_code == 200
        before = len(list(files.iterdir())) if files.exists() else 0
        for _ in range(5):
            client.post("/v1/predict", files=upload(big, b"x"))
        after = len(list(files.iterdir())) if files.exists() else 0
    assert after <= before + 2


def test_what_openapi_promises_is_kept(client: httpx.Client):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json".replace("//openapi", "/openapi"))
    checked = []
    for operation in schema.get_all_operations():
        api = operation.ok()

        @settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=api.as_strategy())
        def keeps(case: Any) -> None:
            case.call_and_validate(base_url=str(client.base_url))

        keeps()
        checked.append(api.label)
    assert {"POST /v1/predict", "GET /v1/model", "GET /healthz", "GET /metrics"} <= set(checked)


def test_the_command_serves_without_torch_and_ends_gently(run: Path, scan: bytes):
    if sys.platform == "win32":
        pytest.skip("signals work otherwise there")
    program = (
        "import sys, atexit; from braincam.cli import main; "
        "atexit.register(lambda: print('torch' in sys.modules, flush=True)); sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--model", str(run)]
    environment = {key: value for key, value in os.environ.items() if key != "BRAINCAM_TOKEN"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "answers on" in said, said
        with httpx.Client(base_url=said.split("answers on ")[1].split()[0], trust_env=False) as client:
            assert client.post("/v1/predict", files=upload(scan)).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    assert out.strip() == "False"
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_wrong_calls_of_the_command_are_one_line(run: Path):
    for arguments in (["--host", "0.0.0.0"], ["--port", "99999"], ["--token-file", "absent.txt"]):
        command = [sys.executable, "-m", "braincam", "serve", "--model", str(run), *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "BRAINCAM_TOKEN"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("braincam: ")


def test_the_card_is_served_without_the_hashes_of_what_it_has_seen(client: httpx.Client):
    card = client.get("/v1/model").json()["card"]
    assert isinstance(card["seen_slices"], int)
    assert json.dumps(card)


def test_the_dockerfile_installs_what_the_project_offers_and_starts_what_it_has():
    from braincam import cli

    root = Path(__file__).parents[1]
    lines = (root / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (install,) = [line for line in lines if line.startswith("RUN")]
    (entry,) = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    (rest,) = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD")]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "[serve]" in install
    assert "serve" in extras
    assert entry[0] == "braincam"
    assert cli.parser().parse_args([*entry[1:], *rest]).host == "0.0.0.0"
    assert any(line.startswith("USER ") and "root" not in line for line in lines)
    copied = [part for line in lines if line.startswith("COPY") for part in line.split()[1:-1]]
    assert all((root / part).exists() for part in copied)


@pytest.mark.slow
def test_the_dockerfiles_steps_serve_in_an_empty_environment(tmp_path: Path):
    """Its install step in a fresh environment, then its start and its health check, from a folder it cannot write."""
    root = Path(__file__).parents[1]
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{root}[serve]"], check=True, timeout=280)
    (tmp_path / "empty").mkdir(mode=0o555)
    environment = {**os.environ, "BRAINCAM_CACHE": "off", "BRAINCAM_TOKEN": TOKEN, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "braincam", "serve", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path / "empty")
    try:
        assert process.stderr is not None
        port = process.stderr.readline().split("answers on ")[1].split()[0].rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).json() == {"status": "ok"}
        process.terminate()
        process.communicate(timeout=40)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
