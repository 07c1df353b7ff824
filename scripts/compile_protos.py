#!/usr/bin/env python3
"""Compiles pyserving/protos/*.proto into what the package ships: descriptors.binpb, messages.py and messages.pyi.

Run it after a change to a .proto file (needs grpcio-tools):  python scripts/compile_protos.py
"""

import sys
import tempfile
from collections import Counter
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto
from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parent.parent / "pyserving" / "protos"
F = FieldDescriptorProto

SCALARS = {
    F.TYPE_DOUBLE: "float",
    F.TYPE_FLOAT: "float",
    F.TYPE_BOOL: "bool",
    F.TYPE_STRING: "str",
    F.TYPE_BYTES: "bytes",
}
WELL_KNOWN = {
    ".google.protobuf.Any": "any_pb2.Any",
    ".google.protobuf.Int32Value": "wrappers_pb2.Int32Value",
    ".google.protobuf.Int64Value": "wrappers_pb2.Int64Value",
    ".google.protobuf.StringValue": "wrappers_pb2.StringValue",
    ".google.protobuf.BoolValue": "wrappers_pb2.BoolValue",
}
ONLY_DESCRIBED = {"grpc.reflection.v1alpha"}
"""Packages whose messages have the names and fields of another's, and need no classes of their own."""
RENAMED = {"inference.DataType": "InferenceDataType", "inference.ModelConfig": "InferenceModelConfig"}
"""What would have the name of another package's message or enum in Python."""


def compile_files() -> descriptor_pb2.FileDescriptorSet:
    include = str(resources.files("grpc_tools") / "_proto")
    sources = sorted(str(path) for path in FOLDER.glob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        arguments = ["protoc", f"-I{FOLDER}", f"-I{include}", "--include_imports"]
        if protoc.main([*arguments, f"--descriptor_set_out={out.name}", *sources]):
            sys.exit("protoc failed")
        return descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())


def python_name(full_name: str) -> str:
    """``.tensorflow.serving.PredictRequest.RequestOptions`` -> ``PredictRequest.RequestOptions``."""
    if full_name in WELL_KNOWN:
        return WELL_KNOWN[full_name]
    if full_name.lstrip(".") in RENAMED:
        return RENAMED[full_name.lstrip(".")]
    parts = full_name.lstrip(".").split(".")
    while parts[0][0].islower():
        parts.pop(0)
    return ".".join(parts)


def type_of(field: FieldDescriptorProto) -> str:
    if field.type == F.TYPE_MESSAGE:
        return python_name(field.type_name)
    return SCALARS.get(field.type, "int")


def message_stub(message: DescriptorProto, indent: str = "", name: str = "") -> list[str]:
    """``name``: in Python, where that is another one."""
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    inner = indent + "    "
    lines = [f"{indent}class {name or message.name}(Message):"]
    for enum in message.enum_type:
        lines += enum_stub(enum, inner)
    for nested in message.nested_type:
        if nested.name not in maps:
            lines += message_stub(nested, inner)
    arguments = []
    for field in message.field:
        kind = type_of(field)
        entry = maps.get(field.type_name.rsplit(".", 1)[-1]) if field.type == F.TYPE_MESSAGE else None
        if entry is not None:
            key, value = type_of(entry.field[0]), type_of(entry.field[1])
            container = "MessageMap" if entry.field[1].type == F.TYPE_MESSAGE else "ScalarMap"
            lines += [f"{inner}@property", f"{inner}def {field.name}(self) -> {container}[{key}, {value}]: ..."]
            arguments.append(f"{field.name}: Mapping[{key}, {value}] | None = ...")
        elif field.label == F.LABEL_REPEATED:
            composite = field.type == F.TYPE_MESSAGE
            container = "RepeatedCompositeFieldContainer" if composite else "RepeatedScalarFieldContainer"
            lines += [f"{inner}@property", f"{inner}def {field.name}(self) -> {container}[{kind}]: ..."]
            arguments.append(f"{field.name}: Iterable[{kind}] | None = ...")
        elif field.type == F.TYPE_MESSAGE:
            lines += [f"{inner}@property", f"{inner}def {field.name}(self) -> {kind}: ..."]
            arguments.append(f"{field.name}: {kind} | None = ...")
        else:
            lines.append(f"{inner}{field.name}: {kind}")
            arguments.append(f"{field.name}: {kind} | None = ...")
    if arguments:
        lines.append(f"{inner}def __init__(self, *, {', '.join(arguments)}) -> None: ...")
    if len(lines) == 1:
        lines[0] += " ..."
    return lines


def enum_stub(enum: EnumDescriptorProto, indent: str = "", name: str = "") -> list[str]:
    lines = [f"{indent}{value.name}: int" for value in enum.value] if indent else []
    return [*lines, f"{indent}{name or enum.name}: EnumTypeWrapper"]


def main() -> None:
    files = compile_files()
    for file in files.file:
        file.ClearField("source_code_info")
    (FOLDER / "descriptors.binpb").write_bytes(files.SerializeToString(deterministic=True))

    stub = [
        "# Written by scripts/compile_protos.py.",
        "from collections.abc import Iterable, Mapping",
        "",
        "from google.protobuf import any_pb2, wrappers_pb2",
        "from google.protobuf.descriptor_pool import DescriptorPool",
        "from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer",
        "from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap",
        "from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper",
        "from google.protobuf.message import Message",
        "",
        "POOL: DescriptorPool",
        "",
    ]
    names = []
    for file in files.file:
        if file.name.startswith("google/") or file.package in ONLY_DESCRIBED:
            continue
        for enum in file.enum_type:
            name = python_name(f"{file.package}.{enum.name}")
            stub += enum_stub(enum, name=name)
            names.append((name, f'_enum("{file.package}.{enum.name}")'))
        for message in file.message_type:
            name = python_name(f"{file.package}.{message.name}")
            stub += message_stub(message, name=name)
            names.append((name, f'_message("{file.package}.{message.name}")'))
    if twice := [name for name, count in Counter(name for name, _ in names).items() if count > 1]:
        sys.exit(f"Two packages have {', '.join(twice)}: add one to RENAMED")
    (FOLDER / "messages.pyi").write_text("\n".join(stub) + "\n")

    source = (FOLDER / "messages.py").read_text()
    marker = "# Below: written by scripts/compile_protos.py.\n"
    head = source.partition(marker)[0]
    body = "".join(f"{name} = {value}\n" for name, value in sorted(names))
    (FOLDER / "messages.py").write_text(head + marker + body)


if __name__ == "__main__":
    main()
