"""The command ``pyserving``: one module of this package for each of its commands."""

from importlib import import_module

import click
from click.shell_completion import CompletionItem

import pyserving

_COMMANDS = {
    "bench": "send requests to a server and show throughput and latencies",
    "completion": "print the script by which a shell completes commands",
    "export": "write a trained model as the next version, all of it or nothing",
    "keys": "make and withdraw API keys for a server",
    "optimize": "find the fastest engine for a version before a server needs it",
    "plan": "say how many servers a load needs, from a benchmark of one",
    "predict": "send inputs to a server and show the outputs",
    "promote": "make a version of a model the default one",
    "reload": "tell a server which models to serve",
    "replay": "send recorded requests to a server or a version, and compare the answers",
    "rollback": "make the default version of before the default one again",
    "run": "compute a signature of a model, without a server",
    "serve": "serve models over REST and gRPC",
    "show": "show what a model is: signatures, operations, size",
    "status": "show the models of a server and the states of their versions",
    "top": "show live what a server does: rates, latencies, queues, memory",
    "validate": "load a version in a process of its own, ask it, and bless or refuse it",
    "warmup": "make the file of requests that servers replay before a version is available",
}
"""What each does, in a line; the command ``x-y`` is the function ``x_y`` of the module ``x_y``."""


class _Commands(click.Group):
    """Imports a command when it is used: what only asks a server need not wait until the server is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"pyserving.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Of commands not yet typed in full, none is imported."""
        named = [CompletionItem(name, help=_COMMANDS[name]) for name in self.list_commands(ctx)]
        return [item for item in named if item.value.startswith(incomplete)] or super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(pyserving.__version__, prog_name="PyServing")
def main() -> None:
    """Serves models as TensorFlow Serving does, over REST and gRPC."""


if __name__ == "__main__":
    main()
