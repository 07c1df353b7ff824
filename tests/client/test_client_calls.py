"""The clients' methods over both protocols, against a whole server on real sockets."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from running_server import RunningServer

from pyserving import AsyncClient, Client, ServingError
from pyserving.client import Class, NotOffered
from pyserving.core.errors import Code
from pyserving.platforms.dtypes import DType

JSON_HAS_NO = {
    "float16",
    "uint16",
    "bfloat16",
    "complex64",
    "complex128",
    "float8_e5m2",
    "float8_e4m3fn",
    "int4",
    "uint4",
}


@pytest.mark.parametrize("given", [[1.0, 2.0, 5.0], [1, 2, 5], (1, 2, 5), np.array([1, 2, 5], np.float64)])
def test_values_get_the_dtype_of_the_signature(client: Client, given: Any) -> None:
    answer = client.predict(
        "half_plus_two", {"x": np.reshape(given, (3, 1)) if isinstance(given, np.ndarray) else given}
    )
    assert answer["y"].dtype == np.float32
    np.testing.assert_array_equal(answer["y"].ravel(), [2.5, 3.0, 4.5])


def test_one_value_is_for_the_only_input(client: Client) -> None:
    assert client.predict("half_plus_two", [[3.0]])["y"].tolist() == [[3.5]]


def test_versions(client: Client, address: str, server: RunningServer) -> None:
    assert client.predict("versioned", [1.0])["version"].tolist() == [3]
    assert client.predict("versioned", [1.0], version=2)["y"].tolist() == [21.0]
    assert [(one.version, one.state) for one in client.status("versioned")] == [
        (3, "AVAILABLE"), (2, "AVAILABLE"), (1, "AVAILABLE")
    ]  # fmt: skip
    assert [one.version for one in client.status("versioned", version=2)] == [2]
    answered = client.predict("versioned", [1.0]).version
    assert answered == (3 if address == server.server.ports.grpc_addresses[0] else None)


def test_chosen_outputs(client: Client) -> None:
    assert client.predict("versioned", [1.0], outputs=["y"]).keys() == {"y"}
    with pytest.raises(ServingError) as raised:
        client.predict("versioned", [1.0], outputs=["nothing"])
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float32", [0.1, -1e30, np.inf, -np.inf, np.nan]),
        ("float64", [0.1, 1e300, np.nan]),
        ("float16", [0.5, 1000.0]),
        ("bfloat16", [0.5, -3.0]),
        ("int8", [-128, 127]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint16", [0, 65535]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [True, False]),
        ("complex64", [1 + 2j]),
        ("complex128", [1 - 2j]),
        ("float8_e5m2", [0.5]),
        ("float8_e4m3fn", [0.5]),
        ("int4", [-8, 7]),
        ("uint4", [0, 15]),
    ],
)
def test_every_dtype_comes_back(client: Client, server: RunningServer, address: str, name: str, values: Any) -> None:
    signature = f"echo_{name}"
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    given = np.array(values, dtype)
    if address == server.server.ports.rest_address and name in JSON_HAS_NO:
        with pytest.raises(ServingError):
            client.predict("dtypes", given, signature=signature)
        return
    for sent in (values, given, given[None], given[:1].reshape(()), given[:0]):
        answer = client.predict("dtypes", sent, signature=signature)["y"]
        assert answer.dtype == dtype
        np.testing.assert_array_equal(answer, np.array(sent, dtype))
        assert answer.flags.writeable or not answer.ndim


def test_quantised_integers(grpc_client: Client) -> None:
    answer = grpc_client.predict("dtypes", [-5, 100], signature="echo_qint8")["y"]
    assert answer["qint8"].tolist() == [-5, 100]


@pytest.mark.parametrize(
    "values",
    [["a", "é"], [b"a", b"\xff\0"], ["", "x\0"], [["a"], [b"b"]], "alone", b"\x80", np.array(["u", "nicode"]), []],
)
def test_strings_come_back_as_bytes(client: Client, address: str, server: RunningServer, values: Any) -> None:
    flat = np.asarray(values, object).ravel().tolist()
    expected = [value.encode() if isinstance(value, str) else value for value in flat]
    is_text = not {b"\xff\0", b"\x80"} & set(expected)
    if not is_text and address == server.server.ports.rest_address:
        with pytest.raises(ServingError, match="not UTF-8"):  # y, an output without _bytes
            client.predict("dtypes", values, signature="echo_string")
        if np.ndim(values) == 1:
            assert client.predict("mirror", values)["y_bytes"].tolist() == expected
        return
    answer = client.predict("dtypes", values, signature="echo_string")["y"]
    assert answer.dtype == object or not expected
    assert answer.ravel().tolist() == expected
    assert answer.shape == np.shape(values)


def test_large_arrays(client: Client) -> None:
    given = np.random.default_rng(1).standard_normal((512, 1024)).astype(np.float32)
    np.testing.assert_array_equal(client.predict("dtypes", given, signature="echo_float32")["y"], given)


def test_examples(client: Client) -> None:
    examples = [{"x": 2.0}, {"x": [4.0], "x2": np.float32(1)}]
    np.testing.assert_array_equal(client.regress("half_plus_two", examples, signature="regress_x_to_y"), [3.0, 4.0])
    assert client.classify("half_plus_two", examples, signature="classify_x_to_y") == [
        [Class("", 3.0)],
        [Class("", 4.0)],
    ]
    with pytest.raises(ServingError, match="at least one example"):
        client.regress("half_plus_two", [])


def test_multi_inference(client: Client, address: str, server: RunningServer) -> None:
    tasks = [("regress", "regress_x_to_y"), ("classify", "classify_x_to_y")]
    if address == server.server.ports.rest_address:
        with pytest.raises(NotOffered):
            client.multi_inference("half_plus_two", tasks, [{"x": 2.0}])
        return
    values, classes = client.multi_inference("half_plus_two", tasks, [{"x": 2.0}])
    assert list(values) == [3.0]
    assert classes == [[Class("", 3.0)]]


def test_metadata(client: Client) -> None:
    found = client.metadata("half_plus_two")
    assert (found.name, found.version) == ("half_plus_two", 123)
    spec = found.signatures["serving_default"].inputs["x"]
    assert (spec.dtype, spec.shape, spec.tensor_name) == (DType.FLOAT, (None, 1), "x:0")
    assert found.definitions["regress_x_to_y"].method_name == "tensorflow/serving/regress"


def test_models(client: Client, address: str, server: RunningServer) -> None:
    if address == server.server.ports.grpc_addresses[0]:
        with pytest.raises(NotOffered, match="REST"):
            client.models()
    else:
        assert client.models()["versioned"][0].state == "AVAILABLE"


def test_streamed(client: Client) -> None:
    assert [int(piece["number"]) for piece in client.predict_streamed("count", 5)] == [0, 1, 2, 3, 4]
    pieces = client.predict_streamed("count", 10**9)
    assert int(next(pieces)["number"]) == 0
    pieces.close()


def test_an_error_after_some_pieces(client: Client) -> None:
    numbers = []
    with pytest.raises(ServingError, match="model code raised RuntimeError"):
        numbers.extend(piece["number"] for piece in client.predict_streamed("count", 2000))


@pytest.mark.parametrize(
    ("code", "message", "options"),
    [
        (Code.NOT_FOUND, "nothing", {"model": "nothing", "inputs": [1.0]}),
        (Code.NOT_FOUND, "versioned", {"inputs": [1.0], "version": 9}),
        (Code.INVALID_ARGUMENT, "has no signature other; its", {"inputs": [1.0], "signature": "other"}),
        (Code.INVALID_ARGUMENT, "has no input z; its inputs: x (float)", {"inputs": {"z": [1.0]}}),
        (Code.INVALID_ARGUMENT, "expected values of type float, got string", {"inputs": ["a"]}),
        (Code.INVALID_ARGUMENT, "no tensor can be made", {"inputs": [[1.0], [1.0, 2.0]]}),
        (Code.INVALID_ARGUMENT, "a version or a label", {"inputs": [1.0], "version": 1, "label": "a"}),
        (Code.INVALID_ARGUMENT, "a version's number, from 0", {"inputs": [1.0], "version": "1"}),
        (Code.INVALID_ARGUMENT, "a version's number, from 0", {"inputs": [1.0], "version": -1}),
        (Code.INVALID_ARGUMENT, "all of one kind, got int", {"model": "strings", "inputs": [1, "a"]}),
        (Code.INVALID_ARGUMENT, "x must be positive", {"model": "failing", "inputs": [-1.0]}),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(client: Client, code: Code, message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ServingError) as raised:
        client.predict(**({"model": "versioned"} | options))
    assert raised.value.code is code
    assert message in raised.value.message


def test_integers_do_not_take_floats(client: Client) -> None:
    for given in ([1.5], np.array([1.0])):
        with pytest.raises(ServingError, match="expected values of type int32, got double"):
            client.predict("dtypes", given, signature="echo_int32")
    with pytest.raises(ServingError, match="300 is out of range for int8"):
        client.predict("dtypes", [300], signature="echo_int8")


def test_many_threads_share_a_client(client: Client) -> None:
    def ask(number: int) -> float:
        return float(client.predict("versioned", [number], version=1)["y"][0])

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(200))) == [number + 10 for number in range(200)]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_async(address: str, loop: str) -> None:
    async def ask() -> list[float]:
        async with AsyncClient(address) as client:
            answers = await asyncio.gather(*(client.predict("versioned", [n], version=1) for n in range(50)))
            numbers = [int(piece["number"]) async for piece in client.predict_streamed("count", 3)]
            assert numbers == [0, 1, 2]
            return [float(answer["y"][0]) for answer in answers]

    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(ask()) == [number + 10 for number in range(50)]


def test_a_closed_client_says_so(address: str) -> None:
    client = Client(address)
    client.predict("versioned", [1.0])
    client.close()
    client.close()
    with pytest.raises(ServingError, match="closed"):
        client.predict("versioned", [1.0])
