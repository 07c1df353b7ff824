"""Server reflection as clients use it: grpcio's, which speaks v1alpha, and the stream itself in both versions."""

from collections.abc import Callable, Iterator, Sequence

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from running_server import RunningServer

from pyserving.core.errors import Code
from pyserving.protos import messages
from pyserving.protos.messages import ServerReflectionRequest, ServerReflectionResponse

Start = Callable[..., RunningServer]
Ask = Callable[..., Sequence[ServerReflectionResponse]]

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "pyserving.RolloutService",
    "pyserving.VersionService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
]


@pytest.fixture
def channel(start: Start) -> Iterator["grpc.Channel"]:
    server = start([])
    with grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as opened:
        yield opened


@pytest.fixture(params=["v1", "v1alpha"])
def ask(channel: "grpc.Channel", request: pytest.FixtureRequest) -> Ask:
    info = channel.stream_stream(
        f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    return lambda *requests: list(info(iter(requests), timeout=30))


def names(response: ServerReflectionResponse) -> list[str]:
    files = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(data).name for data in files]


def test_a_client_learns_all_services_and_messages(channel: "grpc.Channel") -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert sorted(database.get_services()) == SERVICES
    pool = DescriptorPool(database)
    predict = pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
    ours = messages.POOL.FindMessageTypeByName("tensorflow.serving.PredictRequest")
    assert predict.input_type.full_name == ours.full_name
    assert {field.name: field.number for field in predict.input_type.fields} == {
        field.name: field.number for field in ours.fields
    }
    for name in SERVICES:
        assert pool.FindServiceByName(name).full_name == name


def test_one_stream_answers_many_questions_in_their_order(ask: Ask) -> None:
    listed, file, method, again = ask(
        ServerReflectionRequest(host="here", list_services="*"),
        ServerReflectionRequest(file_by_filename="serving.proto"),
        ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService.Predict"),
        ServerReflectionRequest(file_containing_symbol="tensorflow.TensorProto"),
    )
    assert listed.valid_host == "here"
    assert listed.original_request.list_services == "*"
    assert [service.name for service in listed.list_services_response.service] == SERVICES
    assert names(file)[0] == "serving.proto"
    assert set(names(file)) > {"tensorflow.proto", "google/protobuf/any.proto"}
    assert names(method) == names(file)
    assert names(again)[0] == "tensorflow.proto"


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"file_by_filename": "no.proto"}, Code.NOT_FOUND),
        ({"file_containing_symbol": "no.Such"}, Code.NOT_FOUND),
        ({"file_containing_symbol": ""}, Code.NOT_FOUND),
        ({"file_containing_symbol": "tensorflow.serving.PredictionService.Nothing"}, Code.NOT_FOUND),
        ({"all_extension_numbers_of_type": "no.Such"}, Code.NOT_FOUND),
        ({"file_containing_extension": {"containing_type": "no.Such", "extension_number": 1}}, Code.NOT_FOUND),
        (
            {"file_containing_extension": {"containing_type": "tensorflow.NodeDef", "extension_number": 9}},
            Code.NOT_FOUND,
        ),
        ({}, Code.INVALID_ARGUMENT),
    ],
)
def test_a_question_without_an_answer_does_not_end_the_stream(ask: Ask, question: dict, code: Code) -> None:
    failed, listed = ask(ServerReflectionRequest(**question), ServerReflectionRequest(list_services=""))
    assert failed.error_response.error_code == code
    assert failed.error_response.error_message
    assert len(listed.list_services_response.service) == len(SERVICES)


def test_a_message_has_no_extensions(ask: Ask) -> None:
    (answer,) = ask(ServerReflectionRequest(all_extension_numbers_of_type="tensorflow.NodeDef"))
    assert answer.all_extension_numbers_response.base_type_name == "tensorflow.NodeDef"
    assert list(answer.all_extension_numbers_response.extension_number) == []


def test_it_can_be_off(start: Start) -> None:
    server = start([], reflection=False)
    with (
        grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        list(channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(iter(()), timeout=30))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
