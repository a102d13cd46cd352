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


def changed(root: Path) -> list[str]:
    return [path for path, known in listed().items() if sha256(root / path) != known]


def test_vendored_files_are_unchanged():
    assert changed(settings.BASE_DIR) == []


def test_the_vendor_guard_sees_a_planted_change(tmp_path):
    for path in listed():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((settings.BASE_DIR / path).read_bytes())
    (tmp_path / "static/vendor/htmx-4.0.1.min.js").write_text("planted")
    assert changed(tmp_path) == ["static/vendor/htmx-4.0.1.min.js"]


def test_every_third_party_file_is_listed():
    files = [path for folder in FOLDERS for path in (settings.BASE_DIR / folder).rglob("*") if path.is_file()]
    present = {str(path.relative_to(settings.BASE_DIR)) for path in files} - {"static/vendor/VENDORED.md"}
    assert present == set(listed())


def test_every_licence_named_in_the_list_is_there():
    text = (settings.BASE_DIR / "static/vendor/VENDORED.md").read_text()
    licences = set(re.findall(r"\((\S+LICENSE\.txt)\)", text))
    assert licences
    assert [path for path in licences if not (settings.BASE_DIR / path).is_file()] == []
