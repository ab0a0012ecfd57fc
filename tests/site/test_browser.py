import pytest

from tests.support.running_site import RunningSite

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with RunningSite(tmp_path_factory.mktemp("browser") / "data") as running:
        yield running


def test_an_admin_signs_in_and_lets_somebody_in(site, page, browser, faults):
    page.goto(site.sign_in_link())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Team").click()
    page.get_by_label("Name to sign in with").fill("vera")
    page.get_by_role("complementary").get_by_text("Viewer").click()
    page.get_by_role("button", name="Add and make a sign-in link").click()
    link = page.locator("#new-link-text").inner_text()

    context = browser.new_context()
    guest = context.new_page()
    guest.goto(link)
    guest.get_by_role("button", name="Sign in").click()
    guest.goto(f"{site.url}/team/")
    assert guest.get_by_text("vera (you)").is_visible()
    assert not guest.get_by_text("Deactivate").is_visible()
    context.close()
    assert faults == []


def test_deactivating_asks_first(site, page, faults):
    site.manage("create_member", "short.stay")
    page.goto(site.manage("sign_in_link", "admin").removeprefix("Sign in: "))
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{site.url}/team/")
    page.get_by_role("button", name="Deactivate short.stay").click()
    page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
    page.get_by_text("short.stay can no longer sign in").wait_for()
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_signed_out_pages_fit_a_phone(site, browser, scheme):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme
    )
    page = context.new_page()
    for address in ("/sign-in/", "/sign-in/some-token/", "/no-such-page/"):
        page.goto(site.url + address)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, address
    context.close()
