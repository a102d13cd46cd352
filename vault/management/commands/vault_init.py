from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from vault.roots import BadKeyFile, make_key_files

SETTINGS = {
    "root": "VAULT_ROOT_KEY_FILE",
    "content": "VAULT_CONTENT_KEY_FILE",
    "sealing": "VAULT_SEALING_KEY_FILE",
}


class Command(BaseCommand):
    help = "Make the vault's key files, once. Nothing is overwritten, and no key is printed."
    requires_system_checks = []  # the checks ask for the very files that this makes

    def handle(self, *args: object, **options: object) -> None:
        try:
            made = make_key_files(**self._paths())
        except BadKeyFile as error:
            raise CommandError(str(error)) from None
        for path in self._paths().values():
            self.stdout.write(f"{'Made' if path in made else 'Kept'} {path}")
        if made:
            self.stdout.write("Keep a copy of these outside this machine and its backups: nothing opens without them.")

    def _paths(self) -> dict[str, Path]:
        for setting in SETTINGS.values():
            if not getattr(settings, setting):
                raise CommandError(f"Set {setting} to where the file should lie, as for a worker.")
        return {name: Path(getattr(settings, setting)) for name, setting in SETTINGS.items()}
