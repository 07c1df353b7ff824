"""What reaches the handler, and what the client gets, for requests as they should be."""

import gzip
import http.client
import json
import os
import random
import shutil
import subprocess
import zlib

import pytest
import requests
from http1_running import running

from pyserving.api.exchange import HttpRequest, HttpResponse
from pyserving.transport.limits import HttpLimits


def post(body: bytes, *headers: str, target: str = "/") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"POST {target} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_hands_on_method_target_headers_and_body_as_sent(serve_http1):
    answer = serve_http1().ask(
        b"PUT /a%2Fb/na%ZZve?q=%20 HTTP/1.1\r\nHost: x\r\nX-Mixed-CASE:  two words \r\nContent-Length: 3\r\n\r\nabc"
    )
    assert answer.asked == {
        "method": "PUT",
        "target": "/a%2Fb/na%ZZve?q=%20",
        "headers": {"host": "x", "x-mixed-case": "two words", "content-length": "3"},
        "body": "abc",
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["date"].endswith(" GMT")
    assert "connection" not in answer.headers


def test_joins_repeated_headers_with_commas(serve_http1):
    asked = serve_http1().ask(b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\nB:\r\nA: 3\r\n\r\n").asked
    assert asked["headers"] == {"a": "1, 2, 3", "b": ""}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_hands_on_every_method_of_rest(serve_http1, method):
    assert serve_http1().ask(f"{method} / HTTP/1.1\r\n\r\n".encode()).asked["method"] == method


def test_answers_head_with_the_headers_of_the_body_it_leaves_out(serve_http1):
    client = serve_http1().connect()
    client.send(b"HEAD /x HTTP/1.1\r\n\r\nGET /y HTTP/1.1\r\n\r\n")
    head = client.answer(has_body=False)
    assert int(head.headers["content-length"]) > 0
    assert client.answer().asked["target"] == "/y"


def test_sends_the_headers_of_the_answer_and_no_length_with_204(serve_http1):
    async def preflight(_: HttpRequest) -> HttpResponse:
        return HttpResponse(204, b"", "", [("Access-Control-Allow-Origin", "*"), ("X-B", "é")])

    client = serve_http1(preflight).connect()
    for _ in range(2):
        answer = client.ask(b"OPTIONS / HTTP/1.1\r\n\r\n")
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert not {"content-length", "content-type"} & set(answer.headers)


def test_knows_the_status_tensorflow_serving_made_up(serve_http1):
    async def cancelled(_: HttpRequest) -> HttpResponse:
        return HttpResponse(499, b"{}")

    client = serve_http1(cancelled).connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.rest().startswith(b"HTTP/1.1 499 Client Closed Request\r\n")


@pytest.mark.parametrize("size", [1, 7, 20_000])
def test_reads_chunked_bodies(serve_http1, size):
    body = random.Random(1).randbytes(50_000 if size > 1 else 500)
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert serve_http1().ask(head + chunks(body, size)).asked["body"] == body.decode("latin-1")


def test_ignores_chunk_extensions_and_trailers(serve_http1):
    client = serve_http1().connect()
    asked = client.ask(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nHost: b\r\nX: y\r\n\r\n"
    ).asked
    assert asked["body"] == "abc"
    assert asked["headers"] == {"transfer-encoding": "chunked"}
    assert client.ask(post(b"next")).asked["body"] == "next"


def test_carries_big_bodies_both_ways_intact(serve_http1):
    async def mirror(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, request.body, "application/octet-stream")

    body = os.urandom(5_000_000)
    server = serve_http1(mirror)
    for _ in range(2):
        answer = requests.post(f"http://127.0.0.1:{server.port}/", data=body, timeout=20)
        assert answer.content == body
    assert requests.post(f"http://127.0.0.1:{server.port}/", data=iter([body, b"end"]), timeout=20).content == (
        body + b"end"
    )


def test_decompresses_gzip_bodies(serve_http1):
    client = serve_http1().connect()
    body = json.dumps({"instances": [1.0] * 5000}).encode()
    for encoding in ("gzip", "GZIP", "x-gzip"):
        asked = client.ask(post(gzip.compress(body), f"Content-Encoding: {encoding}")).asked
        assert asked["body"] == body.decode()
    head = b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert client.ask(head + chunks(gzip.compress(body), 10)).asked["body"] == body.decode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [1.0]}',
        b"",
        gzip.compress(b"abc" * 1000)[:-1],
        gzip.compress(b"abc")[:-8] + b"\0" * 8,
        gzip.compress(b"abc") + b"more",
        gzip.compress(b"abc") + gzip.compress(b"def"),
        zlib.compress(b"abc"),
    ],
    ids=["plain", "empty", "cut", "wrong-crc", "followed", "two-members", "zlib"],
)
def test_hands_on_an_empty_body_for_gzip_that_is_none(serve_http1, body):
    client = serve_http1().connect()
    assert client.ask(post(body, "Content-Encoding: gzip")).asked["body"] == ""
    chunked = b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body, 1)
    assert client.ask(chunked).asked["body"] == ""
    assert client.ask(post(b"next")).asked["body"] == "next"


def test_hands_on_other_encodings_as_they_came(serve_http1):
    body = zlib.compress(b"abc")
    assert serve_http1().ask(post(body, "Content-Encoding: deflate")).asked["body"] == body.decode("latin-1")


def test_sends_100_continue_once_the_body_is_wanted(serve_http1):
    client = serve_http1().connect()
    client.send(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
    assert client.answer().status == 100
    assert client.ask(b"abc").asked["body"] == "abc"
    client.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.answer().status == 100
    assert client.ask(b"3\r\nabc\r\n0\r\n\r\n").asked["body"] == "abc"


def test_sends_no_100_continue_to_who_did_not_wait_for_it(serve_http1):
    client = serve_http1().connect()
    assert client.ask(post(b"abc", "Expect: 100-continue")).asked["body"] == "abc"
    assert client.ask(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n").status == 200
    old = b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    client.send(old)
    assert client.ask(b"x").asked["body"] == "x"


def test_refuses_an_expectation_it_cannot_meet(serve_http1):
    answer = serve_http1().ask(b"POST / HTTP/1.1\r\nExpect: a-pony\r\nContent-Length: 3\r\n\r\n")
    assert answer.status == 417
    assert "a-pony" in answer.error


@pytest.mark.parametrize("split", [False, True])
def test_goes_on_with_http1_when_asked_to_upgrade(serve_http1, split):
    """Java's HttpClient and curl --http2 ask so with every first request."""
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    client = serve_http1().connect()
    chunked = f"POST /c HTTP/1.1\r\n{upgrade}Transfer-Encoding: chunked\r\n\r\n".encode()
    for data, body in [
        (post(b"abc", upgrade[:-2]), "abc"),
        (f"GET /g HTTP/1.1\r\n{upgrade}\r\n".encode(), ""),
        (chunked + chunks(b"abcdef", 2), "abcdef"),
        (post(gzip.compress(b"abc"), "Content-Encoding: gzip", upgrade[:-2]), "abc"),
    ]:
        if split:
            for at in range(len(data)):
                client.send(data[at : at + 1])
        else:
            client.send(data)
        assert client.answer().asked["body"] == body
    client.send(post(b"1", upgrade[:-2]) + post(b"2", upgrade[:-2]) + post(b"3"))
    assert [client.answer().asked["body"] for _ in range(3)] == ["1", "2", "3"]


def test_answers_the_clients_of_the_standard_library_and_requests(serve_http1):
    server = serve_http1()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/p", b"abc", {"Content-Type": "application/json"})
        assert json.load(connection.getresponse())["body"] == "abc"
    connection.close()
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(f"http://127.0.0.1:{server.port}/r", data=b"x", timeout=10).json()["target"] == "/r"
        assert session.head(f"http://127.0.0.1:{server.port}/r", timeout=10).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--http1.0"],
        ["--http2"],
        ["--header", "Expect: 100-continue"],
        ["--header", "Transfer-Encoding: chunked"],
        ["--header", "Connection: close"],
    ],
    ids=" ".join,
)
def test_answers_curl(serve_http1, options, tmp_path):
    body = b"x" * 2_000_000
    (tmp_path / "body").write_bytes(body)
    url = f"http://127.0.0.1:{serve_http1().port}/curl"
    command = ["curl", "--silent", "--max-time", "10", *options, "--data-binary", f"@{tmp_path / 'body'}", url, url]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    assert answer.count(body) == 2


def test_is_not_quadratic_in_the_number_of_pieces():
    """A body of many small pieces is gathered in time, whatever the pieces."""
    body = b"7" * 300_000
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body, 2)

    async def size(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"%d" % len(request.body))

    with running(size, HttpLimits(max_body=len(body))) as server:
        assert server.ask(data).body == b"300000"
