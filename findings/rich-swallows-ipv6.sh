#!/usr/bin/env bash
# rich prints "[2001:db8::1]:80" whole and swallows "[fe80::1]" in "[fe80::1]:80".
#
# Guess: both addresses are printed alike.
# Happened: an address in brackets that begins with a to f is read as a style tag, and an unknown tag
# vanishes without a message. One that begins with a digit or a colon is left alone. Typer hands its
# help texts to rich, so an option's help loses the same address.
# Matters to: authors of network tools. Tests with 2001:db8:: pass; link-local (fe80::) and private
# (fd00::) addresses disappear from logs, tables and help. The remedy is rich.markup.escape().
# rich's page "Console Markup" names the escape, and not that the first digit decides.
# Versions: rich 15.0.0, typer 0.29.2.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi rich==15.0.0 typer==0.29.2

cat >tool.py <<'PY'
import typer

app = typer.Typer(add_completion=False)


@app.command()
def main(peer: str = typer.Option("", help="the peer, as [fd00::5]:80 or [2001:db8::5]:80")) -> None:
    pass


app()
PY
python3 - >seen <<'PY'
from rich import print as show

for address in ("2001:db8::1", "::1", "fe80::1", "fd00::5", "ff02::1"):
    show(f"connect to [{address}]:80")
PY
COLUMNS=100 TERM=dumb python3 tool.py --help | grep -o 'the peer.*:80' >>seen

expect <<'SEEN'
connect to [2001:db8::1]:80
connect to [::1]:80
connect to :80
connect to :80
connect to :80
the peer, as :80 or [2001:db8::5]:80
SEEN
