"""`tito completion SHELL`: a script that completes commands, options and module names."""

from __future__ import annotations

import click

from tito.console import ENVIRONMENT, Trouble

INSTALL = {
    "bash": 'echo \'eval "$(tito completion bash)"\' >> ~/.bashrc',
    "zsh": 'echo \'eval "$(tito completion zsh)"\' >> ~/.zshrc',
    "fish": "tito completion fish > ~/.config/fish/completions/tito.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def group(shell: str) -> None:
    """Print a script that completes commands in your shell.

    \b
    Install it once, then open a new shell:
      bash   echo 'eval "$(tito completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(tito completion zsh)"' >> ~/.zshrc
      fish   tito completion fish > ~/.config/fish/completions/tito.fish
    """
    from click.shell_completion import get_completion_class

    from tito.cli import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise Trouble(f"no completion for {shell}", "tito completion --help", ENVIRONMENT)
    complete = kind(cli, {}, "tito", "_TITO_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
