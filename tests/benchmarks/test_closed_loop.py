"""What wrk and h2load print, read into figures. The texts are theirs (wrk 4.1.0, nghttp2 1.52.0)."""

import pytest

from benchmarks.closed_loop import Load, parse_h2load, parse_wrk, percentile

WRK = """Running 2s test @ http://127.0.0.1:49303/x
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   801.71us  380.82us   2.83ms   60.18%
    Req/Sec     8.69k     1.82k   13.24k    61.90%
  Latency Distribution
     50%    0.87ms
     75%    1.09ms
     90%    1.24ms
     99%    1.69s
  18145 requests in 2.10s, 2.99MB read
Requests/sec:   8640.64
Transfer/sec:      1.43MB
"""

H2LOAD = """finished in 2.00s, 28013.00 req/s, 2.16MB/s
requests: 56034 total, 56034 started, 56034 done, 56026 succeeded, 8 failed, 8 errored, 0 timeout
status codes: 56026 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.33MB (4538730) total, 109.52KB (112148) headers (space savings 94.73%), 2.72MB (2857275) data
                     min         max         mean         sd        +/- sd
time for request:       20us      2.92ms       271us       144us    81.51%
"""


def test_wrk() -> None:
    assert parse_wrk(WRK.replace("1.69s", "1.69s ")) == Load(18145, 0, 2.1, 0.87, 1690.0)


def test_wrk_with_failures_of_both_kinds() -> None:
    text = WRK.replace(
        "2.99MB read\n",
        "2.99MB read\n  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 100\n",
    )
    assert parse_wrk(text).failed == 110


def test_h2load_counts_an_answer_without_a_message_as_failed() -> None:
    log = "".join(f"17952445389680{n:02}\t200\t{n * 10}\n" for n in range(1, 101))
    load = parse_h2load(H2LOAD, log, answer_bytes=46)
    assert load == Load(56034, 9, 2.0, 0.5, 0.99)  # 8 errored, and 2857275 bytes are 56025 messages


@pytest.mark.parametrize("parse", [parse_wrk, lambda text: parse_h2load(text, "", 1)], ids=["wrk", "h2load"])
def test_other_text_is_refused(parse) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"no .* in:\nunable to connect"):
        parse("unable to connect")


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (90, 9), (99, 10), (99.9, 10), (1, 1), (100, 10)])
def test_percentile_is_the_nearest_rank(percent: float, value: int) -> None:
    assert percentile(range(1, 11), percent) == value
