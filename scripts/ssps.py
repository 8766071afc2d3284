"""`ssps`, the one command: each group is a module beside this one, loaded when it is called.

So `ssps audit` runs where neither daemon nor paramiko is installed. Exit codes: 0 done, 1 the
operator's files or the site are at fault (each fault on a line), 2 the command was called wrongly.
"""

from importlib import import_module
from pathlib import Path

import click

from scripts.shared import console

_COMMANDS = {
    "init": "scripts.site.init:init",
    "check": "scripts.site.init:check",
    "status": "scripts.filing.status:status",
    "verify": "scripts.filing.verify:verify",
    "rebuild": "scripts.filing.verify:rebuild_",
    "absent": "scripts.filing.absent:absent",
    "desk": "scripts.filing.desk:desk",
    "registry": "scripts.filing.registry:registry",
    "party": "scripts.access.party:party",
    "key": "scripts.access.key:key",
    "run": "scripts.daemons.run:run",
    "publish": "scripts.daemons.run:publish",
    "serve": "scripts.daemons.run:serve",
    "export": "scripts.filing.export:export",
    "audit": "scripts.audit.audit:audit",
    "rehearse": "scripts.rehearsal.rehearse:rehearse",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--site", type=click.Path(path_type=Path), help="The site's folder, or SSPS_SITE.")
@click.version_option(package_name="ssps")
def main(site: Path | None) -> None:
    """Tally sheets of polling night: filed by QR code, mirrored by the parties over SFTP.

    A site is a folder. Start one with `ssps init DIR`, look at it with `ssps check`, run it
    with `ssps run`; `ssps rehearse` makes a synthetic election to try all of it on.
    """
    console.set_site(site)


if __name__ == "__main__":
    main()
