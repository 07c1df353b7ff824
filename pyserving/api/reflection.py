"""gRPC's server reflection: clients such as grpcurl ask a server what it serves and what its messages look like
(github.com/grpc/grpc, doc/server-reflection.md)."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from pyserving.api.exchange import RpcContext, StreamHandler
from pyserving.core.errors import Code, ServingError
from pyserving.protos.messages import POOL, ServerReflectionRequest, ServerReflectionResponse

_METHODS = tuple(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha"))


class Reflection:
    """Both versions of the service: on the wire they are the same."""

    def __init__(self, methods: Iterable[str]) -> None:
        """``methods``: the full names of all others that the server has, ``/package.Service/Method``."""
        self._services = sorted({method.split("/")[1] for method in (*methods, *_METHODS)})

    def streaming(self) -> Mapping[str, StreamHandler]:
        return dict.fromkeys(_METHODS, self._info)

    async def _info(self, messages: AsyncIterator[bytes], _: RpcContext) -> AsyncGenerator[bytes, None]:
        async for data in messages:
            try:
                request = ServerReflectionRequest.FromString(data)
            except DecodeError as error:
                raise ServingError(Code.INTERNAL, f"the message is no ServerReflectionRequest: {error}") from None
            yield self._answer(request).SerializeToString()

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        response = ServerReflectionResponse(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                _add_files(response, POOL.FindFileByName(request.file_by_filename))
            elif asked == "file_containing_symbol":
                _add_files(response, _file_containing(request.file_containing_symbol))
            elif asked == "file_containing_extension":
                wanted = request.file_containing_extension
                extended = POOL.FindMessageTypeByName(wanted.containing_type)
                extension = POOL.FindExtensionByNumber(extended, wanted.extension_number)
                _add_files(response, POOL.FindFileContainingSymbol(extension.full_name))
            elif asked == "all_extension_numbers_of_type":
                extended = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type)
                numbers = response.all_extension_numbers_response
                numbers.base_type_name = extended.full_name
                numbers.extension_number.extend(field.number for field in POOL.FindAllExtensions(extended))
            else:
                raise ServingError(Code.INVALID_ARGUMENT, "Expected one of the fields of message_request, got none")
        except KeyError as error:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = str(error.args[0])
        except ServingError as error:
            response.error_response.error_code = error.code
            response.error_response.error_message = error.message
        return response


def _file_containing(symbol: str) -> FileDescriptor:
    """Raises KeyError. The pool knows all symbols but methods."""
    service, _, method = symbol.rpartition(".")
    try:
        found = POOL.FindServiceByName(service)
    except KeyError:
        return POOL.FindFileContainingSymbol(symbol)
    if method not in found.methods_by_name:
        raise KeyError(f"Couldn't find symbol {symbol}")
    return found.file


def _add_files(response: ServerReflectionResponse, file: FileDescriptor) -> None:
    """The file, then all that it imports, directly or not."""
    files: dict[str, bytes] = {}

    def add(wanted: FileDescriptor) -> None:
        if wanted.name not in files:
            files[wanted.name] = wanted.serialized_pb
            for imported in wanted.dependencies:
                add(imported)

    add(file)
    response.file_descriptor_response.file_descriptor_proto.extend(files.values())
