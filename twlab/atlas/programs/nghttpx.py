"""nghttpx, HTTP/1.1 on both sides.

https://nghttp2.org/documentation/nghttpx.1.html.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _arguments(place: Place) -> tuple[str, ...]:
    return (
        "--conf=/dev/null",
        f"--frontend=0.0.0.0,{PORT};no-tls",
        f"--backend={place.origin},{place.port}",
        "--workers=1",
        "--no-ocsp",
        "--errorlog-file={folder}/error.log",
        "--single-process",
    )


SUBJECTS = (
    Subject(
        name="nghttpx",
        program="nghttpx",
        package="nghttp2-proxy",
        arguments=_arguments,
        log="error.log",
    ),
)
