"""Takes the pictures of the pages for the documentation: `python tests/support/take_pictures.py [PICTURE ...]`.

They are of one size and of 256 colours at most, so that they stay small. Their fonts are those of this machine.
"""

import base64
import contextlib
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from playwright.sync_api import Browser, Page  # noqa: E402

from support.directories import running_slapd  # noqa: E402 - found through the path above
from support.http_browser import chromium_browser  # noqa: E402
from support.pages import ARNS, WITH_APP, ServedPages, browsing, portal, running_house, sign_in  # noqa: E402 - as above

PORT = 8080  # it is to be read in some of them
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
OTHER_BROWSERS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
)


def stay(page: Page) -> None:
    """Do nothing more."""


def take(page: Page) -> None:
    page.locator(".take > button").click()
    page.locator(".tabs").wait_for()


@dataclass(frozen=True)
class Picture:
    """What a picture shows: whose browser, of which size, colours and language, at which path."""

    path: str
    who: str = "alice"
    then: Callable[[Page], None] = stay
    options: Mapping[str, Any] = field(default_factory=dict)


DARK, ARABIC, SMALL = {"color_scheme": "dark"}, {"locale": "ar"}, {"viewport": PHONE}
PICTURES = {
    "login": Picture("/login", ""),
    "login-dark": Picture("/login", "", options=DARK),
    "portal": Picture("/portal"),
    "portal-dark": Picture("/portal", options=DARK),
    "portal-phone": Picture("/portal", options=SMALL),
    "portal-arabic": Picture("/portal", options=ARABIC),
    "credentials": Picture(portal("Developer"), then=take),
    "why-not": Picture(f"/why?role={ARNS['Ledger']}"),
    "sessions": Picture("/sessions"),
    "security": Picture("/security", WITH_APP),
    "admin": Picture("/admin"),
    "admin-roles": Picture("/admin/roles"),
}


def main(names: list[str]) -> None:
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fg-")))
        slapd = stack.enter_context(running_slapd(made(here / "slapd")))
        house = stack.enter_context(running_house(made(here / "house"), slapd, PORT))
        chromium = stack.enter_context(chromium_browser())
        live_in(house, chromium)
        for name in names or PICTURES:
            octets = taken(house, chromium, PICTURES[name])
            (folder / f"{name}.png").write_bytes(octets)
            sys.stdout.write(f"{name}.png {len(octets)} bytes\n")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def live_in(house: ServedPages, chromium: Browser) -> None:
    """Let people have come and gone: roles taken and pinned, browsers elsewhere."""
    for agent in OTHER_BROWSERS:
        with browsing(chromium, house, user_agent=agent) as page:
            sign_in(page, "alice")
    with browsing(chromium, house, "alice") as page:
        for role in ("LabReader", "Developer"):
            page.goto(portal(role))
            take(page)
        page.goto("/portal")
        page.get_by_role("button", name="Pin ReadOnly").click()


def taken(house: ServedPages, chromium: Browser, picture: Picture) -> bytes:
    options = {"viewport": WIDE, **picture.options}
    with browsing(chromium, house, picture.who, **options) as page:
        page.goto(picture.path)
        picture.then(page)
        return reduced(page, page.screenshot())


# A picture in 256 colours: the most frequent ones, and for each other the nearest of them.
REDUCE = """async (picture) => {
  const bitmap = await createImageBitmap(await (await fetch(picture)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const pixels = canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const counted = new Map();
  const colour = (at) => pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2];
  for (let at = 0; at < pixels.length; at += 4) { counted.set(colour(at), (counted.get(colour(at)) || 0) + 1); }
  const palette = [...counted].sort((one, other) => other[1] - one[1]).slice(0, 256).map((one) => one[0]);
  const far = (one, other) => [16, 8, 0].reduce((sum, by) => sum + ((one >> by & 255) - (other >> by & 255)) ** 2, 0);
  const nearest = new Map();
  for (const one of counted.keys()) {
    nearest.set(one, palette.reduce((best, other, at) => far(one, other) < far(one, palette[best]) ? at : best, 0));
  }
  const indices = new Uint8Array(pixels.length / 4);
  for (let at = 0; at < indices.length; at++) { indices[at] = nearest.get(colour(4 * at)); }
  let text = "";
  for (let at = 0; at < indices.length; at += 8192) { text += String.fromCharCode(...indices.subarray(at, at + 8192)); }
  return { width: bitmap.width, palette, indices: btoa(text) };
}"""


def reduced(page: Page, octets: bytes) -> bytes:
    """Return a PNG with a palette. Source: PNG Specification (Third Edition), sections 11.2 and 11.3."""
    blank = page.context.browser.new_page()
    found = blank.evaluate(REDUCE, f"data:image/png;base64,{base64.b64encode(octets).decode()}")
    blank.close()
    indices, width = base64.b64decode(found["indices"]), found["width"]
    lines = (b"\0" + indices[at : at + width] for at in range(0, len(indices), width))
    header = struct.pack(">IIBBBBB", width, len(indices) // width, 8, 3, 0, 0, 0)
    palette = b"".join(struct.pack(">I", colour)[1:] for colour in found["palette"])
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main(sys.argv[1:])
