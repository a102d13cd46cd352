import copy
import json
import pickle
from dataclasses import asdict, dataclass

import pytest

from vault.secret import Secret

VALUE = "sk-or-v1-canary-canary-canary"

pytestmark = pytest.mark.requirement("RED-2")


@dataclass
class Holder:
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!r:>40}".format,
        "{:>40}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: f"{[secret]} {Holder(secret)}",
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: ascii(secret),
    ],
)
def test_secret_shows_a_mask(show):
    shown = show(Secret(VALUE))

    assert "Secret(***)" in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    "keep",
    [
        json.dumps,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        hash,
        vars,
        bytes,
        len,
        list,
        lambda secret: asdict(Holder(secret)),
        lambda secret: secret.__getstate__(),
        lambda secret: secret.__reduce__(),
        lambda secret: secret == Secret(VALUE),
        lambda secret: secret != VALUE,
        lambda secret: secret < Secret(VALUE),
        lambda secret: {secret: 1},
        lambda secret: secret + "",
        lambda secret: "".join([secret]),
        lambda secret: type("Loud", (Secret,), {}),
    ],
)
def test_secret_refuses_to_be_kept_compared_or_taken_apart(keep):
    with pytest.raises(TypeError) as refusal:
        keep(Secret(VALUE))

    assert "canary" not in str(refusal.value)


def test_secret_takes_no_new_attributes():
    with pytest.raises(AttributeError):
        Secret(VALUE).copy = VALUE


def test_secret_is_made_from_text_only():
    with pytest.raises(TypeError, match="A secret is made from text"):
        Secret(VALUE.encode())


def test_secret_gives_its_value_by_use_alone():
    secret = Secret(VALUE)

    assert secret.use() == VALUE
    assert [name for name in dir(secret) if not name.startswith("_")] == ["use"]
