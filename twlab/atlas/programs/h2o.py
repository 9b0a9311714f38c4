"""h2o's reverse proxy.

https://h2o.examp1e.net/configure/proxy_directives.html: ``proxy.reverse.url``.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
num-threads: 1
pid-file: {{folder}}/h2o.pid
error-log: {{folder}}/error.log
hosts:
  default:
    listen: {{port: {PORT}, host: 0.0.0.0}}
    paths:
      /:
        proxy.reverse.url: http://{place.address}/
"""
    return {"h2o.conf": text}


SUBJECTS = (
    Subject(
        name="h2o",
        program="h2o",
        package="h2o",
        arguments=lambda _: ("-m", "worker", "-c", "{folder}/h2o.conf"),
        files=_files,
        version=("-v",),
        log="error.log",
    ),
)
