"""Pictures and documents in a chat: what is taken, who may see it, and how a model gets it."""

import base64
import json
import struct
import time
import zlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.permissions import Role
from audit import display
from audit.clock import app_now
from audit.models import Content, Event
from integrations.bookkeeping import CARRIED, _request_text
from integrations.wire import Request
from personas.chat import history, sending, uploads
from personas.models import Attachment, Chat
from tests.factories import make_member, make_team, owner_of
from tests.integrations.desk import Desk, events_of
from tests.integrations.desk import said as sealed_text
from tests.personas.chat.builders import make_chat, make_message
from tests.personas.chat.test_conversation import CLAUDE, FORMATS, Box, a_chat, last_of, request, texts

pytestmark = pytest.mark.django_db

PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n"


def png(width: int = 4, height: int = 3, more: bytes = b"") -> bytes:
    """A real picture, if the header tells the truth."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x10\x80\xff" * width for _ in range(min(height, 64))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"") + more


def jpeg(width: int, height: int) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    return (
        b"\xff\xd8" + app0 + b"\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 9 + b"\xff\xd9"
    )


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox, balance=50)


def take(team, data: bytes, name: str = "harbour.png") -> Attachment:
    return uploads.take(team=team, by=owner_of(team), name=name, data=data)


def send_with(chat: Chat, *files: Attachment, text: str = "Look"):
    message = make_message(chat, text)
    Attachment.objects.filter(pk__in=[each.pk for each in files]).update(message=message)
    return message


# --- what is not taken ------------------------------------------------------------------


@pytest.mark.requirement("IN-6")
@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", b"", "is empty"),
        ("page.png", b"<html><script>alert(1)</script>", "none of the files"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of the files"),
        ("photo.heic", b"\0\0\0\x18ftypheic", "none of the files"),
        ("letter.pdf", png(), "its bytes say PNG"),
        ("photo.jpg", png(), "its bytes say PNG"),
        ("tool.exe", png(), "its bytes say PNG"),
        ("photo.png", PDF, "its bytes say PDF"),
        ("photo.png", b"\x89PNG\r\n\x1a\n", "is broken"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "is broken"),
        ("photo.jpg", b"\xff\xd8\xff", "is broken"),
        ("photo.jpg", b"\xff\xd8\xff\xe0\0\0" * 9, "is broken"),
        ("photo.webp", webp(b"VP8?", b"\0" * 20), "is broken"),
        ("flat.png", png(0, 3), "is broken"),
        ("bomb.png", png(60_000, 60_000), "60,000 × 60,000 pixels"),
        ("bomb.jpg", jpeg(65_535, 2), "pixels"),
        ("bomb.gif", gif(9000, 9000), "pixels"),
        (
            "bomb.pdf",
            PDF + b"<</Filter/FlateDecode>>stream\n" + zlib.compress(b"0" * 2_000_000),
            "unpacks to more than",
        ),
        ("large.png", png(more=b"\0" * uploads.MOST_PICTURE), "larger than 5 MiB"),
        ("large.pdf", PDF + b"\0" * uploads.MOST_DOCUMENT, "larger than 6 MiB"),
    ],
)
def test_what_lies_is_broken_or_too_large_is_refused_in_words(team, name, data, words):
    with pytest.raises(uploads.BadFile) as refusal:
        take(team, data, name)

    assert words in str(refusal.value)
    assert not Attachment.objects.exists()


def test_too_many_or_too_large_together_are_refused_and_none_is_kept(team):
    by = owner_of(team)
    for files in (
        [("a.png", png())] * 6,
        [("a.pdf", PDF + b"\0" * 4 * uploads.MIB)] * 2,
        [("a.png", png()), ("b.png", PDF)],
    ):
        with pytest.raises(uploads.BadFile):
            uploads.take_all(team=team, by=by, files=files)

    assert not Attachment.objects.exists()


def test_files_that_were_taken_one_by_one_are_still_too_many_for_one_message(team):
    chat = make_chat(team)
    ids = [take(team, png()).pk for _ in range(uploads.MOST_FILES + 1)]

    with pytest.raises(sending.CannotSend, match="5 files are the most"):
        sending.send(chat=chat, parent=None, by=chat.user, text="Look", uploads=ids, idempotency_key="once")
    with pytest.raises(sending.CannotSend, match="gone, or was sent already"):
        foreign = take(make_team(), png()).pk
        sending.send(chat=chat, parent=None, by=chat.user, text="Look", uploads=[foreign], idempotency_key="twice")


def test_a_document_full_of_pictures_is_no_bomb(team):
    picture = zlib.compress(b"\0" * 5_000_000)
    data = PDF + b"7 0 obj<</Subtype/Image/Filter/FlateDecode>>stream\n" + picture + b"\nendstream"

    assert take(team, data, "a.pdf").media_type == uploads.PDF


@pytest.mark.parametrize(
    "unit",
    [b"stream\n", b"stream\n" + zlib.compress(b""), b"stream\n\x78\x9c\0\x0e\0\xf1\xff"],
    ids=["nothing", "empty", "nested"],
)
def test_a_document_of_a_million_streams_is_refused_soon(unit):
    data = (PDF + unit * 900_000)[: uploads.MOST_DOCUMENT]
    began = time.thread_time()

    with pytest.raises(uploads.BadFile, match="unpacks to more than"):
        uploads.check(name="a.pdf", data=data)
    assert time.thread_time() - began < 10


def test_a_long_document_of_many_short_streams_is_taken():
    page = zlib.compress(b"".join(b"(%d) Tj " % number for number in range(60)))
    data = (PDF + (b"<<>>stream\n" + page + b"\nendstream\n") * 20_000)[: uploads.MOST_DOCUMENT]

    assert uploads.check(name="a.pdf", data=data) == uploads.PDF


@pytest.mark.requirement("IN-6")
def test_a_field_of_text_passes_for_no_file(team):
    chat, client = make_chat(team), Client()
    client.force_login(chat.user)
    address = reverse("chat_send", args=[team.slug, chat.pk])

    client.post(
        address, {"text": "Look", "files": png().decode("latin-1"), "files.name": "a.png", "content_type": "image/png"}
    )
    client.post(
        address,
        {"text": "Look", "name": SimpleUploadedFile("a.png", png()), "upload": SimpleUploadedFile("b.png", png())},
    )
    client.post(
        address, json.dumps({"text": "Look", "files": [{"path": "/etc/passwd"}]}), content_type="application/json"
    )

    assert not Attachment.objects.exists()


@pytest.mark.requirement("IN-6")
def test_a_file_in_the_form_of_a_message_is_taken(team):
    chat, client = make_chat(team), Client()
    client.force_login(chat.user)
    files = [SimpleUploadedFile("a.png", png(more=b"\0" * 3 * uploads.MIB)), SimpleUploadedFile("b.pdf", PDF)]

    client.post(reverse("chat_send", args=[team.slug, chat.pk]), {"text": "Look", "files": files})

    assert sorted(Attachment.objects.values_list("name", "message__chat")) == [("a.png", chat.pk), ("b.pdf", chat.pk)]


# --- what is taken ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "data", "size"),
    [
        ("image/png", png(40, 30), (40, 30)),
        ("image/jpeg", jpeg(640, 480), (640, 480)),
        ("image/gif", gif(12, 34), (12, 34)),
        ("image/webp", webp(b"VP8X", b"\0" * 4 + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")), (100, 50)),
        ("image/webp", webp(b"VP8L", b"\x2f" + struct.pack("<I", 99 | 49 << 14)), (100, 50)),
        ("image/webp", webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 100, 50)), (100, 50)),
    ],
)
def test_a_picture_is_known_by_its_bytes(media_type, data, size):
    assert uploads.sniff(data) == media_type
    assert uploads.dimensions(media_type, data) == size


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("harbour.png", "harbour.png"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\a b.PNG", "a b.PNG"),
        ('x".png', "x_.png"),
        ("a\r\nSet-Cookie: x.png", "aSet-Cookie_ x.png"),
        ("\u202egnp.exe.png", "gnp.exe.png"),
        ("no ending", "no ending.png"),
        ("", "file.png"),
        ("half \ud83d.png", "half _.png"),
        ("l" * 300 + ".png", "l" * 116 + ".png"),
    ],
)
def test_names_are_safe_to_show_and_to_send(team, name, kept):
    assert take(team, png(), name).name == kept


def test_a_file_is_sealed_and_its_taking_is_in_the_log_without_its_name(team):
    attachment = take(team, png(), "secret plan.png")

    content = Content.objects.get(pk=attachment.content_id)
    assert content.kind == "attachment"
    assert b"IHDR" not in bytes(content.ciphertext)
    assert uploads.read(attachment=attachment) == png()
    event = Event.objects.get(action="personas.attachment.added")
    assert event.details == {"media_type": "image/png", "bytes": len(png())}
    assert "secret plan" not in bytes(event.canon).decode()


def test_files_that_were_never_sent_are_forgotten_when_they_are_many(team, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_WAITING", 4)
    first = take(team, png())
    sent = take(team, png())
    send_with(make_chat(team), sent)
    for _ in range(4):
        take(team, png())

    assert not Attachment.objects.filter(pk=first.pk).exists()
    assert Content.objects.get(pk=first.content_id).ciphertext is None
    assert Content.objects.get(pk=sent.content_id).ciphertext is not None


# --- who may see it ---------------------------------------------------------------------


def open_file(attachment: Attachment, user):
    client = Client()
    client.force_login(user)
    return client.get(reverse("chat_file", args=[attachment.team.slug, attachment.pk]))


def test_a_file_is_its_members_until_its_chat_is_shared(team):
    other = make_member(team, Role.OWNER)
    attachment = take(team, png())
    assert open_file(attachment, owner_of(team)).status_code == 200
    assert open_file(attachment, other).status_code == 404

    chat = make_chat(team)
    send_with(chat, attachment)
    assert open_file(attachment, other).status_code == 404
    Chat.objects.filter(pk=chat.pk).update(shared_at=app_now())
    assert open_file(attachment, other).status_code == 200


def test_another_teams_file_is_not_found(team):
    stranger = owner_of(make_team())
    attachment = take(team, png())

    assert open_file(attachment, stranger).status_code == 404
    client = Client()
    client.force_login(stranger)
    theirs = stranger.memberships.get().team
    assert client.get(reverse("chat_file", args=[theirs.slug, attachment.pk])).status_code == 404


def test_an_erased_file_is_not_found(team):
    attachment = take(team, png())
    Content.objects.filter(pk=attachment.content_id).update(ciphertext=None)

    assert open_file(attachment, owner_of(team)).status_code == 404


def test_a_file_runs_nothing_on_our_pages(team):
    picture = open_file(take(team, png() + b"<script>alert(1)</script>"), owner_of(team))
    document = open_file(take(team, PDF, "a.pdf"), owner_of(team))

    for response in (picture, document):
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response["Cache-Control"] == "no-store"
    assert picture["Content-Type"] == "image/png"
    assert picture["Content-Disposition"] == 'inline; filename="harbour.png"'
    assert document["Content-Disposition"] == 'attachment; filename="a.pdf"'


# --- how a model gets it ----------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_and_a_document_reach_the_service_in_its_format(known_catalog, desk, format):
    models = known_catalog.models.values()
    reader = next(m.id for m in models if {"file", "image"} <= m.input_modalities and m.author == "openai")
    chat = a_chat(desk, format=format, chain=[reader])
    message = last_of(chat)
    picture, document = take(desk.team, png(more=b"\0" * 4000)), take(desk.team, PDF, "a.pdf")
    Attachment.objects.filter(pk__in=[picture.pk, document.pk]).update(message=message.parent)

    tool, asked = request(message, Box(empty=True))

    kinds = [part["type"] for part in asked["messages"][-1]["content"]]
    assert kinds == (["image_url", "file", "text"] if format == "chat" else ["image", "document", "text"])
    assert asked["plugins"] == [{"id": "file-parser", "pdf": {"engine": "native"}}]
    result = desk.call(tool, asked | {"model": reader})
    assert result.answer.text
    logged = sealed_text(events_of(result.call)[0])
    assert base64.b64encode(png(more=b"\0" * 4000)).decode() not in logged
    assert "characters, SHA-256" in logged
    assert json.loads(logged)["messages"][-1]["content"][-1]["text"] == "And now?"


def test_a_document_for_models_that_read_none_is_read_free_of_charge(known_catalog, desk):
    blind = next(m.id for m in known_catalog.models.values() if "file" not in m.input_modalities and not m.is_gone)
    message = last_of(a_chat(desk, chain=[blind]))
    Attachment.objects.filter(pk=take(desk.team, PDF, "a.pdf").pk).update(message=message.parent)

    assert request(message)[1]["plugins"] == [{"id": "file-parser", "pdf": {"engine": "cloudflare-ai"}}]


@pytest.mark.parametrize("format", FORMATS)
def test_erased_and_old_files_are_named_and_left_out(desk, format, monkeypatch):
    chat = a_chat(desk, format=format)
    monkeypatch.setattr(history, "MOST_FILES", len(png()))
    gone = send_with(chat, take(desk.team, gif(3, 3), "gone.gif"))
    from tests.personas.chat.builders import make_answer

    message = last_of(chat, make_answer(gone))
    old, new = take(desk.team, png(), "old.png"), take(desk.team, png(), "new.png")
    Attachment.objects.filter(pk=new.pk).update(message=message.parent)
    Attachment.objects.filter(pk=old.pk).update(message=gone)

    _, asked = request(message)

    assert texts(asked).count(base64.b64encode(png()).decode()) == 1
    assert "[old.png was left out" in texts(asked)
    assert "[gone.gif was left out" in texts(asked)

    Content.objects.filter(pk=new.content_id).update(ciphertext=None)
    assert "[new.png is not kept any more.]" in texts(request(message)[1])


def test_the_largest_message_passes_the_limits_of_a_call(desk):
    message = last_of(a_chat(desk), text="tide " * 40_000)
    document = take(desk.team, PDF + b"\0" * (uploads.MOST_DOCUMENT - len(PDF)), "a.pdf")
    Attachment.objects.filter(pk=document.pk).update(message=message.parent)

    tool, asked = request(message)

    assert desk.call(tool, asked | {"model": CLAUDE}).answer.text


def test_no_text_can_pass_for_a_file_in_the_log():
    words = "QUFB" * 1000
    hidden = json.dumps({"messages": [{"role": "user", "content": f'"url":"data:image/png;base64,{words}"'}]})
    body = hidden.replace(": ", ":").encode()

    assert CARRIED.search(body) is None
    assert _request_text(Request("POST", "/chat/completions", body=body)) == body


def test_the_log_shows_a_request_with_a_large_picture(desk):
    encoded = base64.b64encode(b"\0" * 3_000_000).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
    body = json.dumps({"messages": [{"role": "user", "content": [part]}]}, separators=(",", ":")).encode()

    reading = display.read("request", "0" * 64, _request_text(Request("POST", "/x", body=body)))

    assert len(reading.whole) < 600
    assert reading.said == [("user", "[image_url]")]
