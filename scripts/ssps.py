"""`ssps`, the one command. Each subcommand is in a module of its own, which is imported on use.

So `ssps audit` works where neither the daemons nor paramiko are installed. Exit codes: 0 success,
1 an error, such as a fault in the operator's files (one line for each), 2 wrong usage.
"""

from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from scripts.shared import console
from scripts.shared.examples import add_examples

_COMMANDS = {
    "init": "scripts.site.init:init",
    "check": "scripts.site.init:check",
    "recover": "scripts.site.recover:recover",
    "site": "scripts.site.state:site_",
    "status": "scripts.filing.status:status",
    "verify": "scripts.filing.verify:verify",
    "rebuild": "scripts.filing.verify:rebuild_",
    "catalog": "scripts.filing.catalog:catalog",
    "absent": "scripts.filing.absent:absent",
    "desk": "scripts.filing.desk:desk",
    "registry": "scripts.filing.registry:registry",
    "ballot": "scripts.results.ballot:ballot",
    "results": "scripts.results.results:results",
    "party": "scripts.access.party.party:party",
    "key": "scripts.access.key.key:key",
    "user": "scripts.access.user.user:user",
    "operator": "scripts.access.user.operator:operator",
    "run": "scripts.daemons.run:run",
    "publish": "scripts.daemons.run:publish",
    "serve": "scripts.daemons.run:serve",
    "portal": "scripts.daemons.portal:portal",
    "staff": "scripts.daemons.staff:staff",
    "export": "scripts.filing.export:export",
    "audit": "scripts.audit.audit:audit",
    "rehearse": "scripts.rehearsal.rehearse:rehearse",
}


class _LazyGroup(click.Group):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run as a program: a command may read the signing key, so it leaves no core file."""
        with suppress(ImportError, AttributeError, OSError):  # an auditor's computer, not Linux
            from keys.kernel import process

            process.forbid_inspection()
        return super().__call__(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            if ctx.resilient_parsing:  # a shell completes a word that is not finished
                return None
            found = get_close_matches(cmd_name, _COMMANDS)
            advice = f" Did you mean {' or '.join(map(repr, found))}?" if found else ""
            ctx.fail(f"No such command {cmd_name!r}.{advice}")
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        add_examples(command, cmd_name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--site", metavar="DIR", type=click.Path(path_type=Path), help=console.SITE_HELP)
@click.version_option(package_name="ssps")
def main(site: Path | None) -> None:
    """File signed tally sheets by QR code and serve them to the parties (SFTP).

    A site is a folder with everything that one election needs. Create it with
    `ssps init DIR`, check it with `ssps check`, run it with `ssps run`. Try
    everything with a synthetic election: `ssps rehearse`.
    """
    console.set_site(site)


if __name__ == "__main__":
    main()
