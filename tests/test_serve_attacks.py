"""The server under attack and load: what is too large, too slow, torn, or too much is refused, and nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import http.client
import io
import mmap
import os
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
from starlette.exceptions import HTTPException

from braincam.errors import ConfigError
from braincam.predict import Predictor
from braincam.serve.limits import Limits, Memory
from braincam.serve.metrics import STATUSES
from braincam.serve.upload import Upload, base_name
from braincam.serve.workers import AbandonedError, Stop, Workers
from dicom_files import dataset_of, written
from serving import BOUNDARY, FORM, TOKEN, Served, form, head, png, reply, serving

SLICE = png(np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8))
BODY = form(("a.png", SLICE))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(threads=1)


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[Served]:
    """Small limits and short times, so that attacks meet them soon."""
    limits = {"bytes": 2**20, "files": 4, "slices": 6, "pixels": 256 * 256, "upload_seconds": 1.0}
    with serving(predictor, **limits, head_seconds=1.0, linger_seconds=1.0) as running:
        yield running


@pytest.fixture(autouse=True)
def still_well(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every attack: the server answers, holds nothing and has nothing waiting."""
    yield
    if "served" in request.fixturenames:
        served: Served = request.getfixturevalue("served")
        assert served.predict(("a.png", SLICE)).json()["predictions"][0]["status"] != "error"
        assert served.metric("braincam_held_bytes") == 0
        assert served.metric("braincam_queue_depth") == 0


def status(received: bytes) -> int | None:
    """The code of the first response on the wire."""
    return int(received.split()[1]) if received.startswith(b"HTTP/1.1 ") else None


def volume(slices: int, side: int = 64) -> bytes:
    return nibabel.Nifti1Image(np.zeros((side, side, slices), np.uint8), np.diag([1, 1, 5, 1])).to_bytes()


# -- too large ---------------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(head(Content_Length=2**20 + 1))
        assert b"413" in connection.recv(1000)


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(served: Served) -> None:
    sent = 0
    with served.connect() as connection:
        connection.sendall(head(Transfer_Encoding="chunked"))
        connection.settimeout(0.01)
        answer = b""
        while not answer and sent < 8 * 2**20:  # it would never end
            connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
            sent += 2**16
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
    assert status(answer) in {413, 422}


def test_a_chunked_form_within_the_limit_is_answered_and_beyond_it_is_not(served: Served) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield form(("a.png", SLICE)).removesuffix(f"--{BOUNDARY}--\r\n".encode())
        for _ in range(count):
            yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="b"\r\n\r\n'.encode()
            yield bytes(2**16) + b"\r\n"
        yield f"--{BOUNDARY}--\r\n".encode()

    codes = [served.http.post("/v1/predict", content=pieces(n), headers=FORM).status_code for n in (1, 3, 20)]
    assert codes == [200, 200, 413]


def test_a_refusal_arrives_though_the_client_sends_on(served: Served) -> None:
    """Clients read only after they have sent all; the rest is read and dropped, so that they learn why."""
    response = served.http.post("/v1/predict", content=form(("a.png", bytes(20 * 2**20))), headers=FORM)
    assert response.status_code == 413
    assert "at most 1 MiB" in response.json()["detail"]


def test_a_refused_client_that_sends_for_ever_is_cut(served: Served) -> None:
    with served.connect() as connection, pytest.raises(OSError):
        connection.sendall(head(Content_Length=2**40))
        start = time.monotonic()
        while time.monotonic() < start + 10:
            connection.sendall(bytes(2**16))
            time.sleep(0.01)


def test_too_many_files_are_refused(served: Served) -> None:
    assert served.predict(*[("a.png", SLICE)] * 4).status_code == 200
    assert served.predict(*[("a.png", SLICE)] * 5).status_code == 413
    assert served.predict(*[("", b"")] * 4000).status_code == 413


def test_slices_count_over_all_files_of_a_request(served: Served) -> None:
    rows = served.predict(("a.nii", volume(4)), ("b.nii", volume(4)), ("c.png", SLICE)).json()["predictions"]
    assert [row["path"] for row in rows] == ["a.nii"] * 4 + ["b.nii", "c.png"]
    assert rows[4]["status"] == "error"  # four more would make eight
    assert "at most 2 slices" in rows[4]["reason"]
    assert rows[4]["reason"].endswith("what other files left of this request: send this one apart")
    assert rows[5]["status"] != "error"  # one more fits
    rows = served.predict(("a.nii", volume(6)), ("c.png", SLICE)).json()["predictions"]
    assert "at most 6 slices in one request" in rows[-1]["reason"]


def png_bomb(side: int) -> bytes:
    """A valid PNG of side x side black pixels, as small as can be."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gzip_bomb(side: int, slices: int) -> bytes:
    """A .nii.gz whose header is true and whose voxels are a quarter of a gigabyte of nothing."""
    head_only = nibabel.Nifti1Header()
    head_only.set_data_dtype(np.uint8)
    head_only.set_data_shape((side, side, slices))
    head_only["vox_offset"], head_only["magic"] = 352, b"n+1"
    packer = zlib.compressobj(6, wbits=31)
    packed = packer.compress(head_only.binaryblock + bytes(4))
    for _ in range(side * side * slices // 2**20):
        packed += packer.compress(bytes(2**20))
    return packed + packer.flush()


def stretched() -> bytes:
    """Five small slices that a false spacing asks to be made a thousand times as high: 20 million pixels each."""
    return nibabel.Nifti1Image(np.zeros((144, 144, 5), np.uint8), np.diag([1, 1000, 2000, 1])).to_bytes()


def codestream_bomb(kind: str) -> bytes:
    """A DICOM file of 64 x 64 pixels by its header, whose frame would unpack to tens of millions or more."""
    syntax = {"JPEG2000": JPEG2000Lossless, "JPEG": JPEGBaseline8Bit, "jls": JPEGLSLossless, "rle": RLELossless}[kind]
    if kind == "rle":
        frame = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 400_000  # each: 128 bytes of nothing
    elif kind == "jls":
        jpeg_ls = pytest.importorskip("jpeg_ls", reason="needs the extra `dicom`")
        frame = bytes(jpeg_ls.encode(np.zeros((8_000, 8_000), np.uint8)))
    else:
        out = io.BytesIO()
        side = 8_000 if kind == "JPEG" else 6_000
        Image.new("L", (side, side)).save(out, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
        frame = out.getvalue()
    return dicom_of(frame, syntax, 64)


def tile_bomb() -> bytes:
    """JPEG 2000 of the right size, each pixel a tile of its own: half a gigabyte of tables."""
    out = io.BytesIO()
    Image.new("L", (255, 255)).save(out, "JPEG2000", no_jp2=True)
    frame = out.getvalue()
    return dicom_of(frame[:24] + struct.pack(">2L", 1, 1) + frame[32:], JPEG2000Lossless, 255)


def dicom_of(frame: bytes, syntax: str, side: int) -> bytes:
    """A DICOM file that says it is side x side pixels, around one compressed frame."""
    dataset = dataset_of(np.zeros((side, side), np.uint8))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return written(dataset)


CLEAR = Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew, where the system can."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def peak() -> int:
    """The most memory that this process, in which the server runs, has had since; 0 where nobody knows."""
    if not CLEAR.exists():
        return 0
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of the memory can be measured on Linux only")
def test_the_peak_is_seen_after_it_is_over() -> None:
    forget_peak()
    before = peak()
    with mmap.mmap(-1, 80 * 10**6) as fresh:  # from the system: the heap may have as much left over from other tests
        fresh[:: mmap.PAGESIZE] = b"\1" * -(-len(fresh) // mmap.PAGESIZE)
    assert peak() - before > 50e6
    forget_peak()
    assert peak() - before < 50e6


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: png_bomb(20_000), id="png"),
        pytest.param(lambda: gzip_bomb(512, 1024), id="nii.gz"),
        pytest.param(lambda: gzip.compress(bytes(2**26)), id="gz"),
        pytest.param(lambda: stretched(), id="spacing"),
        pytest.param(lambda: codestream_bomb("JPEG2000"), id="jpeg 2000"),
        pytest.param(lambda: codestream_bomb("JPEG"), id="jpeg"),
        pytest.param(lambda: codestream_bomb("jls"), id="jpeg-ls"),
        pytest.param(lambda: codestream_bomb("rle"), id="rle"),
        pytest.param(lambda: tile_bomb(), id="tiles"),
    ],
)
def test_bombs_are_refused_unpacked_neither_in_time_nor_in_memory(served: Served, bomb: object) -> None:
    content = bomb()  # type: ignore[operator]
    forget_peak()
    before, start = peak(), time.monotonic()
    (row,) = served.predict(("bomb", content)).json()["predictions"]
    assert row["status"] == "error"
    assert "expected" in row["reason"]
    assert time.monotonic() - start < 3
    assert peak() - before < 50e6


# -- too slow ----------------------------------------------------------------------------------------------------------


def test_slow_heads_are_cut(served: Served) -> None:
    """Slow-loris: a byte of a head now and then, on many connections."""
    connections = [served.connect() for _ in range(50)]
    start = time.monotonic()
    for byte in b"POST /v1/predict HTTP/1.1\r\n":
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(bytes([byte]))
        time.sleep(0.1)
        if time.monotonic() > start + 1.5:
            break
    for connection in connections:
        connection.settimeout(2)
        with connection:
            assert reply(connection) == b""
    assert time.monotonic() - start < 5


def test_silent_connections_are_cut(served: Served) -> None:
    with served.connect() as connection:
        start = time.monotonic()
        assert connection.recv(10) == b""
        assert time.monotonic() - start < 3


def test_slow_bodies_are_refused(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(head(Content_Length=len(BODY)))
        start, answer = time.monotonic(), b""
        connection.settimeout(0.1)
        for byte in BODY:
            try:
                connection.sendall(bytes([byte]))
                answer = connection.recv(1000)
                break
            except TimeoutError:
                continue
    assert status(answer) == 408
    assert time.monotonic() - start < 3


def test_half_sent_bodies_cost_nothing(served: Served) -> None:
    for share in (0, 1, len(BODY) // 2, len(BODY) - 1):
        with served.connect() as connection:
            connection.sendall(head(Content_Length=len(BODY)) + BODY[:share])
    with served.connect() as connection:  # the client says that it has no more to say
        connection.sendall(head(Content_Length=len(BODY)) + BODY[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert status(reply(connection)) in {None, 400, 408}
    until = time.monotonic() + 5
    while served.metric("braincam_held_bytes"):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_answer_that_nobody_reads_is_dropped(predictor: Predictor) -> None:
    noise = png(np.random.default_rng(0).integers(0, 255, (2000, 2000), np.uint8))
    body = form(*[("a.png", noise)] * 2)  # 10 MB of answer: more than sockets hold
    with serving(predictor, send_seconds=1.0) as served:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", served.port))
            connection.sendall(head("/v1/predict?pictures=true", Content_Length=len(body)) + body)
            until = time.monotonic() + 30
            seen = 0.0
            while not seen or served.metric("braincam_held_bytes"):
                seen = max(seen, served.metric("braincam_held_bytes"))
                assert time.monotonic() < until
                time.sleep(0.02)
        assert seen > 8e6


def test_an_answer_that_takes_too_long_is_given_up(predictor: Predictor) -> None:
    content = nibabel.Nifti1Image(np.zeros((128, 128, 400), np.uint8), np.diag([1, 1, 5, 1])).to_bytes()
    with serving(predictor, threads=1, answer_seconds=1) as served:
        start = time.monotonic()
        response = served.predict(("v.nii", content))
        assert response.status_code == 504
        assert "within 1 seconds" in response.json()["detail"]
        assert served.predict(("a.png", SLICE)).status_code == 200  # the only worker is free again
        assert time.monotonic() - start < 3


# -- torn --------------------------------------------------------------------------------------------------------------

PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'.encode()
END = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"", FORM, 422),
        (END, FORM, 422),
        (PART, FORM, 422),  # no end
        (PART[:-10], FORM, 422),
        (b"garbage", FORM, 422),
        (os.urandom(5000), FORM, 422),
        (PART.replace(b'name="files"', b'name="other"') + END, FORM, 422),
        (PART.replace(b'; name="files"', b"") + END, FORM, 422),
        (PART.replace(b'; filename="a"', b"") + END, FORM, 422),
        (PART.replace(b"Content-Disposition: form-data", b"X: y") + END, FORM, 422),
        (PART.replace(b"form-data", b"form-data" + b"; x=y" * 5000) + END, FORM, 422),
        (PART.replace(b"\r\n\r\n", b"\r\nA: b" * 500 + b"\r\n\r\n") + END, FORM, 422),
        (PART + END, {"Content-Type": "multipart/form-data"}, 422),
        (PART + END, {"Content-Type": "multipart/form-data; boundary=" + "x" * 500}, 422),
        (PART + END, {"Content-Type": "multipart/form-data; boundary=another"}, 422),
        (PART + END, {"Content-Type": "application/json"}, 415),
        (PART + END, {"Content-Type": "multipart/mixed; boundary=frontier"}, 415),
        (gzip.compress(PART + END, mtime=0), FORM | {"Content-Encoding": "gzip"}, 415),
        (PART + END + b"epilogue", FORM, 200),
        (b"preamble\r\n" + PART + END, FORM, (200, 422)),
    ],
)
def test_malformed_forms_are_refused_in_words(
    served: Served, content: bytes, headers: dict[str, str], code: int | tuple[int, ...]
) -> None:
    response = served.http.post("/v1/predict", content=content, headers=headers)
    assert response.status_code in (code if isinstance(code, tuple) else (code,)), response.text
    if response.status_code != 200:
        assert response.json()["detail"].startswith("expected ")


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 50_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\r\n\r\n\r\n\r\n",
        bytes(1000),
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=range(11),
)
def test_what_is_no_http_never_reaches_the_model(served: Served, wire: bytes) -> None:
    def judged() -> list[float]:
        return [served.metric(f'braincam_slices_total{{status="{name}"}}') for name in STATUSES]

    before = judged()
    received = b""
    with served.connect() as connection, contextlib.suppress(OSError):  # it may be cut already
        connection.sendall(wire)
        connection.settimeout(3)
        received = reply(connection)
    assert judged() == before
    assert status(received) in {None, 400, 403, 405} or b"/healthz" in wire
    assert b"Traceback" not in received


@settings(max_examples=40, deadline=None, derandomize=True)
@given(content=st.binary(max_size=2000), inside=st.booleans())
def test_no_bytes_make_the_server_fail(served: Served, content: bytes, inside: bool) -> None:
    sent = form(("a.png", content)) if inside else content
    response = served.http.post("/v1/predict", content=sent, headers=FORM)
    assert response.status_code in ({200} if inside and BOUNDARY.encode() not in content else {200, 422})


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\scans\\a.png", "a.png"),
        ("/etc/shadow", "shadow"),
        ("..", "file"),
        ("/", "file"),
        ("", "file"),
        ("a\x00b\x1b[31m.png", "ab[31m.png"),
        ("%2e%2e%2fsecret", "%2e%2e%2fsecret"),
        ("ünïcode ✓.png", "ünïcode ✓.png"),
        ("x" * 3000, "x" * 255),
        ("a\u202egnp.exe", "agnp.exe"),  # would turn the direction of what follows
    ],
)
def test_only_the_base_name_is_echoed_and_none_is_a_path(served: Served, sent: str, echoed: str) -> None:
    (row,) = served.predict((sent, b"no picture")).json()["predictions"]
    assert row["path"] == echoed
    assert row["reason"].startswith(f"{echoed}: expected ")


@given(sent=st.binary(max_size=400))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_base_name_is_printable_short_and_no_path(sent: bytes) -> None:
    name = base_name(sent)
    assert 1 <= len(name) <= 255
    assert name.isprintable()
    assert not {"/", "\\", "\n"} & set(name)
    assert name not in {".", ".."}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/%00",
        "/static/..\\app.py", "/static/", "/static/%ff", "/..%2f..%2fetc/passwd", "/static/" + "a" * 5000,
    ],
)  # fmt: skip
def test_the_page_gives_its_own_files_only(served: Served, path: str) -> None:
    with served.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        received = reply(connection)
    assert status(received) in {400, 404}
    assert b"import" not in received


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_before_the_body_is_read(predictor: Predictor) -> None:
    with serving(predictor, token=TOKEN) as served:
        for wrong in ("", "Bearer", "Bearer ", "Bearer x" * 500, "bearer " + TOKEN[::-1], "Bearer \xff\xfe", TOKEN):
            with served.connect() as connection:
                connection.sendall(head(Content_Length=10**6, Authorization=wrong).decode().encode("latin-1"))
                assert status(connection.recv(1000)) == 401
        with served.connect() as connection:
            connection.sendall(head(Content_Length=len(BODY), Authorization=f"bearer {TOKEN}") + BODY)
            assert status(connection.recv(1000)) == 200


# -- too much ----------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once_and_recovers(predictor: Predictor) -> None:
    slow = form(("v.nii", volume(60, 200)))
    with serving(predictor, threads=1, waiting=1) as served, ThreadPoolExecutor(2) as pool:
        url = f"http://127.0.0.1:{served.port}/v1/predict"
        busy = [pool.submit(httpx.post, url, content=slow, headers=FORM, timeout=60) for _ in range(2)]
        until = time.monotonic() + 10
        while served.metric("braincam_queue_depth") < 1:
            assert time.monotonic() < until
        start = time.monotonic()
        refused = served.predict(("a.png", SLICE))
        assert time.monotonic() - start < 0.5
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["detail"] == "the queue is full; try again"
        assert served.http.get("/healthz").status_code == 200
        assert [answer.result().status_code for answer in busy] == [200, 200]
        assert served.predict(("a.png", SLICE)).status_code == 200


def test_bodies_in_memory_are_bounded_over_all_clients(predictor: Predictor) -> None:
    with serving(predictor, memory=200_000, bytes=150_000) as served:
        with served.connect() as connection:
            connection.sendall(head(Content_Length=150_000) + form(("a", bytes(140_000)))[:120_000])
            until = time.monotonic() + 5
            while served.metric("braincam_held_bytes") < 100_000:
                assert time.monotonic() < until
            refused = served.predict(("b", bytes(140_000)))
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            assert served.predict(("a.png", SLICE)).status_code == 200  # what fits is answered
        until = time.monotonic() + 5
        while served.metric("braincam_held_bytes"):
            assert time.monotonic() < until


def test_an_answer_that_never_fits_is_refused_for_good(predictor: Predictor) -> None:
    body = form(("a.png", SLICE))
    with serving(predictor, memory=len(body), bytes=len(body)) as served:
        refused = served.http.post("/v1/predict?pictures=true", content=body, headers=FORM)
        assert (refused.status_code, "retry-after" in refused.headers) == (413, False)
        assert "send fewer slices, or ask without pictures" in refused.json()["detail"]
        assert served.metric("braincam_held_bytes") == 0


def uploaded() -> int:
    """Bytes of uploaded files that are in memory, whatever the books say."""
    gc.collect()  # by type, not isinstance: that asks each object for its class, which some of torch's complain of
    return sum(len(item.content) for item in gc.get_objects() if type(item) is Upload)


def until_true(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_clients_sent_that_left_is_let_go_and_counted_until_then(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(files: Sequence[Upload], *_: object) -> tuple[bytes, Counter[str]]:
        for _file in files:
            assert go_on.wait(30)
        return b"{}", Counter()

    monkeypatch.setattr("braincam.serve.app.answer", slow)
    body = form(("a", bytes(10**6)))
    with serving(predictor, threads=1) as served:
        for waiting in (0, 1, 1, 1, 1, 1):  # the first is worked on when it leaves, the others wait
            with served.connect() as connection:
                connection.sendall(head(Content_Length=len(body)) + body)
                until_true(lambda: served.metric("braincam_held_bytes") > (1 + waiting) * 10**6)  # noqa: B023
                until_true(lambda: served.metric("braincam_queue_depth") == waiting)  # noqa: B023
            until_true(lambda: served.metric("braincam_queue_depth") == 0)
        until_true(lambda: served.metric("braincam_held_bytes") < 2 * 10**6)
        assert uploaded() == 10**6
        assert served.metric("braincam_held_bytes") == len(body)  # nobody waits, but it is still held
        go_on.set()
        until_true(lambda: served.metric("braincam_held_bytes") == 0)
        until_true(lambda: uploaded() == 0)


def test_two_hundred_clients_at_once_are_all_answered(predictor: Predictor) -> None:
    """Some are told to come back, and do; nobody is dropped."""
    with serving(predictor) as served, ThreadPoolExecutor(200) as pool:
        together = threading.Barrier(200)

        def ask(_: int) -> tuple[int, int]:
            together.wait()
            for attempt in range(100):
                connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
                with contextlib.closing(connection):
                    connection.request("POST", "/v1/predict", BODY, FORM)
                    response = connection.getresponse()
                    if response.status != 503:
                        return response.status, attempt
                time.sleep(0.2 * int(response.headers["retry-after"]))
            return 503, 100

        answers = list(pool.map(ask, range(200)))
    assert {code for code, _ in answers} == {200}


def test_a_client_that_leaves_frees_its_place(predictor: Predictor) -> None:
    slow = form(("v.nii", volume(400, 128)))
    with serving(predictor, threads=1) as served:
        with served.connect() as connection:
            connection.sendall(head(Content_Length=len(slow)) + slow)
            time.sleep(0.3)
        start = time.monotonic()
        assert served.predict(("a.png", SLICE)).status_code == 200
        assert time.monotonic() - start < 2
        assert served.metric('braincam_requests_total{route="/v1/predict",status="499"}') == 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_no_file_stays_open(served: Served) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    served.predict(("a.png", SLICE))
    before = opened()
    for _ in range(10):
        served.predict(("a.png", SLICE), ("b.nii.gz", gzip.compress(volume(2))), ("c", b"x"))
        served.http.get("/static/index.html")
        with served.connect() as connection:
            connection.sendall(head(Content_Length=len(BODY)) + BODY[:100])
    until = time.monotonic() + 5
    while opened() > before:
        assert time.monotonic() < until
        time.sleep(0.05)


# -- the parts ---------------------------------------------------------------------------------------------------------


async def _stays() -> None:
    await asyncio.Event().wait()


async def _leaves() -> None:
    return


def test_workers_stop_what_nobody_waits_for() -> None:
    ended = threading.Event()

    def job(stop: Stop) -> None:
        try:
            while True:
                stop.check()
                time.sleep(0.01)
        except AbandonedError:
            ended.set()
            raise

    async def ask() -> None:
        with pytest.raises(HTTPException) as left:
            await workers.run(job, 10, _leaves, freed.release)
        assert left.value.status_code == 499
        assert await asyncio.to_thread(ended.wait, 5)
        with pytest.raises(HTTPException) as late:
            await workers.run(job, 0.05, _stays, freed.release)
        assert late.value.status_code == 504
        for _ in range(2):
            assert await asyncio.to_thread(freed.acquire, timeout=5)

    workers, freed = Workers(1, 0), threading.Semaphore(0)
    asyncio.run(ask())
    workers.close()
    workers.check_room()
    assert workers.waiting == 0


def test_a_job_that_fails_frees_its_place() -> None:
    def job(_: Stop) -> None:
        raise RuntimeError("broken")

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="broken"):
                await workers.run(job, 5, _stays, freed.release)

    workers, freed = Workers(1, 0), threading.Semaphore(0)
    asyncio.run(ask())
    workers.close()
    workers.check_room()
    assert all(freed.acquire(blocking=False) for _ in range(3))


def test_memory_is_counted() -> None:
    memory = Memory(10)
    assert memory.take(6)
    assert not memory.take(5)
    assert memory.take(4)
    memory.give(10)
    assert memory.held == 0


@pytest.mark.parametrize("name", ["bytes", "files", "slices", "upload_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_of_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_memory_that_no_whole_body_fits_into_is_refused() -> None:
    with pytest.raises(ConfigError, match="whole request of 8 MiB, got 1 MiB; raise --max-memory-megabytes"):
        Limits(memory=2**20, bytes=2**23)


def test_an_error_in_the_server_is_a_500_and_its_text_stays_out_of_answer_and_log(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr("braincam.serve.app.answer", broken)
    with serving(predictor) as served, caplog.at_level("DEBUG"):
        response = served.predict(("a.png", SLICE))
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert served.metric("braincam_held_bytes") == 0
    assert "RuntimeError at broken:" in caplog.text
    assert "DOE" not in response.text + caplog.text
