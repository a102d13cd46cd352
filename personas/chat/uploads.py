"""Pictures and documents that members give with a message: known by their bytes, sealed, sent as a model wants them."""

import base64
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from accounts.models import Team, User
from audit.actions import Actor, record, store
from audit.clock import app_now
from audit.models import Content
from personas.models import Attachment
from vault.box import Unreadable
from vault.content import erase_contents, open_content, seal_content

MIB = 1024 * 1024
MOST_PICTURE = 5 * MIB
MOST_DOCUMENT = 6 * MIB
MOST_OF_A_MESSAGE = 6 * MIB  # in base64 that is 8 MiB; with the text, what one call may carry
MOST_FILES = 5
MOST_WAITING = 20  # taken and not sent yet, of one member
MOST_SIDE = 16_000  # pixels
MOST_PIXELS = 50_000_000
LONGEST_NAME = 120
MOST_UNPACKED = 10  # times the size of a document; text packs to a tenth at best
MOST_READ = 4  # times its size that a document is read while its streams are unpacked
LEAST_READ = 256  # bytes that a stream counts for, however short it is
PIECE = 1024  # bytes of a stream that are unpacked at once
UNPACKED_AT_ONCE = 64 * 1024  # bytes
STREAM = re.compile(rb"stream\r?\n")

KIND = "attachment"
PDF = "application/pdf"
PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP", "image/gif": "GIF"}
ACCEPTED = "PNG, JPEG, WebP and GIF pictures and PDF documents"
ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
UNSAFE = re.compile(r'[\\/:*?"<>|%]')


class BadFile(Exception):
    """The file is not taken; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """An attachment as a conversation carries it; `data` None: not carried, and `note` says why."""

    name: str
    media_type: str
    data: bytes | None
    note: str = ""


# --- taking -----------------------------------------------------------------------------


@transaction.atomic
def take(*, team: Team, by: User, name: str, data: bytes) -> Attachment:
    """
    Keep a file that a member chose, sealed. It waits to be sent with a message, in whichever chat.

    Raises BadFile.
    """
    media_type = check(name=name, data=data)
    _make_room(team, by)
    now = app_now()
    content = seal_content(team_id=team.pk, subject=by.pk, kind=KIND, data=data, at=now)
    store(content)
    attachment = Attachment.objects.create(
        team=team,
        owner=by,
        name=clean_name(name, media_type),
        media_type=media_type,
        size=len(data),
        content_id=content.id,
        created_at=now,
    )
    _record(attachment, by)
    return attachment


def check_together(sizes: Sequence[int]) -> None:
    """Refuse files that are too many, or too many bytes, for one message. Raises BadFile."""
    if len(sizes) > MOST_FILES:
        raise BadFile(f"{MOST_FILES} files are the most for one message. Send the others with the next one.")
    if sum(sizes) > MOST_OF_A_MESSAGE:
        most = MOST_OF_A_MESSAGE // MIB
        raise BadFile(f"Together these files are larger than {most} MiB. Send them with several messages.")


@transaction.atomic
def take_all(*, team: Team, by: User, files: Sequence[tuple[str, bytes]]) -> list[Attachment]:
    """Keep the files of one message, by name and bytes: all of them, or none. Raises BadFile."""
    check_together([len(data) for _, data in files])
    return [take(team=team, by=by, name=name, data=data) for name, data in files]


def check(*, name: str, data: bytes) -> str:
    """Return the media type that these bytes are. Raises BadFile for what is too large, lies, or is of no use."""
    shown = clean_name(name, "")
    media_type = sniff(data)
    if not data:
        raise BadFile(f"{shown} is empty.")
    if media_type is None:
        raise BadFile(f"{shown} is none of the files that can be read here: {ACCEPTED}.")
    if ENDING.search(name) and media_type != said_type(name):
        raise BadFile(f"{shown} is called one thing and is another: its bytes say {_word(media_type)}. Rename it.")
    most = MOST_DOCUMENT if media_type == PDF else MOST_PICTURE
    if len(data) > most:
        raise BadFile(f"{shown} is larger than {most // MIB} MiB. Make it smaller, or split it.")
    if media_type == PDF:
        _check_document(shown, data)
    else:
        _check_picture(shown, media_type, data)
    return media_type


def _check_picture(shown: str, media_type: str, data: bytes) -> None:
    size = dimensions(media_type, data)
    if size is None or not all(size):
        raise BadFile(f"{shown} is broken: its size in pixels cannot be read. Save it again.")
    width, height = size
    if max(size) > MOST_SIDE or width * height > MOST_PIXELS:
        most = f"{MOST_PIXELS // 1_000_000} million"
        raise BadFile(f"{shown} is {width:,} × {height:,} pixels; {most} are the most. Make it smaller.")


def _check_document(shown: str, data: bytes) -> None:
    """A call is reckoned by the size of its documents: one that is packed tighter than any text is refused."""
    most = max(MIB, len(data) * MOST_UNPACKED)
    if unpacked(data, most) >= most:
        raise BadFile(f"{shown} unpacks to more than {MOST_UNPACKED} times its size. Save it again, or send pictures.")


def unpacked(data: bytes, most: int) -> int:
    """
    How many bytes the texts of a PDF unpack to; counting ends at `most`. Pictures in it are not unpacked.

    A document whose streams begin in one another, so that reading them would never end, counts as `most`.
    """
    made, room, view = 0, MIB + MOST_READ * len(data), memoryview(data)
    for found in STREAM.finditer(data):
        if b"/Image" in data[max(0, found.start() - 400) : found.start()].rpartition(b"obj")[2]:
            continue
        size, read = _unpacked(view[found.end() :], most - made)
        made, room = made + size, room - read - LEAST_READ
        if made >= most or room <= 0:
            return most
    return made


def _unpacked(packed: memoryview, most: int) -> tuple[int, int]:
    """How many bytes one stream unpacks to, and how many of the file were read for it."""
    # Piece by piece: zlib copies all that it is given and does not need.
    unpack, made, read = zlib.decompressobj(), 0, 0
    with suppress(zlib.error):  # packed in another way, or not at all
        while made < most and read < len(packed) and not unpack.eof:
            piece = packed[read : read + PIECE]
            made += len(unpack.decompress(piece, UNPACKED_AT_ONCE))
            read += len(piece) - len(unpack.unconsumed_tail)
    return made, read - len(unpack.unused_data)


def _make_room(team: Team, by: User) -> None:
    """Forget files that were chosen long ago and never sent: nothing shows them any more."""
    waiting = Attachment.objects.filter(team=team, owner=by, message=None)
    if waiting.count() >= MOST_WAITING:
        _forget(list(waiting.order_by("created_at", "id")[: MOST_WAITING // 2]))


def _forget(attachments: Sequence[Attachment]) -> None:
    """Erase files that were never sent. A copy that an edited message carried on keeps its bytes."""
    ids = [each.content_id for each in attachments]
    Attachment.objects.filter(pk__in=[each.pk for each in attachments]).delete()
    kept = Attachment.objects.filter(content_id__in=ids).values_list("content_id", flat=True)
    erase_contents(team_id=attachments[0].team_id, content_ids=set(ids) - set(kept))


def _record(attachment: Attachment, by: User) -> None:
    record(
        "personas.attachment.added",
        at=attachment.created_at,
        team_id=attachment.team_id,
        actor=Actor.user(by),
        target=f"attachment:{attachment.pk}",
        details={"media_type": attachment.media_type, "bytes": attachment.size},
    )


# --- what a file is ---------------------------------------------------------------------


def sniff(data: bytes) -> str | None:
    """Return the media type that the first bytes say, or None for what is not taken here."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return PDF if data.startswith(b"%PDF-") else None


def said_type(name: str) -> str | None:
    """Return the media type that a name claims."""
    endings = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "jfif": "image/jpeg"}
    endings |= {"webp": "image/webp", "gif": "image/gif", "pdf": PDF}
    return endings.get(name.rpartition(".")[2].lower())


def dimensions(media_type: str, data: bytes) -> tuple[int, int] | None:
    """Return width and height of a picture out of its header, without decoding it; None where it has none."""
    try:
        match media_type:
            case "image/png":
                return struct.unpack(">II", data[16:24]) if data[12:16] == b"IHDR" else None
            case "image/gif":
                return struct.unpack("<HH", data[6:10])
            case "image/webp":
                return _webp(data)
            case _:
                return _jpeg(data)
    except (struct.error, IndexError):
        return None


def _webp(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = struct.unpack("<I", data[21:25])[0]
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """The size in the first frame header: every marker before it says how long it is."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def clean_name(name: str, media_type: str) -> str:
    """Return a name that is safe in a header, on a page and in a prompt, with the ending its bytes deserve."""
    text = unicodedata.normalize("NFC", name.encode(errors="replace").decode()).replace("\\", "/").rpartition("/")[2]
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    text = " ".join(UNSAFE.sub("_", text).split()).strip(". ")
    ending = text.rpartition(".")[2] if said_type(text) else ""
    stem = text.removesuffix(ending).rstrip(".") if ending else text
    if media_type and said_type(text) != media_type:
        stem, ending = text, media_type.rpartition("/")[2]
    stem = stem[: LONGEST_NAME - len(ending) - 1] or "file"
    return f"{stem}.{ending}" if ending else stem


def _word(media_type: str) -> str:
    return PICTURES.get(media_type, "PDF")


# --- reading ----------------------------------------------------------------------------


def read(*, attachment: Attachment) -> bytes:
    """Return the bytes of a file. The caller checks who may read it. Raises Unreadable, also when it was erased."""
    content = Content.objects.filter(pk=attachment.content_id, team_id=attachment.team_id).first()
    if content is None:
        raise Unreadable
    return open_content(content=content)


def opened(attachment: Attachment, data: bytes | None, *, carried: bool = True) -> File:
    """Return an attachment as a conversation carries it; without data it is only named."""
    why = "is not kept any more" if carried else "was left out, because the files of this conversation are too large"
    note = "" if data is not None else f"[{attachment.name} {why}.]"
    return File(attachment.name, attachment.media_type, data, note)


# --- sending to a model -----------------------------------------------------------------


def as_parts(files: Sequence[File], format: str) -> list[dict[str, Any]]:
    """Return files as parts of a message in one of the two formats, "chat" or "messages"."""
    return list(_parts(files, format))


def _parts(files: Sequence[File], format: str) -> Iterator[dict[str, Any]]:
    for file in files:
        if file.data is None:
            yield {"type": "text", "text": file.note}
            continue
        encoded = base64.b64encode(file.data).decode()
        yield _block(file, encoded) if format == "messages" else _part(file, encoded)


def _part(file: File, encoded: str) -> dict[str, Any]:
    url = f"data:{file.media_type};base64,{encoded}"
    if file.media_type == PDF:
        return {"type": "file", "file": {"filename": file.name, "file_data": url}}
    return {"type": "image_url", "image_url": {"url": url}}


def _block(file: File, encoded: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": file.media_type, "data": encoded}
    if file.media_type == PDF:
        return {"type": "document", "source": source, "title": file.name}
    return {"type": "image", "source": source}
