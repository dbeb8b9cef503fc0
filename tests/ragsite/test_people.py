"""How people come in, stay safe and go: invitations, two factors, sessions, single sign-on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.cache import cache
from django.test import Client, TestCase
from django.urls import reverse
from django.utils import timezone
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ingestion.audit import Action, AuditEntry
from ragsite.models import Invitation
from ragsite.people import invite
from tests.ragsite.oidc_server import OidcServer

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough pass phrase"


@pytest.fixture(autouse=True)
def no_memory_of_attempts() -> Iterator[None]:
    """Attempts that other tests made do not count."""
    cache.clear()
    yield
    cache.clear()


def is_signed_in(client: Client) -> bool:
    return client.get(reverse("account")).status_code == 200


def join_form(name: str) -> dict[str, str]:
    return {"username": name, "email": "", "password1": PASSWORD, "password2": PASSWORD}


# --- invitations -----------------------------------------------------------------------


def test_nobody_joins_without_an_invitation(client: Client) -> None:
    answer = client.post(reverse("account_signup"), join_form("eve"))

    assert "People join this site by invitation." in answer.content.decode()
    assert not User.objects.exists()


def test_an_invitation_lets_one_person_in_and_into_its_groups(client: Client, admin: User) -> None:
    group = Group.objects.create(name="readers")
    client.force_login(admin)
    page = client.post(reverse("people"), {"email": "", "groups": [group.pk]}).content.decode()
    link = re.search(r"http://testserver(/join/[^\"]+)", page)
    assert link is not None
    first, second = Client(), Client()

    assert first.get(link[1]).headers["Location"] == reverse("account_signup")
    first.post(reverse("account_signup"), join_form("nora"))
    again = second.get(link[1])

    nora = User.objects.get(username="nora")
    assert is_signed_in(first)
    assert list(nora.groups.all()) == [group]
    assert (nora.is_staff, nora.is_superuser) == (False, False)
    assert again.status_code == 410
    assert "used already, was taken back, or has expired" in again.content.decode()
    assert AuditEntry.objects.filter(action=Action.JOINED, person=nora).exists()


@pytest.mark.parametrize("ending", ["expired", "revoked"])
def test_an_invitation_that_has_ended_lets_nobody_in(
    client: Client, admin: User, ending: str
) -> None:
    made = invite(by=admin)
    client.get(reverse("join", args=[made.key]))  # it was good when the link was opened
    if ending == "expired":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        staff = Client()
        staff.force_login(admin)
        staff.post(reverse("revoke-invitation", args=[made.pk]))

    client.post(reverse("account_signup"), join_form("late"))

    assert not User.objects.filter(username="late").exists()


def test_an_invitation_is_sent_where_the_site_sends_e_mail(
    client: Client, admin: User, settings: Settings
) -> None:
    settings.EMAIL_URL = "smtp://mail.example.org"
    client.force_login(admin)

    client.post(reverse("people"), {"email": "new@example.org"})

    assert [sent.to for sent in mail.outbox] == [["new@example.org"]]
    assert reverse("join", args=[Invitation.objects.get().key]) in mail.outbox[0].body


def test_only_administrators_see_and_invite_people(client: Client, alice: User) -> None:
    client.force_login(alice)

    assert client.get(reverse("people")).status_code == 404
    assert client.post(reverse("people"), {"email": ""}).status_code == 404
    assert not Invitation.objects.exists()


# --- passwords -------------------------------------------------------------------------


def test_guessing_is_slowed_down_and_says_so(client: Client, alice: User) -> None:
    address, wrong = reverse("account_login"), {"login": "alice", "password": "guess"}
    for _ in range(5):
        assert client.post(address, wrong).status_code == 422

    page = client.post(address, {"login": "alice", "password": "alice-long-password"})

    assert "too many attempts" in page.content.decode()
    assert not is_signed_in(client)


async def guess(name: str, *, peer: str, told: str, password: str = "guess") -> httpx.Response:
    """Sign in through uvicorn's reading of proxies, from an address that claims another."""
    from ragsite.asgi import application

    site = ProxyHeadersMiddleware(application, trusted_hosts="172.16.0.0/12")  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=site, client=(peer, 4711))  # type: ignore[arg-type]
    headers = {"X-Forwarded-For": told}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers=headers
    ) as browser:
        address = reverse("account_login")
        await browser.get(address)
        form = {"login": name, "password": password}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        return await browser.post(address, data=form)


@pytest.mark.django_db(transaction=True)
def test_guesses_count_for_the_address_that_a_proxy_of_ours_saw_and_for_no_claimed_one(
    alice: User,
) -> None:
    for n in range(22):  # of other names each time, with another false address each time
        told = f"10.0.0.{n}, 203.0.113.9"
        page = async_to_sync(guess)(f"nobody{n}", peer="172.20.0.1", told=told).text
    direct = async_to_sync(guess)("nobody", peer="198.51.100.4", told="203.0.113.9").text
    right = "alice-long-password"
    honest = async_to_sync(guess)("alice", peer="172.20.0.1", told="203.0.113.10", password=right)

    assert "too many attempts" in page
    assert "too many attempts" not in direct
    assert honest.status_code == 302
    lines = AuditEntry.objects.filter(action=Action.SIGN_IN_FAILED)
    assert {line.detail["address"] for line in lines} == {"203.0.113.9", "198.51.100.4"}


def test_a_forgotten_password_is_set_anew_by_a_link_that_was_sent(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.EMAIL_URL = "smtp://mail.example.org"
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")

    client.post(reverse("account_reset_password"), {"email": "alice@example.org"})
    link = re.search(r"http://testserver(/password/reset/key/\S+)", str(mail.outbox[0].body))
    assert link is not None
    form = client.get(link[1], follow=True)
    client.post(form.redirect_chain[-1][0], {"password1": PASSWORD, "password2": PASSWORD})

    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert AuditEntry.objects.filter(action=Action.PASSWORD_CHANGED, person=alice).exists()


def test_whether_an_address_is_known_is_not_told(client: Client, settings: Settings) -> None:
    settings.EMAIL_URL = "smtp://mail.example.org"

    answer = client.post(reverse("account_reset_password"), {"email": "nobody@example.org"})

    assert answer.headers["Location"] == reverse("account_reset_password_done")


def test_without_a_mail_server_the_page_says_what_to_do(client: Client) -> None:
    page = client.get(reverse("account_reset_password")).content.decode()

    assert "This site sends no e-mail." in page
    assert "<form" not in page


# --- two factors, sessions -------------------------------------------------------------


def code_of(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time())))))


def test_with_two_factors_the_password_alone_does_not_sign_in(client: Client, alice: User) -> None:
    form = {"login": "alice", "password": "alice-long-password"}
    client.post(reverse("account_login"), form)
    client.post(reverse("account_reauthenticate"), {"password": "alice-long-password"})
    client.get(reverse("mfa_activate_totp"))
    secret = client.session["mfa.totp.secret"]
    with TestCase.captureOnCommitCallbacks(execute=True):
        client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    cache.clear()  # a code counts once; time would have passed
    lines = AuditEntry.objects.filter(action=Action.SECOND_FACTOR_CHANGED, person=alice)
    assert {(line.detail["what"], line.detail["verb"]) for line in lines} == {
        ("totp", "added"),
        ("recovery_codes", "added"),
    }
    other = Client()

    asked = other.post(reverse("account_login"), form)
    assert asked.headers["Location"] == reverse("mfa_authenticate")
    assert not is_signed_in(other)
    other.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert not is_signed_in(other)
    other.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert is_signed_in(other)


def test_other_browsers_are_signed_out_at_once(alice: User) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        client.post(reverse("account_login"), {"login": "alice", "password": "alice-long-password"})
        assert is_signed_in(client)

    here.post(reverse("usersessions_list"))

    assert is_signed_in(here)
    assert not is_signed_in(there)
    line = AuditEntry.objects.get(action=Action.SIGNED_OUT_EVERYWHERE)
    assert (line.person, line.detail) == (alice, {"sessions": 1})


def test_who_is_switched_off_is_out_with_the_next_request(client: Client, alice: User) -> None:
    client.force_login(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)

    assert not is_signed_in(client)
    form = {"login": "alice", "password": "alice-long-password"}
    client.post(reverse("account_login"), form)
    assert not is_signed_in(client)


def test_the_admin_panel_has_no_sign_in_of_its_own(client: Client, admin: User) -> None:
    answer = client.post("/admin/login/", {"username": "admin", "password": "admin-long-password"})

    assert answer.headers["Location"].startswith(reverse("account_login"))
    assert not is_signed_in(client)


# --- single sign-on ----------------------------------------------------------------------


@pytest.fixture
def provider(settings: Settings) -> Iterator[OidcServer]:
    """A provider of OpenID Connect that the site is set to use."""
    with OidcServer() as server:
        app: dict[str, Any] = {
            "provider_id": "oidc",
            "name": "Work",
            "client_id": server.client_id,
            "secret": server.secret,
            "settings": {"server_url": server.url},
        }
        providers = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
        settings.SOCIALACCOUNT_PROVIDERS = providers
        settings.OIDC_ISSUER, settings.OIDC_NAME = server.url, "Work"
        yield server


def sign_in_by(client: Client) -> Any:
    begun = client.post(reverse("openid_connect_login", args=["oidc"]))
    back = httpx.get(begun.headers["Location"]).headers["Location"]
    return client.get(back.removeprefix("http://testserver"))


def test_single_sign_on_brings_a_person_in_and_finds_them_again(
    client: Client, provider: OidcServer
) -> None:
    assert "Sign in by Work" in client.get(reverse("account_login")).content.decode()

    sign_in_by(client)
    olga = User.objects.get()
    assert (olga.username, olga.email, olga.is_staff) == ("olga", "olga@example.org", False)
    assert is_signed_in(client)
    sign_in_by(Client())

    assert User.objects.get() == olga
    assert provider.refused == []


def test_single_sign_on_does_not_take_over_an_account_of_the_same_address(
    client: Client, alice: User, provider: OidcServer
) -> None:
    User.objects.filter(pk=alice.pk).update(email="olga@example.org")

    sign_in_by(client)

    assert client.session.get("_auth_user_id") != str(alice.pk)


def test_single_sign_on_can_be_for_those_who_are_known_alone(
    client: Client, provider: OidcServer, settings: Settings
) -> None:
    settings.OIDC_SIGN_UP = False

    sign_in_by(client)

    assert not User.objects.exists()
    assert not is_signed_in(client)


def test_a_provider_that_refuses_is_told_on_a_page(client: Client, provider: OidcServer) -> None:
    provider.secret = "another"

    answer = sign_in_by(client)

    assert answer.status_code in (200, 401)
    assert not is_signed_in(client)


def test_an_administrator_takes_a_lost_second_factor_away_and_never_sees_it(
    client: Client, alice: User, admin: User
) -> None:
    factor = Authenticator.objects.create(
        user=alice, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"}
    )
    client.force_login(admin)
    address = reverse("admin:mfa_authenticator_change", args=[factor.pk])

    assert "JBSWY3DPEHPK3PXP" not in client.get(address).content.decode()
    client.post(reverse("admin:mfa_authenticator_delete", args=[factor.pk]), {"post": "yes"})

    assert not Authenticator.objects.exists()
