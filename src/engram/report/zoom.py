"""Vega's JavaScript, packed into the page once and started only when a reader asks a chart to zoom.

It comes from the same package that draws the charts, 0.9 MB of it; compressed, it takes 0.4 MB of the page. Bundling
takes a second, so it is kept in the user's cache folder.
"""

import gzip
import hashlib
import zlib
from base64 import b64encode
from functools import cache
from importlib.metadata import version
from pathlib import Path

from engram import atomic
from engram.data.download import cache_folder
from engram.report.markup import Markup

SNIPPET = "window.vegaEmbed = vegaEmbed;"
STARTER = Path(__file__).with_name("zoom.js")


@cache
def bundle() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script, compressed."""
    kept = cache_folder() / f"vega-of-vl-convert-{version('vl-convert-python')}.js.gz"
    try:
        packed = kept.read_bytes()
        if gzip.decompress(packed):  # it carries a checksum: a damaged file is made again
            return packed
    except (OSError, EOFError, zlib.error):
        pass
    import vl_convert

    packed = gzip.compress(vl_convert.javascript_bundle(SNIPPET).encode(), mtime=0)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(kept, packed)
    except OSError:  # nowhere to keep it: the next page takes a second longer
        pass
    return packed


def scripts() -> tuple[Markup, str]:
    """The scripts for the end of the page, and the words of its security policy that let these and no others run."""
    starter = STARTER.read_text(encoding="utf-8")
    packed = bundle()
    allowed = " ".join(f"'sha256-{_digest(one)}'" for one in (starter.encode(), gzip.decompress(packed)))
    tags = Markup('<script type="text/plain" id="vega">{}</script><script>{}</script>')
    return tags.format(Markup(b64encode(packed).decode()), Markup(starter)), allowed


def _digest(script: bytes) -> str:
    return b64encode(hashlib.sha256(script).digest()).decode()
