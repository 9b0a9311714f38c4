"""The guest engine: the lab kernel as an ordinary process, in virtual time.

- `engine`: boots a guest for a request and follows its events.
- `process`, `launcher`, `confinement`: the guest's process, its mounts, its limits.
- `init`: runs inside the guest as its first process.
- `boot_shell`, `console`: a shell inside, and the terminal that it takes over.
- `diagnosis`: why a guest ended, and why it is silent.
"""
