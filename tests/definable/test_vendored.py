"""Third-party files are the ones their makers published, each listed with its hash."""

import hashlib
import re
from pathlib import Path

from django.conf import settings

ROW = re.compile(r"^\| (?P<path>\S+) \|.*\| (?P<sha256>[0-9a-f]{64}) \| \d{4}-\d\d-\d\d \|$", re.MULTILINE)
FOLDERS = ["static/vendor", "static/fonts", "tests/vendor"]


def listed() -> dict[str, str]:
    text = (settings.BASE_DIR / "static/vendor/VENDORED.md").read_text()
    return {row["path"]: row["sha256"] for row in ROW.finditer(text)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_vendored_files_are_unchanged():
    assert {path: sha256(settings.BASE_DIR / path) for path in listed()} == listed()


def test_every_third_party_file_is_listed():
    files = [path for folder in FOLDERS for path in (settings.BASE_DIR / folder).rglob("*") if path.is_file()]
    present = {str(path.relative_to(settings.BASE_DIR)) for path in files} - {"static/vendor/VENDORED.md"}
    assert present == set(listed())


def test_every_licence_named_in_the_list_is_there():
    text = (settings.BASE_DIR / "static/vendor/VENDORED.md").read_text()
    licences = set(re.findall(r"\((\S+LICENSE\.txt)\)", text))
    assert licences
    assert [path for path in licences if not (settings.BASE_DIR / path).is_file()] == []
