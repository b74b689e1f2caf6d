"""The server does what its interface says: the same answers as `predict`, true OpenAPI, a token, a graceful stop."""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
from PIL import Image

from braincam import cli
from braincam.cli import ENDED, STARTING
from braincam.dataset.phantom import write_phantom
from braincam.errors import ConfigError
from braincam.model_file.card import NOTICE
from braincam.predict import Predictor
from braincam.serve import run as run_module
from braincam.serve.answer import answer as answer_of
from braincam.serve.auth import check_exposure, find_token
from braincam.serve.limits import Limits
from braincam.serve.schema import Predictions
from braincam.serve.upload import Upload
from braincam.serve.workers import AbandonedError, Stop
from braincam.study import summarise
from dicom_files import write_series
from serving import FORM, TOKEN, Served, form, png, serving

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(threads=1)


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[Served]:
    with serving(predictor) as running:
        yield running


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("scan")
    write_phantom(folder, patients=8, slices_per_patient=1, seed=5, size=96)
    return next((folder / "data" / "glioma").glob("*.png")).read_bytes()


def volume(slices: int, side: int = 64) -> bytes:
    """A NIfTI file of noise."""
    voxels = np.random.default_rng(0).integers(0, 255, (side, side, slices), np.uint8)
    return nibabel.Nifti1Image(voxels, np.diag([1, 1, 5, 1])).to_bytes()


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_answer_is_that_of_predict(served: Served, predictor: Predictor, scan: bytes) -> None:
    response = served.predict(("scan.png", scan))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["notice"] == NOTICE
    (row,) = response.json()["predictions"]
    expected = predictor.predict(scan)[0].to_json() | {"path": "scan.png", "picture": None, "cam": None}
    assert row == expected


def test_pictures_bring_the_slice_and_exact_maps(served: Served, scan: bytes) -> None:
    (row,) = served.predict(("scan.png", scan), pictures=True).json()["predictions"]
    picture = Image.open(io.BytesIO(base64.b64decode(row["picture"])))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(io.BytesIO(scan)).convert("L")))
    cam = row["cam"]
    maps = np.frombuffer(base64.b64decode(cam["data"]), "<f4").reshape(-1, cam["height"], cam["width"])
    assert cam["classes"] == list(row["probabilities"])
    assert len(maps) == len(cam["classes"])
    logits = maps.mean((1, 2))  # the map is exact, so its means are in the order of the probabilities
    assert np.argsort(logits).tolist() == np.argsort(list(row["probabilities"].values())).tolist()


def test_one_bad_file_costs_the_others_nothing(served: Served, scan: bytes) -> None:
    response = served.predict(("a.png", scan), ("notes.txt", b"no picture"), ("v.nii", volume(3)), ("b.png", scan))
    rows = response.json()["predictions"]
    assert [(row["path"], row["slice"]) for row in rows] == [
        ("a.png", None), ("notes.txt", None), ("v.nii", 0), ("v.nii", 1), ("v.nii", 2), ("b.png", None),
    ]  # fmt: skip
    assert [row["status"] == "error" for row in rows] == [False, True, False, False, False, False]
    assert rows[1]["reason"].startswith("notes.txt: expected ")
    assert rows[0] | {"path": ""} == rows[-1] | {"path": ""}


def test_the_model_and_its_card_without_the_hashes_of_patients(served: Served, predictor: Predictor) -> None:
    facts = served.http.get("/v1/model").json()
    assert (facts["name"], facts["sha256"]) == (predictor.card.name, predictor.file.sha256)
    assert facts["card"]["classes"] == list(predictor.card.classes)
    assert facts["card"]["seen_groups"] == len(predictor.card.seen_groups)


def test_health_page_and_headers(served: Served) -> None:
    assert served.http.get("/healthz").json() == {"status": "ok"}
    page = served.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert served.http.get("/static/index.html").text == page.text
    assert served.http.get("/v1/model").headers["cache-control"] == "no-store"
    assert "server" not in page.headers


def test_every_refusal_is_a_problem_in_words(served: Served) -> None:
    for method, path, code in (("GET", "/nowhere", 404), ("DELETE", "/v1/predict", 405), ("POST", "/v1/predict", 415)):
        response = served.http.request(method, path)
        assert response.status_code == code
        assert response.headers["content-type"] == "application/problem+json"
        assert set(response.json()) == {"title", "status", "detail"}
    wrong = served.http.post("/v1/predict?pictures=perhaps", content=form(("a.png", b"")), headers=FORM)
    assert wrong.status_code == 422
    assert wrong.json()["detail"].startswith("query pictures: ")


def test_metrics_count_requests_slices_and_time(predictor: Predictor, scan: bytes) -> None:
    with serving(predictor) as served:
        served.predict(("a.png", scan), ("b.txt", b"text"))
        served.http.get("/secret/name")
        text = served.http.get("/metrics").text
        assert served.metric('braincam_requests_total{route="/v1/predict",status="200"}') == 1
        assert served.metric('braincam_requests_total{route="other",status="404"}') == 1
        assert served.metric('braincam_slices_total{status="error"}') == 1
        assert served.metric('braincam_request_seconds_count{route="/v1/predict"}') == 1
        assert served.metric("braincam_queue_depth") == 0
        assert served.metric("braincam_held_bytes") == 0
    assert f'sha256="{predictor.file.sha256}"' in text
    assert "secret" not in text


# -- OpenAPI -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "locked"])
def test_the_documentation_is_true(predictor: Predictor, token: str | None, tmp_path: Path) -> None:
    """schemathesis calls every route, rightly and wrongly, and compares what comes back with openapi.json."""
    with serving(predictor, token=token) as served:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{served.port}/openapi.json"),
                *("--max-examples", "20", "--generation-deterministic", "--no-color"),
                *(("--header", f"Authorization: Bearer {token}") if token else ()),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "Tested: 4" in done.stdout


def test_the_documentation_names_every_route(served: Served) -> None:
    documented = served.http.get("/openapi.json").json()
    assert set(documented["paths"]) == {"/v1/predict", "/v1/model", "/healthz", "/metrics"}


# -- who may ask -------------------------------------------------------------------------------------------------------


def test_a_token_guards_predictions_model_and_metrics(predictor: Predictor, scan: bytes) -> None:
    with serving(predictor, token=TOKEN, loopback=False) as served:
        for path in ("/healthz", "/", "/static/index.html"):
            assert served.http.get(path).status_code == 200
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/v1/model", "/metrics"):
            for wrong in ({}, {"Authorization": "Bearer " + TOKEN[:-1]}, {"Authorization": f"Basic {TOKEN}"}):
                refused = served.http.get(path, headers=wrong)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in refused.text
            assert served.http.get(path, headers=right).status_code == 200
        assert served.predict(("a.png", scan)).status_code == 401
        answer = served.http.post("/v1/predict", content=form(("a.png", scan)), headers=FORM | right)
        assert answer.status_code == 200
        assert served.http.get("/healthz", headers={"Host": "scans.hospital.example"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.5", ""])
def test_another_name_for_this_machine_is_refused(served: Served, host: str) -> None:
    """DNS rebinding: a page of evil.example asks evil.example, which has become 127.0.0.1."""
    assert served.http.get("/v1/model", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000", "127.0.0.2"])
def test_this_machines_own_names_are_answered(served: Served, host: str) -> None:
    assert served.http.get("/healthz", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_are_refused_and_ones_own_is_not(served: Served, scan: bytes) -> None:
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{served.port + 1}"):
        response = served.http.post("/v1/predict", content=form(("a", scan)), headers=FORM | {"Origin": origin})
        assert response.status_code == 403
    own = served.http.get("/healthz", headers={"Origin": f"http://127.0.0.1:{served.port}"})
    assert own.status_code == 200


def test_others_are_not_served_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "scans.hospital.example", ""):
        with pytest.raises(ConfigError, match="token"):
            check_exposure(host, None)
        check_exposure(host, TOKEN)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_exposure(host, None)


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAINCAM_TOKEN", raising=False)
    assert find_token(None) is None
    monkeypatch.setenv("BRAINCAM_TOKEN", TOKEN)
    assert find_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text("another-token-from-a-file\n")
    assert find_token(file) == "another-token-from-a-file"
    for as_windows_writes in ("utf-16", "utf-8-sig"):
        file.write_text("a-token-from-powershell\r\n", encoding=as_windows_writes)
        assert find_token(file) == "a-token-from-powershell"
    file.write_text("")
    monkeypatch.setenv("BRAINCAM_TOKEN", "")
    assert find_token(None) is None  # an empty variable is as good as none
    with pytest.raises(ConfigError, match="at least 16"):
        find_token(file)  # an empty file is a mistake
    for bad in ("short", "x" * 15, "two words of a secret", "zażółć-gęślą-jaźń-token"):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(ConfigError, match="at least 16"):
            find_token(file)
        monkeypatch.setenv("BRAINCAM_TOKEN", bad)
        with pytest.raises(ConfigError, match="at least 16"):
            find_token(None)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_proxy_on_this_machine_may_pass_on_its_name_where_there_is_a_token(
    predictor: Predictor, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def create(*_: Any, **named: Any) -> None:
        asked.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "create_app", create)
    with pytest.raises(KeyboardInterrupt):
        run_module.run(predictor, Limits(), host="127.0.0.1", port=0, threads=1, token=token)
    assert asked["loopback"] == (token is None), "what it means is tested above"


def test_all_addresses_are_those_of_both_kinds() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6 that takes IPv4 as well")
    with run_module._listening("::", 0) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5).close()


def test_scripts_are_scripts_whatever_the_system_says(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mimetypes.types_map, ".js", "text/plain")  # as the registry of some Windows machines has it
    with serving(predictor) as served:
        assert served.http.get("/static/app.js").headers["content-type"].startswith("text/javascript")


# -- the command -------------------------------------------------------------------------------------------------------


def command(*options: str) -> subprocess.Popen[str]:
    """`braincam serve` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "braincam", "serve", "--port", "0", *options], stderr=subprocess.PIPE, text=True
    )


def address(process: subprocess.Popen[str]) -> str:
    """The address that it says it serves at."""
    assert process.stderr
    assert process.stderr.readline() == f"{STARTING}\n", "the wait for the libraries is not silent"
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return found[0]


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "0.0.0.0"],
        ["--host", "127.0.0.1", "--port", "99999"],
        ["--host", "203.0.113.7", "--token-file", "TOKEN"],
        ["--token-file", "absent"],
        ["--max-megabytes", "0"],
        ["--queue", "-1"],
        ["--workers", "-1"],
        ["--max-memory-megabytes", "8"],
        ["--model", "absent"],
        ["--port", "http"],
    ],
    ids=" ".join,
)
def test_wrong_calls_are_one_line_and_exit_code_2(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BRAINCAM_TOKEN", raising=False)
    (tmp_path / "TOKEN").write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(["serve", *options])
    except SystemExit as done:
        code = int(done.code or 0)
    said = capsys.readouterr()
    assert code == 2
    said_wrong = said.err.removeprefix(f"{STARTING}\n")
    assert said_wrong.startswith("braincam: ")
    assert said_wrong.count("\n") == 1
    assert not said.out


def test_a_wrong_number_is_told_by_the_name_of_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    least = dict.fromkeys(re.findall(r"--(?:max-\w[\w-]*|\w+-seconds)", Path(cli.__file__).read_text()), 1)
    for option, lowest in (least | {"--queue": 0, "--workers": 0}).items():
        with pytest.raises(SystemExit, match=str(cli.WRONG_CALL)):
            cli.main(["serve", option, str(lowest - 1)])
        assert f"argument {option}: expected a whole number from {lowest}" in capsys.readouterr().err
    assert len(least) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_sigterm_while_it_starts_is_one_line_and_no_traceback() -> None:
    process = command()
    assert process.stderr
    assert process.stderr.readline() == f"{STARTING}\n"
    process.send_signal(signal.SIGTERM)  # most of the start is spent on imports
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert (process.returncode, said) == (143, f"braincam: {ENDED}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_sigterm_finishes_what_was_accepted_and_exits_with_0() -> None:
    process = command("--workers", "1")
    base = address(process)
    answers: list[httpx.Response] = []

    def ask() -> None:
        content = form(("v.nii", volume(60, 224)))
        answers.append(httpx.post(base + "/v1/predict", content=content, headers=FORM, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(3)]  # one is worked on, two wait
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while "braincam_queue_depth 2.0" not in httpx.get(base + "/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert [len(answer.json()["predictions"]) for answer in answers] == [60] * 3
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in log


WATCHED = """
import asyncio, os, sys, threading
written = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        mode, flags = arguments[1], arguments[2]
        if (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(arguments[0]))
    elif event in {"os.mkdir", "os.rename", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.copyfile"}:
        written.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
sys.path.insert(0, sys.argv[1])
from serving import serving
from braincam.predict import Predictor
content = open(sys.argv[2], "rb").read()
with serving(Predictor(threads=1)) as served:
    written.clear()
    large = content + bytes(5_000_000)  # beyond what form parsers keep in memory
    files = ("DOE^JANE.png", content), ("DOE^JANE-2.png", large), ("DOE^JANE.txt", b"x")
    response = served.predict(*files, pictures=True)
    assert response.status_code == 200 and len(response.json()["predictions"]) == 3
    served.http.get("/"), served.http.get("/static/index.html"), served.http.get("/metrics")
assert "torch" not in sys.modules, "torch was imported"
written = [path for path in written if path != os.devnull]
assert not written, written
"""


def test_nothing_is_written_and_torch_is_not_imported(scan: bytes, tmp_path: Path) -> None:
    """An audit hook sees every file that Python opens while the server answers."""
    (tmp_path / "scan.png").write_bytes(scan)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(Path(__file__).parent), str(tmp_path / "scan.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_logs_show_neither_names_nor_queries_nor_what_files_hold(scan: bytes) -> None:
    process = command()
    base = address(process)
    secret = "DOE^JANE"
    body = form((f"{secret}.png", scan), (f"{secret}.dcm", bytes(128) + b"DICM" + secret.encode() * 40))
    httpx.post(f"{base}/v1/predict?patient={secret}", content=body, headers=FORM | {"User-Agent": secret})
    httpx.post(f"{base}/v1/predict?pictures={secret}", content=body, headers=FORM)
    httpx.get(f"{base}/{secret}", headers={"Cookie": secret})
    httpx.get(f"{base}/static/{secret}")
    httpx.request(secret.replace("^", ""), f"{base}/")
    metrics = httpx.get(f"{base}/metrics").text
    process.terminate()
    _, log = process.communicate(timeout=20)
    assert len(log.splitlines()) == 5
    assert "POST /v1/predict 200" in log
    assert "OTHER / " in log
    for text in (log, metrics):
        assert "DOE" not in text
        assert "JANE" not in text


def test_the_benchmark_runs_and_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "serve.py", "--seconds", "3", "--clients", "4", "--mixed", "--hostile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "errors 0 (goal 0)" in done.stdout, done.stdout + done.stderr
    assert "left over: 0 open files or connections, 0 temporary files" in done.stdout, done.stdout


def test_answers_are_json_that_any_reader_takes(served: Served, scan: bytes) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    blank = png(np.zeros((64, 64), np.uint8))
    body = served.predict(("a.png", scan), ("blank.png", blank)).text
    assert json.loads(body, parse_constant=no_constant)


# -- docs/serve.md -----------------------------------------------------------------------------------------------------

DOCS = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def test_the_documented_limits_are_those_of_the_command_line() -> None:
    from braincam import cli

    defaults = vars(cli.parser().parse_args(["serve"]))
    limits = dict(re.findall(r"^\| `--([\w-]+)` \| ([\d,]+) \|", DOCS, re.MULTILINE))
    assert len(limits) == 8
    for option, value in limits.items():
        assert defaults[option.replace("-", "_")] == int(value.replace(",", "")), option


def test_the_defaults_of_the_command_are_those_of_the_limits() -> None:
    from braincam import cli
    from braincam.serve.limits import MEBIBYTE, Limits

    options, limits = cli.parser().parse_args(["serve"]), Limits()
    assert options.max_megabytes * MEBIBYTE == limits.bytes
    assert options.max_memory_megabytes * MEBIBYTE == limits.memory
    assert (options.max_files, options.max_slices, options.max_pixels) == (limits.files, limits.slices, limits.pixels)
    assert (options.upload_seconds, options.answer_seconds) == (limits.upload_seconds, limits.answer_seconds)
    assert options.queue == limits.waiting


def test_the_documented_program_runs(
    served: Served, scan: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.+?)```", DOCS, re.DOTALL)
    (tmp_path / "scan.png").write_bytes(scan)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(program.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}"), names)
    assert capsys.readouterr().out.startswith("scan.png None ")
    assert np.asarray(names["picture"]).shape == (96, 96)
    assert np.asarray(names["maps"]).ndim == 3


def test_every_documented_metric_and_code_is_there(served: Served) -> None:
    text = served.http.get("/metrics").text
    named = set(re.findall(r"`(braincam_\w+)", DOCS))
    assert len(named) == 6
    assert all(name in text for name in named)
    codes = set(served.http.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"])
    assert codes | {"401"} == {"200"} | set(
        re.findall(r"\b([45]\d\d)\b(?=[ ,|])", DOCS.partition("what to do")[2][:900])
    )


def heads(folder: Path) -> np.ndarray:
    """Slices (N, 96, 96) of synthetic heads."""
    write_phantom(folder, patients=12, slices_per_patient=1, seed=5, size=96)
    files = sorted((folder / "data").glob("*/*.png"))
    return np.stack([np.asarray(Image.open(file).convert("L")) for file in files]).astype(np.uint16)


def test_volumes_and_series_are_summed_up_as_predict_does(predictor: Predictor, tmp_path: Path) -> None:
    """Sent in the order of their names; one file of the series is damaged, and a single slice stands among them."""
    planes = heads(tmp_path)
    series = write_series(tmp_path / "series", planes)
    series[4].write_bytes(series[4].read_bytes()[:-5000])
    nifti = tmp_path / "head.nii"
    nibabel.Nifti1Image(planes.transpose(2, 1, 0), np.diag([1, 1, 5, 1])).to_filename(nifti)
    sent = [*sorted(series)[:7], next((tmp_path / "data").glob("*/*.png")), *sorted(series)[7:], nifti]
    with serving(predictor) as server:
        said = server.predict(*((path.name, path.read_bytes()) for path in sent)).json()
    rows = said["predictions"]
    assert [row["path"] for row in rows] == [path.name for path in sent[:-1]] + ["head.nii"] * 12

    for study, source in zip(said["studies"], (tmp_path / "series", nifti), strict=True):
        answers = predictor.predict(source)
        mine = [rows[number] for number in study["rows"]]
        assert sorted(row["slice"] for row in mine) == list(range(12))
        by_number = {row["slice"]: row for row in mine}
        for answer in answers:
            assert by_number[answer.slice]["path"] == Path(answer.path).name
            assert by_number[answer.slice]["status"] == answer.status
        expected = summarise("", answers, predictor.card).to_json()
        for field in ("finding", "label", "statement", "slices", "judged", "uncertain", "allowed_for", "caution"):
            assert study[field] == expected[field]
        assert sum(study["not_judged"].values()) == sum(expected["not_judged"].values())
        assert [item["slices"] for item in study["evidence"]] == [item["slices"] for item in expected["evidence"]]
    Predictions.model_validate(said)
    assert [study["path"] for study in said["studies"]] == [f"{series[0].name} to {series[-1].name}", "head.nii"]
    assert {number for study in said["studies"] for number in study["rows"]} == set(range(len(rows))) - {7}
    assert rows[7]["slice"] is None
    assert [row["slice"] for row in rows if row["status"] == "error"] == [4]


def test_series_of_one_name_and_single_files_are_told_apart(predictor: Predictor, tmp_path: Path) -> None:
    planes = heads(tmp_path)[:6]
    first, second = write_series(tmp_path / "a", planes[:3]), write_series(tmp_path / "b", planes[3:])
    assert [path.name for path in first] == [path.name for path in second], "as on a disc"
    alone = write_series(tmp_path / "c", planes[:1])
    files = [(path.name, path.read_bytes()) for pair in zip(first, second, strict=True) for path in pair]
    with serving(predictor) as server:
        said = server.predict(*files, (alone[0].name, alone[0].read_bytes())).json()
    assert [study["rows"] for study in said["studies"]] == [[0, 2, 4], [1, 3, 5]]
    assert said["studies"][0]["path"] == f"{first[0].name} to {first[-1].name}"
    assert len({study["path"] for study in said["studies"]}) == 2
    assert said["predictions"][6]["slice"] is None


def test_a_series_is_judged_whole_or_not_at_all(predictor: Predictor, tmp_path: Path) -> None:
    planes = heads(tmp_path)
    series, alone = write_series(tmp_path / "a", planes), write_series(tmp_path / "b", planes[:1])[0]
    files = [(path.name, path.read_bytes()) for path in [alone, *series]]
    for limits in ({"slices": 12}, {"voxels": 12 * 96 * 96}):
        with serving(predictor, **limits) as server:
            said = server.predict(*files).json()
        rows, (study,) = said["predictions"], said["studies"]
        assert rows[0]["status"] != "error"
        assert {row["status"] for row in rows[1:]} == {"error"}
        assert "12 slices" in rows[1]["reason"] and "in a request of its own" in rows[1]["reason"]
        assert study["finding"] == "refused" and study["judged"] == 0


def test_nobody_waits_for_the_range_of_a_series(predictor: Predictor, tmp_path: Path) -> None:
    files = [Upload(path.name, path.read_bytes()) for path in write_series(tmp_path, heads(tmp_path / "h"))]

    class Stopped(Stop):
        asked = 0

        def check(self) -> None:
            self.asked += 1
            if self.asked == len(files) + 3:  # headers, the first file, its range
                self.set()
            super().check()

    with pytest.raises(AbandonedError):
        answer_of(files, predictor, Limits(), False, Stopped())


def test_the_slices_of_a_series_share_their_grey_values_as_with_predict(predictor: Predictor, tmp_path: Path) -> None:
    planes = np.random.default_rng(3).integers(200, 1000, (6, 40, 48)).astype(np.uint16)
    planes[0] //= 10
    series = write_series(tmp_path / "series", planes)
    own = write_series(tmp_path / "own", planes[:1], seed=1, series="1.2.3")
    files = [(path.name, path.read_bytes()) for path in [*series[::-1], *own]]
    with serving(predictor) as server:
        rows = server.predict(*files, pictures=True).json()["predictions"]
    assert [row["path"] for row in rows] == [name for name, _ in files], "in the order they were sent"
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(row["picture"])))) for row in rows]
    alone, together = predictor.predict(own[0]), predictor.predict(tmp_path / "series")
    for answer, row, pixels in zip([*together[::-1], *alone], rows, shown, strict=True):
        np.testing.assert_array_equal(pixels, answer.pixels)
        assert row["probabilities"] == pytest.approx(answer.probabilities, abs=1e-4)
    assert shown[5].mean() < shown[0].mean() / 5 < shown[6].mean(), "a dark slice stays dark, unless it comes alone"
    with serving(predictor, pixels=1000) as server:  # what is too large is not decoded for the common range either
        assert {row["status"] for row in server.predict(*files).json()["predictions"]} == {"error"}
