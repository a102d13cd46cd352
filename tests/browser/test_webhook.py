"""From a new address to a signed delivery: a webhook is connected, lent, put into a flow, and a run calls it."""

from uuid import uuid4

from tests.browser.test_walk import Walker
from tests.receiver import Receiver


def test_what_a_flow_makes_reaches_a_receiver_that_checks_its_signature(receiver: Receiver, open_page, signed_in):
    walker = Walker(open_page("/t/demo-team/personas/", storage_state=signed_in), scripts=True)
    makes_a_team_with_a_persona(walker)
    secret = connects(walker, receiver)
    lends(walker)
    builds(walker)

    walker.press("Run now")
    walker.wait_for("2 of 2 stages done")
    walker.see("Succeeded")

    test, delivery = receiver.deliveries
    assert test.said == {"type": "definable.test", "data": {}}
    assert delivery.said == {"type": "tide.turned", "data": {"text": "The tide is in."}}
    assert test.is_signed_with(secret) and delivery.is_signed_with(secret)
    assert delivery.headers["webhook-id"] in walker.page.get_by_role("main").inner_text()


def makes_a_team_with_a_persona(walker: Walker) -> None:
    walker.page.get_by_text("Demo team").first.click()
    walker.page.get_by_role("link", name="New team").click()
    walker.fill("Team name", f"Tide desk {uuid4().hex[:6]}")
    walker.press("Create team")
    walker.follow("Create the first persona")
    walker.follow("Start from nothing")
    walker.fill("Name", "Tide Writer")
    walker.press("Create persona")
    walker.see("No schedule uses this persona.")


def connects(walker: Walker, receiver: Receiver) -> str:
    """Connect the receiver, and return the secret that the page showed."""
    walker.menu("Integrations")
    walker.follow("Webhook")
    walker.follow("Connect a webhook")
    walker.fill("Address", "https://10.0.0.1/")
    walker.press("Connect and test")
    walker.see("not of the public internet")
    walker.fill("Address", receiver.url)
    walker.press("Connect and test")
    walker.see("It is shown this once")
    walker.is_sound()
    secret = walker.page.get_by_label("Signing secret").input_value()
    walker.follow("Open Main webhook")
    walker.wait_for("Ready")
    assert secret not in walker.page.content()
    walker.is_sound()
    return secret


def lends(walker: Walker) -> None:
    walker.follow("Enable for Tide Writer")
    walker.page.locator("#tool-deliver").check()
    walker.press("Allow ticked tools")
    walker.see("1 of 1 tools")


def builds(walker: Walker) -> None:
    walker.menu("Flows")
    walker.follow("Create the first flow")
    walker.fill("Name", "Tide report")
    walker.press("Combine")
    walker.press("Tool")
    walker.press("Remove stage 1")
    walker.fill("Stage name", "note", stage=1)
    walker.fill("Text", "The tide is in.", stage=1)
    walker.fill("Stage name", "tell", stage=2)
    walker.choose("Persona", "Tide Writer", stage=2)
    walker.choose("Tool", "deliver", stage=2)
    walker.fill("Arguments", '{"event": "tide.turned", "data": {"text": "{{ stage.note.output }}"}}', stage=2)
    walker.press("Publish")
    walker.see("None. It runs when somebody starts it.")
