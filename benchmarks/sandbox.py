"""What runs a benchmark in namespaces of its own, without root, that end with it."""

SANDBOX = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
