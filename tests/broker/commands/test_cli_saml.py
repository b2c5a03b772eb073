"""``fedgate saml``, and the metadata that stays fresh, over a real web server."""

import json
import logging
import ssl
from datetime import timedelta

import pytest
from click.testing import CliRunner
from lxml import etree
from sqlalchemy import update
from support.saml_fixtures import Browser, open_setup
from support.saml_idp import NOW, encoded, iso, key_pair, metadata, replace, signed
from support.web_server import web_server

from broker.cli import main
from broker.config.settings import Settings
from broker.providers.saml.metadata_refresh import refresh_interval
from broker.runtime.fetch import Fetcher
from broker.wiring import build_fetcher
from iam.saml.metadata import read_metadata
from iam.store.schema import saml_provider

ARN = "arn:aws:iam::111122223333:saml-provider/"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def world(tmp_path, redis_url, server):
    made = open_setup(tmp_path, redis_url, FEDGATE_OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
                    FEDGATE_OUTBOUND_CA_FILE=str(server.ca_file))  # fmt: skip
    yield made
    made.installation.close()


@pytest.fixture
def fedgate(world):
    def called(*arguments, status=0):
        done = CliRunner().invoke(main, ["saml", *map(str, arguments)], env=world.installation.environ)
        assert done.exit_code == status, done.output
        return done.output

    return called


@pytest.fixture
def file(tmp_path):
    def written(text):
        path = tmp_path / "given"
        path.write_text(text)
        return path

    return written


def records(world):
    text = "".join(path.read_text() for path in world.installation.settings.audit_dir.glob("*.jsonl"))
    return [json.loads(line) for line in text.splitlines()]


def test_a_provider_is_added_from_a_file_and_what_to_enter_there_is_told(world, fedgate, file):
    told = fedgate("add", "Other", "--metadata", file(metadata(entity_id="https://other.example.com")))
    assert "https://other.example.com" in told
    assert "http://127.0.0.1:8080/saml/111122223333/Other/acs" in told
    shown = json.loads(fedgate("show", "Other", "--json"))
    assert shown["our_entity_id"] == "http://127.0.0.1:8080/saml/111122223333/Other/metadata"
    assert (shown["idp_initiated"], shown["map_by_trust"], shown["metadata_from"]) == (False, False, "a file")
    assert world.admin.do("GetSAMLProvider", SAMLProviderArn=f"{ARN}Other").status == 200
    added = next(
        one for one in records(world) if one["eventName"] == "CreateSAMLProvider" and one["userAgent"] == "fedgate"
    )
    assert added["requestParameters"]["name"] == "Other"
    assert "Corp" in fedgate("list")


def test_what_of_a_providers_metadata_is_not_used_is_told(world, fedgate, file):
    text = metadata().replace('Location="https', 'Location="javascript', 1)
    assert "SingleSignOnService by HTTP-Redirect" in fedgate("set", "Corp", "--metadata", file(text))
    (reason,) = json.loads(fedgate("show", "Corp", "--json"))["not_used"]
    assert "javascript" in reason
    picture = '<saml:Attribute Name="photo"><saml:AttributeValue><x/></saml:AttributeValue></saml:Attribute>'
    response = replace(world.response(), more=f"<saml:AttributeStatement>{picture}</saml:AttributeStatement>")
    tested = fedgate("test", "Corp", "--response", file(encoded(signed(response))))
    assert f"not used: {reason}" in tested
    assert "not used: attribute 'photo'" in tested


def test_what_an_operator_allows_a_provider_is_set_and_taken_back(world, fedgate):
    fedgate("set", "Corp", "--idp-initiated", "--map-by-trust")
    record = world.installation.another_worker().store.saml_provider(world.provider)
    assert (record.idp_initiated, record.map_by_trust) == (True, True)
    shown = json.loads(fedgate("set", "Corp", "--no-idp-initiated", "--json"))
    assert (shown["idp_initiated"], shown["map_by_trust"]) == (False, True)


def test_the_sign_in_page_shows_a_provider_once_the_operator_has_named_it(world, fedgate, file):
    fedgate("add", "Other", "--metadata", file(metadata(entity_id="https://other.example.com")))
    page = Browser(world.installation).get("/login").body.decode()
    assert "Continue with Other" not in page
    assert json.loads(fedgate("sign-in", "Other", "--name", "Partners", "--json"))["sign_in_name"] == "Partners"
    page = Browser(world.installation).get("/login").body.decode()
    assert ("Continue with Partners" in page, "111122223333" in page) == (True, False)
    assert Browser(world.installation).get("/login?idp=partners").status == 303
    assert "Another provider has the name" in fedgate("sign-in", "Other", "--name", "CORP", status=1)
    assert "must have 1 to 64 characters" in fedgate("sign-in", "Other", "--name", " ", status=2)
    assert "either --name or --remove" in fedgate("sign-in", "Other", "--name", "x", "--remove", status=2)
    fedgate("sign-in", "Other", "--remove")
    assert "Partners" not in Browser(world.installation).get("/login").body.decode()


def test_a_provider_is_removed(world, fedgate):
    fedgate("remove", "Corp")
    assert world.assume(world.response()).message == "Specified provider doesn't exist"
    assert "There is no SAML provider" in fedgate("remove", "Corp", status=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "Nobody"], "There is no SAML provider arn:aws:iam::111122223333:saml-provider/Nobody"),
        (["show", "Corp", "--account", "999999999999"], "There is no account 999999999999"),
        (["add", "X", "--metadata", "/no/such/file"], "No such file"),
        (["add", "X", "--metadata", "http://localhost/"], "must begin with https://"),
        (["refresh", "Corp"], "came from a file"),
        (["add", "a/b", "--metadata", "x"], "must have 1 to 128 of letters"),
        (["remove-key", "00000000"], "There is no key"),
        (["test", "Corp", "--response", "/no/such/file"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_said(fedgate, arguments, told):
    assert told in fedgate(*arguments, status=2 if "a/b" in arguments else 1)


def test_metadata_that_is_none_is_refused(fedgate, file):
    assert "Could not parse metadata" in fedgate("add", "X", "--metadata", file("<a/>"), status=1)


# --- metadata that stays fresh ----------------------------------------------------------------------------------------


def run(world):
    """What a worker does in the background, with this world's clock."""
    return world.installation.services.providers.saml_metadata.run()


def test_metadata_from_an_address_is_fetched_again_when_its_time_has_come(world, fedgate, server):
    url = server.serve("/idp", metadata(attributes=' cacheDuration="PT1H"').encode())
    fedgate("set", "Corp", "--metadata", url)
    asked = len(server.asked)
    assert run(world) == 0
    assert len(server.asked) == asked
    new = key_pair("new")
    server.serve("/idp", metadata(certificates=[new[1]], attributes=' cacheDuration="PT1H"').encode())
    world.clock.advance(minutes=61)
    assert run(world) == 1
    assert world.assume(encoded(signed(world.response(), key=new))).status == 200
    assert world.assume(world.response()).message == "Response signature invalid"
    (record,) = [one for one in records(world) if one["eventName"] == "RefreshSAMLMetadata"]
    assert record["requestParameters"]["from"] == url
    world.clock.advance(minutes=61)
    assert run(world) == 1  # nothing has changed
    assert len([one for one in records(world) if one["eventName"] == "RefreshSAMLMetadata"]) == 1


WRONG = {
    "gone": (b"", 404, "status 404"),
    "no metadata": (b"<a/>", 200, "metadata"),
    "of another": (metadata(entity_id="https://other.example.com").encode(), 200, "it is of another identity provider"),
    "over": (metadata(attributes=' validUntil="2020-01-01T00:00:00Z"').encode(), 200, "it was valid until"),
    "no text": (b"\xff\xfe\x00", 200, "utf-8"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_cannot_be_used_leaves_what_is_there(world, fedgate, server, how):
    body, status, told = WRONG[how]
    fedgate("set", "Corp", "--metadata", server.serve("/idp", metadata().encode()))
    server.serve("/idp", body, status)
    world.clock.advance(hours=7)
    assert run(world) == 1
    assert run(world) == 0  # not before five minutes have passed
    assert told in json.loads(fedgate("show", "Corp", "--json"))["refresh_error"]
    assert told in fedgate("refresh", "Corp", status=1)
    assert world.assume(world.response()).status == 200
    server.serve("/idp", metadata().encode())
    assert "last refresh failed" not in fedgate("refresh", "Corp")


def test_who_gives_other_metadata_meanwhile_keeps_it(world, fedgate, server):
    fedgate("set", "Corp", "--metadata", server.serve("/idp", metadata().encode()))
    world.clock.advance(hours=7)
    new = key_pair("new")

    def meanwhile(handler):
        world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider,
                       SAMLMetadataDocument=metadata(certificates=[new[1]]))  # fmt: skip
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(metadata(certificates=[key_pair("stolen")[1]]).encode())

    server.answers["/idp"] = meanwhile
    assert run(world) == 1
    assert world.assume(encoded(signed(world.response(), key=new))).status == 200
    assert json.loads(fedgate("show", "Corp", "--json"))["metadata_from"] == "a file"
    world.clock.advance(hours=7)
    assert run(world) == 0


def test_one_provider_is_not_in_the_way_of_the_others(world, fedgate, server):
    fedgate("set", "Corp", "--metadata", server.serve("/idp", metadata().encode()))
    fedgate("add", "Other", "--metadata", server.serve("/other", metadata().encode()))
    world.clock.advance(hours=7)
    with world.installation.store.write() as tx:  # a row that nothing of ours has written
        tx.execute(update(saml_provider).where(saml_provider.c.name == "Corp").values(metadata="<a/>"))
    assert run(world) == 2
    assert json.loads(fedgate("show", "Other", "--json"))["refresh_error"] == ""


def test_of_two_workers_one_asks(world, fedgate, server):
    fedgate("set", "Corp", "--metadata", server.serve("/idp", metadata().encode()))
    world.clock.advance(hours=7)
    other = world.installation.another_worker()
    assert (run(world), other.services.providers.saml_metadata.run()) == (1, 0)
    other.close()


def test_how_long_metadata_is_kept():
    def kept(attributes, now):
        return refresh_interval(read_metadata(metadata(attributes=attributes).encode(), now=now), now)

    assert kept("", NOW) == timedelta(hours=6)
    assert kept(' cacheDuration="PT2H"', NOW) == timedelta(hours=2)
    assert kept(' cacheDuration="PT1S"', NOW) == timedelta(minutes=5)
    assert kept(' cacheDuration="P30D"', NOW) == timedelta(days=1)
    assert kept(f' validUntil="{iso(NOW + timedelta(hours=4))}"', NOW) == timedelta(hours=2)


def test_what_ends_within_thirty_days_is_warned_of_once_a_day(world, caplog):
    caplog.set_level(logging.WARNING, "broker.providers.saml.metadata_refresh")
    run(world)
    assert not caplog.messages
    world.clock.advance(days=340)
    other = world.installation.another_worker()
    for worker in (world.installation, other):
        worker.services.providers.saml_metadata.run()
    (message,) = caplog.messages
    assert message.startswith(f"{ARN}Corp: the certificate ")
    assert " ends in " in message
    world.clock.advance(days=30)
    run(world)
    assert " has ended on " in caplog.messages[-1]
    other.close()


def test_the_list_tells_what_ends(world, fedgate):
    until = (world.clock() + timedelta(days=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider,
                   SAMLMetadataDocument=metadata(attributes=f' validUntil="{until}"'))  # fmt: skip
    assert "warning: arn:aws:iam::111122223333:saml-provider/Corp: its metadata ends in 9 days" in fedgate("list")


def test_the_fetcher_is_made_of_the_settings(world):
    made = build_fetcher(Settings.read(environ=world.installation.environ))
    assert isinstance(made, Fetcher)
    assert isinstance(made.tls, ssl.SSLContext)
    assert not made.plain


# --- a response, step by step -----------------------------------------------------------------------------------------


def test_each_step_of_a_good_response_passes_and_what_it_asks_is_told(world, fedgate, file):
    text = encoded(signed(world.response()))
    told = fedgate("test", "Corp", "--response", file(text))
    assert "FAIL" not in told
    assert "pass  signature of the assertion" in told
    assert world.role in told
    assert world.assume(text).status == 200  # the test has used nothing up


def test_the_step_that_refuses_is_told_with_what_was_seen(world, fedgate, file):
    response = signed(world.response(audiences=(("urn:other",),)))
    told = fedgate("test", "Corp", "--response", file(encoded(response)), status=1)
    assert told.count("FAIL") == 1
    assert "Response does not contain the required audience. ([['urn:other']])" in told
    found = json.loads(fedgate("test", "Corp", "--response", file(encoded(response)), "--json", status=1))
    assert [one["step"] for one in found if one["refused"]] == ["audience"]


def test_a_response_can_be_tested_later_and_at_the_other_door(world, fedgate, file):
    text = encoded(signed(world.response()))
    at = world.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "was not sent to this address" in fedgate("test", "Corp", "--response", file(text), "--at", "acs", status=1)
    assert "FAIL" not in fedgate("test", "Corp", "--response", file(text), "--time", at)
    late = fedgate("test", "Corp", "--response", file(text), "--time", "2099-01-01T00:00:00Z", status=1)
    assert "Token must be redeemed within 5 minutes of issuance" in late or "Token has expired" in late
    assert "is not a time such as" in fedgate("test", "Corp", "--response", file(text), "--time", "noon", status=2)


def test_a_response_as_xml_is_taken_too_and_attributes_are_checked(world, fedgate, file):
    response = signed(world.response(more={"SessionDuration": ("1",), "Role": ("x",)}))
    told = fedgate("test", "Corp", "--response", file(etree.tostring(response).decode()), status=1)
    assert "no Role of this provider" in told
    assert "SessionDuration in AuthnResponse must be a number" in told


# --- our own keys -----------------------------------------------------------------------------------------------------


def test_our_key_is_changed_with_an_overlap(world, fedgate):
    assert json.loads(fedgate("keys", "--json")) == []
    first = json.loads(fedgate("rotate-key", "--signs-after", "0", "--json"))["id"]
    second = json.loads(fedgate("rotate-key", "--json"))["id"]
    listed = {one["id"]: one["signs"] for one in json.loads(fedgate("keys", "--json"))}
    assert listed == {first: True, second: False}
    assert "No other key signs yet" in fedgate("remove-key", first, status=1)
    fedgate("remove-key", second)
    assert "signs" in fedgate("keys")
    recorded = [one["eventName"] for one in records(world)]
    assert (recorded.count("RotateSAMLServiceKey"), recorded.count("RemoveSAMLServiceKey")) == (2, 1)
