"""Go's net/http, with and without kept connections.

The program is ours, and set-up builds it: ``go_client.go``.

https://pkg.go.dev/net/http: ``Transport.DisableKeepAlives``; https://pkg.go.dev/net:
``Dialer.LocalAddr``.
"""

from twlab.atlas.subject import Place, Subject


def _subject(name: str, closes: str) -> Subject:
    def arguments(place: Place) -> tuple[str, ...]:
        return (place.orders, place.url, closes, place.source)

    return Subject(
        name=name,
        program="twlab-go-client",
        package="golang-go",
        arguments=arguments,
        runs="orders",
        source="Dialer{LocalAddr:}",
    )


SUBJECTS = (_subject("go-http", "keep"), _subject("go-http-close", "close"))
