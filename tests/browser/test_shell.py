"""The frame of every page in a real browser: what app.js adds, what the content policy says, what axe finds."""

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, expect

from audit.actions import Actor, record
from tests.browser.watch import violations
from tests.factories import make_team, owner_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session_cookie(client) -> str:
    client.force_login(owner_of(make_team(name="Contract desk")))
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def open_context(browser: Browser, live_server, session: str = "", **options) -> BrowserContext:
    context = browser.new_context(base_url=live_server.url, **options)
    if session:
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    return context


@pytest.fixture
def account(browser, live_server, session_cookie) -> Iterator[Page]:
    """The account page of an owner, on a desktop."""
    context = open_context(browser, live_server, session_cookie, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto("/account/")
    yield page
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (768, "light"), (1440, "dark")])
@pytest.mark.parametrize("address", ["/account/login/", "/account/", "/t/nobody/"])
def test_the_frame_is_accessible_and_fits(browser, live_server, session_cookie, address, width, scheme):
    session = "" if "login" in address else session_cookie
    context = open_context(
        browser, live_server, session, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(address)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    context.close()


@pytest.mark.requirement("HDR-3")
def test_the_content_policy_blocks_nothing_of_ours(browser, live_server, session_cookie):
    context = open_context(browser, live_server, session_cookie)
    context.add_init_script(
        "window.blocked = []; addEventListener('securitypolicyviolation', (event) => blocked.push(event.blockedURI))"
    )
    page = context.new_page()
    for address in ("/account/", "/teams/new/", "/t/nobody/"):
        page.goto(address, wait_until="networkidle")
        assert page.evaluate("blocked") == []
    context.close()


def test_the_theme_is_kept_and_known_before_the_page_is_drawn(account):
    account.get_by_role("button", name="Colour theme").click()
    account.reload()
    assert account.locator("html[data-theme=light]").count() == 1
    account.get_by_role("button", name="Colour theme: light").click()
    account.reload()
    assert account.locator("html[data-theme=dark]").count() == 1


def test_the_switcher_closes_with_escape_and_keeps_the_focus(account):
    summary = account.locator("summary.switch-ws")
    summary.click()
    assert account.get_by_role("button", name="Sign out").is_visible()
    account.keyboard.press("Escape")
    assert not account.get_by_role("button", name="Sign out").is_visible()
    assert summary.evaluate("element => element === document.activeElement")


def test_shortcuts_are_listed_and_can_be_switched_off(account):
    dialog = account.locator("#shortcuts")
    account.keyboard.press("?")
    assert dialog.is_visible()
    account.get_by_label("Use single-key shortcuts").uncheck()
    account.keyboard.press("Escape")
    account.reload()
    account.keyboard.press("?")
    assert not dialog.is_visible()


def test_single_keys_do_nothing_inside_a_field(account):
    account.locator("main input:not([type=hidden])").first.focus()
    account.keyboard.press("?")
    assert not account.locator("#shortcuts").is_visible()


def test_the_clock_ticks_while_somebody_is_there(account):
    account.mouse.move(10, 10)
    heard = "new Promise((done) => document.body.addEventListener('tick', () => done('heard'), {once: true}))"
    assert account.evaluate(heard) == "heard"


def test_no_answer_is_said_in_a_toast_that_stays(account, live_server):
    account.route("**/nowhere/", lambda route: route.abort())
    account.evaluate("htmx.ajax('GET', '/nowhere/', {target: '#main', swap: 'none'})")
    account.get_by_text("No answer. Check the connection, then reload.").wait_for()
    account.get_by_role("button", name="Close").click()
    assert account.locator("#toasts").inner_text().strip() == ""


def test_a_missing_thing_is_said_in_a_toast_and_the_page_stays(account):
    account.evaluate("htmx.ajax('GET', '/nowhere/', {target: '#main', swap: 'innerHTML'})")
    account.get_by_text("This no longer exists. Reload the page.").wait_for()
    assert account.locator("h1").count() == 1


def test_on_a_phone_the_menu_folds_and_without_scripts_it_is_open(browser, live_server, session_cookie):
    phone = {"viewport": {"width": 390, "height": 844}}
    context = open_context(browser, live_server, session_cookie, **phone)
    page = context.new_page()
    page.goto("/account/")
    menu = page.get_by_role("navigation", name="Main")
    assert not menu.is_visible()
    page.get_by_role("button", name="Menu").click()
    assert menu.is_visible()
    context.close()

    plain = open_context(browser, live_server, session_cookie, java_script_enabled=False, **phone)
    page = plain.new_page()
    page.goto("/account/")
    assert page.get_by_role("navigation", name="Main").is_visible()
    assert not page.get_by_role("button", name="Menu").is_visible()
    plain.close()


def test_the_first_tab_stop_skips_to_the_content(account):
    account.keyboard.press("Tab")
    account.keyboard.press("Enter")
    assert account.evaluate("document.activeElement.id") == "main"


@pytest.fixture
def log(browser, live_server, client) -> Iterator[Page]:
    """The audit log of a team with one entry."""
    team = make_team(name="Contract desk")
    owner = owner_of(team)
    record("accounts.member.invited", actor=Actor.user(owner), team_id=team.id, target_name="somebody@example.test")
    client.force_login(owner)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    context = open_context(browser, live_server, session, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(f"/t/{team.slug}/audit/")
    yield page
    context.close()


def test_a_drawer_opens_over_the_list_holds_the_focus_and_gives_the_address_back(log):
    row = log.locator("tbody a").first
    row.click()
    drawer = log.locator("dialog.drawer:modal")
    drawer.wait_for()
    assert "entry=" in log.url
    assert drawer.evaluate("element => element.contains(document.activeElement)")

    log.keyboard.press("Escape")
    drawer.wait_for(state="hidden")
    expect(log).not_to_have_url(re.compile("entry="))
    assert row.evaluate("element => element === document.activeElement")


def test_a_page_that_arrives_with_its_drawer_open_can_close_it(log):
    log.locator("tbody a").first.click()
    log.locator("dialog.drawer:modal").wait_for()
    log.reload()
    log.locator("dialog.drawer:modal").wait_for()
    log.locator("dialog.drawer [data-close]").click()
    expect(log.locator("dialog.drawer[open]")).to_have_count(0)
    expect(log).not_to_have_url(re.compile("entry="))


def test_unsaved_changes_are_asked_about_until_they_are_saved(account):
    asked = []
    account.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    account.locator("form[data-dirty] input[type=text]").first.fill("Another name")
    account.goto("/teams/new/")
    assert asked == ["beforeunload"]

    account.goto("/account/")
    account.locator("form[data-dirty] input[type=text]").first.fill("A third name")
    account.get_by_role("button", name="Save account").click()
    account.wait_for_load_state()
    assert asked == ["beforeunload"]
