"""The directories that the tests of pages share, and somebody of one who is signed in to the module's own house."""

import pytest
from support.directories import RunningDirectory, demo_directory, slapd
from support.saml_fixtures import Browser
from support.signed_in_fixtures import BrowserSetup, sign_in_to_directory

__all__ = ["demo_directory", "slapd"]


@pytest.fixture(scope="session")
def directory(demo_directory: RunningDirectory) -> RunningDirectory:
    """A directory whose people nobody changes."""
    return demo_directory


@pytest.fixture
def alice(house: BrowserSetup) -> Browser:
    """A browser in which alice of the directory is signed in."""
    browser = house.browser()
    assert sign_in_to_directory(browser, "alice", "wonderland-1865").status == 303
    return browser
