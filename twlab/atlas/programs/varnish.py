"""Varnish, passing every request on.

https://varnish-cache.org/docs/7.1/reference/varnishd.html: ``backend_local_error_holddown``.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
vcl 4.1;
backend origin {{ .host = "{place.origin}"; .port = "{place.port}"; }}
sub vcl_recv {{ return (pass); }}
"""
    return {"default.vcl": text}


def _subject(name: str, *more: str) -> Subject:
    start = ("-F", "-j", "none", "-l", "4m", "-n", "{folder}/varnish", "-f", "{folder}/default.vcl", "-a", f":{PORT}")
    return Subject(
        name=name,
        program="varnishd",
        package="varnish",
        arguments=lambda _: (*start, "-s", "malloc,32m", "-T", "none", *more),
        files=_files,
        version=("-V",),
    )


SUBJECTS = (_subject("varnish"), _subject("varnish-no-holddown", "-p", "backend_local_error_holddown=0"))
