"""psql, PostgreSQL's client: a process and a connection for each query.

https://www.postgresql.org/docs/15/libpq-connect.html: it cannot name a source address.
"""

from twlab.atlas.subject import Place, Subject


def _arguments(place: Place) -> tuple[str, ...]:
    where = f"host={place.origin} port={place.port} user=lab dbname=lab sslmode=disable gssencmode=disable"
    return ("--no-psqlrc", "--no-password", "--command=SELECT 'lab'", where)


SUBJECTS = (
    Subject(
        name="psql",
        program="psql",
        package="postgresql-client",
        arguments=_arguments,
        runs="once",
        speaks="postgres",
        methods=("GET",),
        statuses={2: "exit 2 (no connection)"},
    ),
)
