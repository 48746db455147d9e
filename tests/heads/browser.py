"""A real browser for tests: Chromium without a window, as the distribution installs it."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)

MEASURE = """<!doctype html><body style="margin:0"><iframe id="f" src="{page}" width="{width}" height="{height}"
style="border:0"></iframe><pre id="out"></pre><script>
f.onload = () => {{
  const page = f.contentDocument, root = page.documentElement;
  const loose = [...page.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
    && !e.closest('details:not([open]) > :not(summary)') && e.getBoundingClientRect().right > root.clientWidth + 1);
  out.textContent = JSON.stringify({{
    width: root.clientWidth, content: root.scrollWidth, loose: loose.map(e => e.outerHTML.slice(0, 90)),
    clipped: [...page.querySelectorAll('th, td')].filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.innerText),
    scripts: page.scripts.length, pictures: [...page.images].map(i => [i.naturalWidth, i.alt]),
    paper: f.contentWindow.getComputedStyle(page.body).backgroundColor,
    ink: f.contentWindow.getComputedStyle(page.body).color,
    text: page.body.innerText, loaded: f.contentWindow.performance.getEntriesByType('resource').map(e => e.name)
      .filter(name => !name.startsWith('data:')),
    unnamed: [...page.querySelectorAll('table')].filter(t => !t.querySelector('th[scope]')).length
      + [...page.querySelectorAll('img')].filter(i => !i.alt).length,
  }});
}};
</script></body>"""


@dataclass(frozen=True)
class Seen:
    """What a page is like in a browser: what its script measured, and what the browser asked the network for."""

    values: dict[str, Any]
    requests: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        return self.values[name]


def look(page: Path, folder: Path, width: int, height: int, dark: bool = False) -> Seen:
    """Open a page in a frame of some width, measure it from outside, and log every request that the browser makes."""
    frame, log = folder / f"frame{width}.html", folder / f"net{width}{dark}.json"
    text = MEASURE.format(page=page.as_uri(), width=width, height=height).replace("DARK", str(dark).lower())
    frame.write_text(text, encoding="utf-8")
    dumped = _run(
        ["--allow-file-access-from-files", f"--log-net-log={log}", "--dump-dom", frame.as_uri()], folder, dark
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', dumped, re.DOTALL)
    assert found, dumped[:2000]
    return Seen(json.loads(unescape(found[1])), tuple(_requests(log)))


def screenshot(page: Path, picture: Path, folder: Path, width: int, height: int, dark: bool = False) -> None:
    """A picture of a page's top, as wide as asked for (narrow widths by a frame: windows have a smallest width)."""
    frame = folder / f"shot{width}.html"
    frame.write_text(
        f'<!doctype html><body style="margin:0"><iframe src="{page.as_uri()}" width="{width}" height="{height}" '
        'style="border:0;display:block"></iframe></body>',
        encoding="utf-8",
    )
    size = f"--window-size={width},{height}"
    _run(["--hide-scrollbars", size, f"--screenshot={picture}", frame.as_uri()], folder, dark)


def _run(arguments: list[str], folder: Path, dark: bool) -> str:
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    command = [
        str(PROGRAM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", *scheme, *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def _requests(log: Path) -> list[str]:
    """Addresses on the network that the browser's own log tells of, without its calls to its maker."""
    found = set(re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]*)"', log.read_text(encoding="utf-8")))
    return sorted(url for url in found if not re.match(r"https?://[a-z0-9.]*\b(google|googleapis)\.com[/:]", url))
